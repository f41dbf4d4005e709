package results

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"chaos/history"
	"chaos/linearizability"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A violation outranks a failure of the harness, which outranks unknown.
func TestGrade(t *testing.T) {
	for _, c := range []struct {
		outcome linearizability.Outcome
		harness []string
		exit    int
		word    string
	}{
		{linearizability.Valid, nil, ExitValid, "valid"},
		{linearizability.Unknown, nil, ExitUnknown, "unknown"},
		{linearizability.Invalid, nil, ExitInvalid, "invalid"},
		{linearizability.Valid, []string{"a heal failed"}, ExitHarness, "harness failure"},
		{linearizability.Unknown, []string{"a heal failed"}, ExitHarness, "harness failure"},
		{linearizability.Invalid, []string{"a heal failed"}, ExitInvalid, "invalid"},
	} {
		s := Summary{Verdict: linearizability.Verdict{Outcome: c.outcome}, Harness: c.harness, Exit: 99}
		if s.Grade(); s.Exit != c.exit || s.Word() != c.word {
			t.Errorf("%s with harness failures %v: exit %d, %q; want %d, %q", c.outcome, c.harness, s.Exit, s.Word(), c.exit, c.word)
		}
	}
}

// summary is one with everything in it.
func summary() Summary {
	s := Summary{Version: SummaryVersion, Run: "20260102T030405.678Z-paxos-classic-local-7", System: "paxos-classic", Provider: "local", Network: "namespaces",
		Seed: 18446744073709551615, Nodes: 5, Workload: "mixed", Duration: "25s", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s.Verdict = linearizability.Verdict{Checker: "run", Outcome: linearizability.Valid, Reason: "all 312 keys with 84012 operations are linearizable",
		Parts: []linearizability.Verdict{{Checker: "linearizable", Reason: "all 312 keys with 84012 operations are linearizable"}}}
	s.Figures = history.Figures{All: history.Outcomes{Ok: 1_200_345, Fail: 30_456, Info: 4_567}, Rate: 48013.8, P50: 1234567, P99: 98765432,
		Unavailable: 1320 * time.Millisecond, Recovery: 999 * time.Microsecond, Recovered: true}
	for _, f := range []string{"kill", "partition-leader", "partition-one-way-data", "pause", "slow"} {
		s.Figures.Faults = append(s.Figures.Faults, history.FaultFigure{Fault: f, Injected: 12, Proven: 11})
	}
	return s
}

// The table of one run, and of two side by side, fits 80 columns, and holds
// nothing that only a terminal understands.
func TestTable(t *testing.T) {
	bare := Summary{System: "raft", Provider: "local", Nodes: 3, Exit: ExitUnknown, Verdict: linearizability.Verdict{Outcome: linearizability.Unknown}}
	var b strings.Builder
	alone := bare // a history alone tells no number of nodes
	alone.Nodes = 0
	for _, runs := range [][]Summary{{summary()}, {bare}, {alone}, {summary(), bare}, {summary(), summary()}} {
		if err := Table(&b, runs...); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if utf8.RuneCountInString(line) > 80 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
	if strings.ContainsAny(b.String(), "\x1b\r\t") {
		t.Errorf("control characters in %q", b.String())
	}
	golden(t, "testdata/table.txt", b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not as in %s; go test -update rewrites it\n%s", name, got)
	}
}

// What a person reads has the verdict first, each story once, and an end.
func TestTell(t *testing.T) {
	s := summary()
	bad := linearizability.Verdict{Checker: "linearizable", Outcome: linearizability.Invalid, Reason: "key register/1 can't be ordered", Key: "register/1", Story: []string{"once", "upon a time"}}
	slow := linearizability.Verdict{Checker: "meaningful", Outcome: linearizability.Unknown, Reason: "kill was never injected", Story: []string{"kill was never injected"}}
	s.Verdict = linearizability.Verdict{Outcome: bad.Outcome, Reason: bad.Reason, Key: bad.Key, Story: bad.Story, Parts: []linearizability.Verdict{slow, bad}}
	s.Interrupted, s.Harness = "interrupted after 3s", []string{"a heal failed"}
	var b strings.Builder
	if err := Tell(&b, s); err != nil {
		t.Fatal(err)
	}
	cut := summary() // a headline that goes on with a part's reason has told it
	cut.Interrupted = "interrupted after 3s"
	cut.Verdict = linearizability.Verdict{Outcome: linearizability.Unknown, Reason: cut.Interrupted + "; until then: " + slow.Reason, Story: slow.Story, Parts: []linearizability.Verdict{slow}}
	if err := Tell(&b, cut); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/tell.txt", b.String())
	for n := range 500 {
		bad.Story = append(bad.Story, fmt.Sprint("line ", n))
	}
	s.Verdict.Parts[1], s.Verdict.Story = bad, bad.Story
	b.Reset()
	if err := Tell(&b, s); err != nil || strings.Count(b.String(), "\n") > storyMax+10 {
		t.Errorf("%d lines, %v", strings.Count(b.String(), "\n"), err)
	}
}

// Create makes a folder of its own for every run, and latest points to the newest.
func TestCreate(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600))
	first, err := Create(root, "raft", "local", 7, at)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := filepath.Base(first), "20260102T020405.678Z-raft-local-7"; got != want {
		t.Errorf("folder %s, want %s", got, want)
	}
	if _, err := Create(root, "raft", "local", 7, at); !errors.Is(err, os.ErrExist) {
		t.Errorf("the same folder twice: %v", err)
	}
	second, err := Create(root, "raft", "local", 7, at.Add(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(filepath.Join(root, LatestLink)); err != nil || to != filepath.Base(second) {
		t.Errorf("latest points to %s, %v", to, err)
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 3 {
		t.Errorf("beside two folders and the link: %v, %v", entries, err)
	}
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(file, "raft", "local", 7, at); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("below a file: %v", err)
	}
}

// Who reads while a file is written anew sees the old or the new one, whole;
// what can't be written leaves the old one and nothing beside it.
func TestWrite(t *testing.T) {
	folder := t.TempDir()
	sizes := []int{1000, 200_000}
	content := func(n int) []byte { return []byte(strings.Repeat(fmt.Sprint(n%10), n)) }
	if err := Write(folder, "x", content(sizes[0])); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if b, err := os.ReadFile(filepath.Join(folder, "x")); err != nil || len(b) != sizes[0] && len(b) != sizes[1] {
				t.Errorf("read %d bytes, %v", len(b), err)
				return
			}
		}
	})
	for i := range 200 {
		if err := Write(folder, "x", content(sizes[i%2])); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	reading.Wait()
	if err := Write(filepath.Join(folder, "none"), "x", nil); err == nil {
		t.Error("written into a folder that is not there")
	}
	if err := os.Mkdir(filepath.Join(folder, "y"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(folder, "y", content(5)); err == nil {
		t.Error("written over a folder")
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A list has every folder, also those without a verdict, each with the reason.
func TestList(t *testing.T) {
	root := t.TempDir()
	if _, err := List(filepath.Join(root, "none")); err == nil {
		t.Error("listed a folder that is not there")
	}
	if runs, err := List(root); err != nil || len(runs) != 0 {
		t.Errorf("%v, %v", runs, err)
	}
	header := `{"history":1,"system":"raft"}` + "\n"
	note := `{"index":0,"time":1,"process":-1,"type":"info","f":"phase","value":{"phase":"warm-up"}}` + "\n"
	ask := `{"index":1,"time":2,"process":0,"type":"invoke","f":"read","key":"register/1"}` + "\n"
	for name, h := range map[string]string{"1-unfinished": header + note + ask, "5-empty": "", "6-waited": header + note, "7-strange": "?\n", "8-torn": header + note + `{"ind`} {
		if err := errors.Join(os.Mkdir(filepath.Join(root, name), 0o755), os.WriteFile(filepath.Join(root, name, HistoryFile), []byte(h), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, verdict := range map[string]string{"3-good": string(summary().Encode()), "2-broken": `{"summary":1,`, "4-version": `{"summary":9}`, "9-refused": "", ".hidden": ""} {
		folder := filepath.Join(root, name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if verdict != "" {
			if err := os.WriteFile(filepath.Join(folder, VerdictFile), []byte(verdict), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(root, "file"), nil, 0o644), os.Symlink("3-good", filepath.Join(root, LatestLink))); err != nil {
		t.Fatal(err)
	}
	runs, err := List(root)
	if err != nil || len(runs) != 9 {
		t.Fatalf("%v, %v", runs, err)
	}
	for i, want := range []string{"did not finish", "2-broken", "", "summary version 9; this program reads 1", "nothing to judge", "nothing to judge", "did not finish", "nothing to judge", "nothing to judge"} {
		if got := runs[i].Err; (got == nil) != (want == "") || got != nil && !strings.Contains(got.Error(), want) {
			t.Errorf("%s: %v, want %q", runs[i].Folder, got, want)
		}
	}
	if !reflect.DeepEqual(runs[2].Summary, summary()) {
		t.Errorf("read %+v", runs[2].Summary)
	}
}

// Every figure and every word of a summary outlives the file.
func TestSummaryRoundTrip(t *testing.T) {
	s := summary()
	s.Verdict.Outcome, s.Verdict.Evidence, s.Harness, s.Interrupted = linearizability.Invalid, []int{1, 2}, []string{"x"}, "y"
	s.Grade()
	var back Summary
	if err := json.Unmarshal(s.Encode(), &back); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("%+v became %+v, %v", s, back, err)
	}
}
