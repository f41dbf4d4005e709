package campaign

import (
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/workload"
)

// An operation ends as all its sends together allow: ok if one was, fail only
// if every one certainly failed; and it is sent no more often than it must be.
func TestAttempts(t *testing.T) {
	const ok, fail, info = history.Ok, history.Fail, history.Info
	for name, c := range map[string]struct {
		retries []workload.Retry
		ends    []history.Type // of the sends, as they are made
		want    history.Type
		sends   int
	}{
		"answered":                       {nil, []history.Type{ok}, ok, 1},
		"refused":                        {nil, []history.Type{fail}, fail, 1},
		"open":                           {nil, []history.Type{info}, info, 1},
		"answered, and no second send":   {[]workload.Retry{{Node: 1}}, []history.Type{ok, ok}, ok, 1},
		"refused, and no second send":    {[]workload.Retry{{Node: 1}}, []history.Type{fail, ok}, fail, 1},
		"open, then answered":            {[]workload.Retry{{Node: 1}}, []history.Type{info, ok}, ok, 2},
		"open, then refused: still open": {[]workload.Retry{{Node: 1}}, []history.Type{info, fail}, info, 2},
		"open twice":                     {[]workload.Retry{{Node: 1}}, []history.Type{info, info}, info, 2},
		"open, refused, and no third":    {[]workload.Retry{{Node: 1}, {Node: 2}}, []history.Type{info, fail, ok}, ok, 3},
		"doubles are no sends":           {[]workload.Retry{{Node: 1, Always: true}}, []history.Type{info, ok}, info, 1},
	} {
		op := workload.Op{F: history.Write, Key: "k", Node: 0, Timeout: time.Second, Retries: c.retries}
		invoke := history.Event{Type: history.Invoke, F: op.F, Key: op.Key, Process: 3}
		a := begin(op, invoke)
		sends := 0
		for {
			node, _, more := a.next()
			if !more {
				break
			}
			if node != sends {
				t.Errorf("%s: send %d goes to node %d", name, sends+1, node)
			}
			a.ended(told(a.invoke, "n1", a.count, history.Event{Type: c.ends[sends], Error: "why"}))
			sends++
		}
		if a.done.Type != c.want || sends != c.sends || a.done.Attempts != sends || a.done.Process != 3 {
			t.Errorf("%s: %d sends end as %+v, want %d and %s", name, sends, a.done, c.sends, c.want)
		}
	}
}

// A send waits no longer than until the next is due, and never longer than any may.
func TestAttemptsTimeouts(t *testing.T) {
	op := workload.Op{Timeout: time.Hour, Retries: []workload.Retry{
		{After: 200 * time.Millisecond, Timeout: time.Second}, {Always: true, After: time.Second}, {After: 5 * time.Second, Timeout: 300 * time.Millisecond}}}
	a := begin(op, history.Event{})
	var got []time.Duration
	for {
		_, timeout, more := a.next()
		if !more {
			break
		}
		got = append(got, timeout)
		a.ended(history.Event{Type: history.Info})
	}
	if len(got) != 3 || got[0] != 200*time.Millisecond || got[1] != time.Second || got[2] != 300*time.Millisecond {
		t.Errorf("the sends wait %v", got)
	}
	if len(a.doubles) != 1 {
		t.Errorf("%d doubles, want one", len(a.doubles))
	}
	a = begin(workload.Op{Timeout: time.Hour}, history.Event{})
	if _, timeout, _ := a.next(); timeout != opTimeoutMax {
		t.Errorf("an operation without an end waits %s", timeout)
	}
}

// Late copies are sent when they are due, never of what certainly failed, and a
// worker has few in store.
func TestDoublesInStore(t *testing.T) {
	var d doubles
	keep := func(end history.Type, key string, after time.Duration) {
		a := begin(workload.Op{Retries: []workload.Retry{{Always: true, After: after, Node: 2, Timeout: time.Hour}}}, history.Event{Key: key})
		a.next()
		a.ended(told(a.invoke, "n1", 1, history.Event{Type: end}))
		d.keep(&a, time.Second)
	}
	keep(history.Fail, "failed", 0)
	keep(history.Ok, "late", 2*time.Second)
	keep(history.Info, "soon", time.Second)
	if _, due := d.next(2*time.Second - 1); due {
		t.Error("one is sent too early")
	}
	if c, due := d.next(2 * time.Second); !due || c.event.Key != "soon" || c.node != 2 || c.timeout != doubleTimeout {
		t.Errorf("%t, %+v; want the copy of soon", due, c)
	}
	if _, due := d.next(3*time.Second - 1); due {
		t.Error("one is sent twice, or too early")
	}
	if c, due := d.next(time.Hour); !due || c.event.Key != "late" {
		t.Errorf("%t, %+v; want the copy of late", due, c)
	}
	if _, due := d.next(time.Hour); due {
		t.Error("what certainly failed is sent again")
	}
	for range 3 * doublesMax {
		keep(history.Ok, "many", 0)
	}
	if len(d) != doublesMax {
		t.Errorf("%d are in store, want %d", len(d), doublesMax)
	}
}

// Who a worker is changes with what happened to its operations.
func TestIdentity(t *testing.T) {
	write := workload.Op{F: history.Write}
	past := workload.Op{F: history.Read, Mode: nodes.ModeIndex}
	through := workload.Op{F: history.Read, Mode: nodes.ModeLog}
	drawn := uint64(100)
	w := identity{number: 1, workers: 4, process: 1, session: 100, draw: func() uint64 { drawn++; return drawn }}
	for i, c := range []struct {
		op                workload.Op
		end               history.Type
		process           int
		session, sequence uint64
	}{
		{write, history.Fail, 1, 101, 0}, // nothing exists to go on with
		{past, history.Ok, 1, 101, 0},
		{past, history.Fail, 1, 101, 0},
		{through, history.Ok, 1, 101, 1},
		{write, history.Ok, 1, 101, 2},
		{write, history.Fail, 1, 101, 3}, // never the same number for two commands
		{write, history.Info, 5, 102, 0},
		{past, history.Info, 9, 103, 0},
		{through, history.Fail, 9, 104, 0},
	} {
		w.account(c.op, history.Event{Type: c.end})
		if w.process != c.process || w.session != c.session || w.sequence != c.sequence {
			t.Errorf("after step %d it is process %d, session %d, sequence %d; want %d, %d, %d", i, w.process, w.session, w.sequence, c.process, c.session, c.sequence)
		}
	}
}

// What is asked has the run's own key and says which attempt it is.
func TestAsked(t *testing.T) {
	e := asked(history.Event{F: history.Write, Key: "register/1", Session: 4, Sequence: 2}, "nonce", 3)
	if e.Key != "nonce/register/1" || e.Attempts != 3 || e.Session != 4 || e.Sequence != 2 {
		t.Errorf("asked %+v", e)
	}
}
