package agent_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"chaos/nodes"
	"chaos/nodes/agent"
)

func cut(from, to nodes.ID) nodes.Effect {
	return nodes.Effect{Kind: nodes.Cut, From: from, To: to}
}

// passing are links on which everything passes.
type passing struct{}

func (passing) Set(context.Context, map[nodes.Link]nodes.LinkState) error { return nil }

func (passing) Probe(_ context.Context, links []nodes.Link) (out []nodes.Observation, err error) {
	for _, l := range links {
		out = append(out, nodes.Observation{Link: l, Passed: true, How: "it passed"})
	}
	return out, nil
}

// sleepers is a system of nodes that only run.
type sleepers struct{ nodes.System }

func (sleepers) Exec(nodes.Member, []nodes.Member, string, nodes.Options) nodes.Exec {
	return sleeper()
}

// A box is a machine in this process: an agent behind a pipe.
type box struct {
	mu    sync.Mutex
	pipe  net.Conn
	state nodes.MachineState // as the system shows it
	does  func(nodes.MachineState) (nodes.MachineState, error)
}

func (b *box) open(context.Context) (io.ReadWriteCloser, error) {
	here, there := net.Pipe()
	go agent.Serve(context.Background(), there, agent.ServeOptions{})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pipe = here
	return here, nil
}

func (b *box) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pipe.Close()
}

func (b *box) Bring(ctx context.Context, s nodes.MachineState) ([]nodes.Proof, error) {
	is, err := b.does(s)
	if err != nil {
		return b.Prove(ctx, s), err
	}
	if is.Down {
		b.hangUp()
	}
	b.mu.Lock()
	b.state = is
	b.mu.Unlock()
	return b.Prove(ctx, s), nil
}

func (b *box) Prove(_ context.Context, s nodes.MachineState) []nodes.Proof {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []nodes.Proof{{What: "n2", Holds: b.state == s, How: "as the box is"}}
}

func obeys(s nodes.MachineState) (nodes.MachineState, error) { return s, nil }

// boxed is a fleet of two nodes, of which the second has a machine.
func boxed(t *testing.T, b *box) *agent.Fleet {
	t.Helper()
	o := agent.FleetOptions{System: sleepers{}, Links: passing{},
		Options: nodes.Options{Nodes: 2, Dir: t.TempDir(), Cluster: "boxes", Log: func(s string) { t.Log(s) }}}
	for i, b := range []*box{{does: obeys}, b} {
		h := agent.Host{Self: nodes.Member{ID: nodes.ID(i + 1), Host: "127.0.0.1"}, Dir: t.TempDir(), Open: b.open}
		if i == 1 {
			h.Machine = b
		}
		o.Hosts = append(o.Hosts, h)
	}
	f, err := agent.NewFleet(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(context.Background()) })
	return f
}

var (
	machineDown   = []nodes.Effect{{Kind: nodes.MachineDown, Node: 2}}
	machineFrozen = []nodes.Effect{{Kind: nodes.MachineFrozen, Node: 2}}
)

// wants fails unless what was done went well, and is proven or not.
func wants(t *testing.T, what string, proven bool, ev nodes.Evidence, err error) {
	t.Helper()
	if err != nil || ev.Proven() != proven {
		t.Fatalf("%s: proven %v, want %v: %q, %v", what, ev.Proven(), proven, ev.Failures(), err)
	}
}

// TestReopenedAgentIsWatched: the agent of a machine that was killed and came
// back is watched as the first one was; that the first one went is no incident.
func TestReopenedAgentIsWatched(t *testing.T) {
	t.Parallel()
	b := &box{does: obeys}
	f := boxed(t, b)
	for range 2 {
		ev, err := f.Apply(t.Context(), "kill", machineDown)
		wants(t, "kill", true, ev, err)
		ev, err = f.Revert(t.Context(), "kill")
		wants(t, "revival", true, ev, err)
	}
	if n := len(f.Incidents()); n > 0 {
		t.Errorf("a kill that was asked for is reported: %+v", await(t, "it", f.Incidents()))
	}
	for range 2 {
		b.hangUp()
		for _, word := range []string{"lost", "back"} {
			if i := await(t, "the agent is "+word, f.Incidents()); i.Kind != "agent-lost" || i.Node != 2 || !strings.Contains(i.Detail, word) {
				t.Errorf("told: %+v", i)
			}
		}
	}
}

// TestKillThatIsAPause: a machine that was frozen where a kill was asked for is
// not proven to be down, nor is anything on its links; no more is one that was
// left as it was, or that somebody else has brought back.
func TestKillThatIsAPause(t *testing.T) {
	t.Parallel()
	for what, is := range map[string]nodes.MachineState{"a pause": {Frozen: true}, "nothing": {}} {
		b := &box{does: obeys}
		f := boxed(t, b)
		ev, err := f.Apply(t.Context(), "kill", machineDown)
		wants(t, "kill", true, ev, err)
		ev, err = f.Apply(t.Context(), "cut", []nodes.Effect{cut(1, 2)})
		wants(t, "cut beside the kill", true, ev, err)
		b.mu.Lock()
		b.state = is
		b.mu.Unlock()
		for _, injection := range []string{"kill", "cut"} {
			ev, err = f.Verify(t.Context(), injection)
			wants(t, what+", "+injection, false, ev, err)
		}
		ev, err = f.Revert(t.Context(), "kill")
		wants(t, "revival", true, ev, err)
		b.does = func(s nodes.MachineState) (nodes.MachineState, error) {
			if s.Down {
				return is, nil
			}
			return s, nil
		}
		ev, err = f.Apply(t.Context(), "kill", machineDown)
		wants(t, what+" instead of a kill", false, ev, err)
		ev, err = f.Verify(t.Context(), "cut")
		wants(t, what+" instead of a kill, and the cut", false, ev, err)
	}
}

// TestNoWatchdog: where nobody would thaw a machine it is not frozen, the error
// says why, nothing is proven by it, and the revert leaves all as it was. One
// that fails to thaw it can be tried again.
func TestNoWatchdog(t *testing.T) {
	t.Parallel()
	none, stuck := errors.New("no watchdog, so nothing is frozen"), errors.New("still frozen")
	b := &box{does: func(s nodes.MachineState) (nodes.MachineState, error) {
		if s.Frozen {
			return s, none
		}
		return s, nil
	}}
	f := boxed(t, b)
	ev, err := f.Apply(t.Context(), "freeze", machineFrozen)
	if !errors.Is(err, none) || !strings.Contains(err.Error(), "machine of n2") || ev.Proven() {
		t.Errorf("without a watchdog: %v, %+v", err, ev)
	}
	ev, err = f.Apply(t.Context(), "cut", []nodes.Effect{cut(1, 2)})
	wants(t, "a cut of a machine that was not frozen", false, ev, err)
	ev, err = f.Verify(t.Context(), "freeze")
	wants(t, "verification", false, ev, err)
	ev, err = f.Revert(t.Context(), "freeze")
	wants(t, "revert", true, ev, err)

	b.does = obeys
	ev, err = f.Apply(t.Context(), "freeze", machineFrozen)
	wants(t, "freeze", true, ev, err)
	b.does = func(s nodes.MachineState) (nodes.MachineState, error) { return s, stuck }
	if ev, err := f.Revert(t.Context(), "freeze"); !errors.Is(err, stuck) || ev.Proven() {
		t.Errorf("a thaw that failed: %v, %+v", err, ev)
	}
	b.does = obeys
	ev, err = f.Revert(t.Context(), "freeze")
	wants(t, "the second try", true, ev, err)
	if !b.Prove(t.Context(), nodes.MachineState{})[0].Holds {
		t.Error("the machine is still frozen")
	}
}

// A host without a machine to hurt is not hurt as one.
func TestNoMachine(t *testing.T) {
	t.Parallel()
	f := boxed(t, &box{does: obeys})
	for _, kind := range []nodes.EffectKind{nodes.MachineDown, nodes.MachineFrozen} {
		if _, err := f.Apply(t.Context(), "none", []nodes.Effect{{Kind: kind, Node: 1}}); err == nil {
			t.Errorf("%s of a host that is no machine", kind)
		}
	}
}
