package agent

import (
	"math/rand/v2"
	"time"

	"chaos/nodes"
)

// The room of a limited link's queue: as much as takes so long to send, and in
// any case so many bytes.
const (
	roomTime  = 200 * time.Millisecond
	roomBytes = 16 << 10
)

// A shaper decides what becomes of each packet of one link. It draws from one
// seeded source and reads no clock.
//
// A packet is first lost or not; what is left is sent by a limited link one
// after the other, or refused where its queue is full, and travels for the
// delay. Jitter never changes the order of packets; only a reordered one is
// overtaken, by those that come within its hold.
type shaper struct {
	rand *rand.Rand
	last time.Time // when the packet before may go
	free time.Time // when a limited link has sent all that it took
}

// A fate is what becomes of one packet.
type fate struct {
	lost    bool // by chance
	refused bool // for want of room
	late    bool // others may overtake it
	double  bool // it arrives twice
	due     time.Time
}

// decide draws the fate of a packet of so many bytes that came now. The draws
// of one kind of weather don't depend on whether there is another one.
func (h *shaper) decide(s nodes.LinkState, now time.Time, size int) (f fate) {
	f.lost, f.double, f.late = h.chance(s.Lossy), h.chance(s.Duplicated), h.chance(s.Reordered)
	if f.lost {
		return fate{lost: true}
	}
	left := now
	if s.Rate > 0 {
		var ok bool
		if left, ok = h.send(s.Rate, now, size); !ok {
			return fate{refused: true}
		}
	}
	if due := left.Add(h.delay(s)); due.After(h.last) {
		h.last = due
	}
	f.due = h.last
	if f.late {
		f.due = f.due.Add(time.Duration(s.Hold))
	}
	return f
}

func (h *shaper) chance(perMille int) bool {
	return perMille > 0 && h.rand.IntN(nodes.PerMilleMax) < perMille
}

// send is when a limited link has sent the packet.
func (h *shaper) send(rate int64, now time.Time, size int) (time.Time, bool) {
	if h.free.Before(now) {
		h.free = now
	}
	own := time.Duration(size) * time.Second / time.Duration(rate)
	if ahead := h.free.Sub(now); ahead > 0 && ahead+own > room(rate) {
		return now, false
	}
	h.free = h.free.Add(own)
	return h.free, true
}

// room is how long the queue of a limited link may take to be sent.
func room(rate int64) time.Duration {
	return max(roomTime, roomBytes*time.Second/time.Duration(rate))
}

// delay is uniform in [Delay-Jitter, Delay+Jitter], and never negative.
func (h *shaper) delay(s nodes.LinkState) time.Duration {
	d := s.Delay
	if s.Jitter > 0 {
		d += h.rand.Int64N(2*s.Jitter+1) - s.Jitter
	}
	return time.Duration(max(d, 0))
}
