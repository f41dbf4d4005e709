package sim

// What an event is for.
const (
	evMessage = iota // from node a to node b; slot holds it
	evTick           // host b
	evFree           // host b has carried out its step
	evWorked         // host b's background work is done; slot names it
	evReset          // host b learns that its connection to a broke
	evBytes          // chunk slot arrives at one end of a client's connection
	evRetry          // client slot's held bytes are tried again; a tells which end
	evConnect        // client slot's dial arrives
	evBroken         // client slot learns that its connection broke
	evTimeout        // client slot's time is up
	evWake           // the interpreter asked for it; slot is its own
	evCrash          // host b dies at the crash point that it passed
)

// An event is what happens at one moment. Events of one moment happen in the
// order in which they were thought of.
type event struct {
	at   int64 // ns
	seq  uint64
	left int64 // of a message: when it left its sender
	slot int32
	inc  uint32 // incarnation of the host, or generation of the client, that it was meant for
	kind uint8
	a, b uint8
}

func (e *event) before(f *event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// A queue is a heap of events with four children a node: flatter than a binary
// one, so that fewer cache lines are touched.
type queue struct{ items []event }

func (q *queue) push(e event) {
	q.items = append(q.items, e)
	i := len(q.items) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&q.items[up]) {
			break
		}
		q.items[i] = q.items[up]
		i = up
	}
	q.items[i] = e
}

// pop takes the earliest event; there is one.
func (q *queue) pop() event {
	top := q.items[0]
	n := len(q.items) - 1
	last := q.items[n]
	q.items = q.items[:n]
	if n > 0 {
		q.sink(last)
	}
	return top
}

// sink puts e where the root was and lets it find its place.
func (q *queue) sink(e event) {
	i, n := 0, len(q.items)
	for {
		first := 4*i + 1
		if first >= n {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, n); c++ {
			if q.items[c].before(&q.items[least]) {
				least = c
			}
		}
		if !q.items[least].before(&e) {
			break
		}
		q.items[i] = q.items[least]
		i = least
	}
	q.items[i] = e
}

// A slab keeps values under numbers and uses their places again.
type slab[T any] struct {
	items []T
	free  []int32
}

func (s *slab[T]) put(v T) int32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		s.items[i] = v
		return i
	}
	s.items = append(s.items, v)
	return int32(len(s.items) - 1)
}

// get removes a value and leaves it in its place until that is used again.
func (s *slab[T]) get(i int32) *T {
	s.free = append(s.free, i)
	return &s.items[i]
}

// take removes a value.
func (s *slab[T]) take(i int32) T {
	var none T
	v := s.items[i]
	s.items[i] = none
	s.free = append(s.free, i)
	return v
}
