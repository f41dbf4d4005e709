package sim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
)

// entry is one that carries a command of a session.
func entry(index, session, sequence uint64, op kv.Op) consensus.Entry {
	c := kv.Command{Op: op, Session: session, Sequence: sequence, Key: "k", Value: []byte("v")}
	return consensus.Entry{Index: index, Term: 1, Command: consensus.Command{Origin: 1, Serial: index, Data: kv.AppendCommand(nil, c)}}
}

// Nodes that disagree are found out, and the breach names how and where.
func TestLedger(t *testing.T) {
	did := func(index uint64) kv.Result { return kv.Result{Status: kv.Done, Index: index} }
	value := func(index uint64, text string) kv.Result {
		r := did(index)
		r.Value = kv.Value{Kind: kv.Text, Text: []byte(text)}
		return r
	}
	for name, c := range map[string]struct {
		do   func(w *World)
		want string // the invariant; empty: none
	}{
		"agreement": {func(w *World) {
			for _, h := range w.hosts[1:] {
				h.applied(entry(1, 5, 1, kv.Put), did(1))
				h.applied(entry(2, 5, 2, kv.Put), value(2, "x"))
				w.position(h.id, 2, 77)
			}
		}, ""},
		"a copy that the session refuses": {func(w *World) {
			w.hosts[1].applied(entry(1, 5, 1, kv.Put), did(1))
			w.hosts[1].applied(entry(2, 5, 1, kv.Put), did(1)) // the answer of index 1 again
		}, ""},
		"another result": {func(w *World) {
			w.hosts[1].applied(entry(1, 5, 1, kv.Get), value(1, "x"))
			w.hosts[2].applied(entry(1, 5, 1, kv.Get), value(1, "y"))
		}, "result-agreement"},
		"another status": {func(w *World) {
			w.hosts[1].applied(entry(1, 5, 1, kv.Put), did(1))
			w.hosts[2].applied(entry(1, 5, 1, kv.Put), kv.Result{Status: kv.Done + 1, Index: 1})
		}, "result-agreement"},
		"another swap": {func(w *World) {
			r := did(1)
			r.Swapped = true
			w.hosts[1].applied(entry(1, 5, 1, kv.Put), did(1))
			w.hosts[2].applied(entry(1, 5, 1, kv.Put), r)
		}, "result-agreement"},
		"another list": {func(w *World) {
			for i, h := range w.hosts[1:3] {
				r := did(1)
				r.Value = kv.Value{Kind: kv.List, List: [][]byte{[]byte("a"), {byte(i)}}}
				h.applied(entry(1, 5, 1, kv.Get), r)
			}
		}, "result-agreement"},
		"another index": {func(w *World) {
			w.hosts[1].applied(entry(2, 5, 1, kv.Put), did(2))
			w.hosts[2].applied(entry(2, 5, 1, kv.Put), did(1))
		}, "result-agreement"},
		"another hash":            {func(w *World) { w.position(1, 3, 77); w.position(2, 3, 78) }, "state-agreement"},
		"another hash elsewhere":  {func(w *World) { w.position(1, 3, 77); w.position(2, 4, 78) }, ""},
		"a read of what was seen": {func(w *World) { w.check(w.ledger.answer(1, 7, 5, kv.ModeIndex)) }, ""},
		"a read of before":        {func(w *World) { w.check(w.ledger.answer(1, 4, 5, kv.ModeIndex)) }, "read-fresh"},
		"an answer given again":   {func(w *World) { w.check(w.ledger.answer(1, 4, 5, kv.ModeLog)) }, ""},
		"no entries yet":          {func(w *World) { w.position(1, 0, 1); w.position(2, 0, 2) }, ""},
		"twice": {func(w *World) {
			w.hosts[1].applied(entry(1, 5, 1, kv.Add), did(1))
			w.hosts[1].applied(entry(2, 5, 1, kv.Add), did(2))
		}, "applied-once"},
		"twice, seen by another": {func(w *World) {
			w.hosts[1].applied(entry(1, 5, 1, kv.Add), did(1))
			w.hosts[2].applied(entry(1, 5, 1, kv.Add), did(1))
			w.hosts[2].applied(entry(2, 5, 1, kv.Add), did(2))
		}, "applied-once"},
		"a read of before what a read showed": {func(w *World) {
			w.check(w.ledger.answer(1, 7, 0, kv.ModeIndex))
			w.check(w.ledger.answer(2, 6, w.ledger.answered, kv.ModeIndex))
		}, "read-fresh"},
		"reads twice": {func(w *World) {
			w.hosts[1].applied(entry(1, 5, 1, kv.Get), did(1))
			w.hosts[1].applied(entry(2, 5, 1, kv.Get), did(2))
		}, ""},
	} {
		w, _ := toyWorld(t, 1, 3, Defaults(), nil)
		c.do(w)
		for _, h := range w.hosts[1:] {
			h.settled()
		}
		switch b := w.Breach(); {
		case c.want == "" && b != nil:
			t.Errorf("%s: %v", name, b)
		case c.want != "" && (b == nil || b.Invariant != c.want || b.Node == 0):
			t.Errorf("%s: breach %v, want %s", name, b, c.want)
		}
	}
}

// Every command that changes something is carried out once.
func TestOnce(t *testing.T) {
	for _, op := range []kv.Op{kv.Get, kv.Put, kv.Delete, kv.Add, kv.Append, kv.CAS} {
		w, _ := toyWorld(t, 1, 3, Defaults(), nil)
		for index := uint64(1); index <= 2; index++ {
			w.hosts[1].applied(entry(index, 5, 1, op), kv.Result{Status: kv.Done, Index: index})
		}
		w.hosts[1].settled()
		if b := w.Breach(); (b != nil) != (op != kv.Get) || b != nil && b.Invariant != "applied-once" {
			t.Errorf("%s twice: breach %v", op, b)
		}
	}
}

// Nodes whose state machines part are found out by what they do, and the first
// breach stays the world's.
func TestStatesPart(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	run(t, w, 50*ms)
	for id, value := range map[nodes.ID]string{1: "1", 2: "2"} {
		newAsker(w, id).write("x", value, time.Second)
	}
	w.Run(w.Now() + time.Second)
	b := w.Breach()
	if b == nil || b.Invariant != "state-agreement" {
		t.Fatalf("each node applied another command at index 1; breach %v", b)
	}
	w.Accuse(&Breach{Invariant: "later"})
	if w.Breach() != b {
		t.Errorf("the first breach gave way to %v", w.Breach())
	}
}

// loaded is a world of raft in which much was written.
func loaded(t *testing.T, seed uint64) (*World, nodes.ID) {
	w, leader := raftWorld(t, seed, 3, Defaults(), nil)
	a := newAsker(w, leader)
	for n := range 40 {
		a.write("x", fmt.Sprint(n), time.Second)
		run(t, w, 20*ms)
	}
	if e := a.last(t); e.Type != history.Ok {
		t.Fatalf("the last write: %s %s", e.Type, e.Error)
	}
	return w, leader
}

// A node with a bit turned over in what it had synced stops at its start with
// its error, whichever bit it is; with the bit turned back it serves again.
func TestDamageIsRefused(t *testing.T) {
	for seed := range uint64(40) {
		w, leader := loaded(t, seed%4+1)
		w.hosts[leader].rand.Uint64()
		for range seed {
			w.hosts[leader].rand.Uint64() // another bit
		}
		e, err := w.Apply(ctx, "damage", []nodes.Effect{{Kind: nodes.Damaged, Node: leader}})
		if err != nil || !e.Proven() || !strings.Contains(e.Proofs[0].How, "journal-") {
			t.Fatalf("seed %d: %+v, %v", seed, e, err)
		}
		h := w.hosts[leader]
		if h.node != nil || h.refused == nil || w.Breach() != nil {
			t.Fatalf("seed %d: it %s, breach %v", seed, h.state(), w.Breach())
		}
		w.Restart(leader)
		run(t, w, time.Second)
		if h.node != nil {
			t.Fatalf("seed %d: it was started with the damage", seed)
		}
		if e, _ := w.Revert(ctx, "damage"); !e.Proven() || h.node == nil {
			t.Fatalf("seed %d: after the bit was turned back it %s: %v", seed, h.state(), e.Failures())
		}
		run(t, w, 3*time.Second)
		if n := w.News(); len(n) > 0 || agreed(w) == 0 {
			t.Errorf("seed %d: incidents %v, leader %s", seed, n, agreed(w))
		}
	}
}

// The last batches are spared, since damage there can't be told from a write
// that was cut short; and a journal with no others is left alone.
func TestDamageSparesTheLast(t *testing.T) {
	w, leader := loaded(t, 1)
	h := w.hosts[leader]
	h.kill(false)
	newest := h.pick().name
	older := newest[:len(newest)-1] // sorts before it
	h.disk.names[older], h.disk.names["snapshot-9"] = &file{data: make([]byte, 99), starts: []int64{0, 9, 99, 99}}, &file{}
	for range 300 {
		f := h.pick()
		if f == nil {
			t.Fatal("nothing to damage")
		}
		if f.name != newest {
			t.Fatalf("%s is damaged; the newest segment is %s", f.name, newest)
		}
		if last := f.file.starts[len(f.file.starts)-spared]; f.at >= last || f.at < 0 || f.bit > 7 {
			t.Fatalf("bit %d of byte %d is picked; the last batches begin at %d", f.bit, f.at, last)
		}
	}
	w, _ = toyWorld(t, 1, 3, Defaults(), nil)
	e, err := w.Apply(ctx, "damage", []nodes.Effect{{Kind: nodes.Damaged, Node: 1}})
	if err != nil || e.Proven() {
		t.Errorf("of an empty journal a batch was damaged: %+v, %v", e, err)
	}
}

// A node that starts although its journal is damaged breaks a promise: here
// the damage lies behind all batches, where it is taken for a torn one.
func TestDamageUnnoticed(t *testing.T) {
	for n := range 20 {
		w, leader := loaded(t, 1)
		h := w.hosts[leader]
		h.kill(false)
		f := h.pick().file
		f.grow(f.size)
		f.starts = append(f.starts, f.size, f.size)
		for range n {
			h.rand.Uint64() // another bit
		}
		w.Apply(ctx, "damage", []nodes.Effect{{Kind: nodes.Damaged, Node: leader}})
		switch b := w.Breach(); {
		case b == nil && h.refused == nil:
			t.Fatal("it started, and that is no breach")
		case b != nil && (b.Invariant != "damage-noticed" || b.Node != leader):
			t.Fatalf("the breach is %v", b)
		case b != nil:
			return
		}
	}
	t.Error("the damage was noticed every time")
}

// A node that ends, or can't start, and that nobody hurt is an incident.
func TestIncidents(t *testing.T) {
	w, leader := loaded(t, 1)
	h := w.hosts[leader]
	h.fail(errors.New("it fell over"))
	if n := w.News(); h.node != nil || len(n) != 1 || n[0].Node != leader || n[0].Detail != "exit: it fell over" {
		t.Errorf("a node that fell over: incidents %v", n)
	}
	h.pick().turn()
	w.Restart(leader)
	if n := w.News(); h.node != nil || len(n) != 1 || n[0].Node != leader || !strings.Contains(n[0].Detail, "could not start") {
		t.Errorf("a node whose disk went bad unasked: incidents %v", n)
	}
}
