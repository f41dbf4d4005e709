package paxos

import (
	"fmt"
	"slices"

	"chaos/nodes/consensus"
)

// chunkBytes is the most of a checkpoint that one message carries; MaxBatchBytes
// may allow less.
const chunkBytes = 64 << 10

// transferRetries is how often a lost chunk is asked for at the same peer
// before another peer's checkpoint is fetched from its start.
const transferRetries = 5

// A checkpoint stands for the decided slots up to snapshot.Term. incoming is a
// newer one that is being fetched, chunk by chunk: each chunk is asked for when
// the one before it arrived, so that a lost one is asked for again and nothing
// is ever sent twice without need.
type checkpoint struct {
	snapshot consensus.Snapshot
	incoming *transfer
}

// A transfer is a checkpoint on its way to this node.
type transfer struct {
	from     consensus.ID
	total    uint64             // bytes of the whole
	retries  int                // how often the chunk awaited was asked for again
	snapshot consensus.Snapshot // its Data grows with each chunk
}

// resume tells what to ask peer for: the slot of the checkpoint under way from
// it and the next byte, or 0.
func (k *checkpoint) resume(peer consensus.ID) (slot, offset uint64) {
	if k.incoming == nil || k.incoming.from != peer {
		return 0, 0
	}
	return k.incoming.snapshot.Term, uint64(len(k.incoming.snapshot.Data))
}

// again tells whether the chunk that peer owes should be asked for once more.
func (k *checkpoint) again(peer consensus.ID) bool {
	if k.incoming == nil || k.incoming.from != peer || k.incoming.retries >= transferRetries {
		return false
	}
	k.incoming.retries++
	return true
}

// onFetch sends the next chunk. If the checkpoint was replaced by a newer one,
// it starts over with that.
func (c *Core) onFetch(from consensus.ID, m *Message) {
	snapshot := &c.checkpoint.snapshot
	switch {
	case snapshot.Term == 0:
		return
	case m.Slot != snapshot.Term || m.Offset > uint64(len(snapshot.Data)):
		c.sendChunk(from, 0)
	default:
		c.sendChunk(from, m.Offset)
	}
}

// sendChunk sends the checkpoint's bytes from offset on.
func (c *Core) sendChunk(to consensus.ID, offset uint64) {
	s := &c.checkpoint.snapshot
	end := min(offset+uint64(min(chunkBytes, c.o.MaxBatchBytes)), uint64(len(s.Data)))
	c.send(to, Message{Kind: Chunk, Slot: s.Term, Index: s.Index, Voters: s.Voters.Voters,
		Offset: offset, Total: uint64(len(s.Data)), Data: s.Data[offset:end]})
}

// onChunk takes the next chunk of a checkpoint above this learner's mark, asks
// for the one after it, and installs the checkpoint when it is whole. While one
// is under way from a peer, chunks of others are not wanted.
func (c *Core) onChunk(from consensus.ID, m *Message) {
	in := c.checkpoint.incoming
	if m.Slot <= c.learner.mark {
		if in == nil || in.snapshot.Term <= c.learner.mark {
			c.checkpoint.incoming = nil
			c.answered(from)
		}
		return
	}
	if in != nil && in.from != from && c.learner.asked == in.from {
		return
	}
	if !slices.Equal(m.Voters, c.voters.Voters) || m.Offset+uint64(len(m.Data)) > m.Total || (len(m.Data) == 0 && m.Total > 0) {
		return
	}
	if in == nil || in.from != from || in.snapshot.Term != m.Slot || in.total != m.Total {
		in = &transfer{from: from, total: m.Total, snapshot: consensus.Snapshot{
			Term: m.Slot, Index: m.Index, Voters: consensus.Configuration{Voters: m.Voters}}}
		c.checkpoint.incoming = in
		c.learner.asked, c.learner.waited = from, 0
	}
	if m.Offset != uint64(len(in.snapshot.Data)) {
		return // doubled, or one before it is missing: the timer asks again
	}
	in.snapshot.Data, in.retries = append(in.snapshot.Data, m.Data...), 0
	if uint64(len(in.snapshot.Data)) < in.total {
		c.ask(from)
		return
	}
	c.install(in.snapshot)
	c.answered(from)
}

// answered ends the wait for from.
func (c *Core) answered(from consensus.ID) {
	if c.learner.asked == from {
		c.learner.asked, c.learner.waited = 0, 0
	}
}

// install replaces all that the slots up to s.Term said by s.
func (c *Core) install(s consensus.Snapshot) {
	if s.Index < c.learner.index {
		return // not a checkpoint of this log: it would take commands back
	}
	c.adopt(s)
	c.out.Install, c.out.Committed = &s, nil // what Restore brought back and nobody took yet is in s
	c.installed()
	c.handOut()
}

// adopt makes s the checkpoint and forgets the slots that it covers.
func (c *Core) adopt(s consensus.Snapshot) {
	if validVoters(s.Voters.Voters) {
		c.voters = s.Voters
	}
	s.Voters = c.voters
	c.checkpoint.snapshot, c.checkpoint.incoming = s, nil
	c.acceptor.accepted.dropBelow(s.Term + 1)
	c.learner.decided.dropBelow(s.Term + 1)
	c.learner.first = s.Index + 1
	if s.Term > c.learner.mark {
		c.learner.mark, c.learner.index = s.Term, s.Index
		c.learner.known = max(c.learner.known, s.Term)
	}
}

// Compact makes s this node's checkpoint: it forgets the decided slots up to
// s.Term and keeps s.Data for learners that fell below it. It returns the
// records that must remain: what is promised, accepted and decided above s.
// An older checkpoint than the present one changes nothing.
func (c *Core) Compact(s consensus.Snapshot) []Record {
	if s.Term > c.learner.mark || s.Index > c.learner.index {
		panic(fmt.Sprintf("paxos: %s: compacting to slot %d, index %d above the decided slot %d, index %d",
			c.o.ID, s.Term, s.Index, c.learner.mark, c.learner.index))
	}
	if s.Term >= c.checkpoint.snapshot.Term {
		c.checkWhole(s)
		c.adopt(s)
	}
	return c.remaining()
}

// checkWhole insists that s ends where its last slot ends: the owner may take
// a checkpoint between two outputs, never within the batch of a slot.
func (c *Core) checkWhole(s consensus.Snapshot) {
	index := c.learner.index
	for slot := c.learner.mark; slot > s.Term; slot-- {
		index -= uint64(len(c.learner.decided.at(slot).commands))
	}
	if index != s.Index {
		panic(fmt.Sprintf("paxos: %s: checkpoint at index %d is within slot %d, which ends at index %d", c.o.ID, s.Index, s.Term, index))
	}
}

// remaining is the journal that stands for the present state beside the checkpoint.
func (c *Core) remaining() []Record {
	var records []Record
	if c.reader.life > 0 {
		records = append(records, Record{Kind: RecordLife, Slot: c.reader.life})
	}
	if c.contention.recorded > 0 {
		records = append(records, Record{Kind: RecordRounds, Slot: c.contention.recorded})
	}
	if !c.acceptor.promised.IsZero() {
		records = append(records, Record{Kind: RecordPromised, Ballot: c.acceptor.promised})
	}
	for slot := c.acceptor.accepted.first; slot < c.acceptor.accepted.end(); slot++ {
		if p := c.acceptor.accepted.at(slot); !p.Ballot.IsZero() {
			records = append(records, Record{Kind: RecordAccepted, Ballot: p.Ballot, Slot: slot, Commands: p.Commands})
		}
	}
	for slot := c.learner.decided.first; slot < c.learner.decided.end(); slot++ {
		if d := c.learner.decided.at(slot); d.known && d.learned {
			records = append(records, Record{Kind: RecordLearned, Slot: slot, Commands: d.commands})
		}
	}
	if c.learner.mark > c.checkpoint.snapshot.Term {
		records = append(records, Record{Kind: RecordMark, Slot: c.learner.mark})
	}
	c.learner.noted = c.learner.mark
	return records
}

// Restore brings back what a former incarnation made durable: the checkpoint,
// then the journal. Decisions that the journal holds are handed out with the
// first output.
func (c *Core) Restore(s *consensus.Snapshot, records []Record) {
	if s != nil {
		c.adopt(*s)
	}
	for i := range records {
		c.restoreRecord(&records[i])
	}
	for slot := c.learner.mark + 1; slot <= c.learner.noted; slot++ {
		if c.learner.isDecided(slot) {
			continue
		}
		p := c.acceptor.accepted.at(slot)
		if p == nil || p.Ballot.IsZero() {
			panic(fmt.Sprintf("paxos: %s: the journal says that slot %d is decided but has no value for it", c.o.ID, slot))
		}
		c.learner.decide(slot, p.Commands, false)
	}
	c.handOut()
}

// restoreRecord takes one record; one that the checkpoint covers only counts
// for the ballot in it.
func (c *Core) restoreRecord(r *Record) {
	base := c.checkpoint.snapshot.Term
	switch r.Kind {
	case RecordPromised:
		c.acceptor.promised = highest(c.acceptor.promised, r.Ballot)
	case RecordAccepted:
		c.acceptor.promised = highest(c.acceptor.promised, r.Ballot)
		if r.Slot > base && !r.Ballot.Less(c.acceptor.acceptedIn(r.Slot)) {
			*c.acceptor.accepted.extend(r.Slot) = Proposal{Slot: r.Slot, Ballot: r.Ballot, Commands: r.Commands}
		}
	case RecordLearned:
		if r.Slot > base && !c.learner.isDecided(r.Slot) {
			*c.learner.decided.extend(r.Slot) = decision{known: true, learned: true, commands: r.Commands}
			c.learner.known = max(c.learner.known, r.Slot)
		}
	case RecordMark:
		c.learner.noted = max(c.learner.noted, r.Slot)
	case RecordLife:
		c.reader.life = max(c.reader.life, r.Slot)
	case RecordRounds:
		c.contention.recorded = max(c.contention.recorded, r.Slot)
		c.proposer.seen = max(c.proposer.seen, r.Slot)
	default:
		panic(fmt.Sprintf("paxos: %s: record of unknown kind %d", c.o.ID, r.Kind))
	}
}

// validVoters tells whether ids can be a configuration: ascending, no doubles,
// at least one, at most votersMax.
func validVoters(ids []consensus.ID) bool {
	if len(ids) == 0 || len(ids) > votersMax || ids[0] == 0 {
		return false
	}
	for i := 1; i < len(ids); i++ {
		if ids[i] <= ids[i-1] {
			return false
		}
	}
	return true
}
