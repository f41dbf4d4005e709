package paxos

import (
	"fmt"

	"chaos/nodes/consensus"
)

// The invariants that a [Check] holds a cluster to, with the section of "Paxos
// Made Simple" that asks for each. Those without one follow from what core,
// journal and state machine promise each other.
const (
	promiseMonotone   = "promise-monotone"          // 2.2: a promise never falls; what is promised survives failures (2.5)
	ballotsUnique     = "ballots-unique"            // 2.5: no two proposals have the same number, restarts included
	acceptAbove       = "accept-above-promise"      // 2.2, P1a: nothing below the promise is accepted
	acceptedKept      = "accepted-kept"             // 2.5: an acceptor remembers what it accepted
	oneValuePerBallot = "one-value-per-ballot"      // 2.2: a proposal is one number and one value
	oneValueChosen    = "one-value-chosen"          // 2.1: only a single value is chosen; P2
	valueChoice       = "value-choice"              // 2.2, P2b and P2c: above a chosen proposal every one has its value
	decidedIsChosen   = "decided-is-chosen"         // 2.1 and 2.3: nobody learns a value that a majority did not accept
	decidedStable     = "decided-stable"            // 3: the sequence of commands is one, for ever
	commitMonotone    = "commit-monotone"           // Status.Commit never falls in one incarnation
	checkpointCovers  = "checkpoint-covers-decided" // a checkpoint stands for decided slots and for nothing else
	questionsUnique   = "questions-unique"          // no incarnation asks under the tags of an earlier one
)

// slotsKeptMax bounds how many slots a [Check] remembers.
const slotsKeptMax = 2 * slotsAheadMax

// A Check watches the cores of one cluster from the side and names the first
// invariant that they break. It implements consensus.Watch.
//
// It tells what a node holds in memory from what is durable. An acceptance
// counts towards a chosen value only once it is durable for certain (its output,
// or the first one after a restart that brought it back, was carried out); towards "somebody may have
// learned it" it counts from the step on that made it. So a crash at any point
// can't raise a false alarm.
//
// It forgets slots that are below the checkpoint of every node. A cluster of one
// voter is not watched: there a value is decided before it is durable.
type Check struct {
	mode   Mode
	nodes  []*watched // by ID
	voters consensus.Configuration
	slots  window[slotHistory]
	mark   uint64 // every slot up to mark was decided by somebody
	index  uint64 // the commands in those slots
	count  uint64 // slots decided, in whatever order
	seen   [moments]uint64
}

// A watched is what a [Check] knows of one node.
type watched struct {
	id    consensus.ID
	bit   votes
	core  *Core  // of the present incarnation, or of the last one
	last  glance // at the last call
	used  Ballot // the last ballot of this incarnation, or told
	told  Ballot // the highest ballot that others may have heard of
	fresh []vote // acceptances that are perhaps not durable yet

	promised Ballot                     // durable
	life     uint64                     // durable: what its questions' tags begin with
	asked    uint64                     // the highest tag of earlier incarnations that others may have heard of
	asking   struct{ now, told uint64 } // the highest tag of this one, and of those that are out
	accepted window[remembered]
	swept    uint64 // the checkpoint at which Check.forget was called last

	lostTo   consensus.ID // the proposer that preempted this one last
	lostAt   uint64       // Check.count then
	overlaps Ballot       // in which it went on although a higher one led
}

// A remembered is the ballot in which a node last accepted a slot.
type remembered struct{ now, durable Ballot }

// A vote is an acceptance.
type vote struct {
	slot   uint64
	ballot Ballot
}

// A glance is what tells that a step changed something of interest. It is
// compared after every step.
type glance struct {
	promised         Ballot
	ballot           Ballot
	phase            phase
	cursors          uint64 // the sum of proposer.cursor in phase 1
	accepts, decides uint64
	mark, index      uint64
	term             uint64 // of the checkpoint
	first            uint64 // slot that the acceptor remembers

	from     consensus.ID // of the checkpoint under way
	received int          // bytes of it
	asked    consensus.ID

	leader    consensus.ID
	tag       uint64
	failures  int
	fill      uint64
	questions uint64
}

// glance takes a look at c.
func (c *Core) glance() glance {
	g := glance{promised: c.acceptor.promised, ballot: c.proposer.ballot, phase: c.proposer.phase,
		accepts: c.acceptor.touched.count, decides: c.learner.touched.count,
		mark: c.learner.mark, index: c.learner.index, term: c.checkpoint.snapshot.Term, first: c.acceptor.accepted.first,
		asked: c.learner.asked, leader: c.leadership.leader, tag: c.leadership.tag,
		failures: c.contention.failures, fill: c.contention.fill, questions: c.reader.count}
	if in := c.checkpoint.incoming; in != nil {
		g.from, g.received = in.from, len(in.snapshot.Data)
	}
	if g.phase == preparing {
		for _, slot := range c.proposer.cursor {
			g.cursors += slot
		}
	}
	return g
}

// NewCheck makes a Check for a cluster without a past.
func NewCheck() *Check {
	return &Check{slots: window[slotHistory]{first: 1}}
}

// Add takes the core of a node's new incarnation, before it is restored. It
// replaces the core of the one before.
func (k *Check) Add(c *Core) {
	if k.mode = c.mode; c.voters.Quorum() == 1 {
		return
	}
	for len(k.nodes) <= int(c.o.ID) {
		k.nodes = append(k.nodes, nil)
	}
	n := k.nodes[c.o.ID]
	if n == nil {
		n = &watched{id: c.o.ID, bit: c.bit(c.o.ID), accepted: window[remembered]{first: k.slots.first}}
		k.nodes[c.o.ID] = n
	} else {
		k.gone(n)
	}
	k.voters = c.voters
	n.core, n.last, n.used = c, glance{}, n.told
}

func (k *Check) node(id consensus.ID) *watched {
	if int(id) >= len(k.nodes) {
		return nil
	}
	return k.nodes[id]
}

// Started compares what the node's journal brought back with what was durable.
func (k *Check) Started(id consensus.ID) error {
	n := k.node(id)
	if n == nil {
		return nil
	}
	now := n.core.glance()
	n.last = glance{first: now.first} // nothing that the new incarnation did before
	n.asked, n.asking.now, n.asking.told = max(n.asked, n.asking.told), 0, 0
	if err := n.restored(); err != nil {
		return err
	}
	k.restarted(n)
	if err := k.lost(n); err != nil {
		return err
	}
	a := &n.core.acceptor
	for slot := a.accepted.first; slot < a.accepted.end(); slot++ {
		if err := k.broughtBack(n, a.accepted.at(slot)); err != nil {
			return err
		}
	}
	if err := k.decides(n, 0, n.core.learner.decided.end()); err != nil {
		return err
	}
	before := n.last
	n.last = now
	return k.sequence(n, &before)
}

// restored insists that what was promised, accepted and asked is still there.
func (n *watched) restored() error {
	a := &n.core.acceptor
	if life := n.core.reader.life; life < n.life {
		return n.breach(questionsUnique, "it restarts with life %d in its questions' tags, and %d was durable", life, n.life)
	}
	if a.promised.Less(n.promised) {
		return n.breach(promiseMonotone, "it restarts with promise %s, and %s was durable", a.promised, n.promised)
	}
	for slot := max(n.accepted.first, n.core.checkpoint.snapshot.Term+1); slot < n.accepted.end(); slot++ {
		if was := n.accepted.at(slot).durable; a.acceptedIn(slot).Less(was) {
			return n.breach(acceptedKept, "it restarts with slot %d accepted in %s, and %s was durable", slot, a.acceptedIn(slot), was)
		}
	}
	for i := range n.accepted.items {
		n.accepted.items[i].now = Ballot{}
	}
	return nil
}

// broughtBack counts an acceptance that was found in the journal. One that was
// not durable before may still be lost: who was killed between write and sync
// reads what the system remembers, and syncs it before the first output.
func (k *Check) broughtBack(n *watched, p *Proposal) error {
	if p.Ballot.IsZero() || p.Slot < n.accepted.first {
		return nil
	}
	at := n.accepted.extend(p.Slot)
	if at.now = p.Ballot; at.durable != p.Ballot {
		n.fresh = append(n.fresh, vote{p.Slot, p.Ballot})
	}
	return k.voted(n, p)
}

// lost takes acceptances back that did not become durable. Nobody was told of
// them, so that a slot that was decided has its majority without them.
func (k *Check) lost(n *watched) error {
	a := &n.core.acceptor
	for _, v := range n.fresh {
		if h := k.slots.at(v.slot); h != nil && v.slot >= a.accepted.first && a.acceptedIn(v.slot).Less(v.ballot) {
			at, _ := h.in(v.ballot)
			at.maybe &^= n.bit
			if h.decided != 0 && !k.accepted(h, h.learned) {
				return n.breach(decidedIsChosen, "it lost what it accepted for slot %d in %s, and %s had learned it", v.slot, v.ballot, h.decided)
			}
		}
	}
	n.fresh = n.fresh[:0]
	return nil
}

// Stepped looks for what the last input of the node's core changed.
func (k *Check) Stepped(id consensus.ID) error {
	n := k.node(id)
	if n == nil {
		return nil
	}
	now := n.core.glance()
	if now == n.last {
		return nil
	}
	before := n.last
	n.last = now
	k.noteStep(n, &before)
	return k.changed(n, &before)
}

// changed holds a step that changed something to the invariants.
func (k *Check) changed(n *watched, before *glance) error {
	now := &n.last
	if now.promised.Less(before.promised) {
		return n.breach(promiseMonotone, "its promise falls from %s to %s", before.promised, now.promised)
	}
	if err := k.ballots(n, before); err != nil {
		return err
	}
	if now.questions != before.questions {
		if err := n.asks(); err != nil {
			return err
		}
	}
	if now.accepts != before.accepts {
		if err := k.accepts(n, before); err != nil {
			return err
		}
	}
	if now.decides != before.decides {
		l := &n.core.learner
		from, end := before.mark+1, l.decided.end()
		if l.touched.count == before.decides+1 {
			from, end = l.touched.slot, min(end, l.touched.slot+1)
		}
		if err := k.decides(n, from, end); err != nil {
			return err
		}
	}
	return k.sequence(n, before)
}

// ballots insists that a proposer takes only ballots of its own that were never used.
func (k *Check) ballots(n *watched, before *glance) error {
	now := &n.last
	if other := k.node(now.promised.Node); other != nil && other != n && now.promised != before.promised {
		other.told = highest(other.told, now.promised)
	}
	if now.ballot == before.ballot || now.ballot.IsZero() {
		return nil
	}
	if now.ballot.Node != n.id || !n.used.Less(now.ballot) {
		return n.breach(ballotsUnique, "it takes ballot %s, and used %s before", now.ballot, n.used)
	}
	n.used = now.ballot
	if k.mode == Classic && now.ballot.Round <= n.core.contention.reserved {
		n.told = now.ballot // its requests leave early
	}
	return nil
}

// asks looks at the newest question of a node that does not lead: who leads asks
// under its ballot.
func (n *watched) asks() error {
	rounds := n.core.reader.rounds
	if n.core.leads() || len(rounds) == 0 {
		return nil
	}
	tag := rounds[len(rounds)-1].tag
	if tag <= n.asked {
		return n.breach(questionsUnique, "it asks under the tag %d, and asked under those up to %d before it restarted", tag, n.asked)
	}
	n.asking.now = max(n.asking.now, tag)
	return nil
}

// accepts looks at the slots that a step accepted.
func (k *Check) accepts(n *watched, before *glance) error {
	a := &n.core.acceptor
	if a.touched.count == before.accepts+1 {
		return k.vote(n, a.touched.slot, before.promised)
	}
	for slot := max(before.mark+1, a.accepted.first); slot < a.accepted.end(); slot++ {
		if err := k.vote(n, slot, before.promised); err != nil {
			return err
		}
	}
	return nil
}

// vote holds an acceptance to P1a. promised is the promise before the step.
func (k *Check) vote(n *watched, slot uint64, promised Ballot) error {
	p := n.core.acceptor.accepted.at(slot)
	if p == nil || p.Ballot.IsZero() || slot < n.accepted.first {
		return nil
	}
	at := n.accepted.extend(slot)
	if at.now == p.Ballot {
		return nil
	}
	if p.Ballot.Less(promised) {
		return n.breach(acceptAbove, "it accepts %s for slot %d, and had promised %s", p.Ballot, slot, promised)
	}
	if n.core.acceptor.promised.Less(p.Ballot) {
		return n.breach(acceptAbove, "it accepts %s for slot %d, and its promise stays at %s", p.Ballot, slot, n.core.acceptor.promised)
	}
	if !at.now.IsZero() {
		k.saw(acceptedAgain)
	}
	at.now = p.Ballot
	n.fresh = append(n.fresh, vote{slot, p.Ballot})
	return k.voted(n, p)
}

// Flushed notes that all that the node's core did is durable, and known to
// others perhaps.
func (k *Check) Flushed(id consensus.ID) error {
	n := k.node(id)
	if n == nil {
		return nil
	}
	if err := k.Stepped(id); err != nil {
		return err
	}
	n.promised, n.told = n.core.acceptor.promised, highest(n.told, n.used)
	n.life, n.asking.told = n.core.reader.life, n.asking.now
	for _, v := range n.fresh {
		if at := n.accepted.at(v.slot); at != nil {
			at.durable = v.ballot
		}
		if err := k.durable(n, v); err != nil {
			return err
		}
	}
	n.fresh = n.fresh[:0]
	if n.last.term != n.swept || len(k.slots.items) > slotsKeptMax {
		n.swept = n.last.term
		k.forget()
	}
	return nil
}

// forget drops the slots below the checkpoints of all nodes, but the last of
// them, and what is too much.
func (k *Check) forget() {
	first := k.mark
	for _, id := range k.voters.Voters {
		if n := k.node(id); n != nil {
			first = min(first, n.last.term)
		} else {
			first = 0
		}
	}
	if end := k.slots.end(); end > slotsKeptMax {
		first = max(first, end-slotsKeptMax)
	}
	k.slots.dropBelow(first)
	for _, n := range k.nodes {
		if n != nil {
			n.accepted.dropBelow(first)
		}
	}
}

// breach tells which invariant n broke.
func (n *watched) breach(invariant, format string, args ...any) error {
	return &consensus.Breach{Invariant: invariant, Node: n.id, Detail: fmt.Sprintf(format, args...)}
}
