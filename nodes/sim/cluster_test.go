package sim

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
)

// forgeries are all effects, each with what takes it away behind the cluster's
// back and what brings it back.
var forgeries = map[string]struct {
	effect      nodes.Effect
	gone, there func(w *World)
}{
	"down":           {nodes.Effect{Kind: nodes.Down, Node: 2}, func(w *World) { w.hosts[2].start() }, func(w *World) { w.hosts[2].kill(false) }},
	"machine down":   {nodes.Effect{Kind: nodes.MachineDown, Node: 2}, func(w *World) { w.hosts[2].start() }, func(w *World) { w.hosts[2].kill(true) }},
	"frozen":         {nodes.Effect{Kind: nodes.Frozen, Node: 2}, func(w *World) { w.hosts[2].thaw() }, func(w *World) { w.hosts[2].frozen = true }},
	"machine frozen": {nodes.Effect{Kind: nodes.MachineFrozen, Node: 2}, func(w *World) { w.hosts[2].thaw() }, func(w *World) { w.hosts[2].frozen = true }},
	"skewed":         {nodes.Effect{Kind: nodes.Skewed, Node: 2, PerMille: -100}, func(w *World) { w.hosts[2].wrong = 0 }, func(w *World) { w.hosts[2].wrong = -100 }},
	"disk fails":     {nodes.Effect{Kind: nodes.DiskFails, Node: 2}, func(w *World) { w.hosts[2].disk.failing = false }, func(w *World) { w.hosts[2].disk.failing = true }},
	"cut":            onLink(nodes.Effect{Kind: nodes.Cut}),
	"cut data":       onLink(nodes.Effect{Kind: nodes.CutData}),
	"delayed":        onLink(nodes.Effect{Kind: nodes.Delayed, Delay: ms}),
	"lossy":          onLink(nodes.Effect{Kind: nodes.Lossy, PerMille: 100}),
	"duplicated":     onLink(nodes.Effect{Kind: nodes.Duplicated, PerMille: 100}),
	"reordered":      onLink(nodes.Effect{Kind: nodes.Reordered, PerMille: 100, Delay: ms}),
	"limited":        onLink(nodes.Effect{Kind: nodes.Limited, Rate: nodes.RateMin}),
}

func onLink(e nodes.Effect) (f struct {
	effect      nodes.Effect
	gone, there func(w *World)
}) {
	e.From, e.To = 2, 3
	f.effect = e
	f.gone = func(w *World) { w.link(2, 3).LinkState = nodes.LinkState{} }
	f.there = func(w *World) {
		var wanted nodes.Wanted
		wanted.Add("forged", []nodes.Effect{e})
		w.link(2, 3).LinkState = wanted.Links()[nodes.Link{From: 2, To: 3}]
	}
	return f
}

var ctx = context.Background()

// Evidence tells the truth: it proves what holds, and nothing that was taken
// away behind its back, or left in place at the end.
func TestEvidence(t *testing.T) {
	for name, f := range forgeries {
		for _, kind := range []func() *World{
			func() *World { w, _ := toyWorld(t, 1, 3, Defaults(), nil); return w },
			func() *World { w, _ := raftWorld(t, 1, 3, Defaults(), nil); return w },
		} {
			w := kind()
			prove := func(when string, e nodes.Evidence, err error, want bool) {
				t.Helper()
				if err != nil || e.Proven() != want {
					t.Errorf("%s %s: proven %t, want %t: %+v, %v", name, when, e.Proven(), want, e, err)
				}
				if !want && (len(e.Failures()) != 1 || !strings.Contains(e.Failures()[0], f.effect.String())) {
					t.Errorf("%s %s: failures %q", name, when, e.Failures())
				}
			}
			e, err := w.Apply(ctx, "i", []nodes.Effect{f.effect})
			prove("applied", e, err, true)
			run(t, w, 50*ms)
			e, err = w.Verify(ctx, "i")
			prove("verified", e, err, true)
			f.gone(w)
			e, err = w.Verify(ctx, "i")
			prove("verified when it is gone", e, err, false)
			f.there(w)
			e, err = w.Verify(ctx, "i")
			prove("verified when it is back", e, err, true)
			effects := w.wanted.Effects("i")
			w.wanted.Remove("i")
			prove("to be gone, and is not", w.prove("i", effects, false), nil, false)
			w.wanted.Add("i", effects)
			run(t, w, 50*ms)
			e, err = w.Revert(ctx, "i")
			prove("reverted", e, err, true)
			if e.Took != 100*ms {
				t.Errorf("%s: it is said to have taken %s, want 100ms", name, e.Took)
			}
			run(t, w, 50*ms)
			if h := w.hosts[2]; h.node == nil || h.frozen || h.wrong != 0 || h.disk.failing || w.link(2, 3).LinkState != (nodes.LinkState{}) {
				t.Errorf("%s: something is left of it: %s", name, h.state())
			}
		}
	}
}

// Injections that overlap never undo each other, in whichever order they end.
func TestOverlaps(t *testing.T) {
	for name, f := range forgeries {
		for _, first := range []string{"a", "b"} {
			w, _ := toyWorld(t, 1, 3, Defaults(), nil)
			second := map[string]string{"a": "b", "b": "a"}[first]
			for _, i := range []string{"a", "b"} {
				if e, err := w.Apply(ctx, i, []nodes.Effect{f.effect}); err != nil || !e.Proven() {
					t.Fatalf("%s %s: %v, %v", name, i, e, err)
				}
				run(t, w, 10*ms)
			}
			if e, _ := w.Revert(ctx, first); !e.Proven() {
				t.Errorf("%s: %s is reverted: %v", name, first, e.Failures())
			}
			run(t, w, 10*ms)
			if e, _ := w.Verify(ctx, second); !e.Proven() {
				t.Errorf("%s: %s no longer holds since %s was reverted: %v", name, second, first, e.Failures())
			}
			if e, _ := w.Revert(ctx, second); !e.Proven() || w.holds(f.effect) {
				t.Errorf("%s: both are reverted: %v", name, e.Failures())
			}
		}
	}
}

// A node that is killed while it is frozen is down; it starts when neither is
// wanted any more, and is frozen from its start when only that is.
func TestKilledWhileFrozen(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	h := w.hosts[2]
	w.Apply(ctx, "pause", []nodes.Effect{{Kind: nodes.Frozen, Node: 2}})
	w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 2}})
	if h.node != nil {
		t.Fatal("it is not down")
	}
	w.Restart(2)
	if h.node != nil {
		t.Fatal("it starts although somebody wants it to be down")
	}
	w.Revert(ctx, "kill")
	if h.node == nil || !h.frozen {
		t.Fatalf("the kill has ended, and it %s; want it frozen", h.state())
	}
	w.Revert(ctx, "pause")
	if h.node == nil || h.frozen {
		t.Fatalf("both have ended, and it %s", h.state())
	}
}

// A node whose disk fails ends at its next write, which nobody needs to be told
// of, and starts again when the disk works.
func TestFailingDiskEndsNodes(t *testing.T) {
	w, leader := raftWorld(t, 1, 3, Defaults(), nil)
	w.Apply(ctx, "disk", []nodes.Effect{{Kind: nodes.DiskFails, Node: leader}})
	a := newAsker(w, leader)
	a.write("x", "1", 300*ms)
	run(t, w, time.Second)
	if h := w.hosts[leader]; h.node != nil {
		t.Error("it still runs")
	}
	if e := a.last(t); e.Type == history.Ok {
		t.Errorf("the write ended as %v", e)
	}
	w.Restart(leader)
	run(t, w, time.Second)
	if n := w.News(); len(n) > 0 {
		t.Errorf("incidents: %v", n)
	}
	if e, _ := w.Revert(ctx, "disk"); !e.Proven() || w.hosts[leader].node == nil {
		t.Errorf("after the disk was mended it %s: %v", w.hosts[leader].state(), e.Failures())
	}
}

// What is out of bounds is refused, and changes nothing.
func TestBoundsRefused(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	for _, e := range []nodes.Effect{
		{Kind: nodes.Lossy, From: 1, To: 2},
		{Kind: nodes.Lossy, From: 1, To: 2, PerMille: 1001},
		{Kind: nodes.Lossy, From: 0, To: 2, PerMille: 100},
		{Kind: nodes.Duplicated, From: 1, To: 0, PerMille: 100},
		{Kind: nodes.Reordered, From: 1, To: 2, PerMille: 100},
		{Kind: nodes.Limited, From: 1, To: 2, Rate: 1},
		{Kind: nodes.Delayed, From: 1, To: 2, Delay: -ms},
		{Kind: nodes.Skewed, Node: 1, PerMille: 501},
		{Kind: nodes.Skewed, Node: 1},
	} {
		_, err := w.Apply(ctx, "i", []nodes.Effect{{Kind: nodes.Cut, From: 1, To: 2}, e})
		if err == nil || !strings.Contains(err.Error(), "out of bounds") {
			t.Errorf("%s %+v: %v", e.Kind, e, err)
		}
		if w.link(1, 2).Cut || w.hosts[1].wrong != 0 || len(w.wanted.Injections()) > 0 {
			t.Errorf("%s: it was refused, and something of it holds", e.Kind)
			w.Revert(ctx, "i")
		}
	}
}

// Probe and Apply agree about what can be done here.
func TestProbe(t *testing.T) {
	a := Provider{}.Probe(ctx, nodes.Options{})
	for name, f := range forgeries {
		if err, known := a.Effects[f.effect.Kind]; !known || err != nil {
			t.Errorf("%s: known %t, %v", name, known, err)
		}
	}
	if a.Effects[nodes.Damaged] != nil || a.Effects[nodes.Reset] == nil {
		t.Errorf("damaged: %v, reset: %v", a.Effects[nodes.Damaged], a.Effects[nodes.Reset])
	}
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	if e, err := w.Apply(ctx, "i", []nodes.Effect{{Kind: nodes.Reset, From: 1, To: 2}}); err == nil && e.Proven() {
		t.Error("a reset is said to be proven")
	}
}

// Evidence of a pause says nothing of a node that is dead, and no injection that
// wants something else excuses an effect that is left in place.
func TestEvidenceIsOfItsOwn(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	w.Apply(ctx, "pause", []nodes.Effect{{Kind: nodes.Frozen, Node: 2}})
	w.hosts[2].kill(false)
	if e, _ := w.Verify(ctx, "pause"); e.Proven() {
		t.Error("a dead node is said to be frozen")
	}
	for name, f := range forgeries {
		w, _ := toyWorld(t, 1, 3, Defaults(), nil)
		clock := nodes.Effect{Kind: nodes.Skewed, Node: 2, PerMille: 77}
		if f.effect.Kind == clock.Kind {
			clock.Node = 1
		}
		w.Apply(ctx, "others", []nodes.Effect{clock, {Kind: nodes.Frozen, Node: 1}, {Kind: nodes.Cut, From: 1, To: 3}, {Kind: nodes.Delayed, From: 3, To: 2, Delay: ms}})
		w.Apply(ctx, "i", []nodes.Effect{f.effect})
		w.wanted.Remove("i")
		if e := w.prove("i", []nodes.Effect{f.effect}, false); e.Proven() {
			t.Errorf("%s: it is left in place, and is said to be gone", name)
		}
	}
}

// Evidence of a link tells what it swallowed since the injection, not before.
func TestEvidenceCountsSince(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	run(t, w, 50*ms)
	cut := []nodes.Effect{{Kind: nodes.Cut, From: 1, To: 2}}
	for n := range 3 {
		w.Apply(ctx, "cut", cut)
		for range n {
			send(w, 1, 2, "lost")
		}
		if e, _ := w.Verify(ctx, "cut"); !strings.Contains(e.Proofs[0].How, fmt.Sprintf("swallowed %d messages since", n)) {
			t.Errorf("injection %d: %s", n+1, e.Proofs[0].How)
		}
		w.Revert(ctx, "cut")
	}
}

// A node whose disk fails is not started before that works.
func TestFailingDiskStartsNoNode(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 2}})
	w.Apply(ctx, "disk", []nodes.Effect{{Kind: nodes.DiskFails, Node: 2}})
	w.Revert(ctx, "kill")
	if h := w.hosts[2]; h.node != nil || h.incarnation != 1 {
		t.Errorf("it %s, incarnation %d", h.state(), h.incarnation)
	}
	w.Revert(ctx, "disk")
	if h := w.hosts[2]; h.node == nil || h.incarnation != 2 {
		t.Errorf("the disk works, and it %s, incarnation %d", h.state(), h.incarnation)
	}
}

// A node that is started again while its pause lives is frozen before it does
// anything, so that a pause whose victim died is proven for what it is.
func TestStartedFrozen(t *testing.T) {
	w, story := toyWorld(t, 1, 3, Defaults(), nil)
	run(t, w, time.Second)
	check(t, w.hosts[2].arm("sync:1"))
	w.Apply(ctx, "pause", []nodes.Effect{{Kind: nodes.Frozen, Node: 2}})
	w.hosts[2].kill(false)
	w.Restart(2)
	story.ticks[2] = 0
	run(t, w, time.Second)
	if e, _ := w.Verify(ctx, "pause"); !e.Proven() || story.ticks[2] != 0 {
		t.Errorf("it ticked %d times; proven: %t", story.ticks[2], e.Proven())
	}
	w.Revert(ctx, "pause")
	run(t, w, time.Second)
	if story.ticks[2] == 0 {
		t.Error("it never goes on")
	}
}
