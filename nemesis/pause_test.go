package nemesis

import "testing"

func TestPauseFreezesVictims(t *testing.T) {
	i, effects := fire(t, Step{Fault: "pause", Victims: "leader"}, five(), 3)
	if got := words(effects); got != "n3 frozen" || i.Leader != 3 {
		t.Errorf("effects: %s of %+v", got, i)
	}
}
