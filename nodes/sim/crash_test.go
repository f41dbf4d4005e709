package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/replica"
)

// A host that dies at a crash point has done what comes before that point in a
// step, and nothing of what comes behind it: written, synced, sent, answered.
func TestCrashPoints(t *testing.T) {
	s := Settings{Latency: 100, Sync: 5000, SyncBy: 1000, Segment: segmentMin}
	for i, point := range replica.CrashPoints {
		for _, power := range []bool{false, true} {
			kept := map[int]int{}
			for seed := range uint64(20) {
				s.Power = power
				w, story := toyWorld(t, seed, 3, s, func(o *Options) {
					o.Knobs.CrashAt = "n1:" + point + ":2"
				})
				name := fmt.Sprintf("%s, power %t, seed %d", point, power, seed)
				run(t, w, time.Second)
				a := newAsker(w, 1)
				a.write("x", "1", time.Second)
				run(t, w, time.Second)
				if e := a.last(t); e.Type != history.Ok {
					t.Fatalf("%s: the first write: %s %s", name, e.Type, e.Error)
				}
				story.arrived = nil
				a.write("x", "2", time.Second)
				run(t, w, time.Second)
				wantTold := []string{"early"}
				if i >= 3 {
					wantTold = append(wantTold, "late")
				}
				if got := told(story); !slices.Equal(got, wantTold) {
					t.Errorf("%s: n2 heard %q, want %q", name, got, wantTold)
				}
				if e, want := a.last(t), i == 5; (e.Type == history.Ok) != want || !want && e.Type != history.Info {
					t.Errorf("%s: the write ended as %s %s", name, e.Type, e.Error)
				}
				if n := w.News(); len(n) != 1 || n[0].Detail != CrashPoint || n[0].Node != 1 {
					t.Errorf("%s: incidents %v", name, n)
				}
				if w.Applied() > 2 || i >= 4 && w.Applied() != 2 || i < 4 && w.Applied() != 1 {
					t.Errorf("%s: %d commands count as applied", name, w.Applied())
				}
				w.Restart(1)
				run(t, w, time.Second)
				kept[story.restored[1]-1]++
			}
			switch {
			case i == 0 && kept[0] != 20, i == 1 && !power && kept[1] != 20, i >= 2 && kept[1] != 20:
				t.Errorf("%s, power %t: the record was found again %d times and lost %d times", point, power, kept[1], kept[0])
			case i == 1 && power && (kept[0] == 0 || kept[1] == 0):
				t.Errorf("%s, power %t: an unsynced record was kept %d times and lost %d times; both must happen", point, power, kept[1], kept[0])
			}
		}
	}
}

// A crash point kills once: the next incarnation passes it.
func TestCrashOnce(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Defaults(), func(o *Options) { o.Knobs.CrashAt = "n1:sync:1" })
	a := newAsker(w, 1)
	a.write("x", "1", time.Second)
	run(t, w, 2*time.Second)
	w.Restart(1)
	for range 3 {
		a.write("x", "1", time.Second)
		run(t, w, 2*time.Second)
		if e := a.last(t); e.Type != history.Ok {
			t.Fatalf("after the crash: %s %s", e.Type, e.Error)
		}
	}
	if n := len(w.News()); n != 1 {
		t.Errorf("%d incidents, want one", n)
	}
}

// A kill in the middle of a step takes back what had not happened yet: the
// answer, the message, and the sync.
func TestKilledWithinAStep(t *testing.T) {
	s := Settings{Latency: 100, Sync: 20_000, Segment: segmentMin, Power: true}
	lost := 0
	for seed := range uint64(20) {
		w, story := toyWorld(t, seed, 3, s, nil)
		run(t, w, time.Second)
		a := newAsker(w, 1)
		a.write("x", "1", time.Second)
		run(t, w, 10*ms)
		if w.hosts[1].clock <= w.now {
			t.Fatal("no step is under way")
		}
		if _, err := w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 1}}); err != nil {
			t.Fatal(err)
		}
		w.Revert(ctx, "kill")
		if w.Applied() != 0 {
			t.Errorf("seed %d: %d commands count as applied, and none was", seed, w.Applied())
		}
		run(t, w, time.Second)
		if e := a.last(t); e.Type != history.Info {
			t.Errorf("seed %d: the write ended as %s %s", seed, e.Type, e.Error)
		}
		if got := told(story); !slices.Equal(got, []string{"early"}) {
			t.Errorf("seed %d: n2 heard %q", seed, got)
		}
		if story.restored[1] == 0 {
			lost++
		}
	}
	if lost == 0 || lost == 20 {
		t.Errorf("the record was lost %d times of 20; both must happen", lost)
	}
}

// Doom kills within the next steps, at all kinds of moments; who is spared lives.
func TestDoom(t *testing.T) {
	for _, spare := range []bool{false, true} {
		dead, within := 0, 0 // within: died at a moment in which a step was under way
		for seed := range uint64(30) {
			var w *World
			note := func(e Traced) {
				if e.Kind == TraceDown && strings.Contains(e.Text, "crash point") {
					dead++
					if w.hosts[e.Node].clock > w.now+1 {
						within++
					}
				}
			}
			var leader nodes.ID
			w, leader = raftWorld(t, seed, 3, Defaults(), func(o *Options) { o.Trace = note })
			a := newAsker(w, leader)
			w.Doom(leader)
			if spare {
				w.Spare()
			}
			deaths := 0
			for n := range 10 {
				a.write("x", fmt.Sprint(n), 200*ms)
				run(t, w, 250*ms)
				for _, i := range w.News() {
					deaths++
					if i.Detail != CrashPoint || i.Node != leader {
						t.Errorf("seed %d: incident %+v", seed, i)
					}
				}
			}
			if spare && deaths != 0 || deaths > 1 {
				t.Errorf("seed %d, spared %t: %d deaths", seed, spare, deaths)
			}
			w.Restart(leader)
			run(t, w, 5*time.Second)
			if agreed(w) == 0 {
				t.Errorf("seed %d: no leader after all", seed)
			}
		}
		if !spare && (dead < 15 || within < 5) {
			t.Errorf("of 30 doomed nodes %d died, %d in the middle of a step", dead, within)
		}
	}
}

// A panic of a node is that node's breach; the world stands.
func TestPanicsAreBreaches(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Defaults(), nil)
	run(t, w, 50*ms)
	send(w, 1, 2, "die")
	w.Run(w.Now() + 50*ms)
	b := w.Breach()
	if b == nil || b.Invariant != "panic" || b.Node != 2 {
		t.Fatalf("breach %v", b)
	}
	if w.Run(w.Now() + time.Second) {
		t.Error("the world goes on after a breach")
	}
}

// Doom picks crash points, steps that take time, and steps that take long.
func TestDoomPicks(t *testing.T) {
	picked := map[string]int{}
	for seed := range uint64(60) {
		w, _ := toyWorld(t, seed, 3, Settings{Latency: 100, Sync: 300, SyncBy: 700, Segment: segmentMin}, nil)
		w.Doom(2)
		switch h := w.hosts[2]; {
		case h.crashAt != nil && h.doomed == 0:
			picked["point"]++
		case h.crashAt == nil && h.doomed == 1:
			picked["step"]++
		case h.crashAt == nil && h.doomed == 2_000_000: // ns: twice the longest sync
			picked["long step"]++
		default:
			t.Errorf("seed %d: doomed to die in a step of %d ns", seed, h.doomed)
		}
	}
	if picked["point"] < 15 || picked["step"] < 5 || picked["long step"] < 5 {
		t.Errorf("of 60 picked: %v", picked)
	}
}

// The watch is asked at each start, after each input, and when a step has been
// carried out; its objections are breaches.
func TestWatchIsAsked(t *testing.T) {
	w, story := toyWorld(t, 1, 3, Settings{Latency: 100, Sync: 20_000, Segment: segmentMin}, nil)
	run(t, w, time.Second)
	begun := story.asked["stepped n2"] - story.ticks[2]
	send(w, 1, 2, "a message")
	w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 3}})
	run(t, w, 50*ms)
	inputs := story.ticks[2] + len(story.arrived) + len(story.resets)/2
	if got := story.asked["stepped n2"] - begun; got != inputs || len(story.resets) != 2 || story.asked["started n2"] != 1 {
		t.Errorf("after %d inputs it was asked %v", inputs, story.asked)
	}
	a := newAsker(w, 2)
	a.write("x", "1", time.Second)
	for w.hosts[2].clock <= w.now {
		run(t, w, ms/2)
	}
	before := story.asked["flushed n2"]
	run(t, w, time.Duration(w.hosts[2].clock)-w.Now()-1)
	if got := story.asked["flushed n2"]; got != before {
		t.Error("it is told that a step is out, which is still to be carried out")
	}
	run(t, w, 1)
	if got := story.asked["flushed n2"]; got <= before {
		t.Error("it is not told that a step is out")
	}
	for _, call := range []string{"started", "stepped", "flushed"} {
		w, story := toyWorld(t, 1, 3, Defaults(), nil)
		run(t, w, 50*ms)
		story.objects = call
		w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 3}})
		w.Revert(ctx, "kill")
		w.Run(w.Now() + 50*ms)
		if b := w.Breach(); b == nil || b.Invariant != call {
			t.Errorf("the watch objects when %s; breach %v", call, b)
		}
	}
}
