package campaign

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/workload"
)

var loadTestOptions = nodes.Options{Nodes: 3, Cluster: "nonce"}

// A puppet is a system whose clients answer what the test says, in order.
type puppet struct {
	*world
	answers []history.Type
	dials   int // fail this many dials first
	asked   []history.Event
	nodes   []nodes.ID
}

type puppetClient struct {
	p  *puppet
	id nodes.ID
}

func (p *puppet) Dial(_ context.Context, m nodes.Member, _ nodes.DialFunc, _ nodes.Options) (nodes.Client, error) {
	if p.dials > 0 {
		p.dials--
		return nil, errors.New("nobody listens")
	}
	return puppetClient{p, m.ID}, nil
}

func (c puppetClient) Close() error { return nil }

func (c puppetClient) Do(_ context.Context, e history.Event) history.Event {
	if len(c.p.answers) == 0 {
		panic("a send that the test does not expect")
	}
	c.p.asked, c.p.nodes = append(c.p.asked, e), append(c.p.nodes, c.id)
	e.Type = c.p.answers[0]
	c.p.answers = c.p.answers[1:]
	e.Error = "answer " + e.Type.String()
	e.At = uint64(len(c.p.asked))
	return e
}

// pulled makes a worker whose sends are answered in order.
func pulled(t *testing.T, answers ...history.Type) (*puppet, *worker) {
	t.Helper()
	p := &puppet{world: newWorld(), answers: answers}
	p.count = 3
	l := newLoad(nil, p, memoryCluster{p.world}, loadTestOptions, "nonce", Spec{Concurrency: 2})
	t.Cleanup(l.close)
	return p, l.workers[0]
}

func invoke(w *worker, op workload.Op) history.Event {
	return history.Event{Process: w.process, Type: history.Invoke, F: op.F, Key: op.Key, Value: op.Value,
		Session: w.session, Sequence: w.sequence + 1}
}

var retried = workload.Op{F: history.Write, Key: "register/1", Value: []byte("5"), Timeout: time.Second,
	Retries: []workload.Retry{{After: time.Second, Node: 1, Timeout: time.Second}, {After: time.Second, Node: 2, Timeout: time.Second}}}

// All attempts are graded as one operation: ok if any happened, fail only where
// every one certainly did not happen, and no attempt follows one that is decided.
func TestAttemptsAreGradedAsOne(t *testing.T) {
	ok, fail, info := history.Ok, history.Fail, history.Info
	for _, c := range []struct {
		answers []history.Type
		want    history.Type
	}{
		{[]history.Type{ok}, ok},
		{[]history.Type{fail}, fail},
		{[]history.Type{info, ok}, ok},
		{[]history.Type{info, fail, ok}, ok},
		{[]history.Type{info, fail, fail}, info},
		{[]history.Type{info, fail, info}, info},
		{[]history.Type{info, info, ok}, ok},
		{[]history.Type{info, info, fail}, info},
		{[]history.Type{info, info, info}, info},
	} {
		p, w := pulled(t, c.answers...)
		sent := invoke(w, retried)
		done := w.perform(retried, sent)
		if done.Type != c.want || done.Attempts != len(c.answers) || len(p.answers) > 0 {
			t.Errorf("answers %v: graded %s with %d attempts, %d sends unasked; want %s", c.answers, done.Type, done.Attempts, len(p.answers), c.want)
		}
		for i, e := range p.asked {
			if e.Session != sent.Session || e.Sequence != sent.Sequence || e.Attempts != i+1 || e.Key != "nonce/register/1" || string(e.Value) != "5" {
				t.Errorf("answers %v: attempt %d sent %+v", c.answers, i+1, e)
			}
			if p.nodes[i] != nodes.ID(i+1) {
				t.Errorf("answers %v: attempt %d went to %s", c.answers, i+1, p.nodes[i])
			}
		}
		if done.Key != retried.Key || done.Process != sent.Process || done.F != sent.F {
			t.Errorf("answers %v: completion %+v", c.answers, done)
		}
	}
}

// A node that can't be dialled was sent nothing: that attempt certainly failed.
func TestFailedDialIsAFailure(t *testing.T) {
	p, w := pulled(t)
	p.dials = 1
	done := w.perform(workload.Op{F: history.Write, Timeout: time.Second}, invoke(w, retried))
	if done.Type != history.Fail || done.Error != "nobody listens" {
		t.Errorf("graded %+v", done)
	}
	p.dials, p.answers = 0, []history.Type{history.Info, history.Ok}
	if done = w.perform(retried, invoke(w, retried)); done.Type != history.Ok {
		t.Errorf("after it the node is dialled again: %+v", done)
	}
}

// A double leaves late, under the same session and sequence, whatever the worker
// did since; what certainly failed is never sent again.
func TestDoubles(t *testing.T) {
	double := retried
	double.Retries = []workload.Retry{{Always: true, Node: 2, Timeout: time.Second}}
	for _, first := range []history.Type{history.Ok, history.Info, history.Fail} {
		p, w := pulled(t, first, history.Info)
		sent := invoke(w, double)
		done := w.perform(double, sent)
		w.account(double, done)
		if done.Type != first || done.Attempts != 1 || len(p.asked) != 1 {
			t.Errorf("%s: completion %+v after %d sends", first, done, len(p.asked))
		}
		w.sendDoubles()
		if want := map[history.Type]int{history.Ok: 2, history.Info: 2, history.Fail: 1}[first]; len(p.asked) != want {
			t.Errorf("%s: %d sends, want %d", first, len(p.asked), want)
		}
		if len(p.asked) == 2 {
			if e := p.asked[1]; e.Session != sent.Session || e.Sequence != sent.Sequence || p.nodes[1] != 3 || e.Attempts != 2 {
				t.Errorf("%s: the double is %+v at %s", first, e, p.nodes[1])
			}
		}
		if w.sendDoubles(); len(w.doubles) != 0 {
			t.Errorf("%s: %d doubles are kept", first, len(w.doubles))
		}
	}
}

// Doubles wait for their time, and there are never more than a few.
func TestDoublesAreBounded(t *testing.T) {
	op := retried
	op.Retries = []workload.Retry{{Always: true, After: time.Hour, Timeout: time.Second}}
	answers := slices.Repeat([]history.Type{history.Ok}, 3*doublesMax)
	p, w := pulled(t, answers...)
	for range answers {
		w.account(op, w.perform(op, invoke(w, op)))
	}
	w.sendDoubles()
	if len(w.doubles) != doublesMax || len(p.asked) != len(answers) {
		t.Errorf("%d doubles in store, %d sends of %d", len(w.doubles), len(p.asked), len(answers))
	}
}

// A process retires at info, its session with it. A session goes on with the
// next number once a command of it was executed, and never gives a number twice.
func TestProcessesAndSessions(t *testing.T) {
	write := workload.Op{F: history.Write}
	read := workload.Op{F: history.Read, Mode: nodes.ModeIndex}
	logged := workload.Op{F: history.Read, Mode: nodes.ModeLog}
	foreign := workload.Op{F: history.Read, Mode: nodes.ModeLinearizable}
	type step struct {
		op      workload.Op
		end     history.Type
		session bool // stays the same
		next    uint64
	}
	_, w := pulled(t)
	workers := len(w.load.workers)
	for i, s := range []step{
		{write, history.Fail, false, 1}, // nothing was executed: the session does not exist
		{read, history.Ok, true, 1},     // goes past the log
		{read, history.Fail, true, 1},
		{write, history.Ok, true, 2},
		{write, history.Fail, true, 3},
		{logged, history.Ok, true, 4},
		{read, history.Ok, true, 4},
		{foreign, history.Ok, true, 4},
		{write, history.Info, false, 1},
		{logged, history.Fail, false, 1},
		{logged, history.Ok, true, 2},
		{read, history.Info, false, 1},
	} {
		process, session := w.process, w.session
		w.account(s.op, history.Event{Type: s.end})
		retired := s.end == history.Info
		if (w.process != process) != retired || w.process%workers != 0 {
			t.Errorf("step %d: process %d became %d at %s", i, process, w.process, s.end)
		}
		if (w.session == session) != s.session || w.sequence+1 != s.next || w.session == 0 {
			t.Errorf("step %d: session kept %v, next sequence %d; want %v, %d", i, w.session == session, w.sequence+1, s.session, s.next)
		}
	}
}

// Operations of all workers together keep the pace.
func TestPace(t *testing.T) {
	p := pace{every: time.Hour}
	if first, second, third := p.wait(), p.wait(), p.wait(); first > 0 || second <= 59*time.Minute || third <= 119*time.Minute {
		t.Errorf("slots after %s, %s, %s", first, second, third)
	}
	if free := (&pace{}).wait(); free != 0 {
		t.Errorf("without a rate one waits %s", free)
	}
}
