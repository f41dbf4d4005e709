package nemesis

import (
	"testing"
	"time"

	"chaos/nodes"
)

func TestSlowDelaysEveryLinkOfTheVictims(t *testing.T) {
	_, effects := fire(t, Step{Fault: "slow", Args: Args{"delay": "20ms", "jitter": "5ms"}}, five(), 0)
	if len(effects) != 20 {
		t.Fatalf("%d links of 20", len(effects))
	}
	for _, e := range effects {
		if e.Delay != 20*time.Millisecond || e.Jitter != 5*time.Millisecond {
			t.Errorf("%s", e)
		}
	}
	_, effects = fire(t, Step{Fault: "slow", Victims: "n2", Args: Args{"delay": "8ms"}}, five(), 0)
	for _, e := range effects {
		if e.From != 2 && e.To != 2 || e.Jitter != 2*time.Millisecond {
			t.Errorf("victim n2: %s", e)
		}
	}
	if len(effects) != 8 {
		t.Errorf("victim n2: %d links of 8", len(effects))
	}
}

func TestBackgroundDrawsEachLink(t *testing.T) {
	seen := map[time.Duration]bool{}
	_, effects := fire(t, Step{Fault: "slow", Pick: 9}, five(), 0)
	for _, e := range effects {
		if e.Delay < BackgroundMin || e.Delay > BackgroundMax || e.Jitter > e.Delay || e.From == nodes.Clients {
			t.Errorf("%s", e)
		}
		seen[e.Delay] = true
	}
	if len(seen) < 10 {
		t.Errorf("20 links have only %d different delays", len(seen))
	}
}

func TestSlowRefusesWrongArguments(t *testing.T) {
	for _, a := range []Args{
		{"delay": "soon"}, {"delay": "-1ms"}, {"delay": "1h"}, {"min": "9ms", "max": "8ms"},
		{"delay": "1ms", "min": "1ms"}, {"jitter": "x"}, {"rate": "1"},
	} {
		if _, _, err := Fire(Step{Fault: "slow", Args: a}, five(), 0, nil); err == nil {
			t.Errorf("%v is not refused", a)
		}
	}
}
