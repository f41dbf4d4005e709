package replica

import (
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
	"fmt"
	"slices"
	"strings"
)

// Flush carries out what was gathered, in the order of Output's fields.
func (n *Node[M, R]) Flush() error {
	if n.out.Empty() {
		return n.idle()
	}
	n.merge(&n.out)
	for _, stage := range [...]func() error{n.early, n.install, n.record, n.send, n.apply} {
		if n.err == nil {
			n.err = stage()
		}
	}
	n.out.Reset()
	if n.err == nil {
		n.chores()
	}
	return n.err
}

// idle is a Flush of nothing: most ticks ask for nothing. Lines of the audit and
// answers of another origin than an Output may wait all the same.
func (n *Node[M, R]) idle() error {
	if n.err == nil {
		n.err = n.audit.flush(true)
	}
	if n.err == nil {
		n.config.Replier.Flush()
		n.chores()
	}
	return n.err
}

// early sends what may leave before records are durable. Lines of the audit
// that tell of no new term or vote go first; the others wait for the sync, lest
// the audit claim what a crash takes back.
func (n *Node[M, R]) early() error {
	if err := n.audit.flush(false); err != nil {
		return err
	}
	return n.post(n.out.Early, AfterEarly)
}

func (n *Node[M, R]) post(messages []consensus.Envelope[M], point string) error {
	if len(messages) == 0 {
		return nil
	}
	for i := range messages {
		n.config.Sender.Send(&messages[i])
	}
	n.config.Sender.Flush()
	n.config.Crash(point)
	return nil
}

// install replaces the machine by a snapshot of a peer. The snapshot is read
// before it is made durable, so that one that can't be read harms nothing.
func (n *Node[M, R]) install() error {
	s := n.out.Install
	if s == nil {
		return nil
	}
	if err := n.machine.Restore(s.Data); err != nil {
		return fmt.Errorf("replica: a peer's snapshot at %d can't be read: %w", s.Index, err)
	}
	if err := n.journal.WriteSnapshot(*s); err != nil {
		return err
	}
	n.voters, n.term = s.Voters, s.Term
	return n.compact(*s)
}

// compact restarts the journal behind a snapshot that is durable.
func (n *Node[M, R]) compact(s consensus.Snapshot) error {
	kept := n.core.Compact(s)
	records := make([]func([]byte) []byte, 0, len(kept))
	for _, r := range kept {
		records = append(records, func(b []byte) []byte { return n.config.Codec.AppendRecord(b, r) })
	}
	if err := n.journal.Restart(s.Index, records); err != nil {
		return err
	}
	if n.last > 0 && n.last != s.Index {
		n.journal.Discard(snapshotName(n.last))
	}
	n.last, n.held = s.Index, &s
	return nil
}

// record makes the records durable: one write and one sync, unless there are
// more than a batch may hold.
func (n *Node[M, R]) record() error {
	for i := range n.out.Records {
		if n.journal.Full() {
			if err := n.persist(); err != nil {
				return err
			}
		}
		n.journal.Add(func(b []byte) []byte { return n.config.Codec.AppendRecord(b, n.out.Records[i]) })
	}
	if len(n.out.Records) > 0 {
		if err := n.persist(); err != nil {
			return err
		}
		n.config.Crash(AfterSync)
	}
	return nil
}

func (n *Node[M, R]) persist() error {
	if err := n.journal.Write(); err != nil {
		return err
	}
	n.config.Crash(AfterJournal)
	return n.journal.Sync()
}

func (n *Node[M, R]) send() error {
	if err := n.audit.flush(true); err != nil {
		return err
	}
	return n.post(n.out.Messages, AfterSend)
}

// apply applies what was decided, and answers everybody who can be answered.
func (n *Node[M, R]) apply() error {
	before := n.term
	for _, e := range n.out.Committed {
		r := n.machine.Apply(e)
		n.term = e.Term
		n.config.Applied(e, r)
		if e.Command.Origin == n.config.Options.ID && e.Kind == consensus.Normal {
			if w, ok := n.waiting.take(e.Command.Serial); ok {
				n.config.Replier.Reply(w.ticket.Conn, kv.Respond(w.ticket.Request, r))
			}
		}
		if n.audit.to != nil && e.Index%auditEvery == 0 {
			n.audit.hash(e.Index, n.machine.HashString())
		}
	}
	if k := len(n.out.Committed); k > 0 && n.term != before {
		n.doubt(n.out.Committed[k-1])
	}
	n.answerReads()
	n.reject()
	if err := n.audit.flush(true); err != nil {
		return err
	}
	if len(n.out.Committed) > 0 {
		n.config.Crash(AfterApply)
	}
	n.config.Replier.Flush()
	if len(n.out.Committed) > 0 {
		n.config.Crash(AfterReply)
	}
	return nil
}

// doubt answers whose command lost its place in the log to that of another
// leader, instead of letting him wait. A copy on its way might still be decided,
// so its end is doubtful and no refusal.
func (n *Node[M, R]) doubt(e consensus.Entry) {
	for _, t := range n.waiting.takeIf(func(w waiter) bool { return w.term > 0 && n.lost(w.term, e) }) {
		n.config.Replier.Reply(t.Conn, kv.Response{ID: t.Request, Grade: kv.Doubtful, Code: kv.Overdue, Text: "another leader's entries took its place"})
	}
}

// answerReads answers the confirmed reads whose index is applied.
func (n *Node[M, R]) answerReads() {
	n.reads = append(n.reads, n.out.Reads...)
	applied := n.machine.Applied()
	n.reads = slices.DeleteFunc(n.reads, func(r consensus.Read) bool {
		if r.Index > applied {
			return false
		}
		if w, ok := n.waiting.take(r.Key); ok {
			n.config.Replier.Reply(w.ticket.Conn, kv.Respond(w.ticket.Request, n.machine.Get(w.key)))
		}
		return true
	})
}

func (n *Node[M, R]) reject() {
	for _, r := range n.out.Rejected {
		w, ok := n.waiting.take(r.Key)
		if !ok {
			continue
		}
		code := kv.NoLeader
		if strings.HasPrefix(r.Reason, "too many") {
			code = kv.Busy
		}
		n.config.Replier.Reply(w.ticket.Conn, kv.Response{ID: w.ticket.Request, Grade: kv.Refused, Code: code, Text: r.Reason, Leader: r.Leader})
	}
}
