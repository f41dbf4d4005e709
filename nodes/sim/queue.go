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

// How the queue keeps what is not due soon.
const (
	bucketBits = 24  // of the time in ns: a bucket is 16.8 ms long
	buckets    = 256 // kept apart: 4.3 s
)

// A queue gives events out by time. What is due within the present bucket of
// time is a heap with four children a node, and small; later buckets lie in no
// order until their time comes. Most events wait there: ticks and time-outs.
type queue struct {
	heap   []event // all up to the present bucket, and what is too late for the others
	bucket int64   // the present one
	later  [buckets][]event
	parted int       // events in later
	spare  [][]event // memory of buckets that are empty
}

func (q *queue) push(e event) {
	if b := e.at >> bucketBits; b > q.bucket && b < q.bucket+buckets {
		at := &q.later[b%buckets]
		if n := len(q.spare); *at == nil && n > 0 {
			*at, q.spare = q.spare[n-1], q.spare[:n-1]
		}
		*at = append(*at, e)
		q.parted++
		return
	}
	q.rise(e)
}

// next is the earliest event, nil if there is none. It is valid until the next call.
func (q *queue) next() *event {
	for q.parted > 0 && (len(q.heap) == 0 || q.heap[0].at>>bucketBits > q.bucket) {
		q.bucket++
		b := &q.later[q.bucket%buckets]
		if *b == nil {
			continue
		}
		for _, e := range *b {
			q.rise(e)
		}
		q.parted -= len(*b)
		*b, q.spare = nil, append(q.spare, (*b)[:0])
	}
	if len(q.heap) == 0 {
		return nil
	}
	q.bucket = max(q.bucket, q.heap[0].at>>bucketBits)
	return &q.heap[0]
}

// pop takes the earliest event, which next has shown.
func (q *queue) pop() event {
	top, n := q.heap[0], len(q.heap)-1
	last := q.heap[n]
	q.heap = q.heap[:n]
	if n > 0 {
		q.sink(last)
	}
	return top
}

// rise puts e into the heap and lets it find its place from below.
func (q *queue) rise(e event) {
	q.heap = append(q.heap, e)
	items := q.heap
	i := len(items) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&items[up]) {
			break
		}
		items[i] = items[up]
		i = up
	}
	items[i] = e
}

// sink puts e where the root was and lets it find its place.
func (q *queue) sink(e event) {
	items, i := q.heap, 0
	for {
		first := 4*i + 1
		if first >= len(items) {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, len(items)); c++ {
			if items[c].before(&items[least]) {
				least = c
			}
		}
		if !items[least].before(&e) {
			break
		}
		items[i] = items[least]
		i = least
	}
	items[i] = e
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
