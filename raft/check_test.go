package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"chaos/nodes/consensus"
)

// A forgery is a cluster of three whose cores are changed by hand. All have
// entries 1@1, 2@1 and 3@2, are in term 2 and voted for n1, which leads it.
type forgery struct {
	t     testing.TB
	watch *Check
	cores []*Core
}

func newForgery(t testing.TB, n int) *forgery {
	f := &forgery{t: t, watch: NewCheck(), cores: make([]*Core, n+1)}
	for id := 1; id <= n; id++ {
		f.sound(f.restart(id, nil, f.journal(2, 1, 1, 1, 2)))
	}
	f.cores[1].role, f.cores[1].leader, f.cores[1].lead.start = leader, 1, 3
	f.sound(f.step(1))
	return f
}

// journal is what a node wrote: term, vote, and entries of these terms from index 1 on.
func (f *forgery) journal(term uint64, vote consensus.ID, terms ...uint64) []Record {
	r := []Record{{Kind: Hard, Term: term, Vote: vote}}
	for i, t := range terms {
		r = append(r, Record{Kind: Entry, Entry: entry(uint64(i)+1, t)})
	}
	return r
}

func entry(index, term uint64) consensus.Entry {
	return consensus.Entry{Index: index, Term: term, Command: consensus.Command{Origin: 1, Serial: index<<8 | term, Data: []byte("x")}}
}

func (f *forgery) restart(id int, s *consensus.Snapshot, records []Record) error {
	o := consensus.Options{ID: consensus.ID(id), HeartbeatTicks: 2, ElectionTicks: 8, Rand: rand.New(rand.NewPCG(1, 1))}
	for v := 1; v < len(f.cores); v++ {
		o.Voters.Voters = append(o.Voters.Voters, consensus.ID(v))
	}
	c := New(o)
	f.cores[id] = c
	f.watch.Add(c)
	c.Restore(s, records)
	return f.watch.Started(consensus.ID(id))
}

// replace makes a node one that never had anything but a log of these terms.
func (f *forgery) replace(id int, terms ...uint64) error {
	f.watch.nodes[id] = nil
	return f.restart(id, nil, f.journal(2, 1, terms...))
}

func (f *forgery) step(id int) error  { return f.watch.Stepped(consensus.ID(id)) }
func (f *forgery) flush(id int) error { return f.watch.Flushed(consensus.ID(id)) }

// sound wants no breach in what leads to one.
func (f *forgery) sound(errs ...error) {
	f.t.Helper()
	if err := errors.Join(errs...); err != nil {
		f.t.Fatalf("the forgery is broken before it should be: %v", err)
	}
}

func (f *forgery) commit(id int, index uint64) error {
	f.cores[id].commit, f.cores[id].applied = index, index
	return f.step(id)
}

// lead makes id the leader of a term, with votes of all.
func (f *forgery) lead(id int, term uint64) error {
	for i, c := range f.cores[1:] {
		c.role, c.leader, c.term, c.vote = follower, 0, term, consensus.ID(id)
		f.sound(f.step(i + 1))
	}
	f.cores[id].role, f.cores[id].leader = leader, consensus.ID(id)
	return f.step(id)
}

func (f *forgery) append(id int, e ...consensus.Entry) error {
	f.cores[id].log.append(e...)
	return f.step(id)
}

func (f *forgery) cut(id int, from uint64, e ...consensus.Entry) error {
	f.cores[id].log.truncate(from)
	return f.append(id, e...)
}

// breaches are forged one by one; each act returns what the watch said last.
var breaches = []struct {
	invariant, how string
	act            func(f *forgery) error
}{
	{"election-safety", "two leaders of term 2", func(f *forgery) error {
		f.cores[2].role = leader
		return f.step(2)
	}},
	{"vote-quorum", "a leader whom nobody else voted for", func(f *forgery) error {
		f.cores[3].term, f.cores[3].vote, f.cores[3].role = 3, 3, leader
		return f.step(3)
	}},
	{"vote-quorum", "a vote was counted before it was durable", func(f *forgery) error {
		f.cores[2].term, f.cores[2].vote, f.cores[3].term, f.cores[3].vote = 3, 3, 3, 3
		f.sound(f.step(2), f.step(3))
		f.cores[3].role = leader
		f.sound(f.step(3))
		return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
	}},
	{"vote-quorum", "a vote for another is no vote", func(f *forgery) error {
		f.cores[2].term, f.cores[2].vote, f.cores[3].term, f.cores[3].vote = 3, 2, 3, 3
		f.sound(f.step(2))
		f.cores[3].role = leader
		return f.step(3)
	}},
	{"election-safety", "two leaders of term 2, after all was flushed", func(f *forgery) error {
		f.sound(f.flush(1), f.flush(2), f.flush(3))
		f.cores[2].role = leader
		return f.step(2)
	}},
	{"leader-append-only", "a leader drops its last entry", func(f *forgery) error { return f.cut(1, 3) }},
	{"leader-completeness", "a leader without a committed entry", func(f *forgery) error {
		f.sound(f.replace(3, 1, 1), f.commit(1, 3))
		return f.lead(3, 3)
	}},
	{"log-matching", "two commands at one index and term", func(f *forgery) error {
		e := entry(4, 2)
		f.sound(f.append(2, e))
		e.Command.Data = []byte("y")
		return f.append(3, e)
	}},
	{"log-matching", "two commands of one text, of other proposers", func(f *forgery) error {
		e := entry(4, 2)
		f.sound(f.append(2, e))
		e.Command.Origin = 2
		return f.append(3, e)
	}},
	{"log-matching", "two commands of one text, with other serials", func(f *forgery) error {
		e := entry(4, 2)
		f.sound(f.append(2, e))
		e.Command.Serial++
		return f.append(3, e)
	}},
	{"log-matching", "a filler and a command", func(f *forgery) error {
		e := entry(4, 2)
		f.sound(f.append(2, e))
		e.Kind = consensus.Noop
		return f.append(3, e)
	}},
	{"log-matching", "two commands at one index and term, where another term came first", func(f *forgery) error {
		e := entry(4, 3)
		f.sound(f.append(1, entry(4, 2)), f.append(2, e))
		e.Command.Data = []byte("y")
		return f.append(3, e)
	}},
	{"log-matching", "two predecessors of one index and term", func(f *forgery) error {
		f.sound(f.append(2, entry(4, 2), entry(5, 3)))
		return f.append(3, entry(4, 3), entry(5, 3))
	}},
	{"log-matching", "another command is read back at a start", func(f *forgery) error {
		records := f.journal(2, 1, 1, 1, 2)
		records[3].Entry.Command.Data = []byte("y")
		return f.restart(2, nil, records)
	}},
	{"log-matching", "an entry at the wrong place", func(f *forgery) error {
		f.cores[2].log.entries = append(f.cores[2].log.entries, entry(5, 2))
		return f.step(2)
	}},
	{"log-conflict", "a follower drops entries for nothing", func(f *forgery) error { return f.cut(2, 3) }},
	{"state-machine-safety", "a follower drops what it committed", func(f *forgery) error {
		f.sound(f.commit(1, 3), f.commit(2, 3))
		return f.cut(2, 3, entry(3, 3))
	}},
	{"state-machine-safety", "another entry is committed", func(f *forgery) error {
		f.sound(f.replace(3, 1, 1, 1), f.commit(1, 3))
		return f.commit(3, 3)
	}},
	{"state-machine-safety", "another entry is committed below the last, after all was flushed", func(f *forgery) error {
		f.sound(f.replace(3, 1, 2), f.commit(1, 3), f.flush(1), f.flush(2), f.flush(3))
		return f.commit(3, 2)
	}},
	{"state-machine-safety", "another entry is committed, where one node has a snapshot", func(f *forgery) error {
		f.sound(f.replace(3, 1, 2), f.commit(1, 3), f.restart(2, &consensus.Snapshot{Index: 3, Term: 2}, f.journal(2, 1)))
		f.sound(f.flush(1), f.flush(2), f.flush(3))
		return f.commit(3, 2)
	}},
	{"state-machine-safety", "more is committed than there is", func(f *forgery) error {
		f.sound(f.append(1, entry(4, 2)), f.append(3, entry(4, 2)), f.commit(1, 4))
		return f.commit(2, 4)
	}},
	{"state-machine-safety", "a snapshot of another history is found at a restart", func(f *forgery) error {
		f.sound(f.commit(1, 3))
		return f.restart(3, &consensus.Snapshot{Index: 3, Term: 1}, f.journal(2, 1))
	}},
	{"commit-monotone", "a commit index falls", func(f *forgery) error {
		f.sound(f.commit(1, 3))
		return f.commit(1, 2)
	}},
	{"commit-quorum", "a leader commits what it has alone", func(f *forgery) error {
		f.sound(f.append(1, entry(4, 2)))
		return f.commit(1, 4)
	}},
	{"commit-quorum", "a follower commits first", func(f *forgery) error { return f.commit(2, 3) }},
	{"commit-term", "a leader counts an entry of an older term", func(f *forgery) error {
		f.sound(f.lead(1, 3))
		return f.commit(1, 3)
	}},
	{"term-monotone", "a term falls", func(f *forgery) error {
		f.cores[2].term, f.cores[2].vote = 1, 0
		return f.step(2)
	}},
	{"term-monotone", "a term is forgotten in a restart", func(f *forgery) error {
		f.sound(f.flush(2))
		return f.restart(2, nil, f.journal(1, 0, 1, 1, 2))
	}},
	{"vote-once", "a vote changes", func(f *forgery) error {
		f.cores[2].vote = 2
		return f.step(2)
	}},
	{"vote-once", "a vote is forgotten in a restart", func(f *forgery) error {
		f.sound(f.flush(2))
		return f.restart(2, nil, f.journal(2, 0, 1, 1, 2))
	}},
	{"durable-log", "an entry is forgotten in a restart", func(f *forgery) error {
		f.sound(f.append(2, entry(4, 2)), f.flush(2))
		return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
	}},
	{"durable-log", "an entry was counted before it was durable", func(f *forgery) error {
		f.sound(f.append(1, entry(4, 2)), f.append(2, entry(4, 2)), f.commit(1, 4))
		return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
	}},
	{"durable-log", "a snapshot is forgotten in a restart", func(f *forgery) error {
		f.sound(f.restart(2, &consensus.Snapshot{Index: 2, Term: 1}, f.journal(2, 1, 1, 1, 2)), f.flush(2))
		return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
	}},
	{"durable-log", "a log begins earlier than it did", func(f *forgery) error {
		f.sound(f.restart(2, &consensus.Snapshot{Index: 2, Term: 1}, f.journal(2, 1, 1, 1, 2)))
		l := &f.cores[2].log
		l.base, l.entries = 1, []consensus.Entry{entry(2, 1), entry(3, 2)}
		return f.step(2)
	}},
	{"durable-log", "what a start read back and synced is forgotten in the next", func(f *forgery) error {
		f.sound(f.append(2, entry(4, 2)), f.restart(2, nil, f.journal(2, 1, 1, 1, 2, 2)), f.flush(2))
		return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
	}},
	{"durable-log", "an entry that was durable is forgotten in the second of two restarts", func(f *forgery) error {
		f.sound(f.append(2, entry(4, 2)), f.flush(2), f.restart(2, nil, f.journal(2, 1, 1, 1, 2, 2)))
		return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
	}},
	{"read-names-unique", "two incarnations count the names of their reads from the same number", func(f *forgery) error {
		journal := f.journal(2, 1, 1, 1, 2)
		f.sound(f.restart(2, nil, journal))
		f.cores[2].reads.id++
		f.cores[2].reads.waiting = []reader{{2, 7}}
		f.sound(f.step(2), f.restart(2, nil, journal))
		f.cores[2].reads.id++
		f.cores[2].reads.waiting = []reader{{2, 8}}
		return f.step(2)
	}},
	{"read-index", "a deposed leader confirms a read at what it knows", func(f *forgery) error {
		f.stale()
		r := &f.cores[1].reads
		r.round, r.index = 1, f.cores[1].commit
		r.underway = []reader{{1, 7}}
		f.sound(f.step(1))
		r.underway = nil
		return f.step(1)
	}},
	{"read-index", "a deposed leader answers a read in the same step", func(f *forgery) error {
		f.stale()
		f.cores[1].reads.round, f.cores[1].reads.index = 1, f.cores[1].commit
		return f.step(1)
	}},
	{"read-index", "a new leader confirms a read of before at less than was committed", func(f *forgery) error {
		r := &f.cores[3].reads
		r.round, r.index, r.underway = 1, 2, []reader{{3, 7}}
		f.sound(f.commit(1, 3), f.lead(3, 3))
		r.underway = nil
		return f.step(3)
	}},
	{"read-index", "a read joins a round that began before it", func(f *forgery) error {
		r := &f.cores[1].reads
		r.round, r.underway = 1, []reader{{1, 7}}
		f.sound(f.step(1), f.commit(1, 3))
		r.underway = append(r.underway, reader{1, 8})
		f.sound(f.step(1))
		r.underway = nil
		return f.step(1)
	}},
	{"read-index", "a read that waited for a round is confirmed by one, at an entry less than was committed", func(f *forgery) error {
		r := &f.cores[1].reads
		r.round, r.underway = 1, []reader{{1, 7}}
		f.sound(f.step(1), f.commit(1, 3))
		r.waiting = []reader{{1, 8}}
		f.sound(f.step(1))
		r.round, r.index, r.underway, r.waiting = 2, 2, r.waiting, nil
		f.sound(f.step(1))
		r.underway = nil
		return f.step(1)
	}},
}

// stale lets n2 lead term 3 and commit, while n1 still believes that it leads term 2.
func (f *forgery) stale() {
	for id := 2; id <= 3; id++ {
		f.cores[id].term, f.cores[id].vote = 3, 2
		f.sound(f.step(id))
	}
	f.cores[2].role = leader
	f.sound(f.append(2, entry(4, 3)), f.append(3, entry(4, 3)), f.commit(2, 4))
}

// TestBreaches forges every breach that a Check knows, and wants it named.
func TestBreaches(t *testing.T) {
	for _, b := range breaches {
		t.Run(b.invariant+", "+b.how, func(t *testing.T) {
			var got *consensus.Breach
			if err := b.act(newForgery(t, 3)); !errors.As(err, &got) || got.Invariant != b.invariant {
				t.Errorf("the watch says: %v", err)
			} else {
				t.Log(err)
			}
		})
	}
}

// TestCrashesAreNoBreaches: what nobody was told may be lost, or kept.
func TestCrashesAreNoBreaches(t *testing.T) {
	for how, act := range map[string]func(f *forgery) error{
		"entries that were not durable are gone": func(f *forgery) error {
			f.sound(f.append(2, entry(4, 2)))
			return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
		},
		"entries that were not flushed are there": func(f *forgery) error {
			f.sound(f.append(2, entry(4, 2), entry(5, 2)))
			return f.restart(2, nil, f.journal(2, 1, 1, 1, 2, 2))
		},
		"what a start read back is gone, as the start had not synced it": func(f *forgery) error {
			f.sound(f.append(2, entry(4, 2)), f.restart(2, nil, f.journal(2, 1, 1, 1, 2, 2)))
			return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
		},
		"a term that was not durable is gone": func(f *forgery) error {
			f.cores[2].term, f.cores[2].vote = 3, 2
			f.sound(f.step(2), f.restart(2, nil, f.journal(2, 1, 1, 1, 2)))
			f.cores[2].term, f.cores[2].vote = 3, 3
			return f.step(2)
		},
		"a log was cut, and the crash takes it back": func(f *forgery) error {
			f.sound(f.flush(2), f.cut(2, 3, entry(3, 3)))
			return f.restart(2, nil, f.journal(2, 1, 1, 1, 2))
		},
		"a log was cut, and the crash keeps half of what came instead": func(f *forgery) error {
			f.sound(f.flush(2), f.cut(2, 2, entry(2, 3), entry(3, 3)))
			return f.restart(2, nil, f.journal(2, 1, 1, 3))
		},
		"a snapshot took the place of the log": func(f *forgery) error {
			f.sound(f.flush(2), f.commit(1, 3))
			return f.restart(2, &consensus.Snapshot{Index: 3, Term: 2}, f.journal(2, 1))
		},
	} {
		t.Run(how, func(t *testing.T) {
			if err := act(newForgery(t, 3)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCheckForgets: what every node has in a snapshot is forgotten.
func TestCheckForgets(t *testing.T) {
	c := elected(t, 3)
	for round := range uint64(40) {
		for i := range uint64(50) {
			c.do(c.hosts[0], func(core *Core) output {
				return core.Propose(consensus.Command{Origin: 1, Serial: round<<8 | i, Data: []byte("x")})
			})
			c.drain()
		}
		for range 20 { // so that nobody is too far behind for the leader to forget
			for _, h := range c.hosts {
				c.do(h, (*Core).Tick)
			}
			c.drain()
		}
		for _, h := range c.hosts {
			c.compact(h, h.applied)
			c.do(h, (*Core).Tick)
		}
	}
	if n := len(c.watch.past.places); n > 250 {
		t.Errorf("%d places are remembered of %d entries", n, c.watch.past.last)
	}
}

// TestMoments: names are there once each, in a fixed order.
func TestMoments(t *testing.T) {
	seen := map[string]bool{}
	for i, m := range NewCheck().Moments() {
		if m.Name == "" || seen[m.Name] || m.Name != momentNames[i] {
			t.Errorf("moment %d is named %q", i, m.Name)
		}
		seen[m.Name] = true
	}
}

// TestMomentsCount: a moment counts in its situation, and in none that is like it.
func TestMomentsCount(t *testing.T) {
	stand := func(f *forgery, ids ...int) { // in term 3, in vain
		for _, id := range ids {
			f.cores[id].term, f.cores[id].vote, f.cores[id].role, f.cores[id].leader = 3, consensus.ID(id), candidate, 0
			f.sound(f.step(id))
		}
		f.cores[ids[0]].role = follower
		f.sound(f.step(ids[0]))
	}
	snapshot := func(f *forgery, id int, rest ...consensus.Entry) { // of all three entries
		f.sound(f.commit(1, 3))
		c := f.cores[id]
		c.snapshot = &consensus.Snapshot{Index: 3, Term: 2}
		c.log.base, c.log.baseTerm, c.log.entries = 3, 2, rest
		f.sound(f.commit(id, 3))
	}
	for name, c := range map[string]struct {
		act  func(f *forgery)
		want map[moment]uint64 // those of some interest
	}{
		"one stands alone":     {func(f *forgery) { stand(f, 3) }, map[moment]uint64{splitVote: 0}},
		"two stand":            {func(f *forgery) { stand(f, 3, 2) }, map[moment]uint64{splitVote: 1}},
		"one leader":           {func(f *forgery) { f.sound(f.append(1, entry(4, 2)), f.append(1, entry(5, 2))) }, map[moment]uint64{twoLeaders: 0}},
		"two leaders for long": {func(f *forgery) { f.stale(); f.sound(f.append(1, entry(4, 2)), f.append(1, entry(5, 2))) }, map[moment]uint64{twoLeaders: 1}},
		"a log is cut":         {func(f *forgery) { f.sound(f.cut(2, 3, entry(3, 3))) }, map[moment]uint64{truncated: 1, installed: 0}},
		"a snapshot over less": {func(f *forgery) { snapshot(f, 3) }, map[moment]uint64{truncated: 0, installed: 1, installedOver: 0, installedKeeping: 0}},
		"a snapshot below entries that stay": {func(f *forgery) {
			f.sound(f.append(3, entry(4, 2)))
			snapshot(f, 3, entry(4, 2))
		}, map[moment]uint64{truncated: 0, installed: 1, installedOver: 0, installedKeeping: 1}},
		"a snapshot over a conflicting log": {func(f *forgery) {
			f.sound(f.replace(3, 1, 1, 1, 1))
			snapshot(f, 3)
		}, map[moment]uint64{truncated: 0, installed: 1, installedOver: 1, installedKeeping: 0}},
	} {
		f := newForgery(t, 3)
		c.act(f)
		for m, want := range c.want {
			if got := f.watch.moments[m]; got != want {
				t.Errorf("%s: %q counts %d times, want %d", name, momentNames[m], got, want)
			}
		}
	}
}

// BenchmarkStepped: what a Check costs a step, when nothing changed and in the
// traffic of proposals of the package's other benchmark (a fifth of the steps
// proposes, the others deliver).
func BenchmarkStepped(b *testing.B) {
	b.Run("quiet", func(b *testing.B) {
		f := newForgery(b, 5)
		b.ReportAllocs()
		for b.Loop() {
			f.watch.Stepped(2)
		}
	})
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprint("load watched=", watched), func(b *testing.B) { benchmarkWatched(b, watched) })
	}
}

// benchmarkWatched counts in operations of one step each.
func benchmarkWatched(b *testing.B, watched bool) {
	f := newForgery(b, 5)
	data, wire := make([]byte, 64), []envelope(nil)
	fed := func(id consensus.ID, o output) {
		wire = append(append(wire, o.Early...), o.Messages...)
		if watched {
			if f.watch.Stepped(id) != nil || f.watch.Flushed(id) != nil {
				b.Fatal("a breach")
			}
		}
	}
	f.cores[1].becomeLeader()
	fed(1, f.cores[1].take())
	b.ReportAllocs()
	for n := 0; n < b.N; n++ {
		if len(wire) == 0 {
			fed(1, f.cores[1].Propose(consensus.Command{Origin: 1, Serial: uint64(n), Data: data}))
			continue
		}
		e := wire[0]
		if wire = wire[1:]; len(wire) == 0 {
			wire = nil
		}
		fed(e.To, f.cores[e.To].Receive(e))
		if c := f.cores[e.To]; c.applied-c.log.base > 10000 {
			c.Compact(consensus.Snapshot{Index: c.applied, Term: c.log.mustTerm(c.applied)})
		}
	}
	if c := f.cores[1].commit; c < uint64(b.N)/30 {
		b.Errorf("%d steps committed %d entries", b.N, c)
	}
}
