package paxos

import "chaos/nodes/consensus"

// Bounds of a classic proposer.
const (
	backOffShiftMax = 4 // the longest back-off is below 1<<backOffShiftMax ticks
	rivalTicks      = 2 // ticks after which a rival's unfinished attempt is given up on
	deferralsMax    = 2 // how often in a row a rival is let go first
)

// contention is what a classic proposer knows of its rivals. Section 2.4 of the
// paper shows two proposers that preempt each other for ever; random back-off
// and letting a running attempt finish end that.
type contention struct {
	wait      int  // ticks before the next attempt
	failures  int  // attempts preempted in a row
	contended bool // a rival was seen during this attempt

	rival     Ballot // promised to another node, its end not known
	rivalAge  int    // ticks since then
	deferring bool   // wait only lasts until the rival has finished
	deferrals int    // in a row

	fill    uint64       // a read waits for every slot up to here
	fillAge int          // ticks since a read asked
	last    consensus.ID // the last proposer that succeeded
}

// lead is how many rounds a proposer that was preempted several times in a row
// goes above the others, so that it wins against those that start together with
// it; else the node with the highest number always would.
func (k *contention) lead() uint64 { return uint64(k.failures) }

// tickClassic lets time pass for a classic proposer.
func (c *Core) tickClassic() {
	k := &c.contention
	k.rivalAge++
	k.fillAge++
	if k.wait > 0 {
		k.wait--
	}
	if p := &c.proposer; p.phase != idle {
		c.retry()
	}
	c.tickLearner(true)
}

// work tells whether there is a reason for an attempt: an own command, or an
// undecided slot that a read waits for and that nobody decided for a tick.
func (c *Core) work() bool {
	return c.pending.len() > 0 || (c.contention.fill > c.learner.mark && c.contention.fillAge > 0)
}

// settleClassic ends an attempt whose slots are all decided and starts the next
// one when there is work. Each turn of the loop ends an attempt with at least
// one slot decided, so that pending commands bound it.
func (c *Core) settleClassic() {
	for {
		c.issue()
		p := &c.proposer
		if p.phase == proposing && p.open == 0 && p.next() > p.last && len(p.waiting) == 0 {
			c.attemptDone()
		}
		if p.phase != idle || c.contention.wait > 0 || !c.work() || c.deferred() {
			return
		}
		c.contention.contended, c.contention.deferrals = false, 0
		c.prepare()
		if p.phase == preparing {
			return
		}
	}
}

// deferred lets a rival's running attempt finish first.
func (c *Core) deferred() bool {
	k := &c.contention
	if k.rival.IsZero() || k.rivalAge >= rivalTicks || k.deferrals >= deferralsMax {
		return false
	}
	k.deferrals++
	k.deferring, k.wait = true, 1+c.rand.IntN(rivalTicks)
	return true
}

// oneBatch gives the attempt one batch of this node's own commands, without
// those that phase 1 found and that are proposed again anyway.
func (c *Core) oneBatch() {
	p := &c.proposer
	p.last = min(max(p.last, c.contention.fill), p.base+slotsAheadMax)
	bytes := 0
	for _, one := range c.pending.commands() {
		if _, ok := p.taken[commandID{one.command.Origin, one.command.Serial}]; ok {
			continue
		}
		if bytes += commandOverhead + len(one.command.Data); bytes > c.o.MaxBatchBytes && len(p.waiting) > 0 {
			break
		}
		p.waiting = append(p.waiting, one.command)
	}
}

// attemptDone tells the learners (phase 3). A proposer that met rivals lets
// them have a turn.
func (c *Core) attemptDone() {
	p, k := &c.proposer, &c.contention
	c.toOthersEarly(Message{Kind: Learn, Ballot: p.ballot, Slot: p.next() - 1, Mark: c.learner.mark})
	*p = proposer{seen: p.seen}
	k.failures, k.fill, k.last = 0, 0, c.o.ID
	if k.contended {
		k.wait = 1 + c.rand.IntN(rivalTicks)
	}
}

// backOff waits a random time that doubles with each preempted attempt.
func (c *Core) backOff() {
	k := &c.contention
	k.failures = min(k.failures+1, backOffShiftMax)
	k.wait, k.deferring = 1+c.rand.IntN(1<<k.failures-1), false
}

// contended notes a rival.
func (c *Core) contended(b Ballot) {
	k := &c.contention
	k.contended, k.rival, k.rivalAge = true, b, 0
}

// succeeded notes that a rival's attempt is over; who let it go first goes now.
func (c *Core) succeeded(m *Message) {
	k := &c.contention
	k.last = m.Ballot.Node
	if m.Ballot.Less(k.rival) {
		return
	}
	k.rival = Ballot{}
	if k.deferring {
		k.deferring, k.wait = false, 0
	}
}
