package hunt

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"chaos/campaign"
)

// TestScenariosFail holds the golden scenarios to what they are for: each fails
// with the defect that it was shrunk from, and the same invariant sees it. That
// each passes without is tested where they stand.
func TestScenariosFail(t *testing.T) {
	if os.Getenv("CHAOS_LONG") == "" {
		t.Skip("it builds a program for each scenario; CHAOS_LONG=1 has it run")
	}
	names, err := filepath.Glob("../testdata/scenarios/*.txt")
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
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := campaign.ParseScenario(b)
			if err != nil {
				t.Fatal(err)
			}
			if s.Defect == "" {
				t.Skip("it was shrunk from no defect of the catalogue")
			}
			failsWith(t, builder, defects, s, name)
		})
	}
}

func failsWith(t *testing.T, b *Builder, defects []Defect, s campaign.Scenario, name string) {
	for _, d := range defects {
		if d.Name != s.Defect {
			continue
		}
		program, err := b.Build(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), program, "sim", "--plan", name, "--json").Output()
		var tally campaign.Tally
		if wrong := json.Unmarshal(out, &tally); wrong != nil {
			t.Fatalf("%v: %v: %s", err, wrong, out)
		}
		if len(tally.Violations) != 1 || tally.Violations[0].By != s.Breaks {
			t.Fatalf("with the defect %s it shows %v, not a breach of %s", s.Defect, tally.Violations, s.Breaks)
		}
		return
	}
	t.Fatalf("there is no defect %q", s.Defect)
}
