package paxos

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"chaos/nodes/consensus"
)

// A Mode is a way to choose who proposes.
type Mode uint8

// The modes. In Multi a distinguished proposer holds its ballot over all slots;
// in Classic every node proposes, with both phases for every batch.
const (
	Multi Mode = iota
	Classic
)

// Output is what one step of a [Core] asks for.
type Output = consensus.Output[Message, Record]

// An Envelope is a [Message] with its way.
type Envelope = consensus.Envelope[Message]

// A Core is one node of a Paxos cluster: a proposer, an acceptor and a learner
// in one deterministic state machine. It implements consensus.Core.
type Core struct {
	mode   Mode
	o      consensus.Options
	voters consensus.Configuration
	rand   *rand.Rand

	acceptor   acceptor
	proposer   proposer
	learner    learner
	checkpoint checkpoint
	reader     reader
	pending    pending
	pace       pace
	leadership leadership // Multi
	contention contention // Classic

	out  Output // of the call that runs
	told Output // of the call before: its memory is used by the next
}

// New makes a core without a past; Restore gives it one. Options must name a
// valid configuration that contains o.ID, a source of randomness, and positive
// bounds; else New panics, since only the program's author can have caused it.
func New(o consensus.Options, m Mode) *Core {
	if !validVoters(o.Voters.Voters) || !o.Voters.Contains(o.ID) {
		panic(fmt.Sprintf("paxos: %s is not one of the voters %v, ascending and at most %d", o.ID, o.Voters.Voters, votersMax))
	}
	if o.Rand == nil || o.HeartbeatTicks < 1 || o.ElectionTicks < 1 || o.MaxInflight < 1 || o.MaxBatchBytes < 1 {
		panic(fmt.Sprintf("paxos: %s: a bound in the options is missing: %d heartbeat ticks, %d election ticks, %d in flight, %d batch bytes",
			o.ID, o.HeartbeatTicks, o.ElectionTicks, o.MaxInflight, o.MaxBatchBytes))
	}
	c := &Core{mode: m, o: o, rand: o.Rand,
		voters:   consensus.Configuration{Voters: slices.Clone(o.Voters.Voters)},
		acceptor: acceptor{accepted: window[Proposal]{first: 1}},
		learner:  learner{first: 1, decided: window[decision]{first: 1}},
	}
	c.leadership.timeout = c.electionTimeout()
	return c
}

// Tick tells that one tick of time has passed.
func (c *Core) Tick() Output {
	c.pending.age++
	if c.mode == Multi {
		c.tickMulti()
	} else {
		c.tickClassic()
	}
	c.tickReads()
	return c.finish()
}

// Receive takes one message. It ignores what no sound voter could have sent.
func (c *Core) Receive(e Envelope) Output {
	if e.To == c.o.ID && e.From != c.o.ID && c.voters.Contains(e.From) && e.Message.wellFormed(e.From) {
		c.proposer.seen = max(c.proposer.seen, e.Message.Ballot.Round)
		c.dispatch(e.From, &e.Message)
	}
	return c.finish()
}

// dispatch hands a message to the role that it is for.
func (c *Core) dispatch(from consensus.ID, m *Message) {
	if c.mode == Classic {
		c.noteWant(from, m)
	}
	switch m.Kind {
	case Prepare:
		c.onPrepare(from, m)
	case Promise:
		c.onPromise(from, m)
	case Accept:
		c.onAccept(from, m)
	case Accepted:
		c.onAccepted(from, m)
	case Refuse:
		c.onRefuse(from, m)
	case Learn:
		c.onLearn(from, m)
	case CatchUp:
		c.onCatchUp(from, m)
	case Decisions:
		c.onDecisions(from, m)
	case Fetch:
		c.onFetch(from, m)
	case Chunk:
		c.onChunk(from, m)
	case SlotAsk:
		c.onSlotAsk(from, m)
	case SlotAnswer:
		c.onSlotAnswer(from, m)
	default:
		if c.mode == Multi {
			c.dispatchMulti(from, m)
		}
	}
}

// dispatchMulti hands on what only a distinguished proposer has use for.
func (c *Core) dispatchMulti(from consensus.ID, m *Message) {
	switch m.Kind {
	case Confirmed:
		c.onConfirmed(from, m)
	case Probe:
		c.onProbe(from, m)
	case Grant:
		c.onGrant(from, m)
	case Forward:
		c.onForward(from, m)
	case ReadAsk:
		c.onReadAsk(from, m)
	case ReadAnswer:
		c.onReadAnswer(from, m)
	case TakeOver:
		c.onTakeOver(from, m)
	}
}

// Propose asks to have a command of this node's own clients decided. It is
// proposed until it is chosen, unless it is rejected before it was sent.
func (c *Core) Propose(command consensus.Command) Output {
	switch {
	case command.Origin != c.o.ID:
		c.reject(command.Serial, "the command is of another node")
	case c.pending.len() >= c.o.MaxInflight:
		c.reject(command.Serial, "too many in flight")
	case c.pending.index[command.Serial] != nil:
		// asked twice: it is under way
	case c.mode == Multi:
		c.proposeMulti(command)
	default:
		c.pending.add(command)
	}
	return c.finish()
}

// PeerReset tells that a connection to id broke.
func (c *Core) PeerReset(id consensus.ID) Output {
	if c.learner.asked == id {
		c.learner.waited = catchUpTicks
	}
	switch {
	case c.mode == Classic:
		c.giveUpOn(id)
	case id != c.o.ID && id != 0 && id == c.leadership.leader:
		c.suspect()
	case id != 0 && id == c.leadership.rival:
		c.leadership.rival = 0
	}
	return c.finish()
}

// Transfer asks the distinguished proposer to let to take over; in Classic,
// and at any other node, it does nothing.
func (c *Core) Transfer(to consensus.ID) Output {
	if c.leads() && to != c.o.ID && c.voters.Contains(to) {
		c.send(to, Message{Kind: TakeOver, Ballot: c.proposer.ballot})
	}
	return c.finish()
}

// Status is a cheap copy of the public state. Last equals Commit: how many
// commands undecided slots hold is not known before they are decided.
func (c *Core) Status() consensus.Status {
	s := consensus.Status{ID: c.o.ID, Role: "acceptor", Leader: c.leadership.leader,
		Term: c.acceptor.promised.Round, Vote: c.acceptor.promised.Node,
		Commit: c.learner.index, Applied: c.learner.index, First: c.learner.first, Last: c.learner.index, Slot: c.learner.mark}
	if n := len(c.out.Committed); n > 0 {
		s.Applied = c.out.Committed[0].Index - 1 // restored, and not handed out yet
	}
	if c.leads() {
		s.Role = "proposer"
	}
	if c.mode == Classic {
		s.Leader = c.contention.last
	}
	return s
}

// finish ends a step: it lets the proposer and the reads go on with what
// changed, and adds to records that have to be synced anyway how far the log is
// decided. What it returns is valid until the next input.
func (c *Core) finish() Output {
	if c.mode == Multi {
		c.settleMulti()
	} else {
		c.settleClassic()
	}
	c.settleReads()
	if len(c.out.Records) > 0 && c.learner.mark > max(c.learner.noted, c.checkpoint.snapshot.Term) {
		c.learner.noted = c.learner.mark
		c.record(Record{Kind: RecordMark, Slot: c.learner.mark})
	}
	out := c.out
	c.out, c.told = c.told, out
	c.out.Reset()
	return out
}

// preempted gives the present ballot up.
func (c *Core) preempted() {
	if c.proposer.phase == idle {
		return
	}
	c.proposer = proposer{seen: c.proposer.seen}
	if c.mode == Multi {
		c.stepDown()
	} else {
		c.backOff()
	}
}

// record makes r durable before any message of this step.
func (c *Core) record(r Record) { c.out.Records = append(c.out.Records, r) }

// send sends m after this step's records are durable.
func (c *Core) send(to consensus.ID, m Message) {
	c.out.Messages = append(c.out.Messages, Envelope{From: c.o.ID, To: to, Message: m})
}

// early sends m, which says nothing that rests on this step's records.
func (c *Core) early(to consensus.ID, m Message) {
	c.out.Early = append(c.out.Early, Envelope{From: c.o.ID, To: to, Message: m})
}

// toOthers sends m to all other voters after this step's records are durable.
func (c *Core) toOthers(m Message) {
	for _, id := range c.voters.Voters {
		if id != c.o.ID {
			c.send(id, m)
		}
	}
}

// toOthersEarly sends m to all other voters at once.
func (c *Core) toOthersEarly(m Message) {
	for _, id := range c.voters.Voters {
		if id != c.o.ID {
			c.early(id, m)
		}
	}
}

// reject refuses a command that was neither sent nor journaled.
func (c *Core) reject(serial uint64, reason string) {
	c.out.Rejected = append(c.out.Rejected, consensus.Rejection{Key: serial, Leader: c.Status().Leader, Reason: reason})
}

// place is where id stands in the configuration, which contains it.
func (c *Core) place(id consensus.ID) int { return slices.Index(c.voters.Voters, id) }
