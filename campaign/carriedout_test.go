package campaign

import (
	"testing"
	"time"

	"chaos/history"
	"chaos/linearizability"
	"chaos/nemesis"
)

// A step that the harness left out makes the run unknown; one that was not due does not.
func TestCarriedOut(t *testing.T) {
	p := Plan{Spec: Spec{Duration: Duration(10 * time.Second)}, Schedule: nemesis.Schedule{
		{ID: "kill-1", At: time.Second, Action: nemesis.Inject, Fault: "kill"},
		{ID: "kill-1", At: 2 * time.Second, Action: nemesis.Heal},
		{ID: "kill-2", At: 3 * time.Second, Action: nemesis.Inject, Fault: "kill"},
		{ID: "pause-1", At: 5 * time.Second, Action: nemesis.Inject, Fault: "pause", After: nemesis.NewLeader, Within: 6 * time.Second},
		{ID: "pause-2", At: 9500 * time.Millisecond, Action: nemesis.Inject, Fault: "pause"},
	}}
	record := func(ids ...string) (h history.History) {
		for i, id := range ids {
			e := noteEvent(history.Invoke, history.Inject, history.Note{ID: id})
			e.Index = i
			h.Events = append(h.Events, e)
		}
		return h
	}
	for _, c := range []struct {
		made []string
		want linearizability.Outcome
	}{
		{[]string{"kill-1", "kill-2", "pause-1", "pause-2"}, linearizability.Valid},
		{[]string{"kill-1", "kill-2"}, linearizability.Valid},
		{[]string{"kill-1"}, linearizability.Unknown},
		{nil, linearizability.Unknown},
	} {
		v := linearizability.Verdict{Outcome: linearizability.Valid}
		if holdToPlan(&v, p, record(c.made...)); v.Outcome != c.want || len(v.Parts) != 1 {
			t.Errorf("made %v: %s, %s", c.made, v.Outcome, v.Reason)
		}
		worse := linearizability.Verdict{Outcome: linearizability.Invalid}
		if holdToPlan(&worse, p, record(c.made...)); worse.Outcome != linearizability.Invalid {
			t.Errorf("made %v: a violation became %s", c.made, worse.Outcome)
		}
	}
}
