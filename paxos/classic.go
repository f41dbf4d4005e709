package paxos

import "chaos/nodes/consensus"

// Bounds of a classic proposer.
const (
	leadMax         = 4   // rounds that a ballot goes above the others at most
	backOffShiftMax = 7   // defeats after which the back-off no longer doubles
	backOffTicksMax = 500 // the longest back-off, ticks
	patienceTicks   = 2   // a rival that does not get on is given up on after as many ticks,
	patienceSpread  = 3   // fewer than this more, drawn, so that not all give it up at once,
	usualTicksMax   = 100 // and as long as attempts usually take, of which at most this is believed
	deferralsMax    = 2   // how often in a row each voter may go first, on average
	// reservedRounds is how many rounds of ballots are reserved with one record.
	reservedRounds = 1 << 12
)

// contention is what a classic proposer knows of its rivals. Section 2.4 of the
// paper shows two proposers that preempt each other for ever. Three things end
// that: a proposer lets an attempt that it knows of finish; the one in phase 2
// names who may go next, in a ring of those who told it that they have
// commands; and whoever was preempted waits for a random time. The first two are
// hints that may be wrong or lost; the third is what the paper relies on.
type contention struct {
	wait     int // ticks before the next attempt
	failures int // attempts preempted in a row
	defeats  int // the same, without any attempt that is known to have succeeded meanwhile
	took     int // ticks since the present attempt began: the own one, else the rival's
	usual    int // ticks that attempts take; it grows fast and falls slowly
	stalled  int // ticks since anything came of the own attempt

	rival     Ballot       // promised to another node, its end not known
	turn      consensus.ID // who was named to go next, or 0
	patience  int          // ticks until rival or turn is given up on
	deferrals int          // attempts of others that ended while this node had work
	wants     votes        // who said last that it has work

	recorded uint64 // rounds up to here are reserved by a record
	reserved uint64 // and up to here by one that is known to be durable

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
	k.fillAge++
	k.took++
	if k.wait > 0 {
		k.wait--
	}
	if k.patience--; k.patience <= 0 {
		c.giveUpOn(k.rival.Node)
		c.giveUpOn(k.turn)
	}
	if p := &c.proposer; p.phase != idle {
		c.retry()
		if k.stalled++; p.refused != 0 && k.stalled > patienceTicks+2*c.usually() {
			c.preempted() // of those who did not refuse too few may be alive
		}
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
		if p.phase != idle || c.contention.wait > 0 || !c.work() || c.yields() {
			return
		}
		c.contention.turn, c.contention.deferrals, c.contention.took, c.contention.stalled = 0, 0, 0, 0
		c.prepare()
		if p.phase == preparing {
			return
		}
	}
}

// reserved tells whether a durable record already keeps this node from using
// round again after a restart; where none does, it asks for one. Then a classic
// proposer saves a sync in each attempt; the distinguished one starts too few.
func (c *Core) reserved(round uint64) bool {
	k := &c.contention
	if c.mode == Multi || round <= k.reserved {
		return c.mode == Classic
	}
	if round > k.recorded {
		k.recorded = round + reservedRounds
		c.record(Record{Kind: RecordRounds, Slot: k.recorded})
	}
	return false
}

// yields tells whether another proposer is to finish first. Nobody is let go
// first for ever.
func (c *Core) yields() bool {
	k := &c.contention
	other := !k.rival.IsZero() || (k.turn != 0 && k.turn != c.o.ID)
	return other && k.deferrals < deferralsMax*len(c.voters.Voters)
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

// handOver names, with the last accept request of an attempt, who goes next:
// phase 1 of the next attempt then runs beside phase 2 of this one.
func (c *Core) handOver() uint64 {
	p := &c.proposer
	if c.mode == Classic && p.next() > p.last && len(p.waiting) == 0 {
		c.contention.turn = c.successor()
		return uint64(c.contention.turn)
	}
	return 0
}

// attemptDone tells the learners (phase 3), and who may go next.
func (c *Core) attemptDone() {
	p, k := &c.proposer, &c.contention
	k.learnUsual()
	if k.rival.IsZero() {
		if k.turn == 0 {
			k.turn = c.successor()
		}
		c.expect(Ballot{}, k.turn)
	}
	c.toOthersEarly(Message{Kind: Learn, Ballot: p.ballot, Slot: p.next() - 1, Mark: c.learner.mark, Tag: c.wanting(), Index: uint64(k.turn)})
	*p = proposer{seen: p.seen}
	k.failures, k.defeats, k.fill, k.last = 0, 0, 0, c.o.ID
}

// wanting is the Tag of an answer to a classic proposer: 1 if this node has
// commands of its own.
func (c *Core) wanting() uint64 {
	if c.mode == Classic && c.pending.len() > 0 {
		return 1
	}
	return 0
}

// noteWant remembers what a node said of its own commands.
func (c *Core) noteWant(from consensus.ID, m *Message) {
	switch m.Kind {
	case Promise, Accepted, Refuse, Learn:
		k := &c.contention
		k.wants &^= c.bit(from)
		if m.Tag != 0 {
			k.wants |= c.bit(from)
		}
	}
}

// successor is the first node behind this one, in a ring of all voters, that has
// commands; or 0.
func (c *Core) successor() consensus.ID {
	n, here := len(c.voters.Voters), c.place(c.o.ID)
	for i := 1; i < n; i++ {
		if id := c.voters.Voters[(here+i)%n]; c.contention.wants&c.bit(id) != 0 {
			return id
		}
	}
	return 0
}

// learnUsual counts an attempt that succeeded. One that stalled alone counts little.
func (k *contention) learnUsual() { k.usual = adapt(k.usual, k.took, usualTicksMax) }

// backOff waits a random time that doubles with each preempted attempt until one
// succeeds, this node's or another's. Where attempts take longer, so does it: a
// defeat tells that they take at least as long as this one went on.
func (c *Core) backOff() {
	k := &c.contention
	k.failures = min(k.failures+1, leadMax)
	k.defeats = min(k.defeats+1, backOffShiftMax)
	if k.took > k.usual {
		k.learnUsual()
	}
	k.wait = 1 + c.rand.IntN(min(1<<k.defeats+c.usually()<<(k.defeats-1), backOffTicksMax))
}

// usually is how many ticks an attempt takes: as measured, or two ways of question and answer.
func (c *Core) usually() int { return max(c.contention.usual, 2*c.pace.trip) }

// expect notes who is busy with an attempt, or about to be.
func (c *Core) expect(rival Ballot, turn consensus.ID) {
	k := &c.contention
	if c.proposer.phase == idle {
		k.took = 0
	}
	k.rival, k.turn = rival, turn
	c.wait()
}

// wait begins to wait for another node's attempt.
func (c *Core) wait() {
	u := c.usually()
	c.contention.patience = patienceTicks + u + c.rand.IntN(patienceSpread+u)
}

// persists gives a rival that gets on the whole time again.
func (c *Core) persists(rival Ballot) {
	if c.contention.rival == rival {
		c.wait()
	}
}

// giveUpOn expects nothing more of a node, which may be dead.
func (c *Core) giveUpOn(id consensus.ID) {
	k := &c.contention
	if id == 0 {
		return
	}
	k.wants &^= c.bit(id)
	if k.rival.Node == id {
		k.rival = Ballot{}
	}
	if k.turn == id {
		k.turn = 0
	}
}

// succeeded notes that a rival's attempt is over.
func (c *Core) succeeded(m *Message) {
	k := &c.contention
	k.last = m.Ballot.Node
	if m.Ballot.Less(k.rival) {
		return
	}
	k.defeats = 0
	if m.Ballot == k.rival && c.proposer.phase == idle {
		k.learnUsual()
	}
	c.nameNext(m)
}

// nameNext notes whose turn it is after the proposer that sent m. Who is named,
// or knows of nobody else who has work, goes at once.
func (c *Core) nameNext(m *Message) {
	k := &c.contention
	turn := consensus.ID(0)
	if m.Index < 1<<16 && c.voters.Contains(consensus.ID(m.Index)) {
		turn = consensus.ID(m.Index)
	}
	c.expect(Ballot{}, turn)
	if k.wait = 0; c.work() {
		k.deferrals++
	}
}
