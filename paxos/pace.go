package paxos

import "cmp"

// Bounds of asking again.
const (
	retryTicks    = 3  // ticks before a request is sent again to those who did not answer
	retryTicksMax = 24 // the longest pause between sending one again, ticks
	tripTicksMax  = 50 // the longest way of question and answer that is believed, ticks
)

// A pace is what a node knows of how fast things go: how long an answer to a
// prepare request takes, and how far the proposer got that it promised last.
type pace struct {
	trip  int // ticks from a question to its answer, both ends' syncs included
	reach reach
}

// An asked is one part of phase 1 that a voter is to tell.
type asked struct {
	age   int // ticks since it was asked for
	again int // age at which it is asked for again
	pause int // ticks from one asking to the next; doubles each time
}

// ask begins to wait for an answer, as long as one usually takes.
func (p *pace) ask() asked {
	pause := max(retryTicks, p.trip+1)
	return asked{again: pause, pause: pause}
}

// due lets a tick pass and tells whether it is time to ask again.
func (a *asked) due() bool {
	if a.age++; a.age < a.again {
		return false
	}
	a.pause = min(2*a.pause, max(a.pause, retryTicksMax))
	a.again = a.age + a.pause
	return true
}

// answered learns from an answer that came after so many ticks. The measure
// grows fast and falls slowly; a lost message doubles it at most.
func (p *pace) answered(ticks int) { p.trip = adapt(p.trip, ticks, tripTicksMax) }

// adapt brings a measure towards what was seen: up at once, but no further than
// to about the double and to limit, and down by a quarter of the difference.
func adapt(measure, seen, limit int) int {
	seen = min(seen, 2*measure+2, limit)
	return max(seen, measure-(measure-seen+3)/4)
}

// A reach is how far a proposer is known to have got in its ballot. A request
// that goes further is a sign that it lives and gets answers; the same request
// again is none, so that nobody is waited for without end: slots are bounded.
type reach struct {
	ballot Ballot
	phase  phase
	slot   uint64
}

// beyond notes a request, and tells whether it goes further than all before it.
func (r *reach) beyond(b Ballot, in phase, slot uint64) bool {
	if cmp.Or(b.Compare(r.ballot), cmp.Compare(in, r.phase), cmp.Compare(slot, r.slot)) <= 0 {
		return false
	}
	*r = reach{b, in, slot}
	return true
}

// signOfLife hears a request of another proposer that was answered with yes.
// While it gets on, it is given time: else a phase 1 that takes longer than a
// time-out, since what was accepted comes in many parts, would never end. The
// first request of a ballot is noted where it is promised.
func (c *Core) signOfLife(b Ballot, in phase, slot uint64) {
	known := c.pace.reach.ballot == b
	if !c.pace.reach.beyond(b, in, slot) || !known {
		return
	}
	if c.mode == Classic {
		c.persists(b)
	} else if in == preparing {
		c.rival(b)
	}
}

// progressed notes an answer in phase 1 from voter i. The next one is awaited anew.
func (c *Core) progressed(i int) {
	p := &c.proposer
	c.contention.stalled = 0
	c.pace.answered(p.asked[i].age)
	p.asked[i] = c.pace.ask()
	c.leadership.silence = 0
}

// retry sends requests again to those who did not answer them.
func (c *Core) retry() {
	switch p := &c.proposer; p.phase {
	case preparing:
		c.retryPrepare()
	case proposing:
		for slot := p.slots.first; slot < p.slots.end(); slot++ {
			c.retryAccept(slot)
		}
	}
}

// retryPrepare repeats a prepare request that has waited for its pause.
func (c *Core) retryPrepare() {
	p := &c.proposer
	for i, id := range c.voters.Voters {
		if (p.promised|p.refused|c.bit(c.o.ID))&(1<<i) == 0 && p.asked[i].due() {
			c.send(id, Message{Kind: Prepare, Ballot: p.ballot, Slot: p.cursor[i]})
		}
	}
}

// retryAccept repeats an accept request that has waited for its pause.
func (c *Core) retryAccept(slot uint64) {
	p := &c.proposer
	at := p.slots.at(slot)
	if at.age++; at.done || at.age < at.pause {
		return
	}
	at.age, at.pause = 0, min(2*at.pause, retryTicksMax)
	for i, id := range c.voters.Voters {
		if (at.accepted|p.refused|c.bit(c.o.ID))&(1<<i) == 0 {
			c.early(id, Message{Kind: Accept, Ballot: p.ballot, Slot: slot, Commands: at.commands, Mark: c.learner.mark})
		}
	}
}
