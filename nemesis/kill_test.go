package nemesis

import (
	"strings"
	"testing"
)

func TestKillTakesVictimsDown(t *testing.T) {
	_, effects := fire(t, Step{Fault: "kill", Victims: "n1,n4"}, five(), 0)
	if got := words(effects); got != "n1 down, n4 down" {
		t.Errorf("effects: %s", got)
	}
	_, effects = fire(t, Step{Fault: "kill"}, five(), 0)
	if len(effects) != 1 {
		t.Errorf("without a rule it kills %s, not one", words(effects))
	}
}

func TestKillTakesNoArguments(t *testing.T) {
	_, _, err := Fire(Step{Fault: "kill", Args: Args{"signal": "9"}}, five(), 0, nil)
	if err == nil || !strings.Contains(err.Error(), `"signal"`) {
		t.Errorf("error: %v; it should name the argument", err)
	}
}
