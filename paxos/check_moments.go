package paxos

import "chaos/nodes/consensus"

// A moment is a rare situation that a [Check] counts.
type moment int

const (
	duel moment = iota
	preemptedInPhase1
	preemptedInPhase2
	twoInPhase2
	earlierValue
	gapFilled
	otherValueWon
	acceptedAgain
	promiseInParts
	outOfOrder
	caughtUp
	checkpointInChunks
	checkpointInstalled
	checkpointOfAnother
	restartUndecided
	restartFromCheckpoint
	lostChosen
	transferred
	tookOver
	probeFailed
	majorityLost
	besidePhase2
	leapt
	readFills
	moments
)

// A momentKind is a moment's name, and the modes that can reach it.
type momentKind struct {
	name  string
	modes [2]bool // by Mode
}

var (
	inBoth    = [2]bool{true, true}
	inMulti   = [2]bool{Multi: true}
	inClassic = [2]bool{Classic: true}
)

var momentKinds = [moments]momentKind{
	duel:                  {"duel of proposers", inBoth},
	preemptedInPhase1:     {"proposer preempted in phase 1", inBoth},
	preemptedInPhase2:     {"proposer preempted in phase 2", inBoth},
	twoInPhase2:           {"two nodes in phase 2 at once", inBoth},
	earlierValue:          {"value of an earlier ballot proposed again", inBoth},
	gapFilled:             {"gap filled by a no-op", inBoth},
	otherValueWon:         {"another's value won the slot", inBoth},
	acceptedAgain:         {"slot accepted again in a higher ballot", inBoth},
	promiseInParts:        {"promise in parts", inBoth},
	outOfOrder:            {"slots decided out of order", inBoth},
	caughtUp:              {"learner caught up", inBoth},
	checkpointInChunks:    {"checkpoint fetched in chunks", inBoth},
	checkpointInstalled:   {"learner caught up below a checkpoint", inBoth},
	checkpointOfAnother:   {"checkpoint fetched again from another peer", inBoth},
	restartUndecided:      {"restart with accepted but undecided slots", inBoth},
	restartFromCheckpoint: {"restart from a checkpoint", inBoth},
	lostChosen:            {"crash with a chosen value that nobody had learned", inBoth},
	transferred:           {"phase 1 because of a transfer", inMulti},
	tookOver:              {"take-over by probe", inMulti},
	probeFailed:           {"probe refused", inMulti},
	majorityLost:          {"distinguished proposer without a majority", inMulti},
	besidePhase2:          {"phase 1 beside another's phase 2", inClassic},
	leapt:                 {"ballot raised by more than one", inClassic},
	readFills:             {"read waits for an undecided slot", inClassic},
}

// Moments are the moments that the cluster's mode can reach. It implements
// consensus.Watch.
func (k *Check) Moments() []consensus.Moment {
	var out []consensus.Moment
	for i, kind := range momentKinds {
		if kind.modes[k.mode] {
			out = append(out, consensus.Moment{Name: kind.name, Seen: k.seen[i]})
		}
	}
	return out
}

func (k *Check) saw(m moment) { k.seen[m]++ }

func (k *Check) sawIf(m moment, happened bool) {
	if happened {
		k.seen[m]++
	}
}

// noteStep counts the moments that a step of n brought.
func (k *Check) noteStep(n *watched, before *glance) {
	now := &n.last
	k.noteProposer(n, before)
	if now.mark != before.mark || now.decides != before.decides || now.asked != before.asked || now.from != before.from || now.received != before.received {
		k.noteLearner(n, before)
	}
	if k.mode == Classic {
		k.sawIf(readFills, now.fill > before.fill && now.fill > now.mark)
	}
}

// noteProposer counts what became of n's ballot.
func (k *Check) noteProposer(n *watched, before *glance) {
	now := &n.last
	if before.phase == proposing && n.overlaps != before.ballot && k.leadsAbove(n, before.ballot) {
		n.overlaps = before.ballot
		k.saw(twoInPhase2)
	}
	k.sawIf(promiseInParts, now.phase == preparing && now.ballot == before.ballot && now.cursors > before.cursors)
	if k.mode == Multi {
		k.sawIf(probeFailed, before.phase == probing && (now.phase == idle || now.phase == probing && now.tag != before.tag))
	}
	if now.ballot == before.ballot {
		return
	}
	if now.phase == preparing || now.phase == proposing {
		k.noteBegin(n, before)
	}
	if before.phase == preparing || before.phase == proposing {
		k.noteEnd(n, before)
	}
}

// noteBegin counts why n took a new ballot.
func (k *Check) noteBegin(n *watched, before *glance) {
	if k.mode == Classic {
		k.sawIf(besidePhase2, before.phase == idle && n.last.accepts != before.accepts)
		k.sawIf(leapt, before.failures > 0)
		return
	}
	k.sawIf(tookOver, before.phase == probing)
	k.sawIf(transferred, before.phase == idle && before.leader != 0)
}

// noteEnd counts why n's ballot ended.
func (k *Check) noteEnd(n *watched, before *glance) {
	c := n.core
	higher := before.ballot.Less(c.acceptor.promised) || before.ballot.Round < c.proposer.seen
	if k.mode == Classic && c.contention.failures == 0 {
		return // its slots are decided
	}
	k.sawIf(majorityLost, k.mode == Multi && before.phase == proposing && !higher)
	if !higher {
		return
	}
	k.sawIf(preemptedInPhase1, before.phase == preparing)
	k.sawIf(preemptedInPhase2, before.phase == proposing)
	by := k.above(n, before.ballot)
	if by == nil {
		return
	}
	n.lostTo, n.lostAt = by.id, k.count
	k.sawIf(duel, by.lostTo == n.id && by.lostAt == k.count)
}

// above is the node that last used the highest ballot above b, or nil.
func (k *Check) above(n *watched, b Ballot) (by *watched) {
	for _, o := range k.nodes {
		if o != nil && o != n && b.Less(o.used) {
			by, b = o, o.used
		}
	}
	return by
}

// leadsAbove tells whether another node was seen in phase 2 of a ballot above b.
func (k *Check) leadsAbove(n *watched, b Ballot) bool {
	for _, o := range k.nodes {
		if o != nil && o != n && o.last.phase == proposing && b.Less(o.last.ballot) {
			return true
		}
	}
	return false
}

// noteLearner counts how n learned what it did.
func (k *Check) noteLearner(n *watched, before *glance) {
	now := &n.last
	k.sawIf(outOfOrder, now.decides != before.decides && n.core.learner.touched.slot > now.mark)
	installed := now.term != before.term && now.term > before.mark
	k.sawIf(checkpointInstalled, installed)
	k.sawIf(caughtUp, !installed && before.asked != 0 && now.asked == 0 && now.mark > before.mark)
	k.sawIf(checkpointInChunks, before.from == 0 && now.from != 0)
	k.sawIf(checkpointOfAnother, before.from != 0 && now.from != 0 && now.from != before.from)
}

// noteProposal counts what a ballot that was not seen before proposes.
func (k *Check) noteProposal(h *slotHistory, at *balloting) {
	if len(at.commands) == 0 {
		k.saw(gapFilled)
		return
	}
	earlier := h.any(func(o *balloting) bool { return o.ballot.Less(at.ballot) && sameValue(o.commands, at.commands) })
	k.sawIf(earlierValue, earlier != nil)
}

// noteDecision counts a slot that was decided just now, for the first time.
func (k *Check) noteDecision(h *slotHistory) {
	k.sawIf(otherValueWon, h.any(func(o *balloting) bool { return len(o.commands) > 0 && !sameValue(o.commands, h.learned) }) != nil)
}

// gone counts what the end of n's last incarnation left behind.
func (k *Check) gone(n *watched) {
	for slot := k.mark + 1; slot < k.slots.end(); slot++ {
		if h := k.slots.at(slot); h != nil && h.decided == 0 && h.chosen.Node == n.id {
			k.saw(lostChosen)
			return
		}
	}
}

// restarted counts what n's new incarnation found on its disk.
func (k *Check) restarted(n *watched) {
	c := n.core
	k.sawIf(restartFromCheckpoint, c.checkpoint.snapshot.Term > 0)
	for slot := c.learner.mark + 1; slot < c.acceptor.accepted.end(); slot++ {
		if !c.acceptor.acceptedIn(slot).IsZero() {
			k.saw(restartUndecided)
			return
		}
	}
}
