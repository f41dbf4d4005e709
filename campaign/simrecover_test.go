package campaign

import (
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/sim"
)

// A cut that parts an outsider from a part of the core is made to part it from
// all of it, in the directions that it has; all else is left alone.
func TestCutsOfTheCoreAreEven(t *testing.T) {
	core := []nodes.ID{2, 3}
	cut := func(from, to nodes.ID) nodes.Effect { return nodes.Effect{Kind: nodes.Cut, From: from, To: to} }
	for name, c := range map[string]struct{ kept, want []nodes.Effect }{
		"into the core":      {[]nodes.Effect{cut(1, 3)}, []nodes.Effect{cut(1, 2), cut(1, 3)}},
		"out of it":          {[]nodes.Effect{cut(3, 1)}, []nodes.Effect{cut(2, 1), cut(3, 1)}},
		"among outsiders":    {[]nodes.Effect{cut(1, 4)}, nil},
		"of clients":         {[]nodes.Effect{cut(nodes.Clients, 1)}, nil},
		"slow, but whole":    {[]nodes.Effect{{Kind: nodes.Delayed, From: 1, To: 3}}, nil},
		"a node that is off": {[]nodes.Effect{{Kind: nodes.Down, Node: 1}}, nil},
	} {
		if got := evened(c.kept, core); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A leader outside the majority hands over, where the settings ask for it, and
// has no time to end it before the rest is left broken.
func TestTakeOver(t *testing.T) {
	for _, asked := range []bool{true, false} {
		begun := 0
		for seed := range uint64(10) {
			plan := swarm(t, "raft", seed+1, time.Second)
			world := plan.Spec.settings()
			world.TakeOver, world.Transfer = asked, 0
			plan.Spec.Sim = &world
			run := Simulated{Plan: plan, System: simSystems["raft"], Trace: func(e sim.Traced) {
				if strings.Contains(e.Text, "asked to hand over") {
					begun++
				}
			}}
			if _, err := run.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if begun > 0 != asked {
			t.Errorf("asked for: %t; begun %d times", asked, begun)
		}
	}
}

// The record tells what a simulation left broken when it healed, as the trace
// does, in the note of that phase and nowhere else.
func TestLeftBrokenIsNoted(t *testing.T) {
	noted := 0
	for seed := range uint64(6) {
		traced := ""
		s := Simulated{Plan: swarm(t, "raft", seed+1, time.Second), System: simSystems["raft"], Trace: func(e sim.Traced) {
			if rest, is := strings.CutPrefix(e.Text, restOf+": "); is && e.Kind == sim.TraceFault {
				traced = rest
			}
		}}
		out, err := s.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range out.History.Events {
			if e.Process != history.Nemesis {
				continue
			}
			n, err := history.DecodeNote(e)
			if err != nil {
				t.Fatal(err)
			}
			told, is := strings.CutPrefix(n.Detail, history.LeftBroken)
			if is != (n.Phase == history.Healing && traced != "") {
				t.Errorf("seed %d: %s %+v, and the trace tells of %q", seed+1, e.F, n, traced)
			}
			if is {
				noted++
			}
			for _, one := range strings.Split(told, ", ") {
				if is && !slices.Contains(strings.Split(traced, ", "), one) {
					t.Errorf("seed %d: %q is noted, and the trace tells of %q", seed+1, one, traced)
				}
			}
		}
	}
	if noted < 3 {
		t.Errorf("%d of 6 runs note what was left broken", noted)
	}
}
