// Package consensus holds the words that every consensus core and every driver
// of one share: who sends what to whom, what must be durable before what, and
// what was decided. It imports nothing of this project, has no state and does
// no I/O.
//
// A core (package raft, package paxos) is a deterministic state machine: inputs
// in, one [Output] out. A driver (package replica) carries an Output out, field
// by field, in the order in which the fields stand.
package consensus

import (
	"fmt"
	"math/rand/v2"
)

// An ID names one replica; it is written n1, n2, …. The zero ID means nobody.
type ID uint16

// String writes an ID as people and files see it: "n3", or "-" for nobody.
func (id ID) String() string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprintf("n%d", uint16(id))
}

// MarshalText lets JSON hold an ID as its name.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	v, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// ParseID reads "n3" or "-".
func ParseID(s string) (ID, error) {
	if s == "-" {
		return 0, nil
	}
	var n uint16
	if _, err := fmt.Sscanf(s, "n%d", &n); err != nil || n == 0 || ID(n).String() != s {
		return 0, fmt.Errorf("consensus: %q is not a node name; they are n1, n2, …", s)
	}
	return ID(n), nil
}

// A Kind tells what an [Entry] is for.
type Kind uint8

// The kinds of entries. They are journaled and sent: never renumber them.
const (
	Normal    Kind = 0 // a client's command
	Noop      Kind = 1 // a leader's or proposer's filler; changes nothing
	Configure Kind = 2 // a new set of voters in Command.Data; reserved, cores refuse it today
)

// A Command is one client command on its way into the log.
//
// Origin and Serial together are unique for ever: the driver that proposes it
// never uses a Serial twice, restarts included. The same Command may still be
// committed twice (a forwarded proposal that the network doubled); the state
// machine's sessions make that harmless.
type Command struct {
	Origin ID     // the node whose client waits for the answer
	Serial uint64 // unique per Origin, across restarts
	Data   []byte // opaque to the core
}

// An Entry is one decided command.
//
// Index counts decided entries without a gap from 1: one index a command. Where
// an algorithm decides batches in slots (Paxos), the core numbers the commands
// of each slot in order; every node derives the same numbers.
type Entry struct {
	Index   uint64
	Term    uint64 // Raft: the term it was created in. Paxos: the slot that decided it
	Kind    Kind
	Command Command
}

// A Configuration is the set of voters that a log entry must be asked of. It is
// data of the log (and of snapshots), never a constant of the program.
type Configuration struct {
	Voters []ID // ascending, no doubles
}

// Quorum is how many voters a decision needs: more than half.
func (c Configuration) Quorum() int { return len(c.Voters)/2 + 1 }

// Contains tells whether id votes.
func (c Configuration) Contains(id ID) bool {
	for _, v := range c.Voters {
		if v == id {
			return true
		}
	}
	return false
}

// A Snapshot is the state machine after Index, and with it everything that the
// log before it said.
type Snapshot struct {
	Index  uint64 // the last entry that Data contains
	Term   uint64 // Raft: the term of that entry. Paxos: the last slot that Data contains
	Voters Configuration
	Data   []byte // the state machine's own encoding
}

// A Read tells the driver that the linearizable read Key may be answered as
// soon as Index is applied.
type Read struct {
	Key   uint64
	Index uint64
}

// A Rejection is the certain refusal of a command or a read: it was neither
// journaled nor sent anywhere, this node's own acceptor included.
type Rejection struct {
	Key    uint64 // Command.Serial, or the key of the read
	Read   bool   // which of the two Key is
	Leader ID     // who may know better; 0 when unknown
	Reason string // a few plain words: "no leader", "too many in flight"
}

// An Envelope is a message with its way.
type Envelope[M any] struct {
	From, To ID
	Message  M
}

// Output is everything that one step asks of the world, in the order to do it.
// M is the core's message and R its journal record.
//
// Steps may be gathered: an owner may feed several inputs, append their Outputs
// with [Output.Append] and carry them out as one. It must not do so past an
// Install, which Append refuses by panicking; see [Output.Installs].
//
// The slices of an Output are the core's, which uses their memory again: they
// are valid until its next input (Compact and Status are none). An owner that
// keeps more copies them, as Append does. What their elements point to (entries,
// commands, bytes, snapshots) is never written again and may be kept.
type Output[M, R any] struct {
	Early     []Envelope[M] // may leave before Records are durable (a leader's appends)
	Install   *Snapshot     // then make it durable and replace the state machine; the journal restarts with Core.Compact(*Install)
	Records   []R           // then make these durable, all of a batch with one sync
	Messages  []Envelope[M] // then send; each may be lost, late, doubled, out of order
	Committed []Entry       // then apply, in log order, and answer who waits
	Reads     []Read        // answer as soon as Read.Index is applied
	Rejected  []Rejection   // refuse at once
}

// Installs tells whether o must be carried out before anything else is fed to the core.
func (o *Output[M, R]) Installs() bool { return o.Install != nil }

// Append adds what a later step asked for.
func (o *Output[M, R]) Append(p Output[M, R]) {
	if o.Install != nil || (p.Install != nil && len(o.Records)+len(o.Messages)+len(o.Committed) > 0) {
		panic("consensus: an output with a snapshot to install must be carried out alone")
	}
	o.Install = p.Install
	o.Early = append(o.Early, p.Early...)
	o.Records = append(o.Records, p.Records...)
	o.Messages = append(o.Messages, p.Messages...)
	o.Committed = append(o.Committed, p.Committed...)
	o.Reads = append(o.Reads, p.Reads...)
	o.Rejected = append(o.Rejected, p.Rejected...)
}

// Empty tells whether o asks for nothing.
func (o *Output[M, R]) Empty() bool {
	return o.Install == nil &&
		len(o.Early)+len(o.Records)+len(o.Messages)+len(o.Committed)+len(o.Reads)+len(o.Rejected) == 0
}

// Reset empties o and keeps the memory of its slices for the next step.
func (o *Output[M, R]) Reset() {
	if o.Empty() {
		return
	}
	clear(o.Early)
	clear(o.Records)
	clear(o.Messages)
	clear(o.Committed)
	clear(o.Rejected)
	*o = Output[M, R]{Early: o.Early[:0], Records: o.Records[:0], Messages: o.Messages[:0],
		Committed: o.Committed[:0], Reads: o.Reads[:0], Rejected: o.Rejected[:0]}
}

// A Core is one node's consensus algorithm as a deterministic state machine.
// Its owner calls it serially. It has no clock (time is Tick), no randomness of
// its own (an injected source), and map order never reaches an Output. An Output
// is valid until the next input.
//
// Messages come from outside: a Core must survive any decoded Message without a
// panic. Records come from its own journal and are trusted after their checksum.
type Core[M, R any] interface {
	// Restore is called once, before anything else: the last snapshot, if
	// there is one, and the journal's records in order. Records that the
	// snapshot already covers may be among them.
	Restore(s *Snapshot, records []R)
	// Tick tells that one tick of time has passed.
	Tick() Output[M, R]
	// Receive takes one message of a peer.
	Receive(e Envelope[M]) Output[M, R]
	// Propose asks to have c decided. Any node may be asked; one that does not
	// lead forwards it (then its end is uncertain) or rejects it (then it is certain).
	Propose(c Command) Output[M, R]
	// Read asks for a linearizable read without a log entry. Any node may be asked.
	Read(key uint64) Output[M, R]
	// Compact forgets the log up to s.Index, which is applied, and returns the
	// records that must remain in the journal beside the snapshot.
	Compact(s Snapshot) []R
	// Transfer asks a leader to hand leadership to another node; else it does nothing.
	Transfer(to ID) Output[M, R]
	// PeerReset tells that a connection to id broke: a hint that id may be
	// dead, so that an election need not wait. Safety never depends on it.
	PeerReset(id ID) Output[M, R]
	// Status is a cheap copy of the core's public state.
	Status() Status
}

// A Codec turns a core's messages and records into bytes and back. Decoding
// bytes from outside never panics and never allocates more than a small
// multiple of the input; what it cannot read is an error. Append* return b
// grown by the encoding.
type Codec[M, R any] interface {
	AppendMessage(b []byte, m M) []byte
	Message(b []byte) (M, error) // the result does not alias b
	AppendRecord(b []byte, r R) []byte
	Record(b []byte) (R, error) // the result does not alias b
}

// Options are what every core is made with.
type Options struct {
	ID             ID
	Voters         Configuration // of an empty log; a snapshot's configuration replaces it
	HeartbeatTicks int           // ticks between a leader's heartbeats
	ElectionTicks  int           // base of the election time-out; drawn from [base, 2*base)
	MaxInflight    int           // commands accepted and not yet decided; more are rejected
	MaxBatchBytes  int           // bytes of commands in one message
	Bootstrap      bool          // the first start of a new cluster: the lowest ID may stand for election at once
	Rand           *rand.Rand
}

// A Status is what a core says of itself. It is a claim of the suspect: fit for
// people, for choosing victims, and for the audit, never for narrowing an interval.
type Status struct {
	ID      ID     `json:"id"`
	Role    string `json:"role"`    // Raft: follower, precandidate, candidate, leader. Paxos: proposer (its ballot leads), acceptor
	Leader  ID     `json:"leader"`  // Raft: the leader known. Paxos: the distinguished proposer; classic: the last that succeeded
	Term    uint64 `json:"term"`    // Raft: current term. Paxos: the round of the highest promised ballot
	Vote    ID     `json:"vote"`    // Raft: voted for in Term. Paxos: the node of the highest promised ballot
	Commit  uint64 `json:"commit"`  // index of the last entry known to be decided
	Applied uint64 `json:"applied"` // index of the last entry handed out in Committed
	First   uint64 `json:"first"`   // index of the first entry still in the log
	Last    uint64 `json:"last"`    // index of the last entry in the log, decided or not
	Slot    uint64 `json:"slot"`    // Paxos: the last slot below which everything is decided; Raft: 0
}
