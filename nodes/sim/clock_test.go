package sim

import (
	"testing"
	"time"

	"chaos/nodes"
)

// ticked is how often each node's clock ticks in so much time.
func ticked(t *testing.T, w *World, story *tale, d time.Duration) map[nodes.ID]int {
	t.Helper()
	clear(story.ticks)
	run(t, w, d)
	return story.ticks
}

// A clock that is skewed runs as much faster or slower as was asked for, the
// others do not, and it is right again at the end.
func TestClockFault(t *testing.T) {
	for _, wrong := range []int{-200, 200} {
		w, story := toyWorld(t, 1, 3, Defaults(), nil)
		near := func(when string, got, want int) {
			t.Helper()
			if got < want-2 || got > want+2 {
				t.Errorf("%s %d: %d ticks in ten seconds, want %d", when, wrong, got, want)
			}
		}
		w.Apply(ctx, "clock", []nodes.Effect{{Kind: nodes.Skewed, Node: 2, PerMille: wrong}})
		n := ticked(t, w, story, 10*time.Second)
		near("skewed by", n[2], 1000+wrong)
		near("beside one that is skewed by", n[1], 1000)
		w.Revert(ctx, "clock")
		near("no longer skewed by", ticked(t, w, story, 10*time.Second)[2], 1000)
	}
}

// Settings skew clocks both ways, as far as they say.
func TestClockSettings(t *testing.T) {
	s := Defaults()
	s.Skew = 100
	slow, fast := 0, 0
	for seed := range uint64(20) {
		w, story := toyWorld(t, seed, 3, s, nil)
		for _, n := range ticked(t, w, story, 10*time.Second) {
			if n < 898 || n > 1102 {
				t.Errorf("seed %d: %d ticks in ten seconds, want 900 to 1100", seed, n)
			}
			if n < 950 {
				slow++
			}
			if n > 1050 {
				fast++
			}
		}
	}
	if slow < 5 || fast < 5 {
		t.Errorf("of 60 clocks %d are slow and %d fast", slow, fast)
	}
}

// Ticks that are missed while a node is frozen or busy are made good, a few at most.
func TestClockAfterAStall(t *testing.T) {
	w, story := toyWorld(t, 1, 3, Defaults(), nil)
	run(t, w, 50*ms)
	w.Apply(ctx, "pause", []nodes.Effect{{Kind: nodes.Frozen, Node: 2}})
	if n := ticked(t, w, story, time.Second); n[2] != 0 {
		t.Errorf("a frozen node ticks %d times", n[2])
	}
	w.Revert(ctx, "pause")
	if n := story.ticks[2]; n != 3 {
		t.Errorf("a node that goes on makes %d ticks good, want 3", n)
	}
	for stall, want := range map[time.Duration]int{25 * ms: 2, 500 * ms: 3} {
		w, story = toyWorld(t, 1, 3, Settings{Latency: 100, Sync: stall.Microseconds(), Segment: segmentMin}, nil)
		run(t, w, 5*time.Second)
		a := newAsker(w, 1)
		a.write("x", "1", time.Second)
		for w.hosts[1].clock <= w.now {
			run(t, w, ms)
		}
		end := time.Duration(w.hosts[1].clock)
		story.ticks[1] = 0
		run(t, w, end-w.Now()+1)
		if n := story.ticks[1]; n < want || n > want+1 || n > 3 {
			t.Errorf("a node that was busy for %s makes %d ticks good, want %d", stall, n, want)
		}
	}
}
