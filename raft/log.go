package raft

import (
	"cmp"
	"fmt"
	"slices"

	"chaos/nodes/consensus"
)

// entryOverhead is about what an entry costs on the wire beside its data, in bytes.
const entryOverhead = 16

// A raftLog is the entries behind base. Slices of it are handed out, so the
// elements are never written again: what is cut off is left to its holders.
type raftLog struct {
	base     uint64 // the index before the first entry
	baseTerm uint64 // its term; 0 for index 0
	entries  []consensus.Entry
}

func (l *raftLog) first() uint64 { return l.base + 1 }
func (l *raftLog) last() uint64  { return l.base + uint64(len(l.entries)) }

func (l *raftLog) lastTerm() uint64 {
	if len(l.entries) == 0 {
		return l.baseTerm
	}
	return l.entries[len(l.entries)-1].Term
}

// term gives the term at index i; ok is false where the log does not know it.
func (l *raftLog) term(i uint64) (term uint64, ok bool) {
	switch {
	case i == l.base:
		return l.baseTerm, true
	case i < l.base || i > l.last():
		return 0, false
	}
	return l.entries[i-l.base-1].Term, true
}

// mustTerm is term where the index is known to be in the log.
func (l *raftLog) mustTerm(i uint64) uint64 {
	t, ok := l.term(i)
	if !ok {
		panic(fmt.Sprintf("raft: the term of index %d was asked of a log from %d to %d", i, l.first(), l.last()))
	}
	return t
}

// matches tells whether the log holds an entry of that index and term.
func (l *raftLog) matches(index, term uint64) bool {
	t, ok := l.term(index)
	return ok && t == term
}

// from shares the entries from lo to hi, both included.
func (l *raftLog) from(lo, hi uint64) []consensus.Entry {
	if lo > hi {
		return nil
	}
	if lo <= l.base || hi > l.last() {
		panic(fmt.Sprintf("raft: entries %d to %d were asked of a log from %d to %d", lo, hi, l.first(), l.last()))
	}
	a, b := lo-l.base-1, hi-l.base
	return l.entries[a:b:b]
}

// batch shares entries from lo on, about maxBytes of them but at least one.
func (l *raftLog) batch(lo uint64, maxBytes int) []consensus.Entry {
	hi, size := lo, 0
	for ; hi <= l.last() && hi-lo < entriesMax; hi++ {
		size += len(l.entries[hi-l.base-1].Command.Data) + entryOverhead
		if size > maxBytes && hi > lo {
			break
		}
	}
	return l.from(lo, hi-1)
}

// append adds entries that follow the last one.
func (l *raftLog) append(entries ...consensus.Entry) {
	if len(entries) > 0 && entries[0].Index != l.last()+1 {
		panic(fmt.Sprintf("raft: index %d was appended to a log that ends at %d", entries[0].Index, l.last()))
	}
	l.entries = append(l.entries, entries...)
}

// truncate drops index i and everything behind it. The capacity goes too, so
// that the next append does not write into slices that were handed out.
func (l *raftLog) truncate(i uint64) {
	n := i - l.base - 1
	l.entries = l.entries[:n:n]
}

// compact drops everything up to index i, which is in the log. It copies what
// remains, so that the memory of the rest can be freed.
func (l *raftLog) compact(i uint64) {
	term := l.mustTerm(i)
	l.entries = slices.Clone(l.entries[i-l.base:])
	l.base, l.baseTerm = i, term
}

// restart empties the log; it goes on behind index, whose entry has that term.
func (l *raftLog) restart(index, term uint64) { *l = raftLog{base: index, baseTerm: term} }

// firstOfTerm is the lowest index known to have the same term as i.
func (l *raftLog) firstOfTerm(i uint64) uint64 {
	term := l.mustTerm(i)
	return l.base + 1 + uint64(l.search(term))
}

// lastOfTerm is the highest index up to limit with that term, 0 if there is none.
func (l *raftLog) lastOfTerm(term, limit uint64) uint64 {
	i := min(l.base+uint64(l.search(term+1)), limit)
	if !l.matches(i, term) {
		return 0
	}
	return i
}

// search counts the entries of terms below term; terms never fall within a log.
func (l *raftLog) search(term uint64) int {
	n, _ := slices.BinarySearchFunc(l.entries, term, func(e consensus.Entry, t uint64) int {
		return cmp.Compare(e.Term, t)
	})
	return n
}
