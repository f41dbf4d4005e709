package agent_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// tables lists the firewall's tables in a namespace.
func (l *lab) tables(id nodes.ID) (out []string) {
	l.in(l.hosts[id], func() {
		c, err := nftables.New()
		must(l.t, err)
		all, err := c.ListTables()
		must(l.t, err)
		for _, t := range all {
			out = append(out, t.Name)
		}
	})
	slices.Sort(out)
	return out
}

func (l *lab) noTable(id nodes.ID) {
	l.t.Helper()
	for until := time.Now().Add(enough); ; time.Sleep(time.Millisecond) {
		all := l.tables(id)
		if !slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, "chaos_") }) {
			return
		}
		if time.Now().After(until) {
			l.t.Fatalf("%s still has the tables %v", id, all)
		}
	}
}

func TestKilledAgentHealsByTheKernel(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	const short = 4 * time.Second // a starved agent must not lose it at the start
	f := l.fleet(short, func(o *agent.FleetOptions) {
		open := o.Hosts[1].Open
		opened := false
		o.Hosts[1].Open = func(ctx context.Context) (s stream, err error) {
			if opened { // no agent comes back, so that only the kernel can heal
				return nil, net.ErrClosed
			}
			opened = true
			return open(ctx)
		}
	})
	w := l.wire(1, 2)
	ev, err := f.Apply(context.Background(), "cut", []nodes.Effect{cut(1, 2)})
	proven(t, "cut", ev, err)
	must(t, l.agent(2).Process.Kill())
	if passes(t, w.from, w.to, quiet) {
		t.Error("the way was open at once, so nothing but the agent held it closed")
	}
	if !arrives(w.to, enough) {
		t.Error("the way did not open when the kernel's time limit had passed")
	}
	ev, err = f.Verify(context.Background(), "cut")
	must(t, err)
	if ev.Proven() {
		t.Errorf("a cut without an agent is proven: %+v", ev)
	}
}

func TestLostAgentComesBack(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	ev, err := f.Apply(ctx, "cut", []nodes.Effect{cut(1, 2), {Kind: nodes.Frozen, Node: 2}})
	proven(t, "cut and freeze", ev, err)
	ev, err = f.Apply(ctx, "elsewhere", []nodes.Effect{{Kind: nodes.Frozen, Node: 1}})
	proven(t, "freeze of n1", ev, err)
	ev, err = f.Apply(ctx, "answers", []nodes.Effect{cut(2, nodes.Clients)}) // which the sender's agent holds
	proven(t, "cut of what n2 answers to clients", ev, err)
	must(t, l.agent(2).Process.Kill())
	for range 2 {
		if i := await(t, "agent-lost", f.Incidents()); i.Kind != "agent-lost" || i.Node != 2 {
			t.Fatalf("got the incident %+v", i)
		}
	}
	for _, injection := range []string{"cut", "answers"} {
		ev, err = f.Verify(ctx, injection)
		must(t, err)
		if len(ev.Gaps) == 0 || ev.Proven() {
			t.Errorf("%s: the gap is not told: %+v", injection, ev)
		}
		for _, p := range ev.Proofs {
			if !p.Holds {
				t.Errorf("the agent that came back was not brought to what is wanted: %+v", p)
			}
		}
	}
	ev, err = f.Verify(ctx, "elsewhere")
	proven(t, "what the agent did not hold", ev, err)
	ev, err = f.Revert(ctx, "cut")
	proven(t, "revert", ev, err)
}

func TestStreamEndHeals(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	w := l.wire(1, 2)
	ev, err := f.Apply(context.Background(), "cut", []nodes.Effect{cut(1, 2)})
	proven(t, "cut", ev, err)
	if passes(t, w.from, w.to, quiet) {
		t.Error("a byte went from n1 to n2")
	}
	must(t, f.Close(context.Background()))
	l.noTable(1)
	l.noTable(2)
	if !arrives(w.to, enough) {
		t.Error("the connection did not come back")
	}
	if err := f.Close(context.Background()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := f.Apply(context.Background(), "late", nil); err == nil {
		t.Error("a closed fleet takes effects")
	}
}

// greetAndCut is what a controller says to the agent of n2 that is to cut n1 off.
func greetAndCut(lease time.Duration) (hello, links string) {
	return fmt.Sprintf(`{"id":1,"op":"hello","hello":{"version":1,"run":"lab","lease":%d,"self":{"ID":"n2","Host":"10.77.0.2"},"probe":7719,`+
			`"view":[{"ID":"n1","Host":"10.77.0.1"},{"ID":"n2","Host":"10.77.0.2"}]}}`+"\n", lease),
		`{"id":2,"op":"links","links":[{"link":{"From":"n1","To":"n2"},"state":{"Cut":true}}]}` + "\n"
}

// hasTable waits until n2 has our table.
func (l *lab) hasTable() {
	l.t.Helper()
	for until := time.Now().Add(enough); !slices.Contains(l.tables(2), "chaos_lab"); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			l.t.Fatal("the table did not appear")
		}
	}
}

// A controller that goes silent without closing its stream.
func TestSilenceHeals(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	raw, err := l.open(2)
	must(t, err)
	hello, links := greetAndCut(300 * time.Millisecond)
	_, err = raw.Write([]byte(hello + links))
	must(t, err)
	l.hasTable()
	l.noTable(2)
	raw.Close()
}

// What an agent that was killed leaves behind its successor takes away at once,
// even where it has nothing to cut itself.
func TestSuccessorClears(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	hello, links := greetAndCut(time.Hour) // no time limit helps
	for _, say := range []string{hello + links, hello} {
		raw, err := l.open(2)
		must(t, err)
		defer raw.Close()
		_, err = raw.Write([]byte(say))
		must(t, err)
		if say == hello {
			l.noTable(2)
			continue
		}
		l.hasTable()
		must(t, l.agent(2).Process.Kill())
		for until := time.Now().Add(enough); stateOf(l.agent(2).Process.Pid) != "Z" && stateOf(l.agent(2).Process.Pid) != ""; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatal("the agent lives on")
			}
		}
		l.hasTable() // it takes a successor, or a lease
	}
}

// foreign makes a table that is not ours, with a timed set like ours.
func (l *lab) foreign(id nodes.ID, name string) {
	l.in(l.hosts[id], func() {
		c, err := nftables.New()
		must(l.t, err)
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
		chain := c.AddChain(&nftables.Chain{Name: "input", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{132}}, &expr.Verdict{Kind: expr.VerdictDrop}}})
		must(l.t, c.AddSet(&nftables.Set{Table: table, Name: "from_n1_v4", KeyType: nftables.TypeIPAddr, HasTimeout: true},
			[]nftables.SetElement{{Key: []byte{10, 77, 0, 1}, Timeout: time.Hour}}))
		must(l.t, c.Flush())
	})
}

// Tables of others stay as they are, those of another run of ours on the same
// host too.
func TestForeignTableIsUntouched(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	for _, name := range []string{"theirs", "chaos_lab2", "chaos_other"} {
		l.foreign(2, name)
	}
	before := l.listing(2)
	f := l.fleet(lease, nil)
	ev, err := f.Apply(context.Background(), "all", []nodes.Effect{cut(1, 2),
		{Kind: nodes.CutData, From: nodes.Clients, To: 2}, {Kind: nodes.Delayed, From: nodes.Clients, To: 2, Delay: 1}})
	proven(t, "faults", ev, err)
	if during := l.tables(2); !slices.Equal(during, []string{"chaos_lab", "chaos_lab2", "chaos_other", "theirs"}) {
		t.Errorf("during the faults there are the tables %v", during)
	}
	must(t, f.Close(context.Background()))
	if after := l.listing(2); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// listing is every table, chain, rule and set of a namespace as text.
func (l *lab) listing(id nodes.ID) string {
	var b strings.Builder
	l.in(l.hosts[id], func() {
		c, err := nftables.New()
		must(l.t, err)
		tables, err := c.ListTables()
		must(l.t, err)
		for _, t := range tables {
			b.WriteString("table " + t.Name + "\n")
			sets, err := c.GetSets(t)
			must(l.t, err)
			for _, s := range sets {
				elements, err := c.GetSetElements(s)
				must(l.t, err)
				fmt.Fprintf(&b, "set %s %v\n", s.Name, s.KeyType)
				for _, e := range elements {
					fmt.Fprintf(&b, "element %v %s\n", e.Key, e.Timeout)
				}
			}
		}
		chains, err := c.ListChains()
		must(l.t, err)
		for _, chain := range chains {
			b.WriteString("chain " + chain.Table.Name + " " + chain.Name + "\n")
			rules, err := c.GetRules(chain.Table, chain)
			must(l.t, err)
			for _, r := range rules {
				b.WriteString(describe(r) + "\n")
			}
		}
	})
	return b.String()
}

// A fault that somebody takes away behind our back is a lapse, found by the
// next beat or look, told, and mended.
func TestLapseIsToldAndMended(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	ev, err := f.Apply(ctx, "cut", []nodes.Effect{cut(1, 2)})
	proven(t, "cut", ev, err)
	ev, err = f.Apply(ctx, "other", []nodes.Effect{cut(2, 1)})
	proven(t, "another cut", ev, err)
	l.openBehind(1, 2)
	ev, err = f.Verify(ctx, "cut")
	must(t, err)
	if len(ev.Gaps) != 1 || ev.Proven() {
		t.Errorf("the lapse is not told: %+v", ev)
	}
	if i := await(t, "a lapse", f.Incidents()); i.Kind != "lapse" || i.Node != 2 {
		t.Errorf("got the incident %+v", i)
	}
	ev, err = f.Verify(ctx, "other")
	proven(t, "the cut that did not lapse", ev, err)
	ev, err = f.Apply(ctx, "again", []nodes.Effect{cut(1, 2)})
	proven(t, "the mended cut", ev, err)
}

// openBehind takes the kernel's element of a cut away, as its time-out does.
func (l *lab) openBehind(from, to nodes.ID) {
	l.in(l.hosts[to], func() {
		c, err := nftables.New()
		must(l.t, err)
		set := &nftables.Set{Table: &nftables.Table{Family: nftables.TableFamilyINet, Name: "chaos_lab"},
			Name: fmt.Sprintf("from_%s_v4", from), KeyType: nftables.TypeIPAddr, HasTimeout: true}
		must(l.t, c.SetDeleteElements(set, []nftables.SetElement{{Key: net.ParseIP(address(from)).To4()}}))
		must(l.t, c.Flush())
	})
}

// A change of the firewall finds a lapse, too, which it mends before any beat
// could see it.
func TestChangeFindsTheLapse(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]func(*lab){
		"an element": func(l *lab) { l.openBehind(1, 2) }, "the table": func(l *lab) { l.clearBehind(2) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3)
			f := l.fleet(time.Hour, nil) // no beat comes in between
			ctx := context.Background()
			ev, err := f.Apply(ctx, "cut", []nodes.Effect{cut(1, 2)})
			proven(t, "cut", ev, err)
			behind(l)
			ev, err = f.Apply(ctx, "more", []nodes.Effect{cut(3, 2)})
			proven(t, "another cut at the same host", ev, err)
			if i := await(t, "a lapse", f.Incidents()); i.Kind != "lapse" || i.Node != 2 || !strings.Contains(i.Detail, "n1→n2") {
				t.Errorf("got the incident %+v", i)
			}
			ev, err = f.Verify(ctx, "cut")
			must(t, err)
			if len(ev.Gaps) != 1 || len(ev.Failures()) != 1 {
				t.Errorf("the lapse is not told, or not mended: %+v", ev)
			}
			ev, err = f.Verify(ctx, "more")
			proven(t, "the cut that did not lapse", ev, err)
		})
	}
}

// clearBehind takes our whole table away, as who flushes a host's firewall does.
func (l *lab) clearBehind(id nodes.ID) {
	l.in(l.hosts[id], func() {
		c, err := nftables.New()
		must(l.t, err)
		c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "chaos_lab"})
		must(l.t, c.Flush())
	})
}

// What comes and goes beside a fault never opens it: in every state that the
// kernel's firewall passes through, our table is there.
func TestChangeOpensNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	f := l.fleet(time.Hour, nil)
	ctx := context.Background()
	ev, err := f.Apply(ctx, "cut", []nodes.Effect{cut(1, 2)})
	proven(t, "cut", ev, err)
	states := l.states(2)
	ev, err = f.Apply(ctx, "more", []nodes.Effect{cut(3, 2)})
	proven(t, "another cut at the same host", ev, err)
	ev, err = f.Revert(ctx, "more")
	proven(t, "revert", ev, err)
	for changes := 0; changes < 2; { // a beat changes only the sets
		var last nftables.MonitorEventType = -1
		for _, e := range await(t, "a new state of the firewall", states).Changes {
			if table, ok := e.Data.(*nftables.Table); ok && table.Name == "chaos_lab" {
				last = e.Type
			}
		}
		switch last {
		case nftables.MonitorEventTypeDelTable:
			t.Fatalf("change %d takes the table away before there is a new one", changes+1)
		case nftables.MonitorEventTypeNewTable:
			changes++
		}
	}
}

// states tells every state of a namespace's firewall from now on.
func (l *lab) states(id nodes.ID) (states <-chan *nftables.MonitorEvents) {
	l.in(l.hosts[id], func() {
		c, err := nftables.New()
		must(l.t, err)
		m := nftables.NewMonitor(nftables.WithMonitorEventBuffer(64))
		states, err = c.AddGenerationalMonitor(m)
		must(l.t, err)
		l.t.Cleanup(func() { m.Close() })
	})
	return states
}

// A node that somebody wakes behind our back is a lapse of what froze it, and of
// nothing else; it is found by the next beat, told, and mended.
func TestWokenNodeIsALapse(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	for name, effects := range map[string][]nodes.Effect{
		"pause": {{Kind: nodes.Frozen, Node: 2}}, "other": {{Kind: nodes.Frozen, Node: 1}}, "cut": {cut(1, 2)},
	} {
		ev, err := f.Apply(ctx, name, effects)
		proven(t, name, ev, err)
	}
	for _, pid := range children(l.agent(2).Process.Pid) {
		must(t, wake(pid))
	}
	if i := await(t, "a lapse", f.Incidents()); i.Kind != "lapse" || i.Node != 2 || !strings.Contains(i.Detail, "awake") {
		t.Errorf("got the incident %+v", i)
	}
	ev, err := f.Verify(ctx, "pause")
	must(t, err)
	if len(ev.Gaps) != 1 || len(ev.Failures()) != 1 {
		t.Errorf("the lapse is not told, or not mended: %+v", ev)
	}
	for _, name := range []string{"other", "cut"} {
		ev, err = f.Verify(ctx, name)
		proven(t, name+", which did not lapse", ev, err)
	}
}

// A late beat finds the elements gone.
func TestLateBeatFindsTheLapse(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(2*time.Second, nil)
	ctx := context.Background()
	ev, err := f.Apply(ctx, "cut", []nodes.Effect{cut(1, 2)})
	proven(t, "cut", ev, err)
	// Stopping the agent makes every beat late; its controller gives it up
	// after a whole lease at the earliest, and by then the kernel has let go.
	pid := l.agent(2).Process.Pid // a later one may take its place
	must(t, stop(pid))
	i := await(t, "the late beat", f.Incidents())
	must(t, wake(pid))
	if i.Node != 2 || (i.Kind != "agent-lost" && i.Kind != "lapse") {
		t.Errorf("got the incident %+v", i)
	}
	ev, err = f.Verify(ctx, "cut")
	must(t, err)
	if len(ev.Gaps) == 0 {
		t.Errorf("the gap is not told: %+v", ev)
	}
}
