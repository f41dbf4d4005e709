package raft

import "chaos/nodes/consensus"

// A moment is a rare situation of the protocol, by its place in momentNames.
type moment int

const (
	splitVote moment = iota
	preVoteRefused
	staleRefused
	yielded
	transferred
	hurried
	twoLeaders
	checkQuorum
	deposedTail
	deposedReads
	inherited
	olderCommitted
	truncated
	installed
	installedOver
	installedKeeping
	behindFirst
	offeredAgain
	readFollower
	restartVoted
	restartTail
	restartLostEntries
	restartLostHard
	momentsCount
)

var momentNames = [momentsCount]string{
	splitVote:          "split vote",
	preVoteRefused:     "pre-vote refused",
	staleRefused:       "candidate with a stale log refused",
	yielded:            "candidate yields to the leader of its term",
	transferred:        "leadership transferred",
	hurried:            "leader elected in a hurry after a reset",
	twoLeaders:         "two leaders of different terms at once",
	checkQuorum:        "leader steps down by check-quorum",
	deposedTail:        "leader deposed with an uncommitted tail",
	deposedReads:       "leader deposed with reads under way",
	inherited:          "leader inherits an uncommitted tail",
	olderCommitted:     "entry of an older term committed by one of a newer",
	truncated:          "log truncated",
	installed:          "snapshot installed",
	installedOver:      "snapshot installed over a conflicting log",
	installedKeeping:   "snapshot installed below entries that stay",
	behindFirst:        "follower is behind its leader's first index",
	offeredAgain:       "snapshot transfer begun again",
	readFollower:       "read of a follower confirmed",
	restartVoted:       "voter restarts while its term has no leader",
	restartTail:        "restart with an uncommitted tail",
	restartLostEntries: "restart loses entries that were not durable",
	restartLostHard:    "restart loses a term or vote that was not durable",
}

// Moments are all moments with how often each was seen.
func (k *Check) Moments() []consensus.Moment {
	all := make([]consensus.Moment, momentsCount)
	for i, name := range momentNames {
		all[i] = consensus.Moment{Name: name, Seen: k.moments[i]}
	}
	return all
}

func (k *Check) count(m moment, seen bool) {
	if seen {
		k.moments[m]++
	}
}

// notice compares a core with its shadow, before the shadow follows it.
func (k *Check) notice(s *shadow) {
	c := s.core
	if c.role != s.role || c.term != s.term {
		k.noticeRole(s)
	}
	if n := len(c.ballot.refused); n > s.refused && c.role == s.role && c.term == s.term {
		if by := k.node(c.ballot.refused[n-1]); by != nil && by.core != nil {
			k.count(staleRefused, !by.core.upToDate(c.log.last(), c.log.lastTerm()))
		}
	}
	if s.role == leader {
		if !s.overlapped && k.newest > s.term {
			s.overlapped = true
			k.count(twoLeaders, true)
		}
		k.noticeOffers(s)
		if t, ok := c.log.term(s.commit + 1); ok && c.role == leader && c.commit > s.commit {
			k.count(olderCommitted, t < c.term)
		}
	}
	if c.log.base > s.log.base && c.log.base > s.commit && c.snapshot != nil && c.snapshot.Index == c.log.base {
		k.noticeInstall(s)
	}
}

// noticeRole is about ends of candidacies and of leaderships.
func (k *Check) noticeRole(s *shadow) {
	c := s.core
	same := c.term == s.term
	switch s.role {
	case precandidate:
		k.count(preVoteRefused, c.role == follower && same && c.leader == 0)
	case candidate:
		k.count(yielded, c.role == follower && same && c.leader != 0)
		k.count(splitVote, c.role != leader && c.leader == 0 && k.split(s))
	case leader:
		k.count(checkQuorum, same)
		k.count(deposedTail, s.log.last() > s.commit)
		k.count(deposedReads, s.reads.underway > 0)
	}
}

// split tells whether another node stood in the term in which s stood in vain.
func (k *Check) split(s *shadow) bool {
	if k.leaders[s.term] != 0 {
		return false
	}
	for _, o := range k.nodes {
		if o != nil && o != s && o.term == s.term && o.vote == o.id {
			return true
		}
	}
	return false
}

// noticeElected is about how a leader came to lead.
func (k *Check) noticeElected(s *shadow) {
	c := s.core
	s.overlapped = false
	k.count(transferred, s.forced)
	k.count(hurried, s.hurry > 0)
	k.count(inherited, c.lead.start > k.past.last+1)
}

// noticeCut sees a log that drops what stood behind an index.
func (k *Check) noticeCut(s *shadow, agreed uint64) {
	k.count(truncated, s.core.log.base == s.log.base)
}

func (k *Check) noticeInstall(s *shadow) {
	l := &s.core.log
	k.count(installed, true)
	if t, known := s.log.term(l.base); known && l.base > s.log.base {
		k.count(installedOver, t != l.baseTerm)
		k.count(installedKeeping, t == l.baseTerm && l.last() > l.base)
	}
	s.offered = offered{}
}

// An offered is a snapshot that a leader of a term sends to a node.
type offered struct{ term, index uint64 }

// noticeOffers sees which followers a leader sends a snapshot to. It is looked
// for only where something else changed, so it may miss a short transfer.
func (k *Check) noticeOffers(s *shadow) {
	for i := range s.core.lead.peers {
		p := &s.core.lead.peers[i]
		to := k.node(p.id)
		if p.state != snapshotting || to == nil {
			continue
		}
		now := offered{s.core.term, p.transfer.snapshot.Index}
		if now == to.offered {
			continue
		}
		k.count(behindFirst, to.offered.term != now.term)
		k.count(offeredAgain, to.offered.term != 0 && to.offered.index > to.commit)
		to.offered = now
	}
}

// noticeRestart compares what was read back with what the node had in memory.
func (k *Check) noticeRestart(s *shadow) {
	c := s.core
	k.count(restartVoted, c.vote != 0 && k.leaders[c.term] == 0)
	k.count(restartTail, c.log.last() > k.past.last)
	k.count(restartLostEntries, c.log.last() < s.log.last() || !s.log.holds(c.log.last(), c.log.lastTerm()))
	k.count(restartLostHard, c.term < s.term || (c.term == s.term && c.vote != s.vote))
}
