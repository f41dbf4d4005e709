package raft

import "chaos/nodes/consensus"

// The bounds of what is remembered of reads.
const (
	readsMax        = 8192 // reads waiting at one node, of its own and of others
	readExpiryElect = 2    // election time-outs until a follower gives up on its leader's answer
)

// A reader is one read that waits: our own, or a batch of another node.
type reader struct {
	origin consensus.ID
	key    uint64
}

// reads are those that wait. One batch at a time is under way; what comes
// meanwhile waits for the next, because a read needs a proof of leadership that
// began after it was asked (thesis 6.4).
//
// At a leader the batch is a round of heartbeats, at a follower a request to
// its leader.
type reads struct {
	id       uint64 // a follower's request: unique across incarnations, but for chance
	round    uint64 // a leader's round, counted within its term
	index    uint64 // a leader's commit index as the round began
	age      int    // ticks since a follower's request was first sent
	waiting  []reader
	underway []reader
}

// Read asks for the index at which the linearizable read key may be answered.
// A leader confirms that it leads first; a follower asks its leader.
func (c *Core) Read(key uint64) output {
	switch {
	case c.leader == 0:
		c.rejectRead(key, "no leader")
	case c.readsFull():
		c.rejectRead(key, "too many reads")
	default:
		c.reads.waiting = append(c.reads.waiting, reader{c.id, key})
		c.startBatch()
	}
	return c.take()
}

func (c *Core) readsFull() bool { return len(c.reads.waiting)+len(c.reads.underway) >= readsMax }

func (c *Core) rejectRead(key uint64, reason string) {
	c.out.Rejected = append(c.out.Rejected, consensus.Rejection{Key: key, Read: true, Leader: c.leader, Reason: reason})
}

func (c *Core) startBatch() {
	if c.role == leader {
		c.startRound()
	} else {
		c.startRequest()
	}
}

// startRound begins a round of heartbeats for the reads that wait. A new leader
// does not know the commit index before its no-op is committed (paper 8).
func (c *Core) startRound() {
	r := &c.reads
	if len(r.underway) > 0 || len(r.waiting) == 0 || c.commit < c.lead.start {
		return
	}
	r.underway, r.waiting = r.waiting, nil
	r.round++
	r.index = c.commit
	for i := range c.lead.peers {
		c.sendHeartbeat(&c.lead.peers[i])
	}
	c.confirmReads()
}

// confirmReads answers the round when a majority, we among them, has answered it.
func (c *Core) confirmReads() {
	r := &c.reads
	if len(r.underway) == 0 {
		return
	}
	n := 1
	for i := range c.lead.peers {
		if c.lead.peers[i].round >= r.round {
			n++
		}
	}
	if n < c.config.Quorum() {
		return
	}
	for _, d := range r.underway {
		if d.origin == c.id {
			c.out.Reads = append(c.out.Reads, consensus.Read{Key: d.key, Index: r.index})
		} else if p := c.peer(d.origin); p != nil {
			p.commit = max(p.commit, min(c.commit, p.match))
			c.send(d.origin, Message{Kind: ReadAnswer, Key: d.key, Index: r.index, Commit: min(c.commit, p.match)})
		}
	}
	r.underway = nil
	c.startRound()
}

// startRequest asks the leader for the reads that wait.
func (c *Core) startRequest() {
	r := &c.reads
	if len(r.underway) > 0 || len(r.waiting) == 0 {
		return
	}
	r.underway, r.waiting = r.waiting, nil
	r.id++
	r.age = 0
	c.send(c.leader, Message{Kind: Read, Key: r.id})
}

// tickReads asks again, and gives up in the end.
func (c *Core) tickReads() {
	r := &c.reads
	if len(r.underway) == 0 {
		return
	}
	r.age++
	switch {
	case r.age >= readExpiryElect*c.electionTicks:
		c.failReads("the leader does not answer")
	case r.age%c.heartbeatTicks == 0:
		c.send(c.leader, Message{Kind: Read, Key: r.id})
	}
}

// handleRead takes another node's batch of reads, once however often it is sent.
func (c *Core) handleRead(from consensus.ID, m *Message) {
	if c.role != leader || c.readsFull() {
		c.send(from, Message{Kind: ReadAnswer, Key: m.Key, Reject: true})
		return
	}
	d := reader{from, m.Key}
	for _, have := range c.reads.waiting {
		if have == d {
			return
		}
	}
	for _, have := range c.reads.underway {
		if have == d {
			return
		}
	}
	c.reads.waiting = append(c.reads.waiting, d)
	c.startRound()
}

func (c *Core) handleReadAnswer(from consensus.ID, m *Message) {
	r := &c.reads
	if c.role == leader || from != c.leader || len(r.underway) == 0 || m.Key != r.id {
		return
	}
	if m.Reject {
		c.failReads("the leader refused")
		return
	}
	c.commitTo(min(m.Commit, c.log.last()))
	for _, d := range r.underway {
		c.out.Reads = append(c.out.Reads, consensus.Read{Key: d.key, Index: m.Index})
	}
	r.underway = nil
	c.startRequest()
}

// failReads refuses every read that waits: whoever was to confirm them can't.
func (c *Core) failReads(reason string) {
	r := &c.reads
	for _, list := range [][]reader{r.underway, r.waiting} {
		for _, d := range list {
			if d.origin == c.id {
				c.rejectRead(d.key, reason)
			} else {
				c.send(d.origin, Message{Kind: ReadAnswer, Key: d.key, Reject: true})
			}
		}
	}
	r.underway, r.waiting, r.round = nil, nil, 0
}
