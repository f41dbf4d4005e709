package campaign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/linearizability"
	"chaos/nemesis"
	"chaos/nodes"
	"chaos/results"
)

// shortPlan hurts n2 and n3 for a while, and leaves the last fault to the final heal.
func shortPlan() Plan {
	s := DefaultSpec()
	s.System, s.Provider, s.Duration, s.Rate = "memory", "nowhere", Duration(2*time.Second), 3000
	s.Concurrency = 48 // enough at every node, however little time the machine gives us
	s.Faults = []string{"kill", "pause"}
	at := func(ms int, step nemesis.Step) nemesis.Step {
		step.At = time.Duration(ms) * time.Millisecond
		return step
	}
	return Plan{Version: PlanVersion, Seed: 11, Spec: s, Schedule: nemesis.Schedule{
		at(50, inject("kill-1", "kill", "n2")), at(500, heal("kill-1")), at(600, inject("pause-1", "pause", "n3"))}}
}

func live(t *testing.T, w *world) Live {
	t.Helper()
	return Live{Plan: shortPlan(), System: w, Provider: memoryPlace{w}, Folder: t.TempDir()}
}

func phasesOf(t *testing.T, h history.History) (out []string) {
	t.Helper()
	for _, e := range h.Events {
		if e.F == history.Phase {
			n, err := history.DecodeNote(e)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, n.Phase)
		}
	}
	return out
}

var allPhases = []string{history.WarmUp, history.Storm, history.Healing, history.Settle, history.Final, history.Restart, history.Again}

// A whole run over a perfect store: every phase, a well-formed history on disk
// as in memory, every fault proven, a valid verdict, and all files of the folder.
func TestWholeRun(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var shown []string
	l := live(t, w)
	l.Network, l.Plan.Spec.Lease = "none", Duration(7*time.Second)
	l.Progress = func(p Progress) {
		if len(shown) == 0 || shown[len(shown)-1] != p.Phase {
			shown = append(shown, p.Phase)
		}
	}
	root := filepath.Join(t.TempDir(), "runs")
	s, err := l.Execute(t.Context(), root, time.Now(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if s.Exit != results.ExitValid || s.Verdict.Outcome != linearizability.Valid || len(s.Harness) > 0 || s.Interrupted != "" {
		t.Errorf("exit %d: %s; harness %v", s.Exit, s.Verdict.Reason, s.Harness)
	}
	for _, f := range s.Figures.Faults {
		if f.Proven != 1 || f.Injected != 1 {
			t.Errorf("%+v", f)
		}
	}
	if len(w.rules) > 0 {
		t.Errorf("what a client must not do: %q", w.rules)
	}
	if len(w.wanted.Injections()) > 0 || w.closed != 1 {
		t.Errorf("injections %v are left; closed %d times", w.wanted.Injections(), w.closed)
	}
	if w.asked.Lease != 7*time.Second {
		t.Errorf("a lease of %s was asked for", w.asked.Lease)
	}
	if !slices.Contains(shown, history.Storm) || shown[len(shown)-1] != "judging" {
		t.Errorf("shown: %v", shown)
	}
	folder := filepath.Join(root, results.LatestLink)
	h := readBack(t, filepath.Join(folder, results.HistoryFile))
	if got := phasesOf(t, h); !slices.Equal(got, allPhases) {
		t.Errorf("phases %v", got)
	}
	if h.Torn || h.Header.Seed != 11 || h.Header.System != "memory" || h.Header.Nonce == "" {
		t.Errorf("header %+v", h.Header)
	}
	if last := lastCommand(h); last.Type != history.Ok || !bytes.Contains(last.Value, []byte("1125899906842624")) && last.F == history.Write {
		t.Errorf("the last command before all restart is %+v", last)
	}
	plan, err := os.ReadFile(filepath.Join(folder, results.PlanFile))
	if err != nil || !bytes.Equal(plan, l.Plan.Encode()) {
		t.Errorf("the plan in the folder is another: %v", err)
	}
	kept, err := results.ReadSummary(folder)
	if err != nil || kept.Exit != s.Exit || kept.Network != "none" || !kept.Started.Equal(s.Started) {
		t.Errorf("kept %+v, %v", kept, err)
	}
	again, err := Judge(t.Context(), folder, &l.Plan, Record{History: h}, time.Minute)
	if err != nil || again.Exit != s.Exit || !reflect.DeepEqual(again.Figures, s.Figures) || again.Verdict.Reason != s.Verdict.Reason {
		t.Errorf("judged again: %+v, %v; before: %+v", again, err, s)
	}
	early, err := Judge(t.Context(), folder, &l.Plan, Record{History: h, Interrupted: "interrupted after 1s"}, time.Minute)
	if err != nil || early.Exit != results.ExitUnknown || !strings.HasPrefix(early.Verdict.Reason, "interrupted after 1s; until then: ") {
		t.Errorf("an interrupted run is %+v, %v", early.Verdict, err)
	}
}

// lastCommand is the last completed one that is no read; it must stand between
// the last two rounds of reads.
func lastCommand(h history.History) (last history.Event) {
	for _, e := range h.Events {
		n, err := history.DecodeNote(e)
		switch {
		case e.F == history.Phase && err == nil && n.Phase == history.Final:
			last = history.Event{}
		case e.F == history.Phase && err == nil && n.Phase == history.Restart:
			return last
		case e.Process != history.Nemesis && e.Type != history.Invoke && e.F != history.Read:
			last = e
		}
	}
	return history.Event{}
}

// Ctrl-C in the storm: what is live is healed, keys are read at the end, what
// there is gets judged, and the summary says so. Interrupted is never valid.
func TestInterruptedRun(t *testing.T) {
	t.Parallel()
	w := newWorld()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.observe = func(call, injection string) {
		if call == "apply" && injection == "pause-1" {
			cancel()
		}
	}
	l := live(t, w)
	rec, err := l.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(rec.Interrupted, "interrupted after ") || len(rec.Trouble) > 0 {
		t.Errorf("interrupted %q, trouble %q", rec.Interrupted, rec.Trouble)
	}
	if got := phasesOf(t, rec.History); !slices.Equal(got, allPhases[:5]) {
		t.Errorf("phases %v", got)
	}
	if len(w.wanted.Injections()) > 0 || w.closed != 1 {
		t.Errorf("injections %v are left; closed %d times", w.wanted.Injections(), w.closed)
	}
	s, err := Judge(t.Context(), l.Folder, &l.Plan, rec, time.Minute)
	if err != nil || s.Exit != results.ExitUnknown || s.Interrupted != rec.Interrupted {
		t.Errorf("exit %d, interrupted %q, %v", s.Exit, s.Interrupted, err)
	}
	l.Plan.Spec.Faults = nil // now nothing else is missing
	if s, err = Judge(t.Context(), l.Folder, &l.Plan, rec, time.Minute); err != nil || s.Exit != results.ExitUnknown {
		t.Errorf("exit %d: %s, %v", s.Exit, s.Verdict.Reason, err)
	}
}

// Ctrl-C before the cluster answers: there is nothing to judge, and that is said.
func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.silent[4] = true
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	l := live(t, w)
	rec, err := l.Run(ctx)
	if err != nil || !strings.Contains(rec.Interrupted, "before every node answered") || w.closed != 1 {
		t.Fatalf("interrupted %q, %v; closed %d times", rec.Interrupted, err, w.closed)
	}
	if s, err := Judge(t.Context(), l.Folder, &l.Plan, rec, time.Minute); err != nil || s.Exit != results.ExitUnknown {
		t.Errorf("exit %d, %v", s.Exit, err)
	}
}

// What can't start is an error that names the node, and the cluster is closed.
func TestFailedStarts(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.launch = errors.New("no place left")
	if _, err := live(t, w).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "launching 5 nodes: no place left") {
		t.Errorf("a failed launch: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := live(t, w).Run(ended); err == nil || err.Error() != "interrupted before the nodes were launched\nno place left" {
		t.Errorf("a launch that was interrupted: %v", err)
	}
	ctxEnd := fmt.Errorf("agent: n1: %w", errors.Join(context.Canceled, errors.New("no greeting came")))
	if got := besides(errors.Join(ctxEnd, fmt.Errorf("n2: %w", net.ErrClosed))); len(got) > 0 {
		t.Errorf("an interrupt explains all of it, but %v", got)
	}
	w = newWorld()
	w.silent[3] = true
	w.news <- nodes.Incident{Node: 3, Kind: "exit", Detail: "process 9 ended: exit status 2\nthe disk is full"}
	_, err := live(t, w).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "n3 ended at its start: process 9 ended: exit status 2") || !strings.Contains(err.Error(), filepath.Join("nodes", "n3", "log.txt")) {
		t.Errorf("a node that crashes at its start: %v", err)
	}
	if w.closed != 1 {
		t.Errorf("closed %d times", w.closed)
	}
}

// A node that never answers ends the wait after its bound.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.silent[2] = true
	r := &run{Live: live(t, w), load: &load{}}
	w.count = 3
	r.cluster = memoryCluster{w}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Millisecond, errors.New("too long"))
	defer cancel()
	if err := r.ready(ctx); err == nil || err.Error() != "too long" {
		t.Errorf("%v", err)
	}
}

// What the harness fails to do stands beside the verdict.
func TestTroubleIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.broken["apply restart-all"], w.broken["close"] = errors.New("no answer"), errors.New("one process is left")
	w.broken["revert slow-1"] = errors.New("the link stays slow")
	l := live(t, w)
	l.Plan.Spec.Faults = append(l.Plan.Spec.Faults, "slow")
	slow := inject("slow-1", "slow", "n2")
	slow.At = 700 * time.Millisecond
	l.Plan.Schedule = append(l.Plan.Schedule, slow)
	rec, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(rec.Trouble, "; ")
	for _, want := range []string{"healing slow-1: the link stays slow", "restarting every node: no answer", "closing the cluster: one process is left"} {
		if !strings.Contains(all, want) {
			t.Errorf("trouble %q has no %q", all, want)
		}
	}
	s, err := Judge(t.Context(), l.Folder, &l.Plan, rec, time.Minute)
	if err != nil || s.Exit != results.ExitHarness || s.Word() != "harness failure" {
		t.Errorf("exit %d, %q, %v", s.Exit, s.Word(), err)
	}
}

// A restart of all that nobody can prove is none.
func TestUnprovenRestart(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.unproven["apply restart-all"] = true
	rec, err := live(t, w).Run(t.Context())
	if all := strings.Join(rec.Trouble, "; "); err != nil || !strings.Contains(all, "that all were down is not proven: n1 down") {
		t.Errorf("trouble %q, %v", all, err)
	}
}

// A record that can't be kept ends the storm, not the schedule's length later.
func TestBrokenRecordEndsTheStorm(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.count = 5
	l := live(t, w)
	l.Plan.Spec.Duration = Duration(time.Hour)
	l.Plan.Schedule = append(l.Plan.Schedule, nemesis.Step{ID: "kill-2", At: 50 * time.Minute, Action: nemesis.Inject, Fault: "kill", Victims: "n1"})
	r := &run{Live: l}
	r.rec, _ = record(t)
	r.cluster = memoryCluster{w}
	r.storm = newStorm(r.rec, r.cluster, (&observer{rec: r.rec}).current)
	r.rec.fault(errors.New("no space left on device"))
	if why := r.strike(t.Context()); !strings.Contains(why, "no space left on device") {
		t.Errorf("the storm ended because: %q", why)
	}
}

// A run leaves no goroutine.
func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld()
	l := live(t, w)
	l.Plan.Schedule, l.Plan.Spec.Faults, l.Plan.Spec.Duration = nil, nil, Duration(time.Second)
	if _, err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for tries := 0; runtime.NumGoroutine() > before; tries++ {
		if tries > 500 {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}
