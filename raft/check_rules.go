package raft

import "chaos/nodes/consensus"

// voted: a term never falls, and within a term a vote is given once (paper 5.1,
// 5.2): between two looks of one incarnation, and from what was durable to what
// was read back.
func (s *shadow) voted(term uint64, vote consensus.ID, beforeTerm uint64, before consensus.ID) error {
	switch {
	case term < beforeTerm:
		return s.breach("term-monotone", "it is in term %d after it was in term %d", term, beforeTerm)
	case term == beforeTerm && before != 0 && vote != before:
		return s.breach("vote-once", "its vote in term %d is for %s after it was for %s", term, vote, before)
	}
	return nil
}

// survived: what a node had durably is there when it starts again (paper 5.1,
// figure 2: persistent state), up to where it rewrote its log since. What its
// snapshot covers was committed.
func (k *Check) survived(s *shadow) error {
	c, d := s.core, &s.durable
	if err := s.voted(c.term, c.vote, d.term, d.vote); err != nil {
		return err
	}
	if c.log.base < d.log.base {
		return s.breach("durable-log", "its log begins behind index %d after it began behind %d", c.log.base, d.log.base)
	}
	if t := k.past.decided(c.log.base); t != 0 && t != c.log.baseTerm {
		return s.breach("state-machine-safety", "its log begins behind %d@%d; %d@%d was committed", c.log.base, c.log.baseTerm, c.log.base, t)
	}
	for i := c.log.base + 1; i <= d.log.last() && i < s.changed; i++ {
		if want, _ := d.log.term(i); !c.log.matches(i, want) {
			return s.breach("durable-log", "entry %d@%d was durable and is gone; the log ends at %d", i, want, c.log.last())
		}
	}
	return nil
}

// stillVoted: whoever led a term has the votes of a majority for ever, whatever
// one node lost in a crash: a vote was durable before it was told (paper 5.1, 5.2).
func (k *Check) stillVoted(s, before *shadow) error {
	lost := s.term < before.term || (s.term == before.term && s.vote != before.vote)
	if !lost || before.vote == 0 || k.leaders[before.term] != before.vote || len(s.core.config.Voters) == 1 {
		return nil
	}
	if n := k.voters(s.core.config, before.term, before.vote); n < s.core.config.Quorum() {
		return s.breach("vote-quorum", "its vote for %s is lost, which led term %d; now at most %d of %d nodes voted for it", before.vote, before.term, n, len(s.core.config.Voters))
	}
	return nil
}

// stillHeld: an entry that is committed stays on a majority, whatever one node
// lost in a crash: it was durable before it was acknowledged (paper 5.3, figure 2).
func (k *Check) stillHeld(s *shadow, before *spine) error {
	if len(s.core.config.Voters) == 1 {
		return nil
	}
	for i := max(before.base, k.past.from) + 1; i <= min(before.last(), k.past.last); i++ {
		term := k.past.decided(i)
		if term == 0 || !before.holds(i, term) || s.log.holds(i, term) {
			continue
		}
		if n := k.holders(s.core, i, term); n < s.core.config.Quorum() {
			return s.breach("durable-log", "entry %d@%d is committed and was lost here; now %d of %d nodes have it", i, term, n, len(s.core.config.Voters))
		}
	}
	return nil
}

// holders counts the voters that have an entry.
func (k *Check) holders(c *Core, i, term uint64) (n int) {
	for _, id := range c.config.Voters {
		if o := k.node(id); o != nil && o.log.holds(i, term) {
			n++
		}
	}
	return n
}

func (k *Check) node(id consensus.ID) *shadow {
	if int(id) >= len(k.nodes) {
		return nil
	}
	return k.nodes[id]
}

// checkLog: a leader only appends (paper 5.3, leader append-only); anybody else drops
// entries only for others that conflict with them, never committed ones
// (figure 2, AppendEntries 3; section 7 for snapshots).
func (k *Check) checkLog(s *shadow) error {
	l, old := &s.core.log, &s.log
	if l.base < old.base {
		return s.breach("durable-log", "its log begins behind index %d after it began behind %d", l.base, old.base)
	}
	agreed := old.agreement(l)
	if last := old.last(); last > agreed {
		k.noticeCut(s, agreed)
		t, known := old.term(agreed)
		switch {
		case s.led(s.core):
			return s.breach("leader-append-only", "as leader of term %d it dropped entries %d to %d", s.term, agreed+1, last)
		case agreed < s.commit:
			return s.breach("state-machine-safety", "it dropped entries %d to %d; everything up to %d was committed", agreed+1, last, s.commit)
		case l.last() == agreed && known && l.matches(agreed, t):
			return s.breach("log-conflict", "it dropped entries %d to %d, and nothing conflicts with them", agreed+1, last)
		}
	}
	if l.base != old.base {
		old.rebase(l.base, l.baseTerm)
	}
	old.baseTerm = l.baseTerm
	old.cut(agreed)
	for i := agreed + 1; i <= l.last(); i++ {
		old.terms = append(old.terms, l.entries[i-l.base-1].Term)
	}
	s.changed = min(s.changed, agreed+1)
	return k.learn(s, agreed+1)
}

// learn: an index and a term name one command, and one entry before it, in every
// log and for ever (paper 5.3, log matching).
func (k *Check) learn(s *shadow, from uint64) error {
	l := &s.core.log
	before, _ := l.term(from - 1)
	for i := from; i <= l.last(); i++ {
		e := &l.entries[i-l.base-1]
		if e.Index != i {
			return s.breach("log-matching", "entry %d stands at index %d of its log", e.Index, i)
		}
		p := k.past.at(i)
		if p == nil {
			before = e.Term
			continue
		}
		if was, same := p.learn(version{*e, before}); !same {
			return s.breach("log-matching", "entry %s behind term %d is elsewhere %s behind term %d",
				describeEntry(*e), before, describeEntry(was.entry), was.before)
		}
		before = e.Term
	}
	return nil
}

// elected: at most one leader a term (paper 5.2, election safety), with the
// votes of a majority, and with everything in its log that was committed in
// earlier terms (5.4, leader completeness).
func (k *Check) elected(s *shadow) error {
	c := s.core
	if was := k.leaders[c.term]; was != 0 && was != s.id {
		return s.breach("election-safety", "it leads term %d, and so did %s", c.term, was)
	}
	k.noticeElected(s)
	k.leaders[c.term] = s.id
	k.newest = max(k.newest, c.term)
	if n := k.voters(c.config, c.term, c.id); n < c.config.Quorum() {
		return s.breach("vote-quorum", "it leads term %d with the votes of at most %d of %d nodes", c.term, n, len(c.config.Voters))
	}
	for i := max(c.log.base, k.past.from); i <= k.past.last; i++ {
		term := k.past.decided(i)
		if term != 0 && k.past.at(i).in < c.term && !c.log.matches(i, term) {
			return s.breach("leader-completeness", "it leads term %d without entry %d@%d, committed in term %d", c.term, i, term, k.past.at(i).in)
		}
	}
	return nil
}

// voters counts who may have voted for a node in a term: whoever did, and who is
// in a later term, where his vote can't be seen any more.
func (k *Check) voters(config consensus.Configuration, term uint64, candidate consensus.ID) (n int) {
	for _, id := range config.Voters {
		if o := k.node(id); o != nil && (o.term > term || (o.term == term && o.vote == candidate)) {
			n++
		}
	}
	return n
}

// committed: the commit index never falls in an incarnation, one entry is
// committed at an index, by everybody and for ever (paper 5.4.3, state machine
// safety), and a leader is the first to commit it, by counting one of its own
// term that a majority has (5.4.2, figure 8).
func (k *Check) committed(s *shadow) error {
	c := s.core
	if c.commit < s.commit {
		return s.breach("commit-monotone", "its commit index fell from %d to %d", s.commit, c.commit)
	}
	if err := k.counted(s); err != nil {
		return err
	}
	for i := max(s.commit+1, c.log.base); i <= c.commit; i++ {
		term, ok := c.log.term(i)
		if !ok {
			return s.breach("state-machine-safety", "it commits index %d, and its log ends at %d", i, c.log.last())
		}
		p := k.past.at(i)
		switch {
		case p == nil:
		case p.decided == 0:
			p.decided, p.in = term, c.term
		case p.decided != term:
			return s.breach("state-machine-safety", "it commits %d@%d; %d@%d was committed before, in term %d", i, term, i, p.decided, p.in)
		}
	}
	k.past.last = max(k.past.last, c.commit)
	return nil
}

// counted: what allows a commit index to rise, before it is believed.
func (k *Check) counted(s *shadow) error {
	c := s.core
	if c.role != leader {
		if c.commit > k.past.last && len(c.config.Voters) > 1 {
			return s.breach("commit-quorum", "as %s it commits up to %d, and leaders have committed up to %d", roleNames[c.role], c.commit, k.past.last)
		}
		return nil
	}
	term, ok := c.log.term(c.commit)
	if !ok || term != c.term {
		return s.breach("commit-term", "as leader of term %d it commits up to %d@%d by counting", c.term, c.commit, term)
	}
	if n := k.holders(c, c.commit, term); n < c.config.Quorum() {
		return s.breach("commit-quorum", "it commits up to %d@%d, which %d of %d nodes have", c.commit, term, n, len(c.config.Voters))
	}
	return nil
}

// A batch is a leader's reads as they were seen last. What was committed
// anywhere when the youngest of them was asked bounds their index from below.
type batch struct {
	term              uint64 // of the leader
	round             uint64
	index             uint64 // of the batch under way
	underway, waiting int
	least             uint64 // for those under way
	wanted            uint64 // for those that wait
	foreign           bool   // another node's are among those under way
}

// checkReads: a leader confirms a read at an index that contains all that was
// committed, by anybody, before it was asked (thesis 6.4). known is how much that
// was before this step. What happens to a read at a follower has no trace in its
// state; there the index of the leader's answer is used.
func (k *Check) checkReads(s *shadow, known uint64) error {
	c, b := s.core, &s.reads
	r := &c.reads
	if c.role != leader || !s.led(c) {
		*b = batch{term: c.term, round: r.round, index: r.index, underway: len(r.underway), waiting: len(r.waiting),
			least: known, wanted: known, foreign: foreign(c)}
		return nil
	}
	fresh := r.round != b.round
	left := b.waiting
	if b.underway > 0 && (fresh || len(r.underway) == 0) {
		if err := k.confirmed(s, b.index, b.least, b.foreign); err != nil {
			return err
		}
	} else {
		left += b.underway
	}
	joined := len(r.waiting)+len(r.underway) > left
	switch {
	case fresh && (joined || b.waiting == 0):
		b.least = known
	case fresh:
		b.least = b.wanted
	case joined && len(r.underway) > b.underway: // in the midst of a round
		b.least = known
	case joined:
		b.wanted = known
	}
	if fresh && len(r.underway) == 0 {
		least := b.wanted
		if b.waiting == 0 {
			least = known
		}
		if err := k.confirmed(s, r.index, least, false); err != nil {
			return err
		}
	}
	if fresh {
		b.foreign = foreign(c)
	}
	b.round, b.index, b.underway, b.waiting = r.round, r.index, len(r.underway), len(r.waiting)
	return nil
}

func (k *Check) confirmed(s *shadow, index, least uint64, foreign bool) error {
	if index < least {
		return s.breach("read-index", "as leader of term %d it confirms reads at %d; %d was committed before they were asked", s.term, index, least)
	}
	if foreign {
		k.moments[readFollower]++
	}
	return nil
}

// foreign tells whether another node's reads are under way.
func foreign(c *Core) bool {
	for _, d := range c.reads.underway {
		if d.origin != c.id {
			return true
		}
	}
	return false
}

// names are those under which one incarnation asked its leader for reads: from
// the one behind the first to the last.
type names struct{ first, last uint64 }

// incarnationsMax is how many earlier incarnations' names are remembered.
const incarnationsMax = 64

// asked: no incarnation asks under a name that an earlier one used, since an
// answer to that one may still be on its way (thesis 6.4).
func (s *shadow) asked() error {
	id, now := s.core.reads.id, &s.names[len(s.names)-1]
	if id == now.last {
		return nil
	}
	now.last = id
	for _, past := range s.names[:len(s.names)-1] {
		if id > past.first && id <= past.last {
			return s.breach("read-names-unique", "it asks its leader under the name %d, as it did before it restarted", id)
		}
	}
	return nil
}
