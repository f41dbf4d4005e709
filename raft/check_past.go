package raft

import (
	"slices"

	"chaos/nodes/consensus"
)

// A spine is a log of which only the terms are kept.
type spine struct {
	base, baseTerm uint64
	terms          []uint64
}

func (l *spine) last() uint64 { return l.base + uint64(len(l.terms)) }

// term gives the term at index i; ok is false where the log does not know it.
func (l *spine) term(i uint64) (term uint64, ok bool) {
	switch {
	case i == l.base:
		return l.baseTerm, true
	case i < l.base || i > l.last():
		return 0, false
	}
	return l.terms[i-l.base-1], true
}

// holds tells whether an entry is there, or covered by the snapshot before the log.
func (l *spine) holds(i, term uint64) bool {
	t, ok := l.term(i)
	return i < l.base || (ok && t == term)
}

// cut drops everything behind index i.
func (l *spine) cut(i uint64) {
	if i < l.last() {
		l.terms = l.terms[:i-min(i, l.base)]
	}
}

// rebase lets the log begin behind another index.
func (l *spine) rebase(base, term uint64) {
	n := min(base-min(base, l.base), uint64(len(l.terms)))
	l.terms = append(l.terms[:0], l.terms[n:]...)
	l.base, l.baseTerm = base, term
}

// follow makes l equal to o, where they can differ only from index i on and in
// where they begin.
func (l *spine) follow(o *spine, i uint64) {
	l.cut(max(min(i-1, l.last()), l.base))
	if l.base != o.base {
		l.rebase(o.base, o.baseTerm)
	}
	l.baseTerm = o.baseTerm
	l.terms = append(l.terms, o.terms[len(l.terms):]...)
}

// agreement is the last index up to which l and a log that grew out of it say
// the same; it is not below the beginning of either.
func (l *spine) agreement(o *raftLog) uint64 {
	low := max(l.base, o.base)
	i := min(l.last(), o.last())
	for i > low && l.terms[i-l.base-1] != o.entries[i-o.base-1].Term {
		i--
	}
	return max(i, low)
}

// A version is an entry as it was first seen anywhere, and the term of the one before it.
type version struct {
	entry  consensus.Entry
	before uint64
}

// A place is all that is known of one index of the log.
type place struct {
	version           // the first one seen
	others  []version // of other terms
	decided uint64    // the term of the entry that was committed; 0: none
	in      uint64    // the term of the leader that committed it first
}

// A past is what happened at every index, in any log.
type past struct {
	from   uint64 // the index of places[0]; 0 at the beginning
	places []place
	last   uint64 // the highest index committed
}

// at is the place of index i; nil if it is forgotten.
func (p *past) at(i uint64) *place {
	if i < p.from {
		return nil
	}
	for uint64(len(p.places)) <= i-p.from {
		p.places = append(p.places, place{})
	}
	return &p.places[i-p.from]
}

// decided is the term of the entry committed at index i; 0 if none is, or if it
// is forgotten.
func (p *past) decided(i uint64) uint64 {
	if i < p.from || i-p.from >= uint64(len(p.places)) {
		return 0
	}
	return p.places[i-p.from].decided
}

// forget drops everything below index i.
func (p *past) forget(i uint64) {
	n := i - min(i, p.from)
	if n < uint64(len(p.places))/2 || n > uint64(len(p.places)) || n == 0 {
		return // later, when it is worth the copying
	}
	p.places = slices.Clone(p.places[n:])
	p.from = i
}

// learn adds a version. Where that index and term are known already it returns
// what was seen first, and whether it is the same.
func (p *place) learn(v version) (version, bool) {
	if p.entry.Term == 0 {
		p.version = v
	}
	if p.entry.Term == v.entry.Term {
		return p.version, p.version.same(&v)
	}
	for i := range p.others {
		if p.others[i].entry.Term == v.entry.Term {
			return p.others[i], p.others[i].same(&v)
		}
	}
	p.others = append(p.others, v)
	return v, true
}

func (v *version) same(o *version) bool {
	a, b := &v.entry.Command, &o.entry.Command
	return v.before == o.before && v.entry.Kind == o.entry.Kind && a.Origin == b.Origin && a.Serial == b.Serial && string(a.Data) == string(b.Data)
}
