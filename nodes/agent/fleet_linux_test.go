package agent_test

import (
	"context"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

const (
	quiet  = 150 * time.Millisecond // for what must not arrive
	enough = 20 * time.Second       // for what must arrive; TCP may retransmit first
	lease  = 10 * time.Second
)

func proven(t *testing.T, what string, ev nodes.Evidence, err error) {
	t.Helper()
	must(t, err)
	if !ev.Proven() {
		t.Fatalf("%s is not proven: %v", what, ev.Failures())
	}
	t.Logf("%s in %s, %d proofs: %+v", what, ev.Took, len(ev.Proofs), ev.Proofs[0])
}

func TestCutIsSeenAndHealed(t *testing.T) {
	l := newLab(t, 3)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	w := l.wire(1, 2)

	ev, err := f.Apply(ctx, "one-way", []nodes.Effect{cut(1, 2)})
	proven(t, "cut of n1→n2", ev, err)
	if passes(t, w.from, w.to, quiet) {
		t.Error("a byte went from n1 to n2 though that way is cut")
	}
	ev, err = f.Apply(ctx, "both-ways", []nodes.Effect{cut(1, 2), cut(2, 1)})
	proven(t, "cut of n1 and n2", ev, err)
	ev, err = f.Revert(ctx, "one-way")
	proven(t, "revert of one of two", ev, err)
	if passes(t, w.from, w.to, quiet) {
		t.Error("a byte went from n1 to n2 though the other injection still cuts it")
	}
	ev, err = f.Verify(ctx, "both-ways")
	proven(t, "verification", ev, err)
	ev, err = f.Revert(ctx, "both-ways")
	proven(t, "revert of the other", ev, err)
	if !arrives(w.to, enough) {
		t.Error("the connection did not come back after the heal")
	}
}

func TestClientLinksAreCut(t *testing.T) {
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	for _, e := range []nodes.Effect{cut(nodes.Clients, 1), cut(1, nodes.Clients)} {
		ev, err := f.Apply(ctx, "clients", []nodes.Effect{e})
		proven(t, e.String(), ev, err)
		if c, err := l.dialFrom(l.hub, member(1).Addr(nodes.ClientPort), quiet); err == nil {
			c.Close()
			t.Errorf("%s: a client reached n1", e)
		}
		c, err := l.dialFrom(l.hosts[2], member(1).Addr(nodes.ClientPort), enough)
		if err != nil {
			t.Errorf("%s: a peer did not reach n1's client port: %v", e, err)
		} else {
			c.Close()
		}
		ev, err = f.Revert(ctx, "clients")
		proven(t, "healed "+e.String(), ev, err)
	}
}

func TestProcessFaults(t *testing.T) {
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	down, frozen := nodes.Effect{Kind: nodes.Down, Node: 1}, nodes.Effect{Kind: nodes.Frozen, Node: 1}
	ev, err := f.Apply(ctx, "freeze", []nodes.Effect{frozen})
	proven(t, "freeze", ev, err)
	ev, err = f.Apply(ctx, "kill", []nodes.Effect{down})
	proven(t, "kill", ev, err)
	ev, err = f.Revert(ctx, "kill")
	proven(t, "restart, frozen", ev, err)
	ev, err = f.Verify(ctx, "freeze")
	proven(t, "still frozen", ev, err)
	ev, err = f.Revert(ctx, "freeze")
	proven(t, "thaw", ev, err)
	c, err := f.Dial(ctx, member(1), nodes.ClientPort)
	for until := time.Now().Add(enough); err != nil && time.Now().Before(until); time.Sleep(time.Millisecond) {
		c, err = f.Dial(ctx, member(1), nodes.ClientPort)
	}
	must(t, err)
	c.Close()
}

// What an injection had lets go when the same name is applied to something else.
func TestNewEffectsReplaceTheOld(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	w := l.wire(1, 2)
	ctx := context.Background()
	for _, effects := range [][]nodes.Effect{{{Kind: nodes.Frozen, Node: 1}, cut(1, 2)}, {{Kind: nodes.Frozen, Node: 2}}} {
		ev, err := f.Apply(ctx, "it", effects)
		proven(t, effects[0].String(), ev, err)
	}
	for _, pid := range children(l.agent(1).Process.Pid) {
		if state := stateOf(pid); state == "T" {
			t.Error("n1 is frozen still")
		}
	}
	if !passes(t, w.from, w.to, enough) {
		t.Error("n1→n2 is cut still")
	}
}

var _ = agent.Probe
