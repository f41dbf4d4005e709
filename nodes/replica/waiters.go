package replica

import (
	"maps"
	"slices"
)

// A waiter is a request that waits for its answer.
type waiter struct {
	ticket Ticket
	key    string // of a read
	term   uint64 // of a command: the core's when it was proposed
}

// waiters holds who waits, by the serial of the command or the key of the read.
// All wait equally long, so that they expire in order of serial.
type waiters struct {
	by     map[uint64]waiter
	serial uint64 // the last one given; the incarnation is in its upper bits
	oldest uint64 // every serial up to this one has been answered or has expired
	now    uint64 // ticks
	wait   uint64 // ticks
	marks  []mark // how far serials had come at past ticks, oldest first
	late   []Ticket
}

// A mark says that serials up to serial expire at tick at.
type mark struct{ at, serial uint64 }

func newWaiters(base, wait uint64) waiters {
	return waiters{by: map[uint64]waiter{}, serial: base, oldest: base, wait: wait}
}

func (w *waiters) full() bool { return len(w.by) >= waitersMax }

// add gives a waiter its serial.
func (w *waiters) add(v waiter) uint64 {
	w.serial++
	w.by[w.serial] = v
	return w.serial
}

// take removes a waiter; false if nobody waits under that serial any more.
func (w *waiters) take(serial uint64) (waiter, bool) {
	v, ok := w.by[serial]
	delete(w.by, serial)
	return v, ok
}

// takeIf removes the waiters that match, in the order in which they came.
func (w *waiters) takeIf(match func(waiter) bool) (out []Ticket) {
	for _, serial := range slices.Sorted(maps.Keys(w.by)) {
		if v := w.by[serial]; match(v) {
			delete(w.by, serial)
			out = append(out, v.ticket)
		}
	}
	return out
}

// tick counts time, and returns who has waited too long. The result is valid
// until the next tick.
func (w *waiters) tick() []Ticket {
	w.now++
	w.late = w.late[:0]
	if n := len(w.marks); w.serial > w.oldest && (n == 0 || w.marks[n-1].serial < w.serial) {
		w.marks = append(w.marks, mark{w.now + w.wait, w.serial})
	}
	for len(w.marks) > 0 && w.marks[0].at <= w.now {
		for s := w.oldest + 1; s <= w.marks[0].serial; s++ {
			if v, ok := w.take(s); ok {
				w.late = append(w.late, v.ticket)
			}
		}
		w.oldest = w.marks[0].serial
		w.marks = w.marks[1:]
	}
	return w.late
}
