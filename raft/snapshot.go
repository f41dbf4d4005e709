package raft

import (
	"fmt"

	"chaos/nodes/consensus"
)

const (
	chunkRetryHeartbeats = 2    // heartbeats without an answer until a chunk is sent again
	retainedMax          = 1024 // entries below its snapshot that a leader keeps for live followers
)

// An outgoing is a snapshot on its way to a follower. One chunk is out at a time.
type outgoing struct {
	snapshot *consensus.Snapshot
	offset   uint64 // of the chunk that is out
	wait     int    // heartbeats since it was sent
}

// An incoming is a snapshot on its way to us. Snapshots of one index need not be
// equal byte by byte, so chunks of two leaders are never mixed.
type incoming struct {
	index, logTerm, total uint64
	data                  []byte
}

// Compact forgets the log up to s.Index and keeps s for followers that need it;
// s.Data must not be written again. It returns what remains of the journal. It
// panics if s is behind what was handed out, older than the last snapshot, or
// of another term than the log.
func (c *Core) Compact(s consensus.Snapshot) []Record {
	var have uint64
	if c.snapshot != nil {
		have = c.snapshot.Index
	}
	if s.Index == 0 || s.Index < have || s.Index > c.applied {
		panic(fmt.Sprintf("raft: %s: a snapshot at %d is not between the last one, %d, and what is applied, %d", c.id, s.Index, have, c.applied))
	}
	if t := c.log.mustTerm(s.Index); t != s.Term {
		panic(fmt.Sprintf("raft: %s: a snapshot at %d has term %d, the log has term %d", c.id, s.Index, s.Term, t))
	}
	if len(s.Voters.Voters) == 0 {
		s.Voters = c.config
	}
	if s.Index > have {
		c.snapshot = &s
		c.log.compact(c.retained(s.Index))
	}
	c.rebase = false
	records := []Record{{Kind: Base, Index: s.Index, Term: s.Term}, c.hardRecord()}
	for _, e := range c.log.from(s.Index+1, c.log.last()) {
		records = append(records, Record{Kind: Entry, Entry: e})
	}
	return records
}

// retained is how far the log may be cut for a snapshot at i: less far while a
// live follower is a little behind.
func (c *Core) retained(i uint64) uint64 {
	low := i
	for _, p := range c.lead.peers {
		switch {
		case p.active && p.state == replicating:
			low = min(low, p.match)
		case p.active && p.state == snapshotting:
			low = min(low, p.transfer.snapshot.Index)
		}
	}
	return max(low, c.log.base, i-min(i, retainedMax))
}

// startTransfer begins to send a follower the snapshot, from its first byte.
func (c *Core) startTransfer(p *progress) {
	if c.snapshot == nil {
		panic(fmt.Sprintf("raft: %s: the log begins at %d and there is no snapshot", c.id, c.log.first()))
	}
	p.probe(p.next)
	p.state, p.transfer.snapshot = snapshotting, c.snapshot
	c.sendChunk(p)
}

func (c *Core) sendChunk(p *progress) {
	t := &p.transfer
	s := t.snapshot
	t.wait = 0
	c.sendEarly(p.id, Message{Kind: Chunk, Index: s.Index, LogTerm: s.Term, Voters: s.Voters, Offset: t.offset,
		Total: uint64(len(s.Data)), Data: s.Data[t.offset:min(t.offset+c.chunk(), uint64(len(s.Data)))]})
}

// chunk is how many bytes of a snapshot go into one message: no more than of
// commands, within reason.
func (c *Core) chunk() uint64 { return uint64(max(chunkBytesMin, min(chunkBytes, c.batchBytes))) }

// retryChunk runs at each heartbeat. It sends the chunk again that was not
// answered, as long as the follower answers heartbeats. A transfer that has
// brought nothing across yet goes on with the newest snapshot.
func (c *Core) retryChunk(p *progress) {
	t := &p.transfer
	if p.state != snapshotting {
		return
	}
	if t.wait++; t.wait < chunkRetryHeartbeats || !p.active {
		return
	}
	if t.offset == 0 {
		t.snapshot = c.snapshot
	}
	c.sendChunk(p)
}

// handleChunk is the receiver's side of InstallSnapshot (paper, figure 13).
func (c *Core) handleChunk(from consensus.ID, m *Message) {
	if !c.hear(from) {
		return
	}
	if m.Index <= c.commit {
		c.incoming = incoming{}
		c.send(from, Message{Kind: AppendAck, Index: c.commit})
		return
	}
	in := &c.incoming
	if in.index != m.Index || in.logTerm != m.LogTerm || in.total != m.Total {
		*in = incoming{index: m.Index, logTerm: m.LogTerm, total: m.Total}
	}
	if m.Offset == uint64(len(in.data)) {
		in.data = append(in.data, m.Data...)
	}
	if uint64(len(in.data)) < in.total {
		c.send(from, Message{Kind: ChunkAck, Index: m.Index, LogTerm: m.LogTerm, Offset: m.Offset, Total: uint64(len(in.data))})
		return
	}
	c.install(consensus.Snapshot{Index: m.Index, Term: m.LogTerm, Voters: m.Voters, Data: in.data})
	c.send(from, Message{Kind: AppendAck, Index: c.commit})
}

// handleChunkAck sends the next chunk, or goes back to what the follower has:
// it may have restarted. The answer to any chunk but the one that is out is late.
func (c *Core) handleChunkAck(from consensus.ID, m *Message) {
	p := c.peer(from)
	if p == nil {
		return
	}
	p.active = true
	t := &p.transfer
	if p.state != snapshotting || m.Index != t.snapshot.Index || m.LogTerm != t.snapshot.Term || m.Offset != t.offset ||
		m.Total == t.offset || m.Total > uint64(len(t.snapshot.Data)) {
		return
	}
	t.offset = m.Total
	c.sendChunk(p)
}

// install replaces the state machine. Entries behind the snapshot are kept if
// the log agrees with it, else the whole log goes (paper 7).
func (c *Core) install(s consensus.Snapshot) {
	c.adopt(s)
	c.incoming = incoming{}
	c.out.Install = c.snapshot
}

// adopt makes s the beginning of the log. It tells whether the log agreed.
func (c *Core) adopt(s consensus.Snapshot) bool {
	agreed := c.log.matches(s.Index, s.Term)
	if agreed {
		c.log.compact(s.Index)
	} else {
		c.log.restart(s.Index, s.Term)
	}
	c.snapshot = &s
	c.commit, c.applied = s.Index, s.Index
	if len(s.Voters.Voters) > 0 {
		c.config = s.Voters
	}
	return agreed
}

// Restore brings back what the journal and the last snapshot hold. Records that
// the snapshot covers may be among them, and so may records of a log that the
// snapshot replaced before the journal was rewritten. It panics where the two
// can't belong together.
func (c *Core) Restore(s *consensus.Snapshot, records []Record) {
	covered := uint64(0)
	if s != nil {
		covered = s.Index
	}
	for _, r := range records {
		switch r.Kind {
		case Hard:
			c.term, c.vote = r.Term, r.Vote
		case Base:
			c.log.restart(r.Index, r.Term)
		case Entry:
			c.restoreEntry(r.Entry, covered)
		}
	}
	if c.log.base > covered {
		panic(fmt.Sprintf("raft: %s: the journal begins behind index %d, and the snapshot ends at %d", c.id, c.log.base, covered))
	}
	if s != nil {
		c.rebase = !c.adopt(*s)
	}
}

// restoreEntry replays one entry: it voids what the log has from its index on.
func (c *Core) restoreEntry(e consensus.Entry, covered uint64) {
	switch {
	case e.Index <= c.log.base:
		return
	case e.Index <= c.log.last():
		c.log.truncate(e.Index)
	case e.Index > c.log.last()+1 && e.Index > covered+1:
		panic(fmt.Sprintf("raft: %s: the journal has no entry between %d and %d", c.id, c.log.last(), e.Index))
	case e.Index > c.log.last()+1:
		c.log.restart(e.Index-1, 0) // an owner may leave out what the snapshot covers, but not the Base that says so
	}
	c.log.append(e)
}
