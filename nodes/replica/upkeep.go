package replica

import (
	"errors"

	"chaos/nodes/consensus"
)

// chores hands slow work to the background, one piece at a time: a snapshot
// when one is due, else what the journal wants done.
func (n *Node[M, R]) chores() {
	if n.working {
		return
	}
	if n.due() {
		n.snapshot()
		return
	}
	work, finish := n.journal.Chore()
	if work == nil {
		return
	}
	n.working = true
	n.config.Background(work, func(err error) {
		finish()
		n.worked(err)
	})
}

// due tells whether a snapshot must be taken: enough was applied, somebody
// asked, or the journal is too long. Where nothing was applied since the last
// one, a journal that is too long restarts behind that one.
func (n *Node[M, R]) due() bool {
	fresh := n.machine.Applied() - n.last
	long := n.journal.Bytes() > journalBytesMax && (fresh > 0 || n.held != nil)
	return fresh >= uint64(n.config.SnapshotEntries) || (n.forced && fresh > 0) || long
}

// snapshot encodes the machine, has it made durable, and then restarts the
// journal behind it.
func (n *Node[M, R]) snapshot() {
	n.working, n.forced = true, false
	if n.machine.Applied() == n.last {
		n.worked(n.compact(*n.held))
		return
	}
	s := consensus.Snapshot{Index: n.machine.Applied(), Term: n.term, Voters: n.voters, Data: n.machine.Snapshot()}
	n.config.Background(func() error { return n.journal.WriteSnapshot(s) }, func(err error) {
		if err == nil {
			err = n.adopt(s)
		}
		n.worked(err)
	})
}

// adopt lets core and journal forget what a durable snapshot holds. What is
// gathered is carried out first, so that the core knows of no record that the
// journal does not have.
func (n *Node[M, R]) adopt(s consensus.Snapshot) error {
	if err := n.Flush(); err != nil {
		return err
	}
	if s.Index < n.last {
		n.journal.Discard(snapshotName(s.Index)) // a peer's newer one was installed meanwhile
		return nil
	}
	return n.compact(s)
}

func (n *Node[M, R]) worked(err error) {
	n.working = false
	n.err = errors.Join(n.err, err)
}
