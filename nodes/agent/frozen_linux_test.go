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
func stateOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
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
	for i := range f.Incidents() {
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
