package raft

import "chaos/nodes/consensus"

// Merge shrinks a gathered output without changing what it says: appends to one
// follower become one, as far as Options.MaxBatchBytes allows, a commit index
// that an append carries needs no message, and of several acknowledgements the
// last is enough. An owner may call it before carrying out what it gathered;
// nothing depends on it but speed.
func (c *Core) Merge(o *output) {
	o.Early = c.merge(o.Early)
	o.Messages = c.merge(o.Messages)
}

func (c *Core) merge(list []envelope) []envelope {
	kept := list[:0]
next:
	for _, e := range list {
		for i := len(kept) - 1; i >= 0; i-- {
			if kept[i].To != e.To {
				continue
			}
			if c.absorb(&kept[i].Message, &e.Message) {
				continue next
			}
			break // the order among messages to one node stays
		}
		kept = append(kept, e)
	}
	clear(list[len(kept):])
	return kept
}

// absorb makes one message of two that follow each other to the same node.
func (c *Core) absorb(a, b *Message) bool {
	if a.Term != b.Term {
		return false
	}
	switch {
	case a.Kind == Append && b.Kind == Append:
		return c.absorbAppend(a, b)
	case a.Kind == Append && b.Kind == Commit && b.Commit <= a.Index:
		a.Commit = max(a.Commit, b.Commit)
		return true
	case a.Kind == Commit && b.Kind == Commit:
		a.Commit = max(a.Commit, b.Commit)
		return true
	case a.Kind == AppendAck && b.Kind == AppendAck && !a.Reject && !b.Reject:
		a.Index, a.Round = max(a.Index, b.Index), max(a.Round, b.Round)
		return true
	}
	return false
}

// absorbAppend joins appends that touch, where the log still holds both.
func (c *Core) absorbAppend(a, b *Message) bool {
	end := b.Index + uint64(len(b.Entries))
	if a.Index+uint64(len(a.Entries)) != b.Index || c.role != leader || a.Term != c.term || a.Index < c.log.base || end > c.log.last() {
		return false
	}
	if size(a.Entries)+size(b.Entries) > c.batchBytes && len(a.Entries) > 0 && len(b.Entries) > 0 {
		return false
	}
	a.Entries = c.log.from(a.Index+1, end)
	a.Commit, a.Round = max(a.Commit, b.Commit), max(a.Round, b.Round)
	return true
}

func size(entries []consensus.Entry) (n int) {
	for _, e := range entries {
		n += len(e.Command.Data) + entryOverhead
	}
	return n
}
