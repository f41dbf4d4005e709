package raft

import (
	"fmt"
	"math/rand/v2"

	"chaos/nodes/consensus"
)

type (
	output   = consensus.Output[Message, Record]
	envelope = consensus.Envelope[Message]
)

var (
	_ consensus.Core[Message, Record]  = (*Core)(nil)
	_ consensus.Codec[Message, Record] = Codec{}
)

// A role is what a server is (paper 5.1), and the pre-vote's waiting room.
type role uint8

const (
	follower role = iota
	precandidate
	candidate
	leader
)

var roleNames = [...]string{"follower", "precandidate", "candidate", "leader"}

// A Core is one server of Raft. Its owner calls it serially and carries out
// every Output before the next call, or gathers them; see the package text.
type Core struct {
	// Fixed when it is made.
	id             consensus.ID
	heartbeatTicks int
	electionTicks  int
	inflightMax    int // entries appended and not yet committed
	batchBytes     int
	rand           *rand.Rand

	// Durable: every change is a Record (paper, figure 2).
	term     uint64       // currentTerm
	vote     consensus.ID // votedFor
	log      raftLog
	snapshot *consensus.Snapshot // nil: none
	rebase   bool                // the journal must be told that the log starts anew

	// Volatile.
	config    consensus.Configuration
	role      role
	leader    consensus.ID // 0: unknown
	commit    uint64       // commitIndex
	applied   uint64       // lastApplied: handed out in Committed
	elapsed   int          // ticks since the leader was heard or the election began
	timeout   int          // ticks until the next election
	hurry     int          // time-outs that will be short ones
	bootstrap bool         // stand at the next tick
	ballot    ballot       // candidates
	reads     reads
	incoming  incoming // a snapshot on its way to us

	lead leadership // leaders
	out  output     // of the call that runs
	told output     // of the call before: its memory is used by the next
}

// The defaults for Options left zero.
const (
	defaultInflight   = 4096      // commands
	defaultBatchBytes = 256 << 10 // bytes
)

// New makes a core. Restore must be called before anything else. It panics if
// o has no source of randomness, no time-outs, or voters out of order.
func New(o consensus.Options) *Core {
	if o.Rand == nil || o.ID == 0 || o.HeartbeatTicks < 1 || o.ElectionTicks <= o.HeartbeatTicks {
		panic(fmt.Sprintf("raft: %s: options need a name, a source of randomness, and heartbeats (%d ticks) more frequent than elections (%d ticks)",
			o.ID, o.HeartbeatTicks, o.ElectionTicks))
	}
	if !votersWellFormed(o.Voters.Voters) {
		panic(fmt.Sprintf("raft: %s: voters %v must be some, ascending, without doubles", o.ID, o.Voters.Voters))
	}
	c := &Core{
		id: o.ID, heartbeatTicks: o.HeartbeatTicks, electionTicks: o.ElectionTicks,
		inflightMax: o.MaxInflight, batchBytes: o.MaxBatchBytes, rand: o.Rand,
		config: o.Voters, bootstrap: o.Bootstrap,
	}
	if c.inflightMax <= 0 {
		c.inflightMax = defaultInflight
	}
	if c.batchBytes <= 0 {
		c.batchBytes = defaultBatchBytes
	}
	c.reads.id = c.rand.Uint64() >> 2 // answers to earlier incarnations must not fit
	c.resetElection()
	return c
}

// Tick tells that one tick of time has passed.
func (c *Core) Tick() output {
	if c.role == leader {
		c.tickLeader()
	} else {
		c.tickElection()
	}
	return c.take()
}

// Receive takes a message. It ignores what is malformed, meant for another
// node, or from someone who does not vote.
func (c *Core) Receive(e envelope) output {
	if e.To == c.id && e.From != c.id && c.config.Contains(e.From) && e.Message.wellFormed() {
		c.dispatch(e.From, &e.Message)
	}
	return c.take()
}

func (c *Core) dispatch(from consensus.ID, m *Message) {
	if !c.meetTerm(from, m) {
		return
	}
	switch m.Kind {
	case Append:
		c.handleAppend(from, m)
	case AppendAck:
		c.handleAppendAck(from, m)
	case Commit:
		c.handleCommit(from, m)
	case PreVote:
		c.handlePreVote(from, m)
	case PreVoteReply:
		c.handlePreVoteReply(from, m)
	case Vote:
		c.handleVote(from, m)
	case VoteReply:
		c.handleVoteReply(from, m)
	case Chunk:
		c.handleChunk(from, m)
	case ChunkAck:
		c.handleChunkAck(from, m)
	case TimeoutNow:
		c.handleTimeoutNow(from)
	case Propose:
		c.handlePropose(m.Entries[0].Command)
	case Read:
		c.handleRead(from, m)
	case ReadAnswer:
		c.handleReadAnswer(from, m)
	}
}

// meetTerm compares terms (paper 5.1): a higher one makes a follower of us, a
// lower one is answered where that helps the sender. It tells whether the
// message is to be handled.
func (c *Core) meetTerm(from consensus.ID, m *Message) bool {
	switch {
	case m.Term > c.term:
		if m.Kind == PreVote || (m.Kind == PreVoteReply && !m.Reject) {
			return true // a term that nobody has entered yet
		}
		if m.Kind == Vote && !m.Force && c.hearsLeader() {
			return false
		}
		c.becomeFollower(m.Term, 0)
	case m.Term < c.term:
		switch m.Kind {
		case Append, Commit, Chunk: // an old leader: its answer tells it of our term
			c.send(from, Message{Kind: AppendAck, Reject: true})
		case Vote:
			c.send(from, Message{Kind: VoteReply, Reject: true})
		case PreVote, Propose, Read:
			return true
		}
		return false
	}
	return true
}

// Status is a cheap copy of the public state.
func (c *Core) Status() consensus.Status {
	return consensus.Status{
		ID: c.id, Role: roleNames[c.role], Leader: c.leader, Term: c.term, Vote: c.vote,
		Commit: c.commit, Applied: c.applied, First: c.log.first(), Last: c.log.last(),
	}
}

// PeerReset tells that a connection to id broke. If id leads, it is forgotten
// and an election begins: at once at the voter that follows id in the ring of
// names, a tick or two later at the others, so that they seldom collide.
func (c *Core) PeerReset(id consensus.ID) output {
	if p := c.peer(id); p != nil {
		p.reset()
	}
	if id == c.leader && c.role == follower && c.config.Contains(c.id) {
		c.setLeader(0)
		c.hurry = hurriedElections
		if c.successor(id) == c.id {
			c.standPreVote()
		} else {
			c.elapsed, c.timeout = 0, 1+c.rand.IntN(2)
		}
	}
	return c.take()
}

// successor is the voter after id, the lowest after the highest.
func (c *Core) successor(id consensus.ID) consensus.ID {
	for _, v := range c.config.Voters {
		if v > id {
			return v
		}
	}
	return c.config.Voters[0]
}

// take ends a call: it returns what the call asks of the world, valid until the
// next input.
func (c *Core) take() output {
	o := c.out
	c.out, c.told = c.told, o
	c.out.Reset()
	if c.rebase && len(o.Records) > 0 && o.Install == nil {
		base := Record{Kind: Base, Index: c.log.base, Term: c.log.baseTerm}
		o.Records = append([]Record{base}, o.Records...)
		c.rebase = false
	}
	return o
}

// send queues a message in our term that must wait for the records of this call.
func (c *Core) send(to consensus.ID, m Message) {
	m.Term = c.term
	c.out.Messages = append(c.out.Messages, envelope{From: c.id, To: to, Message: m})
}

// sendEarly queues a leader's message, which need not wait for its own records.
func (c *Core) sendEarly(to consensus.ID, m Message) {
	m.Term = c.term
	c.out.Early = append(c.out.Early, envelope{From: c.id, To: to, Message: m})
}

// setHard changes term and vote and records it.
func (c *Core) setHard(term uint64, vote consensus.ID) {
	if term < c.term || (term == c.term && c.vote != 0 && c.vote != vote) {
		panic(fmt.Sprintf("raft: %s: term %d with vote for %s can't follow term %d with vote for %s", c.id, term, vote, c.term, c.vote))
	}
	c.term, c.vote = term, vote
	r := Record{Kind: Hard, Term: term, Vote: vote}
	if n := len(c.out.Records); n > 0 && c.out.Records[n-1].Kind == Hard {
		c.out.Records[n-1] = r
		return
	}
	c.out.Records = append(c.out.Records, r)
}

// setLeader changes who leads. What was asked of the leader before is over.
func (c *Core) setLeader(id consensus.ID) {
	if id == c.leader {
		return
	}
	c.leader = id
	c.failReads("the leader was lost")
	c.incoming = incoming{}
}

func (c *Core) hardRecord() Record { return Record{Kind: Hard, Term: c.term, Vote: c.vote} }
