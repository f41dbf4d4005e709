package paxos

import "chaos/nodes/consensus"

// Bounds of a proposer.
const (
	pipelineSlots = 32 // slots proposed and not yet decided
	learnEvery    = 8  // decided slots after which learners are told although more is under way
)

// A phase is what a proposer is doing.
type phase uint8

const (
	idle      phase = iota
	probing         // asking whether a take-over would disturb anybody (not in the paper)
	preparing       // phase 1
	proposing       // phase 2
)

// A proposed is one slot of phase 2.
type proposed struct {
	commands []consensus.Command
	accepted votes
	done     bool
	age      int // ticks since it was sent
	pause    int // ticks until it is sent again; doubles each time
}

// A commandID names a command.
type commandID struct {
	origin consensus.ID
	serial uint64
}

// A proposer chooses a ballot, learns in phase 1 what may have been chosen
// already, and asks for values to be accepted in phase 2. Nothing of it is
// durable: a proposer that restarts takes a new ballot, above the one that its
// own acceptor promised.
type proposer struct {
	phase  phase
	ballot Ballot
	seen   uint64 // the highest round in any message

	// phase 1
	cursor   []uint64            // per voter the first slot that it has not told about
	asked    []asked             // per voter, for the part from there on
	promised votes               // voters that told about all slots
	refused  votes               // voters that promised a higher ballot
	base     uint64              // every slot up to base is decided, some promise says
	last     uint64              // the highest slot in found
	found    map[uint64]Proposal // per slot the accepted proposal of the highest ballot

	// phase 2
	slots window[proposed] // from the oldest undecided slot on
	open  int              // how many of them are undecided
	told  uint64           // the mark that was last sent to all

	waiting []consensus.Command    // for a slot
	taken   map[commandID]struct{} // waiting, or proposed and undecided
}

// next is the first slot that was not proposed in this ballot.
func (p *proposer) next() uint64 { return p.slots.end() }

// bit is the vote of id, or none for a stranger.
func (c *Core) bit(id consensus.ID) votes {
	for i, v := range c.voters.Voters {
		if v == id {
			return 1 << i
		}
	}
	return 0
}

// quorum tells whether v is a majority of the configuration.
func (c *Core) quorum(v votes) bool { return v.count() >= c.voters.Quorum() }

// hopeless tells whether so many voters refused that no majority is left.
func (c *Core) hopeless(refused votes) bool {
	return len(c.voters.Voters)-refused.count() < c.voters.Quorum()
}

// prepare starts phase 1 (section 2.2, phase 1a) with a ballot above all that
// were seen, for all slots that are not decided here. The proposer's own
// acceptor promises in the same step. That this ballot is never used again,
// restarts included, is durable before the requests leave: by the promise, or
// because the round was reserved before.
func (c *Core) prepare() {
	p := &c.proposer
	from := c.learner.mark + 1
	*p = proposer{
		phase:  preparing,
		ballot: Ballot{Round: max(c.acceptor.promised.Round, p.seen) + 1 + c.contention.lead(), Node: c.o.ID},
		seen:   p.seen,
		cursor: make([]uint64, len(c.voters.Voters)),
		asked:  make([]asked, len(c.voters.Voters)),
		base:   c.learner.mark,
		found:  make(map[uint64]Proposal),
		taken:  make(map[commandID]struct{}),
	}
	for i := range p.cursor {
		p.cursor[i], p.asked[i] = from, c.pace.ask()
	}
	c.acceptor.promise(p.ballot)
	c.record(Record{Kind: RecordPromised, Ballot: p.ballot})
	for s := max(from, c.acceptor.accepted.first); s < c.acceptor.accepted.end(); s++ {
		c.choose(*c.acceptor.accepted.at(s))
	}
	p.promised = c.bit(c.o.ID)
	if ask := (Message{Kind: Prepare, Ballot: p.ballot, Slot: from}); c.reserved(p.ballot.Round) {
		c.toOthersEarly(ask)
	} else {
		c.toOthers(ask)
	}
	if c.quorum(p.promised) {
		c.propose()
	}
}

// choose keeps, for each slot, the accepted proposal of the highest ballot:
// its value is the one to propose (P2c and section 2.2, phase 2a).
func (c *Core) choose(a Proposal) {
	p := &c.proposer
	if best, ok := p.found[a.Slot]; a.Ballot.IsZero() || (ok && !best.Ballot.Less(a.Ballot)) {
		return
	}
	p.found[a.Slot] = a
	p.last = max(p.last, a.Slot)
}

// onPromise collects what acceptors accepted. Long answers come in parts; each
// part is asked for with a prepare request of the same ballot.
func (c *Core) onPromise(from consensus.ID, m *Message) {
	p := &c.proposer
	c.learner.known = max(c.learner.known, m.Mark)
	if p.phase != preparing || m.Ballot != p.ballot {
		return
	}
	if k := &c.contention; p.ballot.Round > k.reserved {
		k.reserved = k.recorded // the request that this answers left after the record was durable
	}
	i := c.place(from)
	if m.Mark > c.learner.mark+slotsAheadMax {
		c.behind(from, m.Mark) // too far behind to propose: catch up first, the request is repeated
		return
	}
	if m.Slot != p.cursor[i] || !c.plausible(m) {
		return
	}
	p.base = max(p.base, m.Mark)
	for _, a := range m.Proposals {
		c.choose(a)
	}
	c.progressed(i)
	if m.End > m.Slot {
		p.cursor[i] = max(m.End, p.base+1, c.learner.mark+1) // what is decided need not be told
		c.send(from, Message{Kind: Prepare, Ballot: p.ballot, Slot: p.cursor[i]})
		return
	}
	p.promised |= 1 << i
	c.behind(from, m.Mark)
	if c.quorum(p.promised) {
		c.propose()
	}
}

// plausible tells whether a promise names only slots that an acceptor with its
// mark may have accepted, in ballots below this one.
func (c *Core) plausible(m *Message) bool {
	for i := range m.Proposals {
		a := &m.Proposals[i]
		if a.Slot <= m.Mark || a.Slot > m.Mark+slotsAheadMax || !a.Ballot.Less(m.Ballot) || a.Ballot.IsZero() {
			return false
		}
	}
	return true
}

// propose starts phase 2 (section 2.2, phase 2a): a majority promised.
func (c *Core) propose() {
	p := &c.proposer
	p.base = max(p.base, c.learner.mark)
	p.last = max(p.last, p.base)
	p.phase = proposing
	p.slots = window[proposed]{first: p.base + 1}
	for slot := p.base + 1; slot <= p.last; slot++ {
		for _, command := range p.found[slot].Commands {
			p.taken[commandID{command.Origin, command.Serial}] = struct{}{}
		}
	}
	if c.mode == Multi {
		c.lead()
	} else {
		c.oneBatch()
	}
}

// issue proposes as long as the pipeline has room: first the slots that phase 1
// found, where the value is given and a gap gets a no-op (section 3), then
// waiting commands in new slots.
func (c *Core) issue() {
	p := &c.proposer
	for p.phase == proposing && p.open < pipelineSlots {
		switch {
		case p.next() <= p.last:
			value := p.found[p.next()].Commands
			delete(p.found, p.next())
			c.ask2a(value)
		case len(p.waiting) > 0 && c.learner.isDecided(p.next()):
			c.preempted() // a slot above all of this ballot: a higher one got through
		case len(p.waiting) > 0:
			c.ask2a(c.batch())
		default:
			return
		}
	}
}

// batch takes waiting commands for one slot: at most MaxBatchBytes, one at least.
func (c *Core) batch() []consensus.Command {
	p := &c.proposer
	n, bytes := 0, 0
	for n < len(p.waiting) {
		bytes += commandOverhead + len(p.waiting[n].Data)
		if n > 0 && bytes > c.o.MaxBatchBytes {
			break
		}
		n++
	}
	batch := p.waiting[:n:n]
	if p.waiting = p.waiting[n:]; len(p.waiting) == 0 {
		p.waiting = nil
	}
	return batch
}

// ask2a asks all acceptors to accept commands for the next slot. The requests
// need nothing durable and leave early: the ballot is durable since phase 1.
// This node's own acceptor accepts in the same step, and its record is durable
// before anything that counts its vote is sent or applied.
func (c *Core) ask2a(commands []consensus.Command) {
	p := &c.proposer
	slot := p.next()
	at := p.slots.extend(slot)
	at.commands, at.pause = commands, retryTicks
	for _, command := range commands {
		p.taken[commandID{command.Origin, command.Serial}] = struct{}{}
		if command.Origin == c.o.ID {
			c.pending.markSent(command.Serial)
		}
	}
	if c.learner.isDecided(slot) {
		at.done = true
		c.dropDone()
		return
	}
	p.open++
	p.told = c.learner.mark
	c.toOthersEarly(Message{Kind: Accept, Ballot: p.ballot, Slot: slot, Commands: commands, Mark: c.learner.mark, Index: c.handOver()})
	if c.vote(Proposal{Slot: slot, Ballot: p.ballot, Commands: commands}) {
		c.countAccepted(slot, c.bit(c.o.ID))
	} else {
		c.refusedBy(c.bit(c.o.ID))
	}
}

// onAccepted counts a vote.
func (c *Core) onAccepted(from consensus.ID, m *Message) {
	if p := &c.proposer; p.phase == proposing && m.Ballot == p.ballot {
		c.heardFrom(from)
		c.contention.stalled = 0
		c.countAccepted(m.Slot, c.bit(from))
	}
}

// countAccepted counts votes for what was proposed in slot; the value that a
// majority accepted is chosen (section 2.2).
func (c *Core) countAccepted(slot uint64, v votes) {
	at := c.proposer.slots.at(slot)
	if at == nil || at.done {
		return
	}
	at.accepted |= v
	if c.quorum(at.accepted) {
		c.chosen(slot, at.commands)
	}
}

// decidedSlot tells the proposer that slot is decided. If its own proposal for
// it was another one, a higher ballot got through: it was preempted.
func (c *Core) decidedSlot(slot uint64, commands []consensus.Command) {
	p := &c.proposer
	if p.phase != proposing {
		return
	}
	at := p.slots.at(slot)
	if at == nil || at.done {
		return
	}
	if !sameValue(at.commands, commands) {
		c.preempted()
		return
	}
	at.done = true
	p.open--
	c.dropDone()
}

// dropDone forgets the decided slots at the lower end of the pipeline.
func (c *Core) dropDone() {
	p := &c.proposer
	for len(p.slots.items) > 0 && p.slots.items[0].done {
		for _, command := range p.slots.items[0].commands {
			delete(p.taken, commandID{command.Origin, command.Serial})
		}
		p.slots.dropBelow(p.slots.first + 1)
	}
}

// installed tells the proposer that a checkpoint replaced slots. If it covers a
// slot of the present ballot, what was decided there can't be compared.
func (c *Core) installed() {
	if p := &c.proposer; p.phase == proposing && p.slots.first <= c.learner.mark {
		c.preempted()
	}
}

// onRefuse hears of a higher ballot. The proposer gives up where the paper
// advises it (section 2.2 end): the distinguished proposer at once, since its
// ballot no longer holds everywhere, a classic one when no majority is left.
func (c *Core) onRefuse(from consensus.ID, m *Message) {
	p := &c.proposer
	if (p.phase == preparing || p.phase == proposing) && p.ballot.Less(m.Ballot) {
		c.refusedBy(c.bit(from))
	}
}

// refusedBy notes voters that refused the present ballot.
func (c *Core) refusedBy(v votes) {
	p := &c.proposer
	p.refused |= v
	if c.mode == Multi || c.hopeless(p.refused) {
		c.preempted()
	}
}

// promisedOther tells the proposer which ballot this node's acceptor promised.
func (c *Core) promisedOther(b Ballot) {
	p := &c.proposer
	p.seen = max(p.seen, b.Round)
	if b.Node == c.o.ID {
		return
	}
	if c.mode == Multi {
		c.rival(b)
	} else {
		c.expect(b, 0)
	}
	if p.phase != idle && p.phase != probing && p.ballot.Less(b) {
		c.refusedBy(c.bit(c.o.ID))
	}
}
