package campaign

import (
	"strings"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/results"
)

// A node that ends at its crash point is started again, once, and the run can be
// valid; a crash point that is never reached, or any other end, leaves it unknown.
func TestCrashPoint(t *testing.T) {
	t.Parallel()
	killed := nodes.Incident{Node: 2, Kind: "exit", Detail: "process 7 ended: signal: killed"}
	for _, c := range []struct {
		name  string
		news  []nodes.Incident
		calls string
		exit  int
		why   string
	}{
		{"reached", []nodes.Incident{killed}, "apply,revert", results.ExitValid, ""},
		{"missed", nil, "", results.ExitUnknown, "sync:40 was never reached"},
		{"twice", []nodes.Incident{killed, killed}, "apply,revert", results.ExitUnknown, "exit: process 7"},
		{"another node", []nodes.Incident{{Node: 3, Kind: "exit", Detail: killed.Detail}}, "", results.ExitUnknown, "n3 had an incident"},
		{"another end", []nodes.Incident{{Node: 2, Kind: "exit", Detail: "process 7 ended: exit status 1"}}, "", results.ExitUnknown, "exit status 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			calls := make(chan string, 16)
			w.observe = func(call, injection string) {
				switch injection {
				case "kill-1": // the storm has begun
					if call == "apply" {
						for _, n := range c.news {
							w.news <- n
						}
					}
				case "crash-point":
					calls <- call
				}
			}
			l := live(t, w)
			l.Plan.Spec.Knobs.CrashAt = "n2:sync:40"
			rec, err := l.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s, err := Judge(t.Context(), l.Folder, &l.Plan, rec, time.Minute)
			if err != nil || s.Exit != c.exit || !strings.Contains(strings.Join(append(s.Harness, string(s.Encode())), " "), c.why) {
				t.Errorf("exit %d, %s; %v", s.Exit, s.Verdict.Reason, err)
			}
			close(calls)
			var got []string
			for call := range calls {
				got = append(got, call)
			}
			if strings.Join(got, ",") != c.calls {
				t.Errorf("calls %v, want %s", got, c.calls)
			}
		})
	}
}
