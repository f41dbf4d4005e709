package hunt

import (
	"bytes"
	"context"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/results"
)

var simulator = Sim{Base: 1, Budget: 5 * time.Second, Confirm: 2}

// in fails unless text holds all of want.
func in(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

func run(t *testing.T, h Hunt) (Report, string) {
	t.Helper()
	var news []string
	var last Progress
	h.Progress = func(p Progress) {
		if last = p; p.News != "" {
			news = append(news, p.News)
		}
	}
	r, err := h.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, l := range r.Lines {
		if l.Defect != Sound {
			found += l.Found
		}
	}
	if found != last.Found {
		t.Errorf("progress counts %d tries that found something, the report %d", last.Found, found)
	}
	return r, strings.Join(news, "\n")
}

// What is found is told with who saw it, how soon, and which seed shows it again.
func TestFoundInSimulation(t *testing.T) {
	found, panics := defects("found")[0], defects("panics")[0]
	found.Systems = []string{"raft", "paxos-classic"}
	h := Hunt{Defects: []Defect{found, panics}, Builds: newFakeBuilds(t, nil), Runner: simulator, Tries: 3, Jobs: 2}
	r, news := run(t, h)
	if r.Exit() != results.ExitValid || r.Verdict() != "3 of 3 found, the sound build silent in 2 systems" {
		t.Errorf("exit %d: %s", r.Exit(), r.Verdict())
	}
	in(t, news, "found found in paxos-classic, try 3: by log-matching at seed 2000007 (7 seeds, 2.6 CPU s)", "silent sound in raft, try 1")
	median, p90 := 1.6, 2.6
	want := Line{Defect: "panics", System: "raft", Tries: 3, Found: 3, By: []string{"panic"}, Median: &median, P90: &p90, Seeds: 21, Seed: 7,
		Again: []string{"sim", "--system", "raft", "--seed", "7"}}
	got := r.Lines[2]
	want.Seconds = got.Seconds
	if !reflect.DeepEqual(got, want) {
		t.Errorf("line %+v, want %+v", got, want)
	}
	var table bytes.Buffer
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	in(t, table.String(), "3/3", "log-matching", "1.60", "2.60", "0/3 silent")
	h.Jobs = 1
	if again, _ := run(t, h); Record("", again) != Record("", r) {
		t.Error("the same finds make another record")
	}
}

// A defect that no try shows is missed.
func TestMissed(t *testing.T) {
	r, news := run(t, Hunt{Defects: defects("found", "missed"), Builds: newFakeBuilds(t, nil), Runner: simulator, Tries: 2, Jobs: 2})
	if r.Exit() != results.ExitInvalid || r.Verdict() != "1 of 2 found, 1 missed, the sound build silent in 1 system" || r.Lines[1].Word() != "MISSED" || r.Lines[1].Median != nil {
		t.Errorf("exit %d, %+v", r.Exit(), r.Lines[1])
	}
	in(t, news, "MISSED missed in raft, try 2")
}

// On a busy machine a simulation is sent on until its budget of CPU time is used up.
func TestBusyMachine(t *testing.T) {
	r, _ := run(t, Hunt{Defects: defects("busy", "busyfound"), Builds: newFakeBuilds(t, nil), Runner: simulator, Tries: 1, Jobs: 1})
	if l := r.Lines[0]; l.Word() != "MISSED" || l.Seeds != 12 || l.Seconds != 6 {
		t.Errorf("missed: %+v; want 12 seeds in 6 s", l)
	}
	if l := r.Lines[1]; l.Seed != 7 || l.Seeds != 7 || *l.Median != 1.8 {
		t.Errorf("found: %+v; want seed 7 as the 7th, in 1.8 s", l)
	}
}

// A machine that has no time for a try has shown nothing: the defect is not
// missed, the sound build not silent, and going on tries both again.
func TestCutShort(t *testing.T) {
	s := Source{sum: "these"}
	name := filepath.Join(t.TempDir(), "state")
	hurried := simulator
	hurried.Budget = 5 * time.Millisecond
	hunted := func(as map[string]string) (Report, string) {
		state, err := OpenState(name, s, hurried)
		if err != nil {
			t.Fatal(err)
		}
		defer state.Close()
		return run(t, Hunt{Defects: defects("a", "found"), Builds: newFakeBuilds(t, as), Runner: hurried, Tries: 1, Jobs: 1, State: state})
	}
	r, news := hunted(map[string]string{"a": "starved", Sound: "starved"})
	if r.Exit() != results.ExitHarness || r.Verdict() != "0 of 2 found, 3 tries cut short" || len(r.Failures) > 0 {
		t.Errorf("exit %d: %s, failures %q", r.Exit(), r.Verdict(), r.Failures)
	}
	in(t, news, "UNFINISHED a in raft, try 1: cut short after 0.0 of 0.005 CPU s: the machine is too busy",
		"UNFINISHED sound in raft, try 1: cut short after", "UNFINISHED found in raft, try 1: cut short as seed 7 alone did not end within 1m0s")
	for _, word := range []string{"MISSED", "silent", "FAILED"} {
		if strings.Contains(news, word) {
			t.Errorf("nothing was tried to the end, and it says %s:\n%s", word, news)
		}
	}
	var table bytes.Buffer
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	in(t, table.String(), "a in raft, try 1: cut short after", "--jobs 1, a larger --budget")
	if err := (Source{root: t.TempDir()}).SaveRecord(r); err == nil {
		t.Error("it is the track record")
	}
	if r, _ = hunted(map[string]string{"a": "found"}); r.Exit() != results.ExitValid || r.Verdict() != "2 of 2 found, the sound build silent in 1 system" {
		t.Errorf("gone on: exit %d: %s", r.Exit(), r.Verdict())
	}
}

// While something is being built that is what is told, and a try's time begins
// behind it.
func TestBuildingIsTold(t *testing.T) {
	var told []string
	h := Hunt{Defects: defects("found"), Builds: newFakeBuilds(t, nil), Runner: simulator, Tries: 1, Jobs: 1}
	h.Progress = func(p Progress) {
		for _, text := range p.Running {
			what, _, _ := strings.Cut(text, ", ")
			told = append(told, what)
		}
	}
	if _, err := h.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"building found", "found in raft", "building sound", "found in raft", "building sound", "sound in raft"}
	if told = slices.Compact(told); !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	b := book{hunt: h, tell: func(p Progress) { told = p.Running }}
	at := time.Now()
	for n := range 3 {
		b.running = append(b.running, job{try: Try{Number: n}, building: "small", at: at})
	}
	if b.show(""); len(told) != 1 {
		t.Errorf("three tries wait for one build, and it is told as %q", told)
	}
}

// Of a hunt that was interrupted the table has what was tried, and a line on the rest.
func TestInterruptedTable(t *testing.T) {
	r := Report{In: "sim", Tries: 3, Interrupted: true, Failures: []string{"c in raft, try 1: why"}, Lines: []Line{
		{Defect: "a", System: "raft", Tries: 3, Found: 3}, {Defect: "b", System: "raft", Tries: 1, Lacking: 2},
		{Defect: "c", System: "raft", Lacking: 3}, {Defect: Sound, System: "raft", Lacking: 3}}}
	var table bytes.Buffer
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	if len(lines) != 6 {
		t.Errorf("%d lines, want a head, two rows and three lines:\n%s", len(lines), table.String())
	}
	in(t, table.String(), "0/1 unfinished", "failed: c in raft, try 1: why", "not tried to the end: 7 of 12 tries",
		"1 of 3 found, 1 unfinished, 1 try failed, interrupted")
	r.Interrupted, r.Lines = false, r.Lines[2:]
	table.Reset()
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	in(t, table.String(), "0/0 -")
}

// A sound build that is accused is an error of its own, though all is found.
func TestAccused(t *testing.T) {
	r, news := run(t, Hunt{Defects: defects("found"), Builds: newFakeBuilds(t, map[string]string{Sound: "panics"}), Runner: simulator, Tries: 1, Jobs: 1})
	if r.Exit() != results.ExitInvalid || r.Lines[0].Word() != "ACCUSED" {
		t.Errorf("exit %d", r.Exit())
	}
	in(t, news, "ACCUSED the sound build, with the seed found for found in raft, try 1: seed 7: by panic: entry 3 differs",
		"ACCUSED sound in raft, try 1: by panic at seed 7", "entry 3 differs")
	in(t, r.Verdict(), "0 of 1 found, THE SOUND BUILD ACCUSED")
}

// Whatever else goes wrong is a failure of the harness, told with its reason,
// and the rest goes on.
func TestFailures(t *testing.T) {
	for name, want := range map[string]string{
		"flaky": "seed 7 is not reproducible", "moody": "seed 7 is not reproducible", "broken": "the harness fell over", "garbage": "can't be read", "liar": "names 1 violations",
		"unbuilt": "hunk 1 does not fit", "killed": "exit status -1", "fallen": "panic: with its reason",
	} {
		r, news := run(t, Hunt{Defects: defects("found", name), Builds: newFakeBuilds(t, nil), Runner: simulator, Tries: 1, Jobs: 1})
		if r.Exit() != results.ExitHarness || r.Lines[0].Found != 1 || len(r.Failures) != 1 {
			t.Errorf("%s: exit %d, failures %q", name, r.Exit(), r.Failures)
		}
		in(t, strings.Join(r.Failures, ""), name+" in raft, try 1: ", want)
		in(t, news, "FAILED "+name)
	}
}

// Ctrl-C ends the children, keeps what was finished, and a second hunt does the rest.
func TestInterrupted(t *testing.T) {
	marks := t.TempDir()
	t.Setenv("HUNT_MARKS", marks)
	s := Source{sum: "these"}
	name := filepath.Join(t.TempDir(), "state")
	state, err := OpenState(name, s, simulator)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := Hunt{Defects: defects("found", "slow"), Builds: newFakeBuilds(t, nil), Runner: simulator, Tries: 2, Jobs: 2, State: state}
	h.Progress = func(p Progress) {
		if begun, _ := filepath.Glob(filepath.Join(marks, "begun-*")); len(begun) == 2 {
			cancel()
		}
	}
	r, err := h.Run(ctx)
	if err != nil || !r.Interrupted || r.Exit() != results.ExitHarness || r.Lines[0].Found != 2 || r.Lines[1].Tries != 0 {
		t.Errorf("%v: %+v", err, r)
	}
	if ended, _ := filepath.Glob(filepath.Join(marks, "interrupted-*")); len(ended) != 2 {
		t.Errorf("%d children were interrupted, want 2", len(ended))
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	if state, err = OpenState(name, s, simulator); err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	h = Hunt{Defects: h.Defects, Builds: newFakeBuilds(t, map[string]string{"slow": "found", "found": "broken"}), Runner: simulator, Tries: 2, Jobs: 1, State: state}
	r, news := run(t, h)
	if r.Exit() != results.ExitValid || r.Verdict() != "2 of 2 found, the sound build silent in 1 system" {
		t.Errorf("exit %d: %s", r.Exit(), r.Verdict())
	}
	if n := strings.Count(news, "found "); n != 2 {
		t.Errorf("%d tries were made, want 2:\n%s", n, news)
	}
}

// On real processes runs go on until one is invalid; its folder is kept, the
// others are not.
func TestLocal(t *testing.T) {
	keep := t.TempDir()
	hidden := defects("hidden")[0]
	hidden.Hidden = "only power loss shows it"
	local := Local{Base: 1, Budget: 30 * time.Second, Keep: keep}
	r, news := run(t, Hunt{Defects: append(defects("found"), hidden), Builds: newFakeBuilds(t, map[string]string{Sound: "found"}), Runner: local, Tries: 1, Jobs: 1})
	in(t, news, "found found in raft, try 1: by durability at seed 3 (3 runs", "a write is lost")
	if r.Exit() != results.ExitInvalid || len(r.NotHunted) != 1 || r.Lines[0].Seed != 3 {
		t.Errorf("exit %d, %+v", r.Exit(), r)
	}
	if kept, _ := filepath.Glob(filepath.Join(keep, "*", "latest")); len(kept) != 2 || !strings.Contains(kept[0], "raft-3-") {
		t.Errorf("kept %q, want the two runs with a find", kept)
	}
	local = Local{Base: 1, Budget: 300 * time.Millisecond, Keep: t.TempDir()}
	missed := defects("missed", "broken")
	missed[0].Needs = "late messages"
	r, news = run(t, Hunt{Defects: missed, Builds: newFakeBuilds(t, nil), Runner: local, Tries: 1, Jobs: 1})
	in(t, news, "MISSED missed in raft, try 1", "silent sound", "FAILED broken in raft, try 1: ")
	if r.Exit() != results.ExitInvalid || r.Lines[0].Seeds < 1 || !slices.Equal(r.Needs, []Skipped{{"missed", "late messages"}}) {
		t.Errorf("exit %d, %+v", r.Exit(), r)
	}
	in(t, Record("", r), "- missed: late messages")
	if left, _ := filepath.Glob(filepath.Join(local.Keep, "*")); len(left) != 1 || !strings.Contains(left[0], "raft-1-") {
		t.Errorf("left are %q, want the folder of the run that failed", left)
	}
}

// A run that failed says why, and stays to be looked at.
func TestLocalTrouble(t *testing.T) {
	local := Local{Base: 1, Budget: 300 * time.Millisecond, Keep: t.TempDir()}
	r, news := run(t, Hunt{Defects: defects("troubled"), Builds: newFakeBuilds(t, nil), Runner: local, Tries: 1, Jobs: 1})
	in(t, news, "FAILED troubled in raft, try 1: ", ": exit status 2: a fault was not healed")
	if r.Exit() != results.ExitHarness {
		t.Errorf("exit %d", r.Exit())
	}
	if kept, _ := filepath.Glob(filepath.Join(local.Keep, "*-raft-1-*", "latest")); len(kept) != 1 {
		t.Errorf("%d folders are kept, want that of the run that failed", len(kept))
	}
}

// A run that the budget cuts short is interrupted and proves nothing.
func TestLocalBudget(t *testing.T) {
	t.Setenv("HUNT_MARKS", t.TempDir())
	r, _ := run(t, Hunt{Defects: defects("slow"), Builds: newFakeBuilds(t, nil), Runner: Local{Base: 1, Budget: 200 * time.Millisecond}, Tries: 1, Jobs: 1})
	if l := r.Lines[0]; l.Word() != "MISSED" || l.Seconds < 0.2 || len(r.Failures) > 0 {
		t.Errorf("%+v, failures %q", l, r.Failures)
	}
}

// A sound build that could not be looked at is not silent.
func TestSoundBuildFails(t *testing.T) {
	r, news := run(t, Hunt{Defects: defects("found"), Builds: newFakeBuilds(t, map[string]string{Sound: "unsteady"}), Runner: simulator, Tries: 2, Jobs: 1})
	if l := r.Lines[1]; r.Exit() != results.ExitHarness || r.Lines[0].Found != 2 || l.Tries != 0 || l.Word() != "-" || len(r.Failures) != 2 {
		t.Errorf("exit %d, %+v, failures %q", r.Exit(), l, r.Failures)
	}
	in(t, news, "FAILED sound in raft, try 1: ")
	in(t, r.Verdict(), "1 of 1 found, 2 tries failed")
}

// A find is run again alone as often as was asked for.
func TestConfirmed(t *testing.T) {
	for confirm := range 4 {
		s := simulator
		s.Confirm = confirm
		marks := t.TempDir()
		t.Setenv("HUNT_MARKS", marks)
		if found, err := s.Try(t.Context(), fakeProgram(t, "marked"), "raft", 1); err != nil || !found.Found || found.Seed != 7 {
			t.Errorf("confirmed %d times: %+v, %v", confirm, found, err)
		}
		if runs, _ := filepath.Glob(filepath.Join(marks, "run-*")); len(runs) != 1+confirm {
			t.Errorf("confirmed %d times: it was run %d times", confirm, len(runs))
		}
	}
}

// fakeProgram is a fake chaos that behaves as its name says.
func fakeProgram(t *testing.T, name string) string {
	t.Helper()
	program, err := newFakeBuilds(t, nil).Build(t.Context(), defects(name)[0])
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// Nothing hides in simulation: what a live run can hardly show is hunted there.
func TestHiddenInSimulation(t *testing.T) {
	hidden := defects("found")[0]
	hidden.Hidden = "only power loss shows it"
	r, _ := run(t, Hunt{Defects: []Defect{hidden}, Builds: newFakeBuilds(t, nil), Runner: simulator, Tries: 1, Jobs: 1})
	if len(r.NotHunted) > 0 || len(r.Lines) != 2 || r.Lines[0].Found != 1 {
		t.Errorf("%+v", r)
	}
}

// A try that shows what the sound build shows, too, is an accusation of that,
// though the tries of the sound build stay silent and other tries found something.
func TestAccusedByAFindAlone(t *testing.T) {
	h := Hunt{Defects: defects("found"), Runner: simulator, Tries: 2}
	key := Try{Defect: "found", System: "raft", Number: 1, Seeds: 7}
	found, accused, silent := key, key, Try{Defect: Sound, System: "raft", Number: 1}
	found.Found, found.By, found.Seed = true, "log-matching", 7
	accused.Number, accused.Seed, accused.Accused = 2, 9, "by panic: why"
	for name, c := range map[string]struct {
		defect, sound []Try
		word          string
		exit          int
	}{
		"all found":             {[]Try{found, found}, []Try{silent, silent}, "found", results.ExitValid},
		"found, and accused":    {[]Try{found, accused}, []Try{silent, silent}, "ACCUSED", results.ExitInvalid},
		"accused alone":         {[]Try{accused, accused}, []Try{silent, silent}, "ACCUSED", results.ExitInvalid},
		"the sound build shows": {[]Try{found, found}, []Try{silent, {Defect: Sound, System: "raft", Found: true, By: "panic"}}, "found", results.ExitInvalid},
		"one of two missed":     {[]Try{found, key}, []Try{silent, silent}, "found", results.ExitValid},
		"missed":                {[]Try{key, key}, []Try{silent, silent}, "MISSED", results.ExitInvalid},
		"missed so far":         {[]Try{key}, []Try{silent, silent}, "unfinished", results.ExitValid},
		"found so far":          {[]Try{found}, []Try{silent, silent}, "found", results.ExitValid},
		"accused so far":        {[]Try{accused}, []Try{silent, silent}, "ACCUSED", results.ExitInvalid},
	} {
		r := Report{Tries: 2, Lines: []Line{h.line(key, c.defect), h.line(silent, c.sound)}}
		if got := r.Lines[0].Word(); got != c.word || r.Exit() != c.exit {
			t.Errorf("%s: %s, exit %d; want %s, %d", name, got, r.Exit(), c.word, c.exit)
		}
		for _, spoilt := range []Report{{Tries: 2, Lines: r.Lines, Failures: []string{"why"}}, {Tries: 2, Lines: r.Lines, Interrupted: true}, {Tries: 2, Lines: r.Lines, CutShort: []string{"why"}}} {
			if want := max(c.exit, results.ExitHarness); c.exit == results.ExitValid && spoilt.Exit() != want {
				t.Errorf("%s, and not all went well: exit %d", name, spoilt.Exit())
			}
		}
	}
	l := h.line(key, []Try{found, key, key})
	if l.Median != nil || l.P90 != nil || l.Found != 1 || l.Tries != 3 {
		t.Errorf("found once in three tries: %+v; its median is endless", l)
	}
}

// One is one.
func TestCounted(t *testing.T) {
	in(t, Try{Defect: Sound, System: "raft", Number: 1, Seeds: 1, Seconds: 2}.news("sim"), "silent sound in raft, try 1 (1 seed, 2.0 CPU s)")
	in(t, Try{Defect: "a", System: "raft", Number: 1, Seeds: 2}.news("local"), "MISSED a in raft, try 1 (2 runs, 0.0s)")
	in(t, Try{Defect: "a", System: "raft", Number: 1, Seeds: 1}.news("local"), "(1 run, 0.0s)")
}

func TestPercentile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		p      int
		want   float64
	}{{[]float64{3, 1, 2}, 50, 2}, {[]float64{3, 1, 2}, 90, 3}, {[]float64{4, 1, 2, 3}, 50, 2}, {[]float64{9}, 90, 9}} {
		if got := percentile(c.values, c.p); got == nil || *got != c.want {
			t.Errorf("percentile %d of %v is %v, want %v", c.p, c.values, got, c.want)
		}
	}
	if percentile(nil, 50) != nil {
		t.Error("nothing has a median")
	}
}
