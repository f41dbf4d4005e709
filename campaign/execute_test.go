package campaign

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/linearizability"
	"chaos/results"
)

// Nodes that ended by themselves, as a full disk ends them, don't come back: that
// nothing was answered after the heal is then no violation. Without such an end it is.
func TestDeadNodesAreNoViolation(t *testing.T) {
	for detail, want := range map[string]linearizability.Outcome{
		"exit: process 9 ended: exit status 2\nno space left on device": linearizability.Unknown,
		"lapse: a fault did not hold":                                   linearizability.Invalid,
		"panic: process 9 ended: exit status 2\npanic: index":           linearizability.Invalid,
	} {
		r, _ := record(t)
		for _, form := range []struct {
			t history.Type
			f string
		}{{history.Invoke, history.Inject}, {history.Ok, history.Inject}, {history.Ok, history.Verify}, {history.Invoke, history.Heal}, {history.Ok, history.Heal}} {
			r.note(form.t, form.f, history.Note{ID: "kill-1", Fault: "kill", Victims: []string{"n1"}})
		}
		r.note(history.Info, history.Incident, history.Note{Node: "n1", Detail: detail})
		events, err := r.close()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			e := history.Event{Index: len(events), Time: time.Duration(i) * time.Second, Process: i, Type: history.Invoke, F: history.Read, Key: "register/1"}
			failed := e
			failed.Type, failed.Index = history.Fail, e.Index+1
			events = append(events, e, failed)
		}
		s, err := Judge(t.Context(), t.TempDir(), nil, Record{History: history.History{Events: events}}, time.Minute)
		if err != nil || s.Verdict.Outcome != want {
			t.Errorf("%.12q: %s, %v: %s", detail, s.Verdict.Outcome, err, s.Verdict.Reason)
		}
		if want == linearizability.Invalid && strings.HasPrefix(detail, "lapse") && !strings.Contains(s.Verdict.Reason, "no operation succeeded") {
			t.Errorf("%.12q: %s", detail, s.Verdict.Reason)
		}
	}
}

// A history alone is judged alone: what stands in the folder where one happens to
// be is no audit of it.
func TestJudgeAHistoryAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	dir := filepath.Join(results.NodesFolder, "n1")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, auditName), []byte("of somebody else\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	s, err := Judge(t.Context(), "", nil, Record{}, time.Minute)
	if err != nil || s.Run != "" || s.Nodes != 0 {
		t.Errorf("run %q of %d nodes, %v", s.Run, s.Nodes, err)
	}
}
