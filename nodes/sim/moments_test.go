package sim

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"chaos/nodes"
)

// seen is how often a world reached a moment.
func seen(w *World, name string) uint64 {
	for _, m := range w.Moments() {
		if m.Name == name {
			return m.Seen
		}
	}
	return never64
}

const never64 = ^uint64(0)

// A moment counts when its situation comes about, and in none that is like it:
// each pair of acts differs in what makes the moment. The acts return the world.
func TestWorldMoments(t *testing.T) {
	toys := func(s Settings, act func(w *World)) *World {
		w, _ := toyWorld(t, 1, 3, s, nil)
		run(t, w, 50*ms)
		act(w)
		return w
	}
	kill := func(w *World) { w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 2}}) }
	restart := func(w *World) { kill(w); w.Revert(ctx, "kill") }
	write := func(w *World, id nodes.ID) { // n2 hears of it
		newAsker(w, id).write("x", "1", time.Second)
		run(t, w, time.Second)
	}
	cut := func(w *World) { w.Apply(ctx, "cut", []nodes.Effect{{Kind: nodes.Cut, From: 3, To: 2}}) }
	power := Defaults()
	power.Power = true
	for name, c := range map[string]struct{ is, isNot func() *World }{
		worldMoments[lostUnsynced]: {
			func() *World {
				return toys(power, func(w *World) {
					w.hosts[2].disk.Open("a", true)
					kill(w)
				})
			},
			func() *World { return toys(Defaults(), kill) }},
		worldMoments[damageRefused]: {
			func() *World {
				w, leader := loaded(t, 1)
				w.Apply(ctx, "damage", []nodes.Effect{{Kind: nodes.Damaged, Node: leader}})
				return w
			},
			func() *World {
				w, leader := loaded(t, 1)
				w.hosts[leader].kill(false)
				w.hosts[leader].pick().turn() // nobody asked for it
				w.Restart(leader)
				return w
			}},
		worldMoments[diskEnded]: {
			func() *World {
				return toys(Defaults(), func(w *World) {
					w.Apply(ctx, "disk", []nodes.Effect{{Kind: nodes.DiskFails, Node: 1}})
					write(w, 1)
				})
			},
			func() *World { return toys(Defaults(), func(w *World) { w.hosts[1].fail(errors.New("it fell over")) }) }},
		worldMoments[startedParted]: {
			func() *World { return toys(Defaults(), func(w *World) { cut(w); restart(w) }) },
			func() *World { return toys(Defaults(), restart) }},
		worldMoments[lateMessage]: {
			func() *World {
				return toys(Defaults(), func(w *World) {
					send(w, 1, 2, "late")
					run(t, w, ms/20)
					restart(w)
					run(t, w, 50*ms)
				})
			},
			func() *World {
				return toys(Defaults(), func(w *World) {
					restart(w)
					run(t, w, 50*ms)
					send(w, 1, 2, "in time")
					run(t, w, 50*ms)
				})
			}},
		worldMoments[wokenBehind]:   {func() *World { return woken(t, true) }, func() *World { return woken(t, false) }},
		worldMoments[electedParted]: {func() *World { return elected(t, true) }, func() *World { return elected(t, false) }},
		worldMoments[diedInStep]:    {func() *World { return doomed(t, true) }, func() *World { return doomed(t, false) }},
		worldMoments[diedAtPoint]:   {func() *World { return doomed(t, false) }, func() *World { return doomed(t, true) }},
		worldMoments[tornBatch]:     {func() *World { return torn(t, true) }, func() *World { return torn(t, false) }},
		"a toy's own":               {func() *World { return toys(Defaults(), kill) }, nil},
	} {
		if n := seen(c.is(), name); n == 0 || n == never64 {
			t.Errorf("%q was reached and is not counted", name)
		}
		if c.isNot != nil && seen(c.isNot(), name) != 0 {
			t.Errorf("%q is counted and was not reached", name)
		}
	}
}

// woken freezes a follower, and perhaps has another leader follow meanwhile.
func woken(t *testing.T, behind bool) *World {
	w, leader := raftWorld(t, 1, 3, Defaults(), nil)
	w.Apply(ctx, "pause", []nodes.Effect{{Kind: nodes.Frozen, Node: leader%3 + 1}})
	if behind {
		w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: leader}})
		w.Revert(ctx, "kill")
		run(t, w, 5*time.Second)
	}
	w.Revert(ctx, "pause")
	return w
}

// elected has a leader be elected, with one of its links cut or with none.
func elected(t *testing.T, parted bool) *World {
	w, leader := raftWorld(t, 1, 3, Defaults(), nil)
	w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: leader}})
	if parted {
		for id := range nodes.ID(4) {
			if id != leader && id != 0 {
				w.Apply(ctx, fmt.Sprint(id), []nodes.Effect{{Kind: nodes.Cut, From: leader, To: id}})
			}
		}
	}
	run(t, w, 5*time.Second)
	return w
}

// doomed has a node die in the middle of a step, or at a crash point.
func doomed(t *testing.T, within bool) *World {
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	run(t, w, time.Second)
	if h := w.hosts[1]; within {
		h.doomed = 1
	} else {
		check(t, h.arm("sync:1"))
	}
	newAsker(w, 1).write("x", "1", time.Second)
	run(t, w, time.Second)
	if w.hosts[1].node != nil {
		t.Fatal("it lives")
	}
	return w
}

// torn kills a node while a batch is written, with its power until a batch is
// torn, which lies on two sectors; or without.
func torn(t *testing.T, power bool) (w *World) {
	for seed := range uint64(60) {
		s := Settings{Latency: 100, Sync: 20_000, Segment: 64 << 10, Power: power}
		w, _ = toyWorld(t, seed, 3, s, nil)
		run(t, w, time.Second)
		a := newAsker(w, 1)
		for range seed % 8 {
			a.write("x", "1", time.Second)
			run(t, w, 50*ms)
		}
		a.write("x", "1", time.Second)
		run(t, w, 10*ms)
		w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 1}})
		w.Revert(ctx, "kill")
		if seen(w, worldMoments[tornBatch]) > 0 {
			break
		}
	}
	return w
}
