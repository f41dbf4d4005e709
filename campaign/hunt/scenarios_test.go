package hunt

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"chaos/campaign"
	"chaos/linearizability"
	"chaos/results"
)

// TestScenariosFail holds the golden scenarios to what they are for: each fails
// with the defect that it was shrunk from, and the same invariant sees it. That
// each passes without is tested where they stand.
func TestScenariosFail(t *testing.T) {
	eachDefective(t, "../testdata/scenarios/*.txt", func(t *testing.T, _ string, s campaign.Scenario, name, program string) {
		out, err := exec.CommandContext(t.Context(), program, "sim", "--plan", name, "--json").Output()
		var tally campaign.Tally
		if wrong := json.Unmarshal(out, &tally); wrong != nil {
			t.Fatalf("%v: %v: %s", err, wrong, out)
		}
		if len(tally.Violations) != 1 || tally.Violations[0].By != s.Breaks {
			t.Fatalf("with the defect %s it shows %v, not a breach of %s", s.Defect, tally.Violations, s.Breaks)
		}
	})
}

// liveTries is how often a plan for real processes may be carried out until it
// shows what it is for: live runs share the plan, not the interleaving.
const liveTries = 5

// TestPlansFail carries plans out on real processes: with the defect that it was
// shrunk from each shows a violation, and the sound nodes show none.
func TestPlansFail(t *testing.T) {
	eachDefective(t, "../testdata/plans/*.txt", func(t *testing.T, sound string, s campaign.Scenario, name, program string) {
		if v := carriedOut(t, sound, name); v.Outcome == linearizability.Invalid {
			t.Fatalf("the sound nodes show %s: %s", v.Checker, v.Reason)
		}
		for range liveTries {
			if v := carriedOut(t, program, name); v.Outcome == linearizability.Invalid {
				t.Logf("seen by %s: %s", v.Checker, v.Reason)
				return
			}
		}
		t.Fatalf("the defect %s shows nothing in %d runs", s.Defect, liveTries)
	})
}

// carriedOut is what says most of the verdict on one run of a plan.
func carriedOut(t *testing.T, program, plan string) linearizability.Verdict {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "run", "--provider", "local", "--plan", plan, "--json", "--out", t.TempDir()).Output()
	var s results.Summary
	if wrong := json.Unmarshal(out, &s); wrong != nil {
		t.Fatalf("%v: %v: %s", err, wrong, out)
	}
	return blame(s.Verdict)
}

// eachDefective does something with each scenario that matches, and with the
// builds of the sound nodes and of the defect that it was shrunk from.
func eachDefective(t *testing.T, pattern string, do func(t *testing.T, sound string, s campaign.Scenario, name, program string)) {
	if os.Getenv("CHAOS_LONG") == "" {
		t.Skip("it builds a program for each scenario; CHAOS_LONG=1 has it run")
	}
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	source, defects, err := Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	builder, err := NewBuilder(source, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sound, err := builder.Build(t.Context(), Defect{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := campaign.ParseScenario(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.Defect == "" { // it was shrunk from none: an error of ours that is mended, say
			continue
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			i := slices.IndexFunc(defects, func(d Defect) bool { return d.Name == s.Defect })
			if i < 0 {
				t.Fatalf("there is no defect %q", s.Defect)
			}
			program, err := builder.Build(t.Context(), defects[i])
			if err != nil {
				t.Fatal(err)
			}
			do(t, sound, s, name, program)
		})
	}
}
