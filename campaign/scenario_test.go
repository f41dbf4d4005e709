package campaign

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"chaos/nodes/sim"
)

// A scenario is a text that means what it was made of, and its head is prose.
func TestScenarioText(t *testing.T) {
	for seed := range uint64(30) {
		s := Scenario{About: []string{"Two leaders in term 2.", "n1's vote was not saved."}, Defect: "vote-not-saved", Breaks: "election-safety",
			Plan: swarm(t, "raft", seed+1, 2*time.Second)}
		s.Sound = seed%5 == 0
		if seed%2 == 0 {
			s.Defect = ""
		}
		if seed%3 == 0 {
			s.About = nil
		}
		got, err := ParseScenario(s.Encode())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("seed %d: %v: read back as %+v", seed+1, err, got)
		}
	}
	plan := string(swarm(t, "raft", 1, time.Second).Encode())
	for name, c := range map[string]struct{ text, want string }{
		"no end":           {"# Breaks: x\n" + plan, "does not end"},
		"an end of others": {"# Breaks: x\n" + plan + "----\nviolation\n", "does not end"},
		"two ends":         {"# Breaks: x\n" + plan + unrunWord + soundWord, "does not end"},
		"no invariant":     {"# A head.\n" + plan + soundWord, "Breaks"},
		"an empty one":     {"# Breaks:\n" + plan + soundWord, "Breaks"},
		"no plan":          {"# Breaks: x\n" + soundWord, "JSON"},
		"another version":  {"# Breaks: x\n" + strings.Replace(plan, `"plan": 1`, `"plan": 9`, 1) + soundWord, "version"},
		"a wrong world":    {"# Breaks: x\n" + strings.Replace(plan, `"latency_us": `, `"latency_us": -`, 1) + soundWord, "latency_us"},
		"an unknown field": {"# Breaks: x\n" + strings.Replace(plan, `"latency_us": `, `"color": 1, "latency_us": `, 1) + soundWord, "color"},
	} {
		if _, err := ParseScenario([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	got, err := ParseScenario([]byte("#Breaks:  x \n#\n#  prose \n" + plan + soundWord))
	if err != nil || got.Breaks != "x" || len(got.About) != 2 || got.About[1] != "prose" {
		t.Errorf("%v, %+v", err, got)
	}
}

// A scenario says of sound nodes only what was seen; what is kept as a golden
// test was seen to pass.
func TestScenarioSaysWhatWasRun(t *testing.T) {
	s := Scenario{Breaks: "x", Plan: swarm(t, "raft", 1, time.Second)}
	if text := string(s.Encode()); strings.Contains(text, "no violation") || !strings.HasSuffix(text, "sound nodes: not run\n") {
		t.Errorf("nobody has run the sound nodes, and it says: %s", text[len(text)-60:])
	}
	for _, pattern := range []string{"testdata/scenarios/*.txt", "testdata/plans/*.txt"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %q, %v", pattern, names, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := ParseScenario(b); err != nil || !s.Sound {
				t.Errorf("%s: %v; its last line must be %q", name, err, "sound nodes: no violation")
			}
		}
	}
}

// Settings are read back as they were written, and out of bounds they are named.
func TestSettingsText(t *testing.T) {
	for seed := range uint64(200) {
		s := *swarm(t, "raft", seed+1, time.Second).Spec.Sim
		s.Cap, s.Chance = int(seed), seed
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again sim.Settings
		if err := json.Unmarshal(b, &again); err != nil || again != s {
			t.Fatalf("%s is read back as %+v, %v", b, again, err)
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		if s.String() == (sim.Settings{}).String() {
			t.Fatalf("%+v is described like nothing", s)
		}
	}
	if err := sim.Defaults().Check(); err != nil {
		t.Error(err)
	}
	v := reflect.ValueOf(sim.Defaults())
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if k := f.Type.Kind(); k != reflect.Int && k != reflect.Int64 {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		for _, wrong := range []int64{-1, 1 << 40} {
			s := sim.Defaults()
			reflect.ValueOf(&s).Elem().Field(i).SetInt(wrong)
			if err := s.Check(); err == nil || !strings.Contains(err.Error(), "sim."+name+" is") {
				t.Errorf("%s = %d: %v", name, wrong, err)
			}
		}
	}
}

// Whatever is taken for a scenario is one: its text brings it back.
func FuzzParseScenario(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(Scenario{About: []string{"About."}, Defect: "d", Breaks: "b", Plan: swarm(f, "raft", seed+1, time.Second)}.Encode())
	}
	f.Add([]byte("# Breaks: x\n{}\n" + soundWord))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseScenario(b)
		if err != nil {
			return
		}
		once := s.Encode()
		again, err := ParseScenario(once)
		if err != nil || !bytes.Equal(again.Encode(), once) {
			t.Fatalf("%v: %q is written as %q and then as %q", err, b, once, again.Encode())
		}
	})
}

// A plan with a simulated world survives any edit of its text: it is refused, or read.
func TestEditedPlans(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	whole := swarm(t, "raft", 3, time.Second).Encode()
	for range 3000 {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(3) {
			switch at := r.IntN(len(b)); r.IntN(3) {
			case 0:
				b[at] = byte(' ' + r.IntN(95))
			case 1:
				b = append(b[:at], b[min(len(b), at+r.IntN(20)):]...)
			case 2:
				b = append(b[:at], append([]byte("9"), b[at:]...)...)
			}
		}
		p, err := ParsePlan(b)
		if err != nil {
			continue
		}
		if again, err := ParsePlan(p.Encode()); err != nil || !bytes.Equal(again.Encode(), p.Encode()) {
			t.Fatalf("%v: %s", err, b)
		}
	}
}
