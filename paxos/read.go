package paxos

import "chaos/nodes/consensus"

// roundsMax is how many read rounds are under way at once; later reads wait and
// share the next round.
const roundsMax = 4

// A readKey is one read: an own one (from is 0), or one that a node asked the
// distinguished proposer for.
type readKey struct {
	from consensus.ID
	key  uint64
}

// A readRound is a question to the cluster whose answer serves several reads.
type readRound struct {
	tag   uint64
	keys  []readKey
	acks  votes
	index uint64 // Multi: of the last command decided when the round began
	slot  uint64 // Classic: the highest slot that an answer named
	age   int    // ticks
}

// A reader serves linearizable reads without log entries.
//
// Multi: the distinguished proposer asks a majority whether they promised
// nothing above its ballot. If so, no other proposer had finished phase 1 when
// the round began, and every command acknowledged before was decided by this
// one or found by its phase 1. Other nodes ask the distinguished proposer.
//
// Classic: a majority names the highest slot in which each has accepted. A
// command acknowledged before the read was accepted by a majority, so it lies
// at or below the highest slot named; the read waits until all of these are decided.
//
// Tags of questions never repeat: their upper half counts the incarnations of
// this node in its journal, so that an answer to a former one is not believed.
type reader struct {
	life    uint64 // the incarnation; counted at the first question
	counted bool
	count   uint64 // questions in this life
	round   uint64 // Multi, leading: the last round

	waiting []readKey
	waited  int // ticks that the first of them waited for a round
	rounds  []readRound
}

// lifeShift is where the incarnation stands in a tag.
const lifeShift = 32

// tag is a fresh name for a question. The first one of an incarnation makes the
// incarnation durable before it leaves.
func (c *Core) tag() uint64 {
	r := &c.reader
	if !r.counted {
		r.life, r.counted = r.life+1, true
		c.record(Record{Kind: RecordLife, Slot: r.life})
	}
	r.count++
	return r.life<<lifeShift + r.count
}

// Read asks for a linearizable read.
func (c *Core) Read(key uint64) Output {
	r := &c.reader
	switch {
	case len(r.waiting) >= c.o.MaxInflight:
		c.rejectRead(key, "too many reads wait")
	case c.mode == Multi && c.leadership.leader == 0:
		c.rejectRead(key, "no proposer is known")
	default:
		r.waiting = append(r.waiting, readKey{key: key})
	}
	return c.finish()
}

// rejectRead refuses a read; a read has no effect, so this is certain.
func (c *Core) rejectRead(key uint64, reason string) {
	c.out.Rejected = append(c.out.Rejected, consensus.Rejection{Key: key, Read: true, Leader: c.Status().Leader, Reason: reason})
}

// settleReads answers what can be answered and starts rounds for what waits.
func (c *Core) settleReads() {
	if c.mode == Classic {
		c.answerClassic()
	}
	r := &c.reader
	for len(r.waiting) > 0 && len(r.rounds) < roundsMax && c.beginRound() {
	}
}

// beginRound starts a round for all reads that wait, unless it has to wait for
// the slots that phase 1 found.
func (c *Core) beginRound() bool {
	r := &c.reader
	if c.leads() && c.learner.mark < c.proposer.last {
		return false
	}
	round := readRound{keys: r.waiting, acks: c.bit(c.o.ID), index: c.learner.index}
	switch {
	case c.leads():
		r.round++
		round.tag = r.round
		c.proposer.told = c.learner.mark
		c.toOthersEarly(Message{Kind: Learn, Ballot: c.proposer.ballot, Mark: c.learner.mark, Tag: round.tag})
	case c.mode == Multi && c.leadership.leader == 0:
		return false
	case c.mode == Multi:
		round.tag = c.tag()
		c.send(c.leadership.leader, Message{Kind: ReadAsk, Tag: round.tag})
	default:
		round.tag = c.tag()
		round.slot = c.highestSlot()
		c.toOthers(Message{Kind: SlotAsk, Tag: round.tag})
	}
	r.waiting, r.waited = nil, 0
	r.rounds = append(r.rounds, round)
	if c.leads() {
		c.answerConfirmed()
	} else if c.mode == Classic {
		c.answerClassic()
	}
	return true
}

// answer ends a round: its reads may be answered once index is applied.
func (c *Core) answer(round readRound, index uint64) {
	for _, k := range round.keys {
		if k.from == 0 {
			c.out.Reads = append(c.out.Reads, consensus.Read{Key: k.key, Index: index})
		} else {
			c.early(k.from, Message{Kind: ReadAnswer, Tag: k.key, Index: index})
		}
	}
}

// onConfirmed counts a confirmation; it holds for every round begun before.
func (c *Core) onConfirmed(from consensus.ID, m *Message) {
	if !c.leads() || m.Ballot != c.proposer.ballot {
		return
	}
	c.heardFrom(from)
	for i := range c.reader.rounds {
		if round := &c.reader.rounds[i]; round.tag <= m.Tag {
			round.acks |= c.bit(from)
		}
	}
	c.answerConfirmed()
}

// answerConfirmed answers the rounds that a majority confirmed.
func (c *Core) answerConfirmed() {
	r := &c.reader
	for len(r.rounds) > 0 && c.quorum(r.rounds[0].acks) {
		c.answer(r.rounds[0], r.rounds[0].index)
		r.rounds = r.rounds[1:]
	}
}

// onReadAsk serves another node's read.
func (c *Core) onReadAsk(from consensus.ID, m *Message) {
	if c.leads() && len(c.reader.waiting) < c.o.MaxInflight*len(c.voters.Voters) {
		c.reader.waiting = append(c.reader.waiting, readKey{from: from, key: m.Tag})
	}
}

// onReadAnswer ends the round that the distinguished proposer answered.
func (c *Core) onReadAnswer(from consensus.ID, m *Message) {
	r := &c.reader
	for i := range r.rounds {
		if r.rounds[i].tag == m.Tag && !c.leads() && from == c.leadership.leader {
			c.answer(r.rounds[i], m.Index)
			r.rounds = append(r.rounds[:i], r.rounds[i+1:]...)
			return
		}
	}
}

// highestSlot is the highest slot that this node accepted in or knows to be decided.
func (c *Core) highestSlot() uint64 { return max(c.acceptor.accepted.end()-1, c.learner.mark) }

// onSlotAsk answers a quorum read.
func (c *Core) onSlotAsk(from consensus.ID, m *Message) {
	c.send(from, Message{Kind: SlotAnswer, Tag: m.Tag, Slot: c.highestSlot(), Mark: c.learner.mark})
}

// onSlotAnswer counts an answer to a quorum read.
func (c *Core) onSlotAnswer(from consensus.ID, m *Message) {
	c.behind(from, m.Mark)
	if m.Mark > c.learner.mark+slotsAheadMax || m.Slot > m.Mark+slotsAheadMax {
		return // far behind: the question is repeated after catching up
	}
	for i := range c.reader.rounds {
		if round := &c.reader.rounds[i]; round.tag == m.Tag && c.mode == Classic {
			round.acks |= c.bit(from)
			round.slot = max(round.slot, m.Slot)
		}
	}
}

// answerClassic answers the rounds that a majority answered and whose slots are
// all decided; it asks the proposer to see to the others.
func (c *Core) answerClassic() {
	r, k := &c.reader, &c.contention
	kept := r.rounds[:0]
	for _, round := range r.rounds {
		switch {
		case !c.quorum(round.acks):
			kept = append(kept, round)
		case round.slot <= c.learner.mark:
			c.answer(round, c.learner.index)
		default:
			kept = append(kept, round)
			if round.slot > k.fill {
				k.fill, k.fillAge = round.slot, 0
			}
		}
	}
	clear(r.rounds[len(kept):])
	r.rounds = kept
}

// tickReads repeats questions and gives up on reads that nobody answers.
func (c *Core) tickReads() {
	r := &c.reader
	limit := 4 * c.o.ElectionTicks
	if r.waited++; len(r.waiting) == 0 {
		r.waited = 0
	}
	if r.waited >= limit || (len(r.rounds) > 0 && r.rounds[0].age >= limit) {
		c.loseReads("no majority answered")
	}
	for i := range r.rounds {
		round := &r.rounds[i]
		if round.age++; round.age%retryTicks != 0 {
			continue
		}
		switch {
		case c.mode == Classic:
			c.askSlotsAgain(round)
		case !c.leads() && c.leadership.leader != 0:
			c.send(c.leadership.leader, Message{Kind: ReadAsk, Tag: round.tag})
		}
	}
}

// askSlotsAgain repeats a quorum read for those who did not answer.
func (c *Core) askSlotsAgain(round *readRound) {
	for i, id := range c.voters.Voters {
		if round.acks&(1<<i) == 0 && !c.quorum(round.acks) {
			c.send(id, Message{Kind: SlotAsk, Tag: round.tag})
		}
	}
}

// loseReads rejects all own reads and forgets those of others.
func (c *Core) loseReads(reason string) {
	r := &c.reader
	for _, round := range append(r.rounds, readRound{keys: r.waiting}) {
		for _, k := range round.keys {
			if k.from == 0 {
				c.rejectRead(k.key, reason)
			}
		}
	}
	r.rounds, r.waiting, r.waited = nil, nil, 0
}
