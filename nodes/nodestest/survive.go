package nodestest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/nodes"
)

// SurviveLease is the lease of clusters that are to survive: short, so that the
// tests are.
const SurviveLease = 2 * time.Second

// Hurts are the faults that must not outlive who holds them up, by name, one of
// each kind and all of them at once on three nodes: without those that the
// cluster isn't able to.
func Hurts(able nodes.Abilities) map[string][]nodes.Effect {
	out := map[string][]nodes.Effect{
		"kill":      {{Kind: nodes.Down, Node: 1}},
		"pause":     {{Kind: nodes.Frozen, Node: 2}},
		"partition": {{Kind: nodes.Cut, From: 1, To: 3}, {Kind: nodes.Cut, From: 3, To: 1}, {Kind: nodes.Cut, From: 3, To: 2}},
		"slow":      {{Kind: nodes.Delayed, From: 1, To: 2, Delay: 50 * time.Millisecond}},
		"lossy":     {{Kind: nodes.Lossy, From: 2, To: 1, PerMille: 300}, {Kind: nodes.Lossy, From: 2, To: 3, PerMille: 300}},
	}
	maps.DeleteFunc(out, func(_ string, e []nodes.Effect) bool { return able.Effects[e[0].Kind] != nil })
	return out
}

// Hurt applies all of the hurts and proves them.
func Hurt(t *testing.T, c nodes.Cluster, able nodes.Abilities) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(Hurts(able))) {
		ev, err := c.Apply(context.Background(), name, Hurts(able)[name])
		check(t, name, ev, err)
	}
}

// Survive hurts a cluster, has end take away who holds the hurt up, and wants it
// all to be there again, with a gap told of each hurt that held says was theirs,
// and every cure to be proven.
func Survive(t *testing.T, c nodes.Cluster, able nodes.Abilities, end func(t *testing.T), held func(name string) bool) {
	t.Helper()
	Hurt(t, c, able)
	end(t)
	names := slices.Sorted(maps.Keys(Hurts(able)))
	for _, name := range names {
		var ev nodes.Evidence
		var err error
		for until := time.Now().Add(2 * kitEnough); ; time.Sleep(kitLook) {
			ev, err = c.Verify(context.Background(), name)
			if err == nil && !slices.ContainsFunc(ev.Proofs, func(p nodes.Proof) bool { return !p.Holds }) {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("%s is not there again: %v, %v", name, ev.Failures(), err)
			}
		}
		if gap := len(ev.Gaps) > 0; gap != held(name) {
			t.Errorf("%s: gaps %q", name, ev.Gaps)
		}
	}
	for _, name := range names {
		ev, err := c.Revert(context.Background(), name)
		check(t, "revert "+name, ev, err)
	}
}

// Overlaps holds two of the hurts at once, all on one node, and ends them in
// either order: neither undoes the other. all takes every two of them, else each
// has one other: what differs between providers is not the sums.
func Overlaps(t *testing.T, c nodes.Cluster, able nodes.Abilities, all bool) {
	t.Helper()
	ctx := context.Background()
	hurts := map[string][]nodes.Effect{
		"kill":      {{Kind: nodes.Down, Node: 1}},
		"pause":     {{Kind: nodes.Frozen, Node: 1}},
		"partition": {{Kind: nodes.Cut, From: 2, To: 1}, {Kind: nodes.Cut, From: 1, To: 2}},
		"apart":     {{Kind: nodes.Cut, From: 2, To: 1}, {Kind: nodes.Cut, From: 3, To: 1}},
		"slow":      {{Kind: nodes.Delayed, From: 2, To: 1, Delay: 50 * time.Millisecond}, {Kind: nodes.Delayed, From: 3, To: 1, Delay: 50 * time.Millisecond}},
		"lossy":     {{Kind: nodes.Lossy, From: 2, To: 1, PerMille: 300}, {Kind: nodes.Lossy, From: 3, To: 1, PerMille: 300}},
	}
	maps.DeleteFunc(hurts, func(_ string, e []nodes.Effect) bool { return able.Effects[e[0].Kind] != nil })
	names := slices.Sorted(maps.Keys(hurts))
	for i, first := range names {
		for j, second := range names {
			apart := (i - j + len(names)) % len(names)
			if apart == 0 || !all && apart != 1 && apart != len(names)-1 {
				continue
			}
			what := strings.Join([]string{first, second}, ", then ")
			ev, err := c.Apply(ctx, first, hurts[first])
			check(t, what+": apply the first", ev, err)
			ev, err = c.Apply(ctx, second, hurts[second])
			check(t, what+": apply the second", ev, err)
			ev, err = c.Revert(ctx, first)
			check(t, what+": revert the first", ev, err)
			ev, err = c.Verify(ctx, second)
			check(t, what+": verify the second", ev, err)
			ev, err = c.Revert(ctx, second)
			check(t, what+": revert the second", ev, err)
		}
	}
}

// AgentLost wants the next incident to be the loss of an agent.
func AgentLost(t *testing.T, c nodes.Cluster) {
	t.Helper()
	select {
	case i := <-c.Incidents():
		if i.Kind != "agent-lost" {
			t.Errorf("told first: %+v", i)
		}
	case <-time.After(kitEnough):
		t.Error("nobody tells that an agent was lost")
	}
}
