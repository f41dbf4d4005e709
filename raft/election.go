package raft

import (
	"slices"

	"chaos/nodes/consensus"
)

// After a hint that the leader died the time-outs are short: hurriedBase to
// hurriedBase+hurriedSpread-1 ticks, hurriedElections times.
const (
	hurriedElections = 4
	hurriedBase      = 2
	hurriedSpread    = 5
)

// A ballot is what a candidate has heard; its own vote is among granted.
type ballot struct {
	force            bool // the leader asked for this election
	granted, refused []consensus.ID
}

func (b *ballot) answered(id consensus.ID) bool {
	return slices.Contains(b.granted, id) || slices.Contains(b.refused, id)
}

// resetElection begins a new wait: a randomised time-out in [base, 2*base)
// ticks (paper 5.2), or a short one in a hurry.
func (c *Core) resetElection() {
	c.elapsed = 0
	c.timeout = c.electionTicks + c.rand.IntN(c.electionTicks)
	if c.hurry > 0 {
		c.hurry--
		c.timeout = min(hurriedBase+c.rand.IntN(hurriedSpread), c.electionTicks)
	}
}

// tickElection lets time pass for everyone who does not lead.
func (c *Core) tickElection() {
	c.tickReads()
	if c.bootstrap {
		c.bootstrap = false
		if c.term == 0 && c.log.last() == 0 && c.config.Voters[0] == c.id {
			c.stand(false)
			return
		}
	}
	c.elapsed++
	switch {
	case c.elapsed >= c.timeout:
		c.standPreVote()
	case c.role != follower && c.elapsed%c.heartbeatTicks == 0:
		c.requestVotes() // to those whose answer is missing (paper 5.1)
	}
}

// hearsLeader tells whether a vote must be refused because a leader is there
// (thesis 4.2.3). A leader hears itself; check-quorum bounds how long.
func (c *Core) hearsLeader() bool {
	return c.role == leader || (c.leader != 0 && c.elapsed < c.electionTicks)
}

// standPreVote asks who would vote for us, without entering a new term (thesis 9.6).
func (c *Core) standPreVote() {
	if !c.config.Contains(c.id) {
		c.resetElection()
		return
	}
	c.setLeader(0)
	c.beginElection(precandidate)
}

// stand enters a new term as its candidate (paper 5.2).
func (c *Core) stand(force bool) {
	c.setLeader(0)
	c.setHard(c.term+1, 0)
	c.setHard(c.term, c.id)
	c.beginElection(candidate)
	c.ballot.force = force
	if c.role == candidate {
		c.requestVotes()
	}
}

// beginElection counts our own vote and, as a precandidate, asks for others.
func (c *Core) beginElection(r role) {
	c.role = r
	c.ballot = ballot{granted: []consensus.ID{c.id}}
	c.resetElection()
	if r == precandidate {
		c.requestVotes()
	}
	c.countVotes()
}

// requestVotes asks every voter that has not answered.
func (c *Core) requestVotes() {
	for _, id := range c.config.Voters {
		if c.ballot.answered(id) {
			continue
		}
		m := Message{Kind: Vote, Index: c.log.last(), LogTerm: c.log.lastTerm(), Force: c.ballot.force}
		if c.role == precandidate {
			m.Kind = PreVote
		}
		c.send(id, m)
		if m.Kind == PreVote {
			c.out.Messages[len(c.out.Messages)-1].Message.Term = c.term + 1
		}
	}
}

// upToDate tells whether a log with that end is at least as up-to-date as ours
// (paper 5.4.1): the later last term wins, then the longer log.
func (c *Core) upToDate(index, term uint64) bool {
	mine := c.log.lastTerm()
	return term > mine || (term == mine && index >= c.log.last())
}

func (c *Core) handlePreVote(from consensus.ID, m *Message) {
	if m.Term > c.term && !c.hearsLeader() && c.upToDate(m.Index, m.LogTerm) {
		c.send(from, Message{Kind: PreVoteReply})
		c.out.Messages[len(c.out.Messages)-1].Message.Term = m.Term
		return
	}
	c.send(from, Message{Kind: PreVoteReply, Reject: true})
}

// handleVote grants one vote a term, first come first served (paper 5.2), to a
// candidate whose log is up-to-date (5.4.1).
func (c *Core) handleVote(from consensus.ID, m *Message) {
	if (c.vote != 0 && c.vote != from) || !c.upToDate(m.Index, m.LogTerm) {
		c.send(from, Message{Kind: VoteReply, Reject: true})
		return
	}
	if c.vote == 0 {
		c.setHard(c.term, from)
	}
	if c.role != follower {
		c.becomeFollower(c.term, 0)
	}
	c.resetElection()
	c.send(from, Message{Kind: VoteReply})
}

func (c *Core) handlePreVoteReply(from consensus.ID, m *Message) {
	if c.role == precandidate && (m.Reject || m.Term == c.term+1) {
		c.tally(from, m.Reject)
	}
}

func (c *Core) handleVoteReply(from consensus.ID, m *Message) {
	if c.role == candidate {
		c.tally(from, m.Reject)
	}
}

func (c *Core) tally(from consensus.ID, reject bool) {
	if c.ballot.answered(from) {
		return
	}
	if reject {
		c.ballot.refused = append(c.ballot.refused, from)
	} else {
		c.ballot.granted = append(c.ballot.granted, from)
	}
	c.countVotes()
}

// countVotes goes on with a majority, and gives up when none is possible.
func (c *Core) countVotes() {
	quorum := c.config.Quorum()
	switch {
	case len(c.ballot.granted) >= quorum && c.role == precandidate:
		c.stand(false)
	case len(c.ballot.granted) >= quorum:
		c.becomeLeader()
	case len(c.config.Voters)-len(c.ballot.refused) < quorum:
		c.becomeFollower(c.term, 0)
	}
}

// becomeFollower enters a term, or goes back from candidate or leader in ours.
// A follower keeps its time-out: only hearing a leader and granting a vote reset it.
func (c *Core) becomeFollower(term uint64, of consensus.ID) {
	if term > c.term {
		c.setHard(term, 0)
	}
	c.setLeader(of)
	if c.role != follower {
		c.role = follower
		c.resetElection()
	}
	c.ballot, c.lead = ballot{}, leadership{}
}

// hear notes a message of the leader of our term. It is false for one that
// can't be true: two leaders of one term.
func (c *Core) hear(from consensus.ID) bool {
	if c.role == leader || (c.leader != 0 && c.leader != from) {
		return false
	}
	if c.role != follower {
		c.becomeFollower(c.term, from)
	}
	c.setLeader(from)
	c.hurry, c.elapsed = 0, 0
	if c.timeout < c.electionTicks {
		c.resetElection()
	}
	return true
}

// handleTimeoutNow ends a transfer of leadership: the leader asks us to stand
// at once, without a pre-vote (thesis 3.10).
func (c *Core) handleTimeoutNow(from consensus.ID) {
	if from == c.leader && c.role == follower && c.config.Contains(c.id) {
		c.stand(true)
	}
}

// Transfer hands leadership to another voter: proposals are refused until it
// has our whole log and takes over, at most an election time-out long. Anywhere
// but at a leader it does nothing.
func (c *Core) Transfer(to consensus.ID) output {
	if p := c.peer(to); p != nil {
		c.lead.transferee, c.lead.transferElapsed = to, 0
		c.transferIfReady(p)
	}
	return c.take()
}

func (c *Core) transferIfReady(p *progress) {
	if c.lead.transferee == p.id && p.match == c.log.last() {
		c.sendEarly(p.id, Message{Kind: TimeoutNow})
	}
}
