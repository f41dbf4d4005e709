package relay

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"chaos/nodes"
)

// A link is the state of one directed link and the streams that flow along it.
type link struct {
	id nodes.Link

	mu      sync.Mutex
	state   nodes.LinkState
	was     nodes.LinkState // weather before the present state, until a probe saw that it is gone
	free    time.Time       // when a limited link has sent all that it took
	changed chan struct{}   // closed and replaced when the state changes
	streams map[*stream]struct{}

	passed, held, resets, connections atomic.Uint64
}

// get is the state, and what closes when it changes.
func (l *link) get() (nodes.LinkState, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed
}

// weather is the state, and the weather before it.
func (l *link) weather() (now, was nodes.LinkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.was
}

// settle forgets the weather before, which was seen to be gone.
func (l *link) settle(was nodes.LinkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.was == was {
		l.was = nodes.LinkState{}
	}
}

// set changes the state and makes every stream look at it.
func (l *link) set(s nodes.LinkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == s {
		return
	}
	reset := s.Reset && !l.state.Reset
	if l.state.Weather() {
		l.was = l.state
	}
	if l.state.Rate != s.Rate {
		l.free = time.Time{}
	}
	l.state = s
	close(l.changed)
	l.changed = make(chan struct{})
	for stream := range l.streams {
		if reset && stream == stream.pair.forward {
			l.resets.Add(1)
			stream.pair.abort()
		}
		stream.wakeUp()
	}
}

// join adds a stream; a link that resets refuses connections dialled along it.
func (l *link) join(s *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Reset && s == s.pair.forward {
		l.resets.Add(1)
		return false
	}
	l.streams[s] = struct{}{}
	return true
}

func (l *link) leave(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, s)
}

// holds tells whether a chunk at the head of a stream must wait. A cut of data
// lets bare ends of connections pass, as it does with bare packets.
func holds(s nodes.LinkState, c chunk) bool {
	return s.Cut || s.CutData && len(c.data) > 0
}

// draw is how long one chunk waits: uniform in [Delay-Jitter, Delay+Jitter].
func draw(s nodes.LinkState) time.Duration {
	d := s.Delay
	if s.Jitter > 0 {
		d += rand.Int64N(2*s.Jitter+1) - s.Jitter
	}
	return time.Duration(max(d, 0))
}

// due is when so many bytes that came now have been sent and have travelled. A
// limited link sends one after the other whatever its streams hand it.
func (l *link) due(now time.Time, bytes int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Rate > 0 {
		if l.free.After(now) {
			now = l.free
		}
		now = now.Add(spent(int64(bytes), l.state.Rate))
		l.free = now
	}
	return now.Add(draw(l.state))
}

// spent is how long so many bytes take at that rate.
func spent(bytes, rate int64) time.Duration {
	return time.Duration(bytes) * time.Second / time.Duration(rate)
}

// passable waits until from could open a connection to to: the opening must
// get there, and the answer back. A link that resets refuses what is dialled
// along it.
func (n *Network) passable(ctx context.Context, from, to nodes.ID) error {
	there, back := n.link(nodes.Link{From: from, To: to}), n.link(nodes.Link{From: to, To: from})
	for {
		ts, changedThere := there.get()
		bs, changedBack := back.get()
		switch {
		case ts.Reset:
			there.resets.Add(1)
			return syscall.ECONNREFUSED
		case !ts.Cut && !ts.CutData && !bs.Cut:
			return n.sleep(ctx, draw(ts)+draw(bs))
		}
		there.held.Add(1)
		select {
		case <-changedThere:
		case <-changedBack:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.ctx.Done():
			return ErrClosed
		}
	}
}

func (n *Network) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ctx.Done():
		return ErrClosed
	}
}
