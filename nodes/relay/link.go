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
	changed chan struct{} // closed and replaced when the state changes
	streams map[*stream]struct{}

	passed, held, resets, connections atomic.Uint64
}

// get is the state, and what closes when it changes.
func (l *link) get() (nodes.LinkState, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed
}

// set changes the state and makes every stream look at it.
func (l *link) set(s nodes.LinkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == s {
		return
	}
	reset := s.Reset && !l.state.Reset
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
