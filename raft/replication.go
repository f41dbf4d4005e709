package raft

import (
	"fmt"
	"slices"

	"chaos/nodes/consensus"
)

// inflightMessagesMax bounds the appends sent to one follower and not yet
// acknowledged; each holds at most Options.MaxBatchBytes.
const inflightMessagesMax = 256

// A leadership is what a leader keeps beside its log.
type leadership struct {
	peers           []progress // every other voter, ascending
	start           uint64     // index of the no-op that began the term
	heartbeat       int        // ticks since the last heartbeat
	check           int        // ticks since check-quorum
	transferee      consensus.ID
	transferElapsed int // ticks since Transfer
	matches         []uint64
}

// A state is how a leader sends to one follower.
type state uint8

const (
	probing      state = iota // where the logs part is unknown: one append at a time
	replicating               // appends are sent ahead of acknowledgements
	snapshotting              // what it needs is compacted
)

// A progress is what a leader knows of one follower.
type progress struct {
	id       consensus.ID
	state    state
	match    uint64   // matchIndex: known to be held, durably
	next     uint64   // nextIndex
	commit   uint64   // the highest commit index it was told
	round    uint64   // the highest round of reads that it answered
	waiting  bool     // probing: an append is out
	active   bool     // heard of since the last check-quorum
	inflight []uint64 // replicating: last index of each append that is out
	transfer outgoing // snapshotting
}

func (p *progress) probe(next uint64) {
	p.state, p.next, p.waiting = probing, next, false
	p.commit = min(p.commit, p.match)
	p.inflight, p.transfer = p.inflight[:0], outgoing{}
}

func (p *progress) replicate() {
	p.probe(p.match + 1)
	p.state = replicating
}

// reset forgets what was on its way over a connection that broke.
func (p *progress) reset() {
	p.waiting = false
	if p.state == replicating {
		p.probe(p.match + 1)
	}
}

// peer is the progress of a follower; nil for anyone else and unless we lead.
func (c *Core) peer(id consensus.ID) *progress {
	for i := range c.lead.peers {
		if c.lead.peers[i].id == id {
			return &c.lead.peers[i]
		}
	}
	return nil
}

// becomeLeader begins a term with a no-op: entries of earlier terms can only be
// committed together with one of this term (paper 5.4.2, 8).
func (c *Core) becomeLeader() {
	c.role, c.hurry = leader, 0
	c.setLeader(c.id)
	c.ballot = ballot{}
	c.lead = leadership{start: c.log.last() + 1}
	for _, id := range c.config.Voters {
		if id != c.id {
			c.lead.peers = append(c.lead.peers, progress{id: id, next: c.lead.start})
		}
	}
	c.appendOwn(consensus.Noop, consensus.Command{Origin: c.id})
}

// appendOwn appends an entry of our term and sends it to every follower.
func (c *Core) appendOwn(kind consensus.Kind, cmd consensus.Command) {
	e := consensus.Entry{Index: c.log.last() + 1, Term: c.term, Kind: kind, Command: cmd}
	c.log.append(e)
	c.out.Records = append(c.out.Records, Record{Kind: Entry, Entry: e})
	for i := range c.lead.peers {
		c.replicate(&c.lead.peers[i])
	}
	c.advanceCommit()
}

// Propose asks to have cmd decided. A follower forwards it to its leader.
func (c *Core) Propose(cmd consensus.Command) output {
	switch reason := c.refusal(); {
	case reason != "":
		c.out.Rejected = append(c.out.Rejected, consensus.Rejection{Key: cmd.Serial, Leader: c.leader, Reason: reason})
	case c.role == leader:
		c.appendOwn(consensus.Normal, cmd)
	default:
		c.send(c.leader, Message{Kind: Propose, Entries: []consensus.Entry{{Command: cmd}}})
	}
	return c.take()
}

// refusal says why nothing can be proposed here and now; "" if it can.
func (c *Core) refusal() string {
	switch {
	case c.leader == 0:
		return "no leader"
	case c.role != leader:
		return ""
	case c.lead.transferee != 0:
		return "leadership is being transferred"
	case c.log.last()-c.commit >= uint64(c.inflightMax):
		return "too many in flight"
	}
	return ""
}

// Lost tells whether a command that was proposed in term, and not decided before
// e was, has lost its place: entries are decided in the order of their terms.
// Only a copy that is still on its way to a later leader could be decided yet.
func (c *Core) Lost(term uint64, e consensus.Entry) bool { return e.Term > term }

// handlePropose takes a forwarded command. One that can't be taken is dropped:
// its copy may still come, so nobody could call it refused.
func (c *Core) handlePropose(cmd consensus.Command) {
	if c.role == leader && c.refusal() == "" {
		c.appendOwn(consensus.Normal, cmd)
	}
}

// tickLeader lets time pass for a leader.
func (c *Core) tickLeader() {
	l := &c.lead
	if l.transferElapsed++; l.transferElapsed >= c.electionTicks {
		l.transferee = 0
	}
	if l.check++; l.check >= c.electionTicks && !c.checkQuorum() {
		c.becomeFollower(c.term, 0)
		return
	}
	if l.heartbeat++; l.heartbeat < c.heartbeatTicks {
		return
	}
	l.heartbeat = 0
	for i := range l.peers {
		c.sendHeartbeat(&l.peers[i])
		c.retryChunk(&l.peers[i])
	}
}

// checkQuorum tells whether a majority was heard of within the last election
// time-out (thesis 6.2).
func (c *Core) checkQuorum() bool {
	c.lead.check = 0
	active := 1
	for i := range c.lead.peers {
		if c.lead.peers[i].active {
			active++
		}
		c.lead.peers[i].active = false
	}
	return active >= c.config.Quorum()
}

// replicate sends a follower what it lacks, as far as its state allows.
func (c *Core) replicate(p *progress) {
	for p.next <= c.log.last() {
		switch {
		case p.state == snapshotting, p.state == probing && p.waiting, len(p.inflight) >= inflightMessagesMax:
			return
		case p.next < c.log.first():
			c.startTransfer(p)
			return
		}
		entries := c.log.batch(p.next, c.batchBytes)
		c.sendAppend(p, p.next-1, entries)
		if p.state == probing {
			p.waiting = true
			return
		}
		p.next += uint64(len(entries))
		p.inflight = append(p.inflight, p.next-1)
	}
}

func (c *Core) sendAppend(p *progress, prev uint64, entries []consensus.Entry) {
	p.commit = max(p.commit, min(c.commit, prev+uint64(len(entries))))
	c.sendEarly(p.id, Message{Kind: Append, Index: prev, LogTerm: c.log.mustTerm(prev),
		Entries: entries, Commit: c.commit, Round: c.reads.round})
}

// sendHeartbeat sends an empty append behind what was sent last, so that a
// follower that lost some of it says so.
func (c *Core) sendHeartbeat(p *progress) {
	if p.state == snapshotting {
		s := p.transfer.snapshot
		c.sendEarly(p.id, Message{Kind: Append, Index: s.Index, LogTerm: s.Term, Commit: c.commit, Round: c.reads.round})
		return
	}
	c.sendAppend(p, max(p.next-1, c.log.base), nil)
}

// sendCommit tells a follower how much of what it holds is committed, unless it knows.
func (c *Core) sendCommit(p *progress) {
	if known := min(c.commit, p.match); known > p.commit {
		p.commit = known
		c.sendEarly(p.id, Message{Kind: Commit, Commit: known})
	}
}

// handleAppend is the receiver's side of AppendEntries (paper, figure 2).
func (c *Core) handleAppend(from consensus.ID, m *Message) {
	if !c.hear(from) {
		return
	}
	if m.Index > c.commit && !c.log.matches(m.Index, m.LogTerm) {
		c.refuseAppend(from, m)
		return
	}
	match := m.Index + uint64(len(m.Entries))
	c.store(m.Entries)
	c.commitTo(min(m.Commit, match))
	// What is committed here is in every later leader's log (paper 5.4.3).
	c.send(from, Message{Kind: AppendAck, Index: max(match, c.commit), Round: m.Round})
}

// refuseAppend says where to try next: at our end, or at the first entry of
// the conflicting term, so that each term costs one round (end of paper 5.3).
func (c *Core) refuseAppend(from consensus.ID, m *Message) {
	ack := Message{Kind: AppendAck, Reject: true, Index: m.Index, Hint: c.log.last() + 1, Round: m.Round}
	if t, ok := c.log.term(m.Index); ok {
		ack.Hint, ack.LogTerm = max(c.log.firstOfTerm(m.Index), c.commit+1), t
	}
	c.send(from, ack)
}

// store appends the entries that are new. An entry that conflicts with ours
// drops ours and all behind it; what is committed can't conflict.
func (c *Core) store(entries []consensus.Entry) {
	for i, e := range entries {
		if e.Index <= c.commit || c.log.matches(e.Index, e.Term) {
			continue
		}
		if e.Index <= c.log.last() {
			c.log.truncate(e.Index)
		}
		c.log.append(entries[i:]...)
		for _, e := range entries[i:] {
			c.out.Records = append(c.out.Records, Record{Kind: Entry, Entry: e})
		}
		return
	}
}

// handleCommit trusts the leader that we hold everything up to the index: it
// says so only of what we acknowledged to it in this term.
func (c *Core) handleCommit(from consensus.ID, m *Message) {
	if c.hear(from) {
		c.commitTo(min(m.Commit, c.log.last()))
	}
}

func (c *Core) handleAppendAck(from consensus.ID, m *Message) {
	p := c.peer(from)
	if p == nil || m.Index > c.log.last() {
		return
	}
	p.active = true
	p.round = max(p.round, min(m.Round, c.reads.round))
	if m.Reject {
		c.refused(p, m)
	} else {
		c.acknowledged(p, m.Index)
	}
	c.confirmReads()
}

func (c *Core) acknowledged(p *progress, match uint64) {
	p.match = max(p.match, match)
	switch {
	case p.state == snapshotting && p.match < min(c.log.base, p.transfer.snapshot.Index):
		return // an answer from before the transfer
	case p.state != replicating:
		p.replicate()
	default:
		p.next = max(p.next, p.match+1)
		n, _ := slices.BinarySearch(p.inflight, p.match+1)
		p.inflight = slices.Delete(p.inflight, 0, n)
	}
	c.advanceCommit()
	c.replicate(p)
	c.sendCommit(p)
	c.transferIfReady(p)
}

// refused moves nextIndex back. Where we have entries of the follower's
// conflicting term, the logs may agree up to our last of them.
func (c *Core) refused(p *progress, m *Message) {
	stale := m.Index <= p.match || p.state == snapshotting ||
		(p.state == probing && m.Index != max(p.next-1, c.log.base))
	if stale || m.Hint == 0 {
		return
	}
	next := m.Hint
	if i := c.log.lastOfTerm(m.LogTerm, m.Index); m.LogTerm > 0 && i > 0 {
		next = i + 1
	}
	p.probe(max(min(next, m.Index), p.match+1))
	c.replicate(p)
}

// advanceCommit commits what a majority holds, if it is of our own term: an
// entry of an earlier term that a majority holds may still be overwritten, and
// is committed only by an entry of this term behind it (paper 5.4.2).
func (c *Core) advanceCommit() {
	if c.log.last() <= c.commit {
		return
	}
	c.lead.matches = append(c.lead.matches[:0], c.log.last())
	for i := range c.lead.peers {
		c.lead.matches = append(c.lead.matches, c.lead.peers[i].match)
	}
	slices.Sort(c.lead.matches)
	n := c.lead.matches[len(c.lead.matches)-c.config.Quorum()]
	if n <= c.commit || c.log.mustTerm(n) != c.term {
		return
	}
	c.commitTo(n)
	for i := range c.lead.peers {
		c.sendCommit(&c.lead.peers[i])
	}
	c.startRound()
}

// commitTo raises the commit index and hands out what is newly committed.
func (c *Core) commitTo(i uint64) {
	if i <= c.commit {
		return
	}
	if i > c.log.last() {
		panic(fmt.Sprintf("raft: %s: commit index %d is behind the end of the log, %d", c.id, i, c.log.last()))
	}
	c.commit = i
	c.out.Committed = append(c.out.Committed, c.log.from(c.applied+1, i)...)
	c.applied = i
}
