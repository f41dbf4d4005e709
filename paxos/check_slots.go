package paxos

import "chaos/nodes/consensus"

// A slotHistory is all that a [Check] saw happen to one slot.
type slotHistory struct {
	once balloting   // of the first ballot: most slots see no other
	more []balloting // of others, in the order in which they were seen

	chosen   Ballot // the lowest in which a majority accepted, durably; or zero
	value    []consensus.Command
	decided  consensus.ID // who learned it first, or 0
	learned  []consensus.Command
	complete uint64 // commands in all slots up to this one, once all are decided
}

// A balloting is the proposal of one ballot for a slot, and who accepted it.
type balloting struct {
	ballot   Ballot
	commands []consensus.Command
	maybe    votes // perhaps only in memory, and forgotten since
	sure     votes // durable
}

// in finds the balloting of b, and makes one where there was none.
func (h *slotHistory) in(b Ballot) (at *balloting, fresh bool) {
	if h.once.ballot == b {
		return &h.once, false
	}
	for i := range h.more {
		if h.more[i].ballot == b {
			return &h.more[i], false
		}
	}
	if h.once.ballot.IsZero() {
		h.once.ballot = b
		return &h.once, true
	}
	h.more = append(h.more, balloting{ballot: b})
	return &h.more[len(h.more)-1], true
}

// any finds a balloting for which match holds, or nil.
func (h *slotHistory) any(match func(*balloting) bool) *balloting {
	if !h.once.ballot.IsZero() && match(&h.once) {
		return &h.once
	}
	for i := range h.more {
		if match(&h.more[i]) {
			return &h.more[i]
		}
	}
	return nil
}

// history is the place of slot, or nil when it is forgotten.
func (k *Check) history(slot uint64) *slotHistory {
	if slot < k.slots.first || slot >= k.slots.first+2*slotsKeptMax {
		return nil
	}
	return k.slots.extend(slot)
}

// majority tells whether v is one.
func (k *Check) majority(v votes) bool { return v.count() >= k.voters.Quorum() }

// voted notes that n accepted p, perhaps in memory only. The first acceptance
// of a ballot shows what was proposed in it.
func (k *Check) voted(n *watched, p *Proposal) error {
	h := k.history(p.Slot)
	if h == nil {
		return nil
	}
	at, fresh := h.in(p.Ballot)
	at.maybe |= n.bit
	if !fresh {
		if !sameValue(at.commands, p.Commands) {
			return n.breach(oneValuePerBallot, "it accepts %s for slot %d with %s, another node with %s", p.Ballot, p.Slot, describeValue(p.Commands), describeValue(at.commands))
		}
		return nil
	}
	at.commands = p.Commands
	k.noteProposal(h, at)
	if !h.chosen.IsZero() && h.chosen.Less(p.Ballot) && !sameValue(h.value, p.Commands) {
		return n.breach(valueChoice, "ballot %s proposes %s for slot %d, and %s chose %s", p.Ballot, describeValue(p.Commands), p.Slot, h.chosen, describeValue(h.value))
	}
	return nil
}

// durable counts an acceptance that can't be lost any more.
func (k *Check) durable(n *watched, v vote) error {
	h := k.slots.at(v.slot)
	if h == nil {
		return nil
	}
	at, _ := h.in(v.ballot)
	before := at.sure
	if at.sure |= n.bit; at.sure == before || k.majority(before) || !k.majority(at.sure) {
		return nil
	}
	return k.choose(n, v.slot, h, at)
}

// choose notes that a majority accepted in one ballot: the value is chosen for
// ever. It must be the only one, and all higher ballots must have proposed it.
func (k *Check) choose(n *watched, slot uint64, h *slotHistory, at *balloting) error {
	if !h.chosen.IsZero() && !sameValue(h.value, at.commands) {
		return n.breach(oneValueChosen, "ballot %s chooses %s for slot %d, and %s chose %s", at.ballot, describeValue(at.commands), slot, h.chosen, describeValue(h.value))
	}
	if h.decided != 0 && !sameValue(h.learned, at.commands) {
		return n.breach(oneValueChosen, "ballot %s chooses %s for slot %d, and %s had learned %s", at.ballot, describeValue(at.commands), slot, h.decided, describeValue(h.learned))
	}
	if h.chosen.IsZero() || at.ballot.Less(h.chosen) {
		h.chosen, h.value = at.ballot, at.commands
	}
	other := h.any(func(o *balloting) bool { return at.ballot.Less(o.ballot) && !sameValue(o.commands, at.commands) })
	if other != nil {
		return n.breach(valueChoice, "ballot %s had proposed %s for slot %d, and %s chooses %s", other.ballot, describeValue(other.commands), slot, at.ballot, describeValue(at.commands))
	}
	return nil
}

// decides looks at all that n knows to be decided, from one slot to before another.
func (k *Check) decides(n *watched, from, end uint64) error {
	l := &n.core.learner
	for slot := max(from, l.decided.first); slot < end; slot++ {
		if d := l.decided.at(slot); d.known {
			if err := k.decided(n, slot, d.commands); err != nil {
				return err
			}
		}
	}
	return nil
}

// accepted tells whether a majority accepted commands in one ballot, as far as
// anybody may have been told.
func (k *Check) accepted(h *slotHistory, commands []consensus.Command) bool {
	return h.any(func(o *balloting) bool { return k.majority(o.maybe) && sameValue(o.commands, commands) }) != nil
}

// decided compares what n learned with what others did; the first to learn a
// slot must have a value that a majority accepted in one ballot.
func (k *Check) decided(n *watched, slot uint64, commands []consensus.Command) error {
	h := k.history(slot)
	if h == nil {
		return nil
	}
	if h.decided != 0 {
		if !sameValue(h.learned, commands) {
			return n.breach(decidedStable, "slot %d is %s here and %s at %s", slot, describeValue(commands), describeValue(h.learned), h.decided)
		}
		return nil
	}
	if !k.accepted(h, commands) {
		return n.breach(decidedIsChosen, "it learns %s for slot %d, which no majority accepted in any ballot", describeValue(commands), slot)
	}
	h.decided, h.learned = n.id, commands
	k.count++
	k.noteDecision(h)
	for h = k.slots.at(k.mark + 1); h != nil && h.decided != 0; h = k.slots.at(k.mark + 1) {
		k.mark++
		k.index += uint64(len(h.learned))
		h.complete = k.index
	}
	return nil
}

// sequence compares how far n is, and what its checkpoint covers, with what was
// decided by anybody.
func (k *Check) sequence(n *watched, before *glance) error {
	now, c := &n.last, n.core
	if now.mark < before.mark || now.index < before.index {
		return n.breach(commitMonotone, "it falls from slot %d, index %d to slot %d, index %d", before.mark, before.index, now.mark, now.index)
	}
	if now.term != before.term || now.first != before.first {
		s := &c.checkpoint.snapshot
		if s.Term > k.mark || !k.ends(s.Term, s.Index) {
			return n.breach(checkpointCovers, "its checkpoint is of slot %d, index %d; %d slots were decided with %d commands", s.Term, s.Index, k.mark, k.index)
		}
		if first := max(c.acceptor.accepted.first, c.learner.decided.first); first > s.Term+1 {
			return n.breach(checkpointCovers, "it forgets slots below %d, and its checkpoint covers %d", first, s.Term)
		}
	}
	if now.mark != before.mark && (now.mark > k.mark || !k.ends(now.mark, now.index)) {
		return n.breach(decidedStable, "it counts %d commands in %d slots; %d slots were decided with %d", now.index, now.mark, k.mark, k.index)
	}
	return nil
}

// ends tells whether slot ends at index, as far as is remembered.
func (k *Check) ends(slot, index uint64) bool {
	h := k.slots.at(slot)
	return h == nil || h.complete == index
}
