package paxos

import "chaos/nodes/consensus"

// slotsAheadMax bounds how far above its decided slots an acceptor accepts, in
// slots. One that lies further behind must catch up before it votes again.
const slotsAheadMax = 1 << 16

// An acceptor is the memory of the protocol. All of it is durable: the step
// that changes it puts a record into Output.Records, and what answers the
// proposer goes into Output.Messages, which leave after the records are synced.
//
// promised covers every slot at once, in both modes, as section 3 of the paper
// has it for the distinguished proposer.
type acceptor struct {
	promised Ballot           // the highest ballot of a prepare or accept request that was answered
	accepted window[Proposal] // per slot the accepted proposal of the highest ballot; a zero ballot is none
	touched  touch            // acceptances of this incarnation
}

// promise answers a prepare request for b with yes unless a higher ballot was
// answered already ("Paxos Made Simple", section 2.2, phase 1b). The second
// result tells whether something must be recorded.
func (a *acceptor) promise(b Ballot) (ok, changed bool) {
	if b.Less(a.promised) {
		return false, false
	}
	changed = a.promised.Less(b)
	a.promised = b
	return true, changed
}

// accept accepts p unless a prepare request with a higher ballot was answered
// (section 2.2, phase 2b, and P1a). The second result tells whether something
// must be recorded; an accept request that comes twice is recorded once.
func (a *acceptor) accept(p Proposal) (ok, changed bool) {
	if p.Ballot.Less(a.promised) {
		return false, false
	}
	a.promised = p.Ballot
	at := a.accepted.extend(p.Slot)
	if at.Ballot == p.Ballot {
		return true, false
	}
	*at = p
	a.touched.at(p.Slot)
	return true, true
}

// acceptedIn is the ballot in which slot was last accepted, or zero.
func (a *acceptor) acceptedIn(slot uint64) Ballot {
	if p := a.accepted.at(slot); p != nil {
		return p.Ballot
	}
	return Ballot{}
}

// from lists what was accepted in slots from slot on, in slot order, at most
// bytes of it but one at least. next is the slot to go on from, or 0 at the end.
func (a *acceptor) from(slot uint64, bytes int) (accepted []Proposal, next uint64) {
	for s := max(slot, a.accepted.first); s < a.accepted.end(); s++ {
		p := a.accepted.at(s)
		if p.Ballot.IsZero() {
			continue
		}
		if bytes -= commandOverhead + size(p.Commands); bytes < 0 && len(accepted) > 0 {
			return accepted, s
		}
		accepted = append(accepted, *p)
	}
	return accepted, 0
}

// onPrepare is phase 1b: promise and tell what was accepted, or refuse.
//
// The promise names slots that this node knows to be decided by Mark alone; the
// proposer never proposes there and learns them instead.
func (c *Core) onPrepare(from consensus.ID, m *Message) {
	ok, changed := c.acceptor.promise(m.Ballot)
	if !ok {
		c.refuse(from, m.Slot)
		return
	}
	if changed {
		c.record(Record{Kind: RecordPromised, Ballot: m.Ballot})
		c.promisedOther(m.Ballot)
	}
	c.signOfLife(m.Ballot, preparing, m.Slot)
	if m.Slot <= c.learner.mark {
		c.teach(from, m.Slot)
	}
	accepted, next := c.acceptor.from(max(m.Slot, c.learner.mark+1), c.o.MaxBatchBytes)
	c.send(from, Message{Kind: Promise, Ballot: m.Ballot, Slot: m.Slot, Proposals: accepted, End: next, Mark: c.learner.mark, Tag: c.wanting()})
}

// onAccept is phase 2b: accept, or refuse. A slot that is decided here is not
// accepted again: the proposer is told what was decided.
func (c *Core) onAccept(from consensus.ID, m *Message) {
	if m.Ballot.Less(c.acceptor.promised) {
		c.refuse(from, m.Slot)
		return
	}
	c.heard(m.Ballot)
	switch {
	case m.Slot <= c.learner.mark:
		c.teach(from, m.Slot)
	case m.Slot > c.learner.mark+slotsAheadMax:
		c.behind(from, m.Mark)
		return
	default:
		if c.vote(Proposal{Slot: m.Slot, Ballot: m.Ballot, Commands: m.Commands}) {
			c.send(from, Message{Kind: Accepted, Ballot: m.Ballot, Slot: m.Slot, Tag: c.wanting()})
			c.signOfLife(m.Ballot, proposing, m.Slot)
			if c.mode == Classic && m.Index != 0 {
				c.nameNext(m)
			}
		}
	}
	c.learnUpTo(from, m.Ballot, m.Mark)
}

// refuse tells a proposer which higher ballot was promised (section 2.2 end).
func (c *Core) refuse(to consensus.ID, slot uint64) {
	c.send(to, Message{Kind: Refuse, Ballot: c.acceptor.promised, Slot: slot, Tag: c.wanting()})
}

// vote has this node's own acceptor accept p, and records it.
func (c *Core) vote(p Proposal) bool {
	rose := c.acceptor.promised.Less(p.Ballot)
	ok, changed := c.acceptor.accept(p)
	if changed {
		c.record(Record{Kind: RecordAccepted, Ballot: p.Ballot, Slot: p.Slot, Commands: p.Commands})
	}
	if ok && rose {
		c.promisedOther(p.Ballot)
	}
	return ok
}
