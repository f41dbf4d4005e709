package replica

import "sync"

// An inbox is a bounded queue into one reader, who takes all that is there at once.
type inbox[T any] struct {
	mu    sync.Mutex
	items []T
	max   int
	wake  chan struct{} // holds one token while items may be there
}

func newInbox[T any](max int) *inbox[T] {
	return &inbox[T]{max: max, wake: make(chan struct{}, 1)}
}

// put adds as many of items as there is room for, and returns how many.
func (q *inbox[T]) put(items ...T) int { return q.putBelow(q.max, items) }

// putBelow adds as many of items as keep the queue at most limit long, and
// returns how many.
func (q *inbox[T]) putBelow(limit int, items []T) int {
	q.mu.Lock()
	n := max(0, min(len(items), limit-len(q.items)))
	q.items = append(q.items, items[:n]...)
	q.mu.Unlock()
	q.signal()
	return n
}

// force adds an item past the bound; for the few that must not get lost.
func (q *inbox[T]) force(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	q.signal()
}

func (q *inbox[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns everything, and puts the memory of into to use.
func (q *inbox[T]) take(into []T) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.items
	q.items = into[:0]
	return out
}

// An outbox gathers bytes for one connection, so that one write carries many
// frames. What does not fit is dropped whole.
type outbox struct {
	mu   sync.Mutex
	buf  []byte
	max  int
	wake chan struct{}
}

func newOutbox(max int) *outbox { return &outbox{max: max, wake: make(chan struct{}, 1)} }

// add appends what fill appends; false, and nothing is added, if the queue is full.
func (o *outbox) add(fill func([]byte) []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) >= o.max {
		return false
	}
	o.buf = fill(o.buf)
	return true
}

// flush wakes the writer if there is something to write.
func (o *outbox) flush() {
	o.mu.Lock()
	n := len(o.buf)
	o.mu.Unlock()
	if n == 0 {
		return
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// outboxKeep is how much memory an outbox keeps when it is empty, bytes.
const outboxKeep = 1 << 20

// take returns what was gathered, and puts the memory of into to use.
func (o *outbox) take(into []byte) []byte {
	if cap(into) > outboxKeep {
		into = nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.buf
	o.buf = into[:0]
	return out
}

func (o *outbox) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = o.buf[:0]
}
