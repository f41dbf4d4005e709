package hunt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A state gives back what was added, though its last line is torn.
func TestState(t *testing.T) {
	name, source := filepath.Join(t.TempDir(), "state"), Source{sum: "these"}
	s, err := OpenState(name, source, simulator)
	if err != nil {
		t.Fatal(err)
	}
	first, second := Try{Defect: "a", System: "raft", Key: "k", Number: 1, Found: true, Seed: 7}, Try{Defect: "a", System: "raft", Key: "k", Number: 2}
	for _, try := range []Try{first, second} {
		if err := s.Add(try); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	text, _ := os.ReadFile(name)
	os.WriteFile(name, text[:len(text)-5], 0o644)
	if s, err = OpenState(name, source, simulator); err != nil {
		t.Fatal(err)
	}
	got, ok := s.Find(Try{Defect: "a", System: "raft", Key: "k", Number: 1})
	if !ok || got != first {
		t.Errorf("found %+v", got)
	}
	for _, unknown := range []Try{second, {Defect: "a", System: "raft", Key: "other", Number: 1}, {Defect: "a", System: "paxos", Key: "k", Number: 1}} {
		if _, ok := s.Find(unknown); ok {
			t.Errorf("found %+v", unknown)
		}
	}
	if err := s.Add(second); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if again, _ := os.ReadFile(name); string(again) != string(text) {
		t.Errorf("written again:\n%swant\n%s", again, text)
	}
}

// A state of something else is refused and stays as it is.
func TestStateRefuses(t *testing.T) {
	source := Source{sum: "these"}
	for text, want := range map[string]string{
		"":        "",
		"hello":   "no state of a hunt",
		"hello\n": "no state of a hunt",
		`{"hunt":1,"in":"sim","sources":"others","settings":"` + simulator.Settings() + `"}` + "\n": "the sources have changed",
		`{"hunt":1,"in":"sim","sources":"these","settings":"budget 1s"}` + "\n":                     "not in sim with budget 5s",
		`{"hunt":1,"in":"local","sources":"these","settings":""}` + "\n":                            "a hunt in local",
		`{"hunt":2}` + "\n": "no state of a hunt",
		`{"hunt":1,"in":"sim","sources":"these","settings":"` + simulator.Settings() + `"}` + "\n" + "{\n{}\n": ":2: ",
		`{"hunt":1,"in`: "", // torn
	} {
		name := filepath.Join(t.TempDir(), "state")
		os.WriteFile(name, []byte(text), 0o644)
		s, err := OpenState(name, source, simulator)
		if s.Close(); want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%q: error %v; want one with %q", text, err, want)
		}
		if after, _ := os.ReadFile(name); string(after) != text {
			t.Errorf("%q became %q", text, after)
		}
	}
}

// Settings name all that makes tries comparable.
func TestSettingsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range []Runner{Sim{1, time.Second, 1}, Sim{2, time.Second, 1}, Sim{1, time.Minute, 1}, Sim{1, time.Second, 2},
		Local{Base: 1, Budget: time.Second}, Local{Base: 2, Budget: time.Second}, Local{Base: 1, Budget: time.Minute}} {
		seen[r.Settings()] = true
	}
	if len(seen) != 7 {
		t.Errorf("seven hunts have %d settings: %v", len(seen), seen)
	}
}

// The track record of a tree stays as it was where a try failed or is lacking;
// what was missed or accused belongs in it.
func TestSaveRecord(t *testing.T) {
	s := Source{root: tree(t, map[string]string{RecordFile: "as it was"})}
	saved := func() string {
		b, err := os.ReadFile(filepath.Join(s.root, RecordFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, r := range []Report{{In: "sim", Failures: []string{"it fell over"}}, {In: "sim", Interrupted: true}} {
		if err := s.SaveRecord(r); err == nil || saved() != "as it was" {
			t.Errorf("%+v: %v, and the record is %q", r, err, saved())
		}
	}
	missed := Report{In: "sim", Tries: 1, Lines: []Line{{Defect: "a", System: "raft", Tries: 1}}}
	if err := s.SaveRecord(missed); err != nil || saved() != Record("as it was", missed) {
		t.Errorf("%v, and the record is %q", err, saved())
	}
}

// The record keeps the part of the other place, in the same order whichever was
// written last.
func TestRecord(t *testing.T) {
	sim := Report{In: "sim", Settings: simulator.Settings(), Tries: 3, Lines: []Line{
		{Defect: "a", System: "raft", Tries: 3, Found: 3, By: []string{"log-matching"}, Seed: 7}, {Defect: Sound, System: "raft", Tries: 3, Seeds: 900}}}
	local := Report{In: "local", Settings: Local{Base: 1, Budget: time.Minute}.Settings(), Tries: 2, NotHunted: []Skipped{{"b", "only power loss shows it"}}}
	one, other := Record(Record("", sim), local), Record(Record("", local), sim)
	if one != other || Record(one, sim) != one {
		t.Errorf("the order of hunts changes the record:\n%s\nand\n%s", one, other)
	}
	in(t, one, "| a | raft | 3/3 | log-matching | – | – | `chaos hunt replay a --in sim --system raft --seed 7` |", "| raft | 3 | 0 | 900 | 0 |",
		"- b: only power loss shows it", "## In simulation", "## On real processes")
}
