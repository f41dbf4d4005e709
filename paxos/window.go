package paxos

// A window holds one T for each slot of a contiguous range. The range grows at
// its upper end and is dropped at its lower one, so that finding a slot costs
// one subtraction whatever the length of the log.
type window[T any] struct {
	first uint64 // the slot of items[0]
	items []T
}

// end is the first slot above the window.
func (w *window[T]) end() uint64 { return w.first + uint64(len(w.items)) }

// at is the place of slot, or nil when the window does not hold it.
func (w *window[T]) at(slot uint64) *T {
	if slot < w.first || slot >= w.end() {
		return nil
	}
	return &w.items[slot-w.first]
}

// extend is the place of slot, which must not lie below the window; the window
// grows up to it. Callers bound slot by slotsAheadMax.
func (w *window[T]) extend(slot uint64) *T {
	for w.end() <= slot {
		var empty T
		w.items = append(w.items, empty)
	}
	return &w.items[slot-w.first]
}

// A touch counts changes of slots and names the last one that changed, so that a
// [Check] sees without a search what a step did. The protocol never reads it.
type touch struct{ count, slot uint64 }

// at notes a change of slot.
func (t *touch) at(slot uint64) { t.count, t.slot = t.count+1, slot }

// dropBelow forgets every slot below first.
func (w *window[T]) dropBelow(first uint64) {
	if first <= w.first {
		return
	}
	n := min(first-w.first, uint64(len(w.items)))
	clear(w.items[:n])
	w.items = w.items[n:]
	w.first = first
}
