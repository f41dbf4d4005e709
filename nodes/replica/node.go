// Package replica runs one node of our own: it carries out what a consensus
// core asks for (journal, messages, state machine, answers), in the order in
// which the core asks for it.
//
// [Node] is synchronous and does everything through small interfaces, so that a
// simulation can stand in for disk, network and clients. [Serve] feeds a Node
// from real sockets and a ticker.
package replica

import (
	"bytes"
	"fmt"
	"io"

	"chaos/nodes/consensus"
	"chaos/nodes/kv"
)

// Defaults and bounds of a Node.
const (
	// DefaultSnapshotEntries is how many applied entries lie between snapshots.
	DefaultSnapshotEntries = 10000
	// journalBytesMax is how long the journal may grow before a snapshot is
	// taken out of turn, bytes.
	journalBytesMax = 64 << 20
	// waitersMax is how many requests may wait for their answer; more are refused.
	waitersMax = 1 << 16
	// DefaultWaitTicks is how long a request waits for its answer: 10 s in ticks
	// of 10 ms. Then its end is called doubtful.
	DefaultWaitTicks = 1000
	// A serial is the node's ID (10 bits), its incarnation (20) and a count (34):
	// unique among all nodes and for ever, so that no answer meant for another
	// node's command is taken for one of ours.
	idBits, incarnationBits, countBits = 10, 20, 34
)

// The crash points: where a plan may have a node kill itself. A point is passed
// when its stage had something to do.
const (
	AfterEarly   = "after-early"   // early messages are sent, nothing is written
	AfterJournal = "after-journal" // records are written, not synced
	AfterSync    = "after-sync"    // records are durable, no message tells of them
	AfterSend    = "after-send"    // messages are sent, nothing is applied
	AfterApply   = "after-apply"   // entries are applied, nobody was answered
	AfterReply   = "after-reply"   // clients are answered
)

// CrashPoints are all crash points, in the order in which a Flush passes them.
var CrashPoints = []string{AfterEarly, AfterJournal, AfterSync, AfterSend, AfterApply, AfterReply}

// A Sender takes messages to peers. It never waits: what it can't send it drops.
// It must be done with a message when Send returns.
type Sender[M any] interface {
	Send(e *consensus.Envelope[M])
	Flush() // tells that what was sent should leave now
}

// A Ticket says whom to answer: a connection, as the Replier counts them, and
// the request's ID on it.
type Ticket struct{ Conn, Request uint64 }

// A Replier takes answers to clients. It never waits, and it must be done with
// the response when Reply returns.
type Replier interface {
	Reply(conn uint64, r kv.Response)
	Flush()
}

// A merger is a core that joins messages of steps that were gathered, so that
// fewer of them say the same. It changes nothing but messages.
type merger[M, R any] interface {
	Merge(*consensus.Output[M, R])
}

// A loser is a core that knows when a command can't be decided any more.
type loser interface {
	// Lost tells whether one that was proposed in term (of Status), and not
	// decided before e was, never will be; wrong answers harm no safety.
	Lost(term uint64, e consensus.Entry) bool
}

// A Config is what a Node is made of.
type Config[M, R any] struct {
	System  string // raft, paxos or paxos-classic: for audit and status
	Cluster string
	// Options are the core's; Bootstrap is set by NewNode: the very first start.
	Options consensus.Options
	NewCore func(consensus.Options) consensus.Core[M, R]
	Codec   consensus.Codec[M, R]
	Disk    Disk

	SegmentBytes    int64 // of the journal; 0: DefaultSegmentBytes
	SnapshotEntries int   // 0: DefaultSnapshotEntries
	WaitTicks       int   // 0: DefaultWaitTicks

	Sender  Sender[M]
	Replier Replier
	// Audit gets one or more whole lines in each Write; nil: no audit.
	// AuditBytes is how much it holds already.
	Audit      io.Writer
	AuditBytes int64
	// Crash is called at each passage of a crash point; may be nil.
	Crash func(point string)
	// Background runs work, perhaps beside the Node, and then has done called
	// by the Node's owner. Nil: work is done at once. Snapshots are written,
	// segments prepared and old files removed by it, one at a time.
	Background func(work func() error, done func(error))
	// Applied sees every entry that was applied, and what it came to; may be nil.
	Applied func(e consensus.Entry, r kv.Result)
	// Log takes one line for people; may be nil.
	Log func(string)
}

// A Node is one replica: core, journal and state machine. Its owner calls it
// serially. Inputs gather what the core asks for; Flush carries it out. After
// an error it is of no more use.
//
// Snapshots do not stall it for long: the machine is encoded by the owner (in
// memory, linear in its size), the file is written in the background, and the
// journal restarts in a segment that was made ready before.
type Node[M, R any] struct {
	config      Config[M, R]
	core        consensus.Core[M, R]
	merge       func(*consensus.Output[M, R]) // the core's own, where it has one
	lost        func(term uint64, e consensus.Entry) bool
	machine     *kv.Machine
	journal     *Journal
	incarnation uint64
	voters      consensus.Configuration
	out         consensus.Output[M, R] // gathered and not yet carried out
	audit       auditor
	waiting     waiters
	reads       []consensus.Read // confirmed, and not yet applied so far
	term        uint64           // of the last applied entry
	last        uint64           // index of the last snapshot that is durable
	held        *consensus.Snapshot
	working     bool // the background is busy
	forced      bool // a snapshot is wanted now
	err         error
}

// NewNode opens the journal, restores core and machine, and writes the audit's
// first line. Notes of the recovery go to Log.
func NewNode[M, R any](c Config[M, R]) (*Node[M, R], error) {
	c = c.withDefaults()
	journal, found, err := OpenJournal(c.Disk, JournalOptions{Cluster: c.Cluster, Node: c.Options.ID, SegmentBytes: c.SegmentBytes})
	if err != nil {
		return nil, err
	}
	if found.Incarnation >= 1<<incarnationBits || c.Options.ID >= 1<<idBits {
		journal.Close()
		return nil, fmt.Errorf("replica: %s started %d times; serials have room for nodes below %d and %d starts", c.Options.ID, found.Incarnation, 1<<idBits, 1<<incarnationBits-1)
	}
	n := &Node[M, R]{
		config: c, journal: journal, machine: kv.NewMachine(), voters: c.Options.Voters, incarnation: found.Incarnation,
		waiting: newWaiters((uint64(c.Options.ID)<<incarnationBits|found.Incarnation)<<countBits, uint64(c.WaitTicks)),
	}
	n.audit = auditor{to: c.Audit, written: c.AuditBytes, line: auditLine{System: c.System, Node: c.Options.ID.String(), Incarnation: found.Incarnation}}
	for _, note := range found.Notes {
		c.Log(note)
	}
	if err := n.restore(found); err != nil {
		journal.Close()
		return nil, err
	}
	n.audit.start(n.core.Status(), n.machine.Applied())
	return n, n.audit.flush(true)
}

func (c Config[M, R]) withDefaults() Config[M, R] {
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = DefaultSnapshotEntries
	}
	if c.WaitTicks == 0 {
		c.WaitTicks = DefaultWaitTicks
	}
	if c.Crash == nil {
		c.Crash = func(string) {}
	}
	if c.Applied == nil {
		c.Applied = func(consensus.Entry, kv.Result) {}
	}
	if c.Log == nil {
		c.Log = func(string) {}
	}
	if c.Background == nil {
		c.Background = func(work func() error, done func(error)) { done(work()) }
	}
	return c
}

func (n *Node[M, R]) restore(found Recovered) error {
	records := make([]R, 0, len(found.Records))
	for i, b := range found.Records {
		r, err := n.config.Codec.Record(b)
		if err != nil {
			return fmt.Errorf("replica: record %d of the journal is whole and can't be read: %w", i+1, err)
		}
		records = append(records, r)
	}
	if s := found.Snapshot; s != nil {
		if err := n.machine.Restore(s.Data); err != nil {
			return fmt.Errorf("replica: the snapshot at %d is whole and can't be read: %w", s.Index, err)
		}
		n.voters, n.term, n.last = s.Voters, s.Term, s.Index
		n.held = &consensus.Snapshot{Index: s.Index, Term: s.Term, Voters: s.Voters, Data: s.Data}
	}
	o := n.config.Options
	o.Bootstrap = found.Incarnation == 1
	n.core = n.config.NewCore(o)
	n.merge = func(*consensus.Output[M, R]) {}
	if m, ok := n.core.(merger[M, R]); ok {
		n.merge = m.Merge
	}
	n.lost = func(uint64, consensus.Entry) bool { return false }
	if l, ok := n.core.(loser); ok {
		n.lost = l.Lost
	}
	n.core.Restore(found.Snapshot, records)
	return nil
}

// Tick tells that one tick of time has passed.
func (n *Node[M, R]) Tick() error {
	for _, t := range n.waiting.tick() {
		n.config.Replier.Reply(t.Conn, kv.Response{ID: t.Request, Grade: kv.Doubtful, Code: kv.Overdue, Text: "no decision in time"})
	}
	return n.step(n.core.Tick())
}

// Receive takes one message of a peer.
func (n *Node[M, R]) Receive(e consensus.Envelope[M]) error { return n.step(n.core.Receive(e)) }

// PeerReset tells that an established connection from or to id broke.
func (n *Node[M, R]) PeerReset(id consensus.ID) error { return n.step(n.core.PeerReset(id)) }

// Transfer asks to hand leadership to another node.
func (n *Node[M, R]) Transfer(to consensus.ID) error { return n.step(n.core.Transfer(to)) }

// Compact asks for a snapshot with the next Flush.
func (n *Node[M, R]) Compact() { n.forced = true }

// Request takes a client's request; encoded is its command as bytes, of which
// nothing is kept. It is refused where it can't be served or too many wait.
func (n *Node[M, R]) Request(conn uint64, q kv.Request, encoded []byte) error {
	if r, bad := q.Refusal(); bad {
		n.config.Replier.Reply(conn, r)
		return nil
	}
	t := Ticket{conn, q.ID}
	if q.Mode == kv.ModeIndex {
		return n.Read(t, q.Command.Key)
	}
	return n.Propose(t, bytes.Clone(encoded))
}

// Propose asks to have a command decided. It keeps data.
func (n *Node[M, R]) Propose(t Ticket, data []byte) error {
	if n.waiting.full() {
		return n.busy(t)
	}
	serial := n.waiting.add(waiter{ticket: t, term: n.core.Status().Term})
	return n.step(n.core.Propose(consensus.Command{Origin: n.config.Options.ID, Serial: serial, Data: data}))
}

// Read asks for a linearizable read of one key without a log entry.
func (n *Node[M, R]) Read(t Ticket, key string) error {
	if n.waiting.full() {
		return n.busy(t)
	}
	return n.step(n.core.Read(n.waiting.add(waiter{ticket: t, key: key})))
}

func (n *Node[M, R]) busy(t Ticket) error {
	n.config.Replier.Reply(t.Conn, kv.Response{ID: t.Request, Grade: kv.Refused, Code: kv.Busy, Text: "too many requests wait"})
	return n.err
}

// step gathers what one step of the core asks for. A snapshot to install is
// carried out alone and at once, behind what was gathered before it.
func (n *Node[M, R]) step(out consensus.Output[M, R]) error {
	if n.err != nil {
		return n.err
	}
	if out.Installs() {
		if err := n.Flush(); err != nil {
			return err
		}
	}
	if !out.Empty() {
		n.out.Append(out)
	}
	if n.audit.to != nil {
		n.audit.compare(n.core.Status(), n.machine.Applied())
	}
	if out.Installs() {
		return n.Flush()
	}
	return nil
}

// Position is how far the state machine has come, and the hash chain over what
// it applied.
func (n *Node[M, R]) Position() (index, hash uint64) { return n.machine.Applied(), n.machine.Hash() }

// Close closes the files and returns the error that ended the node, if one did.
func (n *Node[M, R]) Close() error {
	n.journal.Close()
	return n.err
}
