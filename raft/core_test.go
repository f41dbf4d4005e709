package raft

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"chaos/nodes/consensus"
)

// TestLogIsNotOverwritten: what was handed out stays as it was, whatever
// happens to the log behind it.
func TestLogIsNotOverwritten(t *testing.T) {
	var l raftLog
	for i := range uint64(9) {
		l.append(consensus.Entry{Index: i + 1, Term: 1})
	}
	all := l.from(1, 9)
	before := slices.Clone(all)
	l.truncate(4)
	l.append(consensus.Entry{Index: 4, Term: 2}, consensus.Entry{Index: 5, Term: 2})
	tail := l.from(4, 5)
	l.compact(3)
	l.append(consensus.Entry{Index: 6, Term: 2})
	for i, e := range all {
		if e.Term != before[i].Term {
			t.Errorf("entry %d that was handed out has now term %d", e.Index, e.Term)
		}
	}
	if tail[0].Term != 2 || l.first() != 4 || l.last() != 6 || !l.matches(3, 1) {
		t.Errorf("the log is %+v", l)
	}
}

// TestTermsInLog checks the two searches behind conflict hints.
func TestTermsInLog(t *testing.T) {
	l := raftLog{base: 2, baseTerm: 1}
	for i, term := range []uint64{1, 1, 4, 4, 4, 6} {
		l.append(consensus.Entry{Index: uint64(i) + 3, Term: term})
	}
	for _, c := range []struct{ term, limit, want uint64 }{
		{4, 8, 7}, {4, 6, 6}, {4, 4, 0}, {1, 8, 4}, {5, 8, 0}, {6, 8, 8}, {7, 8, 0}, {0, 8, 0},
	} {
		if got := l.lastOfTerm(c.term, c.limit); got != c.want {
			t.Errorf("the last of term %d up to %d is %d, got %d", c.term, c.limit, c.want, got)
		}
	}
	if a, b := l.firstOfTerm(7), l.firstOfTerm(4); a != 5 || b != 3 {
		t.Errorf("the first of terms 4 and 1 are 5 and 3, got %d and %d", a, b)
	}
}

// elected is a cluster whose first host leads and has committed its no-op.
func elected(t testing.TB, n int) *cluster {
	o := consensus.Options{HeartbeatTicks: 3, ElectionTicks: 20, MaxInflight: 1 << 14, MaxBatchBytes: 1 << 16,
		Bootstrap: true, Rand: rand.New(rand.NewPCG(1, 1))}
	c := newCluster(n, o, func(what string) { t.Fatal(what) })
	c.do(c.hosts[0], (*Core).Tick)
	c.drain()
	if c.hosts[0].applied != 1 {
		t.Fatal("nobody was elected")
	}
	return c
}

func (c *cluster) drain() {
	for len(c.wire) > 0 {
		e := c.wire[0]
		c.wire = c.wire[1:]
		c.deliver(e)
	}
}

// TestMerge: many proposals gathered become one append for each follower, which
// carries the newest commit index and round of reads.
func TestMerge(t *testing.T) {
	c := elected(t, 3)
	h := c.hosts[0]
	var all output
	for i := range uint64(50) {
		all.Append(c.step(h, func(core *Core) output { return core.Propose(consensus.Command{Origin: 1, Serial: i}) }))
	}
	c.check.asked(h, 7)
	all.Append(c.step(h, func(core *Core) output { return core.Read(7) }))
	h.core.Merge(&all)
	if len(all.Early) != 2 || len(all.Early[0].Message.Entries) != 50 || all.Early[1].Message.Round != 1 || len(all.Records) != 50 {
		t.Fatalf("%d early messages, the first with %d entries: %v", len(all.Early), len(all.Early[0].Message.Entries), all.Early)
	}
	c.flush(h, all, never, 0)
	c.drain()
	for _, h := range c.hosts {
		if h.applied != 51 {
			t.Errorf("%s applied %d of 51", h.id, h.applied)
		}
	}
}

// TestBounds: what waits is bounded, and what is refused leaves nothing behind.
func TestBounds(t *testing.T) {
	c := elected(t, 3)
	f := c.hosts[1].core
	rejected := 0
	for key := range uint64(readsMax + 5) {
		rejected += len(f.Read(key).Rejected)
	}
	if rejected != 5 {
		t.Errorf("%d of 5 reads too many were refused", rejected)
	}
	for range 2 * 2 * 20 {
		for _, r := range f.Tick().Rejected {
			if r.Read {
				rejected++
			}
		}
	}
	if rejected != readsMax+5 || len(f.reads.waiting)+len(f.reads.underway) != 0 {
		t.Errorf("%d reads were refused in the end, %d still wait", rejected, len(f.reads.waiting)+len(f.reads.underway))
	}
}

// BenchmarkProposals counts steps: five nodes, proposals gathered by the size
// given, every message delivered. It reports steps a second over all nodes.
func BenchmarkProposals(b *testing.B) {
	for _, gather := range []int{1, 16, 256} {
		b.Run(fmt.Sprint("gathered", gather), func(b *testing.B) { benchmark(b, gather) })
	}
}

func benchmark(b *testing.B, gather int) {
	o := consensus.Options{HeartbeatTicks: 3, ElectionTicks: 20, MaxInflight: 1 << 14, MaxBatchBytes: 1 << 18, Bootstrap: true}
	var cores []*Core
	for id := consensus.ID(1); id <= 5; id++ {
		o.Voters.Voters = append(o.Voters.Voters, id)
	}
	for _, id := range o.Voters.Voters {
		o.ID, o.Rand = id, rand.New(rand.NewPCG(uint64(id), 1))
		c := New(o)
		c.Restore(nil, nil)
		cores = append(cores, c)
	}
	steps, data := 0, make([]byte, 64)
	var wire []envelope
	run := func(o output) {
		wire = append(append(wire, o.Early...), o.Messages...)
		for i := 0; i < len(wire); i++ {
			steps++
			o := cores[wire[i].To-1].Receive(wire[i])
			wire = append(append(wire, o.Early...), o.Messages...)
		}
		wire = wire[:0]
	}
	run(cores[0].Tick())
	b.ReportAllocs()
	for n := 0; n < b.N; n += gather {
		var all output
		for i := range gather {
			all.Append(cores[0].Propose(consensus.Command{Origin: 1, Serial: uint64(n + i), Data: data}))
			steps++
		}
		cores[0].Merge(&all)
		run(all)
		if c := cores[0]; c.applied-c.log.base > 10000 {
			for _, c := range cores {
				c.Compact(consensus.Snapshot{Index: c.applied, Term: c.log.mustTerm(c.applied)})
			}
		}
	}
	b.ReportMetric(float64(steps)/b.Elapsed().Seconds(), "steps/s")
}
