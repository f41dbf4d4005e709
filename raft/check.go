package raft

import (
	"fmt"
	"maps"

	"chaos/nodes/consensus"
)

// A Check holds all cores of one cluster to what the paper promises (figure 3,
// and the rules behind it); it is a [consensus.Watch]. It stands outside of the
// algorithm: it reads the cores' state and never changes it. Its rules are in
// check_rules.go, what it remembers of the whole cluster in check_past.go.
//
// It keeps a shadow of every node and looks only at what differs from it. Logs
// change by suffix (cut, then grown), so it compares them from the end backwards
// until they agree.
//
// What a node did since it was last Flushed may be lost in a crash, or kept: a
// Check takes either for right, because the crash may have come between any two
// stages. A cluster of one voter is looked at when it is Flushed and not before:
// it commits in the step in which it appends, so what no Flushed has confirmed
// never was.
type Check struct {
	nodes   []*shadow // by ID; nil: never added
	past    past
	leaders map[uint64]consensus.ID // who led which term
	newest  uint64                  // the highest term that was led
	moments [momentsCount]uint64
}

var _ consensus.Watch = (*Check)(nil)

// A shadow is one node as it was when it was looked at last.
type shadow struct {
	id   consensus.ID
	core *Core

	term   uint64
	vote   consensus.ID
	role   role
	leader consensus.ID
	commit uint64
	log    spine
	end    *consensus.Entry // the core's last entry: another one where the end was rewritten

	reads    batch
	names    []names // of requests for reads, by incarnation
	refused  int     // votes
	incoming int     // bytes of a snapshot
	hurry    int
	forced   bool

	durable durable
	changed uint64 // the lowest index that changed since Flushed

	overlapped bool    // led while a later term was led: told once a leadership
	offered    offered // the snapshot that some leader began to send here
}

// A durable is what a node had when it was last Flushed.
type durable struct {
	term uint64
	vote consensus.ID
	log  spine
}

// unchanged is behind every index.
const unchanged = ^uint64(0)

// NewCheck makes a Check of a cluster that has no node yet.
func NewCheck() *Check { return &Check{leaders: map[uint64]consensus.ID{}} }

// Add makes c the core of its node, in place of the one of an earlier
// incarnation. It is called before c is restored, and Started after that.
func (k *Check) Add(c *Core) {
	for len(k.nodes) <= int(c.id) {
		k.nodes = append(k.nodes, nil)
	}
	if k.nodes[c.id] == nil {
		k.nodes[c.id] = &shadow{id: c.id, changed: unchanged}
	}
	k.nodes[c.id].core = c
}

// Started wants everything that the node had when it was last Flushed to be
// there again, except for what it dropped itself since then.
func (k *Check) Started(id consensus.ID) error {
	s := k.nodes[id]
	before := *s
	if err := k.survived(s); err != nil {
		return err
	}
	k.noticeRestart(s)
	s.restart()
	if err := k.stillVoted(s, &before); err != nil {
		return err
	}
	if err := k.stillHeld(s, &before.log); err != nil {
		return err
	}
	return k.learn(s, s.log.base+1)
}

// Stepped looks at what the last input changed. It costs a few comparisons when
// that is nothing.
func (k *Check) Stepped(id consensus.ID) error {
	s := k.nodes[id]
	if s.quiet() || len(s.core.config.Voters) == 1 {
		return nil
	}
	return k.look(s)
}

// Flushed notes that everything the core asked for was carried out. It must not
// be called while a step of the core is still to be carried out: not in the
// midst of an Output, and not between what was gathered and a snapshot to
// install behind it.
func (k *Check) Flushed(id consensus.ID) error {
	s := k.nodes[id]
	if !s.quiet() {
		if err := k.look(s); err != nil {
			return err
		}
	}
	d := &s.durable
	d.term, d.vote = s.term, s.vote
	if s.changed == unchanged && d.log.base == s.log.base {
		return nil
	}
	d.log.follow(&s.log, s.changed)
	s.changed = unchanged
	k.forget()
	return nil
}

// quiet tells that nothing changed which any rule or moment is about.
func (s *shadow) quiet() bool {
	c := s.core
	return c.term == s.term && c.commit == s.commit && c.role == s.role && c.leader == s.leader && c.vote == s.vote &&
		c.log.base == s.log.base && len(c.log.entries) == len(s.log.terms) && c.log.end() == s.end &&
		c.reads.round == s.reads.round && len(c.reads.underway) == s.reads.underway && len(c.reads.waiting) == s.reads.waiting &&
		len(c.ballot.refused) == s.refused && len(c.incoming.data) == s.incoming
}

// end is the last entry itself, nil in an empty log.
func (l *raftLog) end() *consensus.Entry {
	if n := len(l.entries); n > 0 {
		return &l.entries[n-1]
	}
	return nil
}

// look holds a core to every rule, and makes its shadow equal to it.
func (k *Check) look(s *shadow) error {
	c := s.core
	k.notice(s)
	if c.term != s.term || c.vote != s.vote {
		if err := s.voted(c.term, c.vote, s.term, s.vote); err != nil {
			return err
		}
		s.term, s.vote = c.term, c.vote
	}
	if c.log.base != s.log.base || len(c.log.entries) != len(s.log.terms) || c.log.end() != s.end {
		if err := k.checkLog(s); err != nil {
			return err
		}
		s.end = c.log.end()
	}
	known := k.past.last
	if c.role == leader && !s.led(c) {
		if err := k.elected(s); err != nil {
			return err
		}
	}
	if c.commit != s.commit {
		if err := k.committed(s); err != nil {
			return err
		}
	}
	if err := k.checkReads(s, known); err != nil {
		return err
	}
	if err := s.asked(); err != nil {
		return err
	}
	s.remember()
	return nil
}

// led tells whether the node led already in the term that its core is in now.
func (s *shadow) led(c *Core) bool { return s.role == leader && s.reads.term == c.term }

// remember takes over what look does not take over itself.
func (s *shadow) remember() {
	c := s.core
	s.role, s.leader, s.commit = c.role, c.leader, c.commit
	s.refused, s.incoming = len(c.ballot.refused), len(c.incoming.data)
	s.hurry, s.forced = c.hurry, c.ballot.force
}

// restart makes the shadow that of a new incarnation. What was read back beyond
// what was durable before may be in the system's memory only: the start syncs
// it, and until Flushed tells that it ended, it can still be lost.
func (s *shadow) restart() {
	c, was := s.core, s.durable
	past := s.names[max(0, len(s.names)-incarnationsMax):]
	*s = shadow{id: s.id, core: c, term: c.term, vote: c.vote, end: c.log.end(), offered: s.offered,
		names: append(past, names{c.reads.id, c.reads.id}), durable: was, changed: min(s.changed, was.log.last()+1)}
	s.log = spine{base: c.log.base, baseTerm: c.log.baseTerm}
	for _, e := range c.log.entries {
		s.log.terms = append(s.log.terms, e.Term)
	}
	s.remember()
}

// forget lets go of what no node can speak of any more: indices below the
// beginning of every durable log, and terms that every node has left for good.
func (k *Check) forget() {
	low, term := ^uint64(0), ^uint64(0)
	for _, s := range k.nodes {
		if s != nil {
			low, term = min(low, s.durable.log.base), min(term, s.durable.term)
		}
	}
	k.past.forget(low)
	if len(k.leaders) > leadersMax {
		maps.DeleteFunc(k.leaders, func(t uint64, _ consensus.ID) bool { return t < term })
	}
}

// leadersMax is how many leaders are remembered before old terms are looked for.
const leadersMax = 1024

// breach says which rule was broken, and how.
func (s *shadow) breach(invariant, format string, arguments ...any) error {
	return &consensus.Breach{Invariant: invariant, Node: s.id, Detail: fmt.Sprintf(format, arguments...)}
}
