package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"chaos/nodes"
)

// Bounds of one stream. A full queue is not read into: the sender's own socket
// fills up behind it, as on a real network. With a delay it bounds the rate at
// queueBytes for each delay. On a limited link it is shorter, so that bytes don't
// wait much longer than in front of a real one.
const (
	readBytes    = 64 << 10 // one read
	queueBytes   = 1 << 20  // waiting in one stream
	queueChunks  = 4096     // the same, in reads
	limitedRead  = 20 * time.Millisecond
	limitedQueue = 200 * time.Millisecond
	limitedBytes = 1 << 10 // that a read takes at least
)

// An ending is how the source of a stream ended.
type ending int

const (
	goesOn   ending = iota
	finished        // no more bytes: passed on as the end of one direction
	broken          // an error: passed on as a reset
)

// A chunk is what one read took, on its way. With an ending it has no data.
type chunk struct {
	data []byte
	due  time.Time // not handed on before
	end  ending
}

// A stream copies one direction of a relayed connection. One goroutine runs it.
type stream struct {
	pair     *pair
	link     *link
	src, dst *net.TCPConn
	back     *link  // the link of the other direction
	onHeld   func() // called when something new has to wait; may be nil

	queue   []chunk
	size    int  // bytes in queue
	counted int  // how many of the queue's head were counted as held
	ended   bool // src gives no more
	done    bool // dst gets no more
	failed  bool // dst did not take a write

	mu    sync.Mutex
	woken bool          // look at the link before the next read
	wake  chan struct{} // the same, while not reading
}

func newStream(p *pair, l, back *link) *stream {
	return &stream{pair: p, link: l, back: back, wake: make(chan struct{}, 1)}
}

// copy runs until the end was handed on, or the pair is aborted.
func (s *stream) copy() {
	buf := make([]byte, readBytes)
	for !s.done {
		wait := s.deliver()
		switch {
		case s.done:
		case s.ended || s.full() || len(s.queue) >= queueChunks:
			s.sleep(wait)
		default:
			s.read(buf[:s.most(limitedRead, readBytes)], wait)
		}
	}
}

func (s *stream) full() bool { return s.size >= s.most(limitedQueue, queueBytes) }

// most is how many bytes to take: as many as a limited link sends in that time,
// else so many.
func (s *stream) most(t time.Duration, bytes int) int {
	state, _ := s.link.get()
	if state.Rate == 0 {
		return bytes
	}
	return min(max(int(time.Duration(state.Rate)*t/time.Second), limitedBytes), bytes)
}

// deliver hands on what is due, and returns when the next is: zero for never.
func (s *stream) deliver() time.Time {
	for len(s.queue) > 0 && !s.done {
		state, _ := s.link.get()
		head := s.queue[0]
		if holds(state, head) {
			s.countHeld()
			return time.Time{}
		}
		if time.Now().Before(head.due) {
			return head.due
		}
		s.queue = s.queue[1:]
		s.size -= len(head.data)
		s.counted = max(s.counted-1, 0)
		s.hand(head)
	}
	return time.Time{}
}

// hand gives one chunk to dst.
func (s *stream) hand(c chunk) {
	switch c.end {
	case finished:
		s.done = true
		s.failed = s.dst.CloseWrite() != nil
	case broken:
		s.done = true
		reset(s.dst)
	default:
		n, err := s.dst.Write(c.data)
		s.link.passed.Add(uint64(n))
		if err != nil {
			s.done, s.failed = true, true
		}
	}
}

// countHeld counts what began to wait because the link is cut.
func (s *stream) countHeld() {
	if s.counted == len(s.queue) {
		return
	}
	s.link.held.Add(uint64(len(s.queue) - s.counted))
	s.counted = len(s.queue)
	if s.onHeld != nil {
		s.onHeld()
	}
}

// read takes what src has, until the deadline or until the link changes.
func (s *stream) read(buf []byte, deadline time.Time) {
	s.mu.Lock()
	if s.woken {
		s.woken = false
		s.mu.Unlock()
		return
	}
	err := s.src.SetReadDeadline(deadline)
	s.mu.Unlock()
	var n int
	if err == nil {
		n, err = s.src.Read(buf)
	}
	if n > 0 {
		s.take(buf[:n])
	}
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
	case errors.Is(err, net.ErrClosed):
		s.done = true // aborted by the pair: there is nobody left to tell
	case errors.Is(err, io.EOF):
		s.push(chunk{end: finished})
	default:
		s.push(chunk{end: broken})
	}
}

// take hands bytes straight on where nothing is in their way, else queues a copy.
func (s *stream) take(b []byte) {
	state, _ := s.link.get()
	if len(s.queue) == 0 && state == (nodes.LinkState{}) {
		s.hand(chunk{data: b})
		return
	}
	s.push(chunk{data: append([]byte(nil), b...)})
}

// push queues a chunk. One that is due before its predecessor waits for it:
// jitter changes the times of a stream's bytes, never their order.
func (s *stream) push(c chunk) {
	c.due = s.link.due(time.Now(), len(c.data))
	s.ended = c.end != goesOn
	s.size += len(c.data)
	s.queue = append(s.queue, c)
}

// sleep waits until the time, until the link changes, or until the pair ends.
func (s *stream) sleep(until time.Time) {
	var due <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-due:
	case <-s.wake:
	case <-s.pair.ctx.Done():
		s.done = true
	}
}

// wakeUp makes the stream look at its link again, now.
func (s *stream) wakeUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken = true
	s.src.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection, which ends the read too
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// reset closes a connection so that its other end sees a reset.
func reset(c *net.TCPConn) {
	c.SetLinger(0) // fails only on a closed connection
	c.Close()
}
