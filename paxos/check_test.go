package paxos

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"chaos/nodes/consensus"
)

// A forgery is a cluster whose cores are tampered with.
type forgery struct {
	*cluster
	t *testing.T
}

// newForgery is a cluster of three in which n1 proposed and one slot is decided
// everywhere, with promise 1.n1.
func newForgery(t *testing.T, mode Mode) *forgery {
	cl := newCluster(3, mode, 3)
	cl.tickAll()
	cl.deliverAll()
	cl.step(cl.at(1), func(c *Core) Output { return c.Propose(consensus.Command{Origin: 1, Serial: 1}) })
	for range 10 {
		cl.deliverAll()
		cl.tickAll()
	}
	for _, r := range cl.replicas {
		if r.core.learner.mark != 1 || cl.failure != "" {
			t.Fatalf("%s decided %d slots; %s", r.id, r.core.learner.mark, cl.failure)
		}
	}
	return &forgery{cl, t}
}

func (f *forgery) core(id consensus.ID) *Core { return f.at(id).core }

// command is a batch of one.
func command(serial uint64) []consensus.Command {
	return []consensus.Command{{Origin: 1, Serial: serial}}
}

// accept makes an acceptance up, durable or not.
func (f *forgery) accept(id consensus.ID, slot uint64, b Ballot, commands []consensus.Command, durable bool) error {
	a := &f.core(id).acceptor
	*a.accepted.extend(slot) = Proposal{Slot: slot, Ballot: b, Commands: commands}
	a.promised = highest(a.promised, b)
	a.touched.at(slot)
	if err := f.watch.Stepped(id); err != nil || !durable {
		return err
	}
	return f.watch.Flushed(id)
}

// learn makes a decision up.
func (f *forgery) learn(id consensus.ID, slot uint64, commands []consensus.Command) error {
	l := &f.core(id).learner
	*l.decided.extend(slot) = decision{known: true, commands: commands}
	l.advance(nil)
	l.touched.at(slot)
	return f.watch.Stepped(id)
}

// restart has a node restart with what is left of its journal.
func (f *forgery) restart(id consensus.ID, keep func(Record) bool) error {
	r := f.at(id)
	r.journal = slices.DeleteFunc(r.journal, func(record Record) bool { return !keep(record) })
	f.start(r)
	return f.breach
}

var (
	high   = Ballot{5000, 2} // above what any test proposes by itself
	higher = Ballot{6000, 3}
)

// breaches are ways to break each invariant; the last error must name it.
var breaches = []struct {
	invariant string
	forge     func(f *forgery) error
}{
	{promiseMonotone, func(f *forgery) error {
		f.core(2).acceptor.promised = Ballot{}
		return f.watch.Stepped(2)
	}},
	{promiseMonotone, func(f *forgery) error {
		return f.restart(2, func(r Record) bool { return false })
	}},
	{questionsUnique, func(f *forgery) error {
		f.step(f.at(2), func(c *Core) Output { return c.Read(1) })
		if err := f.restart(2, func(Record) bool { return true }); err != nil {
			return err
		}
		return f.restart(2, func(r Record) bool { return r.Kind != RecordLife })
	}},
	{questionsUnique, func(f *forgery) error { // who heard of the first may answer the second
		ask := func() { f.step(f.at(2), func(c *Core) Output { return c.Read(1) }) }
		ask()
		if err := f.restart(2, func(Record) bool { return true }); err != nil {
			return err
		}
		f.core(2).leadership.leader = 1
		f.core(2).reader.life-- // forgotten behind the restart
		ask()
		return f.breach
	}},
	{ballotsUnique, func(f *forgery) error {
		f.core(2).proposer.ballot = Ballot{7, 3}
		return f.watch.Stepped(2)
	}},
	{ballotsUnique, func(f *forgery) error {
		for _, round := range []uint64{9000, 9001, 9000} {
			f.core(2).proposer.ballot = Ballot{round, 2}
			if err := f.watch.Stepped(2); err != nil {
				return err
			}
		}
		return nil
	}},
	{ballotsUnique, func(f *forgery) error { // n3 heard of it before n2 crashed
		f.core(3).acceptor.promised = high
		if err := f.watch.Stepped(3); err != nil {
			return err
		}
		f.start(f.at(2))
		f.core(2).proposer.ballot = high
		return f.watch.Stepped(2)
	}},
	{ballotsUnique, func(f *forgery) error { // others may have heard of it when all was carried out
		f.core(2).proposer.ballot = Ballot{9000, 2}
		if err := f.watch.Flushed(2); err != nil {
			return err
		}
		f.start(f.at(2))
		f.core(2).proposer.ballot = Ballot{9000, 2}
		return f.watch.Stepped(2)
	}},
	{acceptAbove, func(f *forgery) error {
		f.core(2).acceptor.promised = high
		if err := f.watch.Stepped(2); err != nil {
			return err
		}
		return f.accept(2, 2, Ballot{4999, 1}, nil, false)
	}},
	{acceptAbove, func(f *forgery) error {
		a := &f.core(2).acceptor
		*a.accepted.extend(2) = Proposal{Slot: 2, Ballot: high}
		a.touched.at(2)
		return f.watch.Stepped(2)
	}},
	{acceptedKept, func(f *forgery) error {
		return f.restart(2, func(r Record) bool { return r.Kind == RecordPromised })
	}},
	{oneValuePerBallot, func(f *forgery) error {
		return errors.Join(f.accept(2, 2, high, command(7), false), f.accept(3, 2, high, command(8), false))
	}},
	{oneValueChosen, func(f *forgery) error { // a learner knew 7 before 8 was chosen
		err := errors.Join(f.accept(1, 2, high, command(7), false), f.accept(2, 2, high, command(7), false), f.learn(3, 2, command(7)))
		return errors.Join(err, f.accept(2, 2, higher, command(8), true), f.accept(3, 2, higher, command(8), true))
	}},
	{valueChoice, func(f *forgery) error {
		return errors.Join(f.accept(2, 2, high, command(7), true), f.accept(3, 2, high, command(7), true),
			f.accept(3, 2, higher, command(8), false))
	}},
	{valueChoice, func(f *forgery) error { // chosen after the higher ballot proposed
		return errors.Join(f.accept(2, 2, high, command(7), true), f.accept(3, 2, higher, command(8), true),
			f.accept(1, 2, high, command(7), true))
	}},
	{decidedIsChosen, func(f *forgery) error {
		return errors.Join(f.accept(2, 2, high, command(7), true), f.accept(3, 2, higher, command(7), true), f.learn(1, 2, command(7)))
	}},
	{decidedIsChosen, func(f *forgery) error { // a learner was told what n1 then lost
		err := errors.Join(f.accept(1, 2, high, command(7), false), f.accept(2, 2, high, command(7), true), f.learn(3, 2, command(7)))
		f.start(f.at(1))
		return errors.Join(err, f.breach)
	}},
	{decidedStable, func(f *forgery) error { return f.learn(2, 1, command(9)) }},
	{decidedStable, func(f *forgery) error {
		f.core(2).learner.mark++
		return f.watch.Stepped(2)
	}},
	{decidedIsChosen, func(f *forgery) error { // the second of two slots that one step decides
		l := &f.core(2).learner
		for slot := uint64(2); slot <= 3; slot++ {
			*l.decided.extend(slot) = decision{known: true, commands: command(slot)}
			l.touched.at(slot)
		}
		l.advance(nil)
		return errors.Join(f.accept(1, 2, high, command(2), true), f.accept(3, 2, high, command(2), true), f.watch.Stepped(2))
	}},
	{decidedStable, func(f *forgery) error { // of a slot that one node has a checkpoint of
		err := errors.Join(f.accept(1, 2, high, command(7), true), f.accept(2, 2, high, command(7), true), f.learn(1, 2, command(7)))
		f.core(1).checkpoint.snapshot = consensus.Snapshot{Term: 1, Index: 1}
		return errors.Join(err, f.watch.Flushed(1), f.watch.Flushed(2), f.learn(3, 1, command(9)))
	}},
	{decidedStable, func(f *forgery) error { // as many slots, and fewer commands
		err := errors.Join(f.accept(1, 2, high, command(7), true), f.accept(2, 2, high, command(7), true))
		l := &f.core(3).learner
		*l.decided.extend(2) = decision{known: true, commands: command(7)}
		l.touched.at(2)
		l.mark = 2
		return errors.Join(err, f.watch.Stepped(3))
	}},
	{decidedStable, func(f *forgery) error { // read back at a start
		r := f.at(2)
		r.journal = append([]Record{{Kind: RecordLearned, Slot: 1, Commands: command(9)}}, r.journal...)
		return f.restart(2, func(Record) bool { return true })
	}},
	{checkpointCovers, func(f *forgery) error { // found at a start
		f.at(2).snapshot = &consensus.Snapshot{Term: 1, Index: 5, Voters: f.core(2).voters, Data: []byte{0}}
		return f.restart(2, func(Record) bool { return true })
	}},
	{commitMonotone, func(f *forgery) error {
		f.core(2).learner.mark--
		return f.watch.Stepped(2)
	}},
	{commitMonotone, func(f *forgery) error {
		f.core(2).learner.index--
		return f.watch.Stepped(2)
	}},
	{checkpointCovers, func(f *forgery) error {
		c := f.core(2)
		c.checkpoint.snapshot.Term = 4
		c.acceptor.accepted.dropBelow(5)
		return f.watch.Stepped(2)
	}},
	{checkpointCovers, func(f *forgery) error { // more commands than there were in its slots
		f.core(2).checkpoint.snapshot = consensus.Snapshot{Term: 1, Index: 2}
		return f.watch.Stepped(2)
	}},
	{checkpointCovers, func(f *forgery) error {
		f.core(2).acceptor.accepted.dropBelow(3)
		return f.watch.Stepped(2)
	}},
}

// TestBreaches forges each breach in both modes and sees it named.
func TestBreaches(t *testing.T) {
	for _, mode := range []Mode{Multi, Classic} {
		for i, b := range breaches {
			err := b.forge(newForgery(t, mode))
			var breach *consensus.Breach
			if !errors.As(err, &breach) || breach.Invariant != b.invariant {
				t.Errorf("mode %d, forgery %d: %v; want %s", mode, i, err, b.invariant)
			}
		}
	}
}

// TestReservedBallots: a ballot that was reserved may be heard of before its step
// is carried out, in Classic mode; any other can't, and may be used again.
func TestReservedBallots(t *testing.T) {
	for _, c := range []struct {
		mode     Mode
		reserved uint64
		breaks   bool
	}{{Classic, 9000, true}, {Classic, 8999, false}, {Multi, 9000, false}} {
		f := newForgery(t, c.mode)
		f.core(2).contention.reserved = c.reserved
		f.core(2).proposer.ballot = Ballot{9000, 2}
		if err := f.watch.Stepped(2); err != nil {
			t.Fatal(err)
		}
		f.start(f.at(2))
		f.core(2).proposer.ballot = Ballot{9000, 2}
		if err := f.watch.Stepped(2); (err != nil) != c.breaks {
			t.Errorf("mode %d, reserved up to %d: %v", c.mode, c.reserved, err)
		}
	}
}

// TestMomentsCount: a moment counts in its situation, and in none that is like it.
func TestMomentsCount(t *testing.T) {
	take := func(f *forgery, id consensus.ID, round uint64, promised Ballot, p phase) {
		c := f.core(id)
		c.acceptor.promised = highest(c.acceptor.promised, promised)
		c.proposer.ballot, c.proposer.phase = Ballot{round, id}, p
		f.judge(f.watch.Stepped(id))
	}
	choose := func(f *forgery, commands []consensus.Command) { // in slot 2, by n2
		f.judge(errors.Join(f.accept(2, 2, high, commands, true), f.accept(3, 2, high, commands, true)))
	}
	for name, c := range map[string]struct {
		act  func(f *forgery)
		want map[moment]uint64 // those of some interest
	}{
		"a value": {func(f *forgery) { choose(f, command(7)) }, map[moment]uint64{gapFilled: 0}},
		"a no-op": {func(f *forgery) { choose(f, nil) }, map[moment]uint64{gapFilled: 1}},
		"preempted": {func(f *forgery) {
			take(f, 2, 5000, Ballot{}, preparing)
			take(f, 3, 5001, Ballot{}, preparing)
			take(f, 2, 5002, Ballot{5001, 3}, preparing)
		}, map[moment]uint64{preemptedInPhase1: 1, duel: 0}},
		"preempted by turns": {func(f *forgery) {
			take(f, 2, 5000, Ballot{}, preparing)
			take(f, 3, 5001, Ballot{}, preparing)
			take(f, 2, 5002, Ballot{5001, 3}, preparing)
			take(f, 3, 5003, Ballot{5002, 2}, preparing)
		}, map[moment]uint64{preemptedInPhase1: 2, duel: 1}},
		"one in phase 2": {func(f *forgery) {
			take(f, 2, 5000, Ballot{}, proposing)
			take(f, 3, 4000, Ballot{}, preparing)
			take(f, 2, 5000, Ballot{5000, 3}, proposing)
		}, map[moment]uint64{twoInPhase2: 0}},
		"two in phase 2": {func(f *forgery) {
			f.core(1).proposer.phase = idle
			f.judge(f.watch.Stepped(1))
			take(f, 2, 5000, Ballot{}, proposing)
			take(f, 3, 5001, Ballot{}, proposing)
			take(f, 2, 5000, Ballot{5000, 3}, proposing)
			take(f, 2, 5000, Ballot{5001, 3}, proposing)
		}, map[moment]uint64{twoInPhase2: 1}},
		"the proposer of a chosen value restarts": {func(f *forgery) { choose(f, command(7)); f.start(f.at(2)) }, map[moment]uint64{lostChosen: 1}},
		"another one does":                        {func(f *forgery) { choose(f, command(7)); f.start(f.at(3)) }, map[moment]uint64{lostChosen: 0}},
		"it does when that was learned": {func(f *forgery) {
			choose(f, command(7))
			f.judge(f.learn(1, 2, command(7)))
			f.start(f.at(2))
		}, map[moment]uint64{lostChosen: 0}},
	} {
		f := newForgery(t, Multi)
		before := f.watch.seen
		c.act(f)
		for m, want := range c.want {
			if got := f.watch.seen[m] - before[m]; got != want {
				t.Errorf("%s: %q counts %d times, want %d", name, momentKinds[m].name, got, want)
			}
		}
	}
}

// TestNotYetDurable has acceptances be lost that were never durable, or become
// durable unseen: neither is a breach, and what was lost chooses nothing.
func TestNotYetDurable(t *testing.T) {
	f := newForgery(t, Multi)
	if err := errors.Join(f.accept(2, 2, high, command(7), false), f.accept(3, 2, high, command(7), false)); err != nil {
		t.Fatal(err)
	}
	all := func(Record) bool { return true }
	if err := f.restart(2, all); err != nil {
		t.Fatal(err)
	}
	f.at(3).journal = append(f.at(3).journal, Record{Kind: RecordAccepted, Slot: 2, Ballot: high, Commands: command(7)})
	if err := errors.Join(f.restart(3, all), f.watch.Flushed(3)); err != nil {
		t.Fatal(err)
	}
	if h := f.watch.history(2); h.once.sure != 1<<2 || h.once.maybe != 1<<2 {
		t.Fatalf("%b may have accepted and %b did; want n3 alone", h.once.maybe, h.once.sure)
	}
	if err := errors.Join(f.accept(2, 2, higher, command(8), true), f.accept(1, 2, higher, command(8), true), f.learn(1, 2, command(8))); err != nil {
		t.Error(err)
	}
}

// TestBroughtBackNotYetDurable restarts a node that was killed between write and
// sync: it reads what the system remembers, but power loss may still take that
// until its first output is carried out. Nothing is broken then, and is after that.
func TestBroughtBackNotYetDurable(t *testing.T) {
	for _, carriedOut := range []bool{false, true} {
		f := newForgery(t, Multi)
		r := f.at(2)
		before := slices.Clone(r.journal)
		r.journal = append(r.journal, Record{Kind: RecordAccepted, Ballot: high, Slot: 2, Commands: command(2)})
		f.start(r)
		if f.breach != nil {
			t.Fatal(f.breach)
		}
		if carriedOut {
			f.judge(f.watch.Flushed(2))
		}
		r.journal = before
		f.start(r)
		if (f.breach != nil) != carriedOut {
			t.Errorf("first output carried out: %v; breach: %v", carriedOut, f.breach)
		}
	}
}

// TestOneVoter loses decided values of a cluster of one before they are durable.
func TestOneVoter(t *testing.T) {
	for _, mode := range []Mode{Multi, Classic} {
		cl := newCluster(1, mode, 1)
		for serial := range uint64(50) {
			cl.tickAll()
			r := cl.at(1)
			o := r.core.Propose(consensus.Command{Origin: 1, Serial: serial + 1})
			cl.perform(r, o, stage(serial%uint64(wholly)), 0)
			cl.start(r)
		}
		if cl.breach != nil {
			t.Errorf("mode %d: %v", mode, cl.breach)
		}
	}
}

// TestCheckForgets compacts all nodes again and again: the check remembers only
// what lies above.
func TestCheckForgets(t *testing.T) {
	cl := newCluster(3, Multi, 1)
	cl.tickAll()
	for serial := uint64(1); serial <= 2000; serial++ {
		cl.step(cl.at(1), func(c *Core) Output { return c.Propose(consensus.Command{Origin: 1, Serial: serial}) })
		cl.deliverAll()
		if serial%100 == 0 {
			for _, r := range cl.replicas {
				cl.compact(r)
			}
			cl.tickAll()
		}
	}
	k := cl.watch
	if n := len(k.slots.items); cl.failure != "" || k.mark < 1990 || n > 250 || len(k.node(2).accepted.items) > 250 {
		t.Errorf("%d slots remembered of %d; %s", n, k.mark, cl.failure)
	}
}

// TestMomentOfAnotherPeer plays the scenario of a moment that storms rarely
// reach, and insists that each mode lists its own moments only.
func TestMomentOfAnotherPeer(t *testing.T) {
	text, err := os.ReadFile("testdata/checkpoint-of-another-peer.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, watch := playFile(t, string(text))
	if watch.seen[checkpointOfAnother] == 0 {
		t.Error("not seen")
	}
	for _, m := range watch.Moments() {
		if m.Name == momentKinds[leapt].name {
			t.Errorf("Multi can't reach %q", m.Name)
		}
	}
	for i, kind := range momentKinds {
		if kind.name == "" || kind.modes == [2]bool{} {
			t.Errorf("moment %d has no name or no mode", i)
		}
	}
}

func TestMessageString(t *testing.T) {
	for want, m := range map[string]Message{
		"accept 3.n1 slot 7 +2 mark 6":    {Kind: Accept, Ballot: Ballot{3, 1}, Slot: 7, Commands: make([]consensus.Command, 2), Mark: 6},
		"accept 3.n1 slot 7 no-op mark 6": {Kind: Accept, Ballot: Ballot{3, 1}, Slot: 7, Mark: 6},
		"promise 4.n2 slot 1 [1 3.n1 +1] [2 2.n2 no-op] end 3": {Kind: Promise, Ballot: Ballot{4, 2}, Slot: 1, End: 3,
			Proposals: []Proposal{{Slot: 1, Ballot: Ballot{3, 1}, Commands: command(1)}, {Slot: 2, Ballot: Ballot{2, 2}}}},
		"decisions [5 +1] mark 5":                 {Kind: Decisions, Proposals: []Proposal{{Slot: 5, Commands: command(1)}}, Mark: 5},
		"learn 3.n1 mark 6 tag 2":                 {Kind: Learn, Ballot: Ballot{3, 1}, Mark: 6, Tag: 2},
		"chunk slot 9 index 12 bytes 4 to 6 of 8": {Kind: Chunk, Slot: 9, Index: 12, Offset: 4, Total: 8, Data: []byte("ab")},
		"fetch slot 9 from byte 4":                {Kind: Fetch, Slot: 9, Offset: 4},
		"kind(99)":                                {Kind: 99},
	} {
		if got := m.String(); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

// BenchmarkStepped is what a step costs that changed nothing, and one of a
// loaded cluster with everything that it changed.
func BenchmarkStepped(b *testing.B) {
	for _, mode := range []Mode{Multi, Classic} {
		b.Run(fmt.Sprintf("mode=%d/quiet", mode), func(b *testing.B) {
			cl := newCluster(5, mode, 1)
			cl.tickAll()
			cl.deliverAll()
			b.ReportAllocs()
			for b.Loop() {
				cl.watch.Stepped(2)
			}
		})
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("mode=%d/load/checked=%v", mode, with), func(b *testing.B) { steppedLoad(b, mode, with) })
		}
	}
}

// steppedLoad decides commands, 16 at a time, and reports the time a step.
func steppedLoad(b *testing.B, mode Mode, with bool) {
	cl := benchReplicas(mode)
	var net []Envelope
	steps, serial := 0, uint64(0)
	step := func(id consensus.ID, o Output) {
		steps++
		net = append(append(net, o.Early...), o.Messages...)
		if with && errors.Join(cl.watch.Stepped(id), cl.watch.Flushed(id)) != nil {
			b.Fatal("a breach")
		}
	}
	step(1, cl.at(1).core.Tick())
	b.ReportAllocs()
	for b.Loop() {
		for range 16 {
			serial++
			step(1, cl.at(1).core.Propose(consensus.Command{Origin: 1, Serial: serial}))
		}
		for i := 0; i < len(net); i++ {
			step(net[i].To, cl.at(net[i].To).core.Receive(net[i]))
		}
		net = net[:0]
		if cl.at(1).core.learner.index > 10_000 {
			compactAll([]*Core{cl.at(1).core, cl.at(2).core, cl.at(3).core, cl.at(4).core, cl.at(5).core})
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(steps), "ns/step")
}
