package agent_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// A sleepingMachine is a machine of the lab that freezes as a container does: its
// agent and its node, but not its kernel.
type sleepingMachine struct {
	l      *lab
	id     nodes.ID
	frozen []int // what it stopped; a node that was stopped already stays so
}

func (m *sleepingMachine) pids() []int {
	agent := m.l.agent(m.id).Process.Pid
	return append(children(agent), agent)
}

func (m *sleepingMachine) Bring(ctx context.Context, s nodes.MachineState) ([]nodes.Proof, error) {
	if s.Frozen {
		for _, pid := range m.pids() {
			if stateOf(pid) != "T" {
				m.frozen = append(m.frozen, pid)
				must(m.l.t, stop(pid))
			}
		}
		return m.shown(ctx, s), nil
	}
	for _, pid := range m.frozen {
		must(m.l.t, wake(pid))
	}
	m.frozen = nil
	return m.shown(ctx, s), nil
}

// shown waits until it shows: signals take their time.
func (m *sleepingMachine) shown(ctx context.Context, s nodes.MachineState) []nodes.Proof {
	for until := time.Now().Add(enough); ; time.Sleep(time.Millisecond) {
		if p := m.Prove(ctx, s); p[0].Holds || time.Now().After(until) {
			return p
		}
	}
}

func (m *sleepingMachine) Prove(_ context.Context, s nodes.MachineState) []nodes.Proof {
	stopped := stateOf(m.l.agent(m.id).Process.Pid) == "T"
	return []nodes.Proof{{What: m.id.String(), Holds: stopped == s.Frozen, How: fmt.Sprint(m.pids())}}
}

// stateOf is the letter by which the system shows a process's state; "": it is gone.
func stateOf(pid int) string { return statOf(fmt.Sprintf("/proc/%d/stat", pid)) }

func statOf(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
}

// children are the processes that a process has started and that live.
func children(parent int) (out []int) {
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err == nil && f[1] == fmt.Sprint(parent) && f[0] != "Z" {
			out = append(out, pid)
		}
	}
	return out
}

// TestMachineSleepsLong: a machine that we keep frozen for longer than the lease
// wakes as it fell asleep, with the same agent and the same node, and that is no
// gap of its fault. But its kernel has let go of the cuts meanwhile, which is one
// of theirs.
func TestMachineSleepsLong(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	l := newLab(t, 3)
	f := l.fleet(lease, func(o *agent.FleetOptions) { o.Hosts[1].Machine = &sleepingMachine{l: l, id: 2} })
	ctx := context.Background()
	for name, effects := range map[string][]nodes.Effect{
		"cut": {cut(1, 2)}, "elsewhere": {cut(1, 3)}, "pause": {{Kind: nodes.Frozen, Node: 2}},
	} {
		ev, err := f.Apply(ctx, name, effects)
		proven(t, name, ev, err)
	}
	before := (&sleepingMachine{l: l, id: 2}).pids()
	ev, err := f.Apply(ctx, "machine", []nodes.Effect{{Kind: nodes.MachineFrozen, Node: 2}})
	proven(t, "machine", ev, err)
	time.Sleep(5 * lease / 2)
	ev, err = f.Verify(ctx, "machine")
	proven(t, "machine, later", ev, err)
	ev, err = f.Revert(ctx, "machine")
	proven(t, "wake", ev, err)
	if after := (&sleepingMachine{l: l, id: 2}).pids(); !slices.Equal(before, after) || len(after) != 2 {
		t.Errorf("node and agent %v before, %v after", before, after)
	}
	ev, err = f.Verify(ctx, "pause")
	proven(t, "the node's own pause", ev, err)
	ev, err = f.Verify(ctx, "elsewhere")
	proven(t, "the cut elsewhere", ev, err)
	ev, err = f.Verify(ctx, "cut")
	must(t, err)
	if len(ev.Gaps) == 0 || ev.Proven() {
		t.Errorf("the kernel let go of a cut, and no gap is told: %+v", ev)
	}
	for _, p := range ev.Proofs {
		if !p.Holds {
			t.Errorf("the cut was not mended: %+v", p)
		}
	}
	must(t, f.Close(ctx))
	for _, i := range rest(t, "incidents", f.Incidents()) {
		if i.Kind != "lapse" || i.Node != 2 {
			t.Errorf("told: %+v", i)
		}
	}
}

// TestAgentSleepsLong: an agent that somebody else froze for longer than its
// lease is given up meanwhile; its window does not count. When it wakes it heals,
// takes its node along and ends.
func TestAgentSleepsLong(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	l := newLab(t, 2)
	f := l.fleet(lease, func(o *agent.FleetOptions) {
		open, opened := o.Hosts[1].Open, false
		o.Hosts[1].Open = func(ctx context.Context) (stream, error) {
			if opened { // nobody takes its place, so that it is seen what it does
				return nil, net.ErrClosed
			}
			opened = true
			return open(ctx)
		}
	})
	ctx := context.Background()
	w := l.wire(1, 2)
	ev, err := f.Apply(ctx, "cut", []nodes.Effect{cut(1, 2)})
	proven(t, "cut", ev, err)
	ev, err = f.Apply(ctx, "pause", []nodes.Effect{{Kind: nodes.Frozen, Node: 2}})
	proven(t, "pause", ev, err)
	pids := (&sleepingMachine{l: l, id: 2}).pids()
	must(t, stop(l.agent(2).Process.Pid))
	time.Sleep(3 * lease / 2)
	for _, injection := range []string{"cut", "pause"} {
		ev, err = f.Verify(ctx, injection)
		must(t, err)
		if len(ev.Gaps) == 0 || ev.Proven() {
			t.Errorf("%s: its agent is gone, and it is taken for proven: %+v", injection, ev)
		}
	}
	if !passes(t, w.from, w.to, enough) {
		t.Error("the kernel's time limit has passed, and the way is not open")
	}
	must(t, wake(l.agent(2).Process.Pid))
	l.noTable(2)
	for _, pid := range pids {
		for until := time.Now().Add(enough); stateOf(pid) != "" && stateOf(pid) != "Z"; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("process %d lives on", pid)
			}
		}
	}
}

// A killedMachine is a machine of the lab that goes down with its agent, whose
// node the kernel takes along, and comes back without a trace of what it had.
type killedMachine struct {
	l    *lab
	id   nodes.ID
	down bool
}

func (m *killedMachine) Bring(ctx context.Context, s nodes.MachineState) ([]nodes.Proof, error) {
	if s.Down && !m.down {
		must(m.l.t, m.l.agent(m.id).Process.Kill())
	}
	m.down = s.Down
	for until := time.Now().Add(enough); ; time.Sleep(time.Millisecond) {
		if p := m.Prove(ctx, s); p[0].Holds || time.Now().After(until) {
			return p, nil
		}
	}
}

func (m *killedMachine) Prove(_ context.Context, s nodes.MachineState) []nodes.Proof {
	state := stateOf(m.l.agent(m.id).Process.Pid)
	gone := state == "" || state == "Z"
	return []nodes.Proof{{What: m.id.String(), Holds: m.down == s.Down && (gone || !s.Down), How: fmt.Sprintf("its agent's state is %q", state)}}
}

// TestMachineGetsItsLinks: a machine that was away while the links changed has
// what is wanted of them when it is back: the new ones, and not the old ones.
func TestMachineGetsItsLinks(t *testing.T) {
	t.Parallel()
	for kind, machine := range map[nodes.EffectKind]func(l *lab) agent.Machine{
		nodes.MachineFrozen: func(l *lab) agent.Machine { return &sleepingMachine{l: l, id: 2} },
		nodes.MachineDown:   func(l *lab) agent.Machine { return &killedMachine{l: l, id: 2} },
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3)
			f := l.fleet(time.Hour, func(o *agent.FleetOptions) { o.Hosts[1].Machine = machine(l) }) // no beat mends what is missing
			open, closed := l.wire(3, 2), l.wire(1, 2)
			ctx := context.Background()
			ev, err := f.Apply(ctx, "old", []nodes.Effect{cut(3, 2)})
			proven(t, "old cut", ev, err)
			ev, err = f.Apply(ctx, "machine", []nodes.Effect{{Kind: kind, Node: 2}})
			proven(t, "machine", ev, err)
			ev, err = f.Apply(ctx, "new", []nodes.Effect{cut(1, 2)})
			proven(t, "new cut, of a machine that is away", ev, err)
			ev, err = f.Revert(ctx, "old")
			proven(t, "old cut taken away", ev, err)
			ev, err = f.Revert(ctx, "machine")
			proven(t, "machine back", ev, err)
			ev, err = f.Verify(ctx, "new")
			proven(t, "new cut", ev, err)
			if !passes(t, open.from, open.to, enough) {
				t.Error("the way is closed still that was opened meanwhile")
			}
			if passes(t, closed.from, closed.to, quiet) {
				t.Error("the way is open that was closed meanwhile")
			}
		})
	}
}

// TestSleepersCutEnds: a cut that a machine got only when it woke ends as any
// other does, even where it is all that its firewall ever had to do.
func TestSleepersCutEnds(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(time.Hour, func(o *agent.FleetOptions) { o.Hosts[1].Machine = &sleepingMachine{l: l, id: 2} })
	w := l.wire(1, 2)
	ctx := context.Background()
	ev, err := f.Apply(ctx, "machine", []nodes.Effect{{Kind: nodes.MachineFrozen, Node: 2}})
	proven(t, "machine", ev, err)
	ev, err = f.Apply(ctx, "cut", []nodes.Effect{cut(1, 2)})
	proven(t, "cut of a machine that sleeps", ev, err)
	ev, err = f.Revert(ctx, "machine")
	proven(t, "wake", ev, err)
	ev, err = f.Revert(ctx, "cut")
	proven(t, "cut taken away", ev, err)
	if !passes(t, w.from, w.to, enough) {
		t.Error("the way is closed still")
	}
}
