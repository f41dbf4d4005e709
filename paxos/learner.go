package paxos

import "chaos/nodes/consensus"

// Bounds of catching up, in ticks.
const (
	catchUpTicks = 5  // wait for an answer before the next peer is asked
	pollTicks    = 20 // a learner that hears of no decision asks a peer this often
)

// A decision is what a slot decided.
type decision struct {
	known    bool
	learned  bool // journaled as RecordLearned, because the own acceptor did not accept this value
	commands []consensus.Command
}

// A learner finds out which values are chosen (section 2.3) and hands their
// commands out in slot order. What it knows is not durable by itself: it is
// found again in the journal's accepted values below the last RecordMark, in
// RecordLearned, and else from peers. A decided slot never changes.
type learner struct {
	mark    uint64 // every slot up to mark is decided
	index   uint64 // the commands in those slots
	first   uint64 // index of the first command that is not in the checkpoint
	decided window[decision]
	known   uint64 // the highest slot that anybody said is decided
	noted   uint64 // the last mark in the journal
	touched touch  // decisions of this incarnation

	asked  consensus.ID // whose answer is awaited, or 0
	waited int          // ticks since then
	turn   int          // which voter is asked next
}

// isDecided tells whether slot is known to be decided.
func (l *learner) isDecided(slot uint64) bool {
	if slot <= l.mark {
		return true
	}
	d := l.decided.at(slot)
	return d != nil && d.known
}

// decide notes that slot is decided with commands. It returns false when that
// was known, or when the slot lies too far ahead to be remembered.
func (l *learner) decide(slot uint64, commands []consensus.Command, learned bool) bool {
	if l.isDecided(slot) || slot > l.mark+slotsAheadMax {
		return false
	}
	*l.decided.extend(slot) = decision{known: true, learned: learned, commands: commands}
	l.known = max(l.known, slot)
	l.touched.at(slot)
	return true
}

// advance moves the mark over what is decided without a gap and returns entries
// grown by those on the way: one index a command, and none for a no-op.
func (l *learner) advance(entries []consensus.Entry) []consensus.Entry {
	for d := l.decided.at(l.mark + 1); d != nil && d.known; d = l.decided.at(l.mark + 1) {
		l.mark++
		for _, command := range d.commands {
			l.index++
			entries = append(entries, consensus.Entry{Index: l.index, Term: l.mark, Kind: consensus.Normal, Command: command})
		}
	}
	return entries
}

// chosen is phase 3 at this node: slot is decided with commands.
func (c *Core) chosen(slot uint64, commands []consensus.Command) {
	if c.learner.isDecided(slot) {
		return
	}
	accepted := c.acceptor.accepted.at(slot)
	learned := accepted == nil || accepted.Ballot.IsZero() || !sameValue(accepted.Commands, commands)
	if !c.learner.decide(slot, commands, learned) {
		return
	}
	if learned {
		c.record(Record{Kind: RecordLearned, Slot: slot, Commands: commands})
	}
	for i := range commands {
		c.pending.decided(commands[i], c.o.ID) // even where earlier slots are missing: it needs no other slot
	}
	c.handOut()
	c.decidedSlot(slot, commands)
}

// handOut applies what is decided without a gap.
func (c *Core) handOut() {
	c.out.Committed = c.learner.advance(c.out.Committed)
}

// onLearn is phase 3 at a learner that did not propose, and the heartbeat of
// the distinguished proposer.
func (c *Core) onLearn(from consensus.ID, m *Message) {
	c.learnSlot(m.Ballot, m.Slot)
	c.learnUpTo(from, m.Ballot, m.Mark)
	if m.Slot > c.learner.mark && !c.learner.isDecided(m.Slot) {
		c.behind(from, m.Slot)
	}
	if c.mode == Classic {
		c.succeeded(m)
		return
	}
	if m.Ballot.Less(c.acceptor.promised) {
		c.refuse(from, 0)
		return
	}
	c.heard(m.Ballot)
	if m.Tag != 0 {
		c.early(from, Message{Kind: Confirmed, Ballot: m.Ballot, Tag: m.Tag})
	}
}

// learnSlot learns that slot is decided with the value that was proposed for it
// in ballot: if this node's acceptor accepted in that ballot, it has the value.
// What was accepted in a higher ballot proves nothing: the value may have been
// chosen in one that is higher still.
func (c *Core) learnSlot(ballot Ballot, slot uint64) {
	if p := c.acceptor.accepted.at(slot); p != nil && p.Ballot == ballot {
		c.chosen(slot, p.Commands)
	}
}

// learnUpTo learns from a proposer that every slot up to mark is decided. A
// proposer tells this only while every slot that it proposed up to mark was
// decided with its own value, so what was accepted in its ballot is decided.
// For other slots it has to be asked.
func (c *Core) learnUpTo(from consensus.ID, ballot Ballot, mark uint64) {
	for slot := c.learner.mark + 1; slot <= mark; slot++ {
		if c.learner.isDecided(slot) {
			continue
		}
		if c.acceptor.acceptedIn(slot) != ballot {
			break
		}
		c.learnSlot(ballot, slot)
	}
	c.behind(from, mark)
}

// behind notes that slots up to mark are decided, and asks from for the missing
// ones unless an answer is awaited already.
func (c *Core) behind(from consensus.ID, mark uint64) {
	c.learner.known = max(c.learner.known, mark)
	if mark > c.learner.mark && c.learner.asked == 0 {
		c.ask(from)
	}
}

// ask asks a peer for the decided slots that this learner misses.
func (c *Core) ask(peer consensus.ID) {
	c.learner.asked, c.learner.waited = peer, 0
	if slot, offset := c.checkpoint.resume(peer); slot > 0 {
		c.send(peer, Message{Kind: Fetch, Slot: slot, Offset: offset})
		return
	}
	c.send(peer, Message{Kind: CatchUp, Slot: c.learner.mark + 1})
}

// askNext asks the voters in turn.
func (c *Core) askNext() {
	for range c.voters.Voters {
		c.learner.turn = (c.learner.turn + 1) % len(c.voters.Voters)
		if peer := c.voters.Voters[c.learner.turn]; peer != c.o.ID {
			c.ask(peer)
			return
		}
	}
}

// tickLearner repeats a request that got no answer, at another peer, and asks
// now and then where nobody tells of decisions.
func (c *Core) tickLearner(quiet bool) {
	l := &c.learner
	l.waited++
	switch {
	case l.asked != 0 && l.waited >= catchUpTicks && c.checkpoint.again(l.asked):
		c.ask(l.asked)
	case l.asked != 0 && l.waited >= catchUpTicks,
		l.asked == 0 && l.known > l.mark && l.waited >= 2,
		l.asked == 0 && quiet && l.waited >= pollTicks:
		c.askNext()
	}
}

// onCatchUp teaches a learner that missed decisions.
func (c *Core) onCatchUp(from consensus.ID, m *Message) { c.teach(from, m.Slot) }

// teach sends decided slots from slot on, at most MaxBatchBytes of them but one
// at least; or, where the checkpoint has swallowed slot, the checkpoint's first chunk.
func (c *Core) teach(to consensus.ID, slot uint64) {
	if slot <= c.checkpoint.snapshot.Term {
		c.sendChunk(to, 0)
		return
	}
	var decisions []Proposal
	bytes := c.o.MaxBatchBytes
	for s := slot; s <= c.learner.mark; s++ {
		commands := c.learner.decided.at(s).commands
		if bytes -= commandOverhead + size(commands); bytes < 0 && len(decisions) > 0 {
			break
		}
		decisions = append(decisions, Proposal{Slot: s, Commands: commands})
	}
	c.send(to, Message{Kind: Decisions, Proposals: decisions, Mark: c.learner.mark})
}

// onDecisions learns what a peer knows, and asks it for more while it has more.
func (c *Core) onDecisions(from consensus.ID, m *Message) {
	before := c.learner.mark
	for i := range m.Proposals {
		c.chosen(m.Proposals[i].Slot, m.Proposals[i].Commands)
	}
	if c.learner.asked == from {
		c.learner.asked, c.learner.waited = 0, 0
	}
	c.learner.known = max(c.learner.known, m.Mark)
	if m.Mark > c.learner.mark && c.learner.mark > before && c.learner.asked == 0 {
		c.ask(from)
	}
}
