package workload

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"chaos/history"
)

// The defaults of Options.
const (
	workersDefault  = 24
	groupDefault    = 4
	electionDefault = 400 * time.Millisecond
)

// A manner is how one workload uses a key; the load is the same for all.
type manner struct {
	name   string
	writes []weight // what changes a key, and how often
	// value makes the value to invoke f with.
	value  func(l *load, k *key, f string) []byte
	divide int  // its keys take so many times fewer operations; 0 is 1
	once   bool // a key is written once, and then only read
}

type weight struct {
	f string
	n int
}

// A load is the generator of every workload: groups of clients on hot keys
// that rotate. Each worker stays at one node; in each group some only read and
// the others only write, at different nodes, so that what one node acknowledges
// is soon asked of another, whatever the writers wait for.
type load struct {
	o       Options
	r       *rand.Rand
	manners []manner
	workers []worker
	lanes   []lane
	process map[int]int // the worker that a process belongs to
	used    []string    // keys in order of first use
	keys    int         // keys named so far
	value   int64       // the last value written: unique over all keys
	chunk   []byte      // where values are written
	windows map[string]bool
	healed  time.Duration // when the last window ended
	reads   int           // weight of reads
	writes  int           // weight of all else
}

// A worker is what the load knows of one client.
type worker struct {
	node    int
	group   int
	role    role
	process int
	open    bool // an operation is under way
	f       string
	key     *key  // nil: an old one
	written int64 // the value that its last write, swap or append was to leave
	asked   time.Duration
	rest    time.Duration // it does nothing before
	doubts  int           // writes with an unknown end in a row
}

type role uint8

const (
	both role = iota // alone in its group
	reader
	writer
)

var null = []byte("null")

func newLoad(o Options, r *rand.Rand, manners ...manner) *load {
	o = o.withDefaults()
	l := &load{o: o, r: r, process: map[int]int{}, windows: map[string]bool{}, reads: 1, writes: 1, healed: -keyAgeMax}
	for _, m := range manners {
		l.manners = append(l.manners, m.mixed(o.Mix))
	}
	if o.Mix != nil {
		l.reads, l.writes = o.Mix[history.Read], 0
		for f, n := range o.Mix {
			if f != history.Read {
				l.writes += n // a sum: the order does not matter
			}
		}
	}
	l.staff()
	return l
}

func (o Options) withDefaults() Options {
	or := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	or(&o.Workers, workersDefault)
	or(&o.Nodes, 1)
	or(&o.GroupSize, groupDefault)
	or(&o.KeyOps, keyOps)
	if o.KeyLife <= 0 {
		o.KeyLife = keyLife
	}
	if o.Election <= 0 {
		o.Election = electionDefault
	}
	or(&o.Keys, (o.Workers+o.GroupSize-1)/o.GroupSize)
	if o.Workers < 0 || o.Nodes < 0 || o.GroupSize < 0 || o.Keys < 0 {
		panic(fmt.Sprintf("workload: %d workers at %d nodes in groups of %d on %d keys", o.Workers, o.Nodes, o.GroupSize, o.Keys))
	}
	return o
}

// mixed gives the manner the weights asked for, of the functions that it has.
// Where none of them is asked for it keeps its own.
func (m manner) mixed(mix map[string]int) manner {
	var asked []weight
	for _, w := range m.writes {
		if mix[w.f] > 0 {
			asked = append(asked, weight{w.f, mix[w.f]})
		}
	}
	if len(asked) > 0 {
		m.writes = asked
	}
	return m
}

// staff gives every worker its group, role and node, and makes the lanes. In
// each group the readers stand first, each at the node after the last reader's;
// the writers stand at other nodes than these, where there are any.
func (l *load) staff() {
	readers, writers := 0, make([]int, l.o.Nodes) // by node
	for first := 0; first < l.o.Workers; first += l.o.GroupSize {
		end := min(first+l.o.GroupSize, l.o.Workers)
		reading := l.readers(end) - l.readers(first)
		alone := l.reads > 0 && l.writes > 0 && (reading == 0 || reading == end-first)
		taken := make([]bool, l.o.Nodes)
		for i := first; i < end; i++ {
			w := worker{group: first / l.o.GroupSize, process: -1, node: i % l.o.Nodes}
			switch {
			case alone:
			case i < first+reading:
				w.role, w.node = reader, readers%l.o.Nodes
				taken[w.node] = true
				readers++
			default:
				w.role, w.node = writer, fewest(writers, taken)
				writers[w.node]++
			}
			l.workers = append(l.workers, w)
		}
	}
	l.lanes = make([]lane, l.o.Keys)
	for i := range l.lanes {
		l.lanes[i].turn = i
	}
}

// fewest is the node with the fewest of those not taken, or of all if all are.
func fewest(count []int, taken []bool) int {
	best := -1
	for _, free := range []bool{true, false} {
		for n := range count {
			if (best < 0 || count[n] < count[best]) && !(free && taken[n]) {
				best = n
			}
		}
		if best >= 0 {
			break
		}
	}
	return best
}

// readers is how many of the first n workers only read: the share of reads, or
// by default half of the workers, and up to five eighths where that is needed
// to have four at each node: a node whose clients all wait for writes to be
// answered shows nothing.
func (l *load) readers(n int) int {
	const atEachNode = 4
	all := l.o.Workers
	sum := max(1, l.reads+l.writes)
	if l.o.Mix != nil {
		return n * l.reads / sum
	}
	return n * max(all/2, min(atEachNode*l.o.Nodes, all*5/8)) / all
}

// Next gives the worker something to do at its node.
func (l *load) Next(now time.Duration, n, process int) (op Op, wait time.Duration, ok bool) {
	if n < 0 || n >= len(l.workers) {
		panic(fmt.Sprintf("workload: worker %d of %d asks for an operation", n, len(l.workers)))
	}
	w := &l.workers[n]
	if now < w.rest {
		return Op{}, w.rest - now, true
	}
	if w.process != process {
		delete(l.process, w.process)
		w.process = process
		l.process[process] = n
	}
	k := l.key(l.lane(w.group), now)
	f := l.function(w, k)
	*w = worker{node: w.node, group: w.group, role: w.role, process: process, open: true, f: f, key: k, asked: now, doubts: w.doubts}
	if f != history.Read {
		l.use(k)
		return l.write(w, k, f), 0, true
	}
	if l.r.IntN(oldReadOneIn) == 0 && len(l.used) > 0 {
		w.key = nil
		return l.read(w, l.used[l.r.IntN(len(l.used))]), 0, true
	}
	l.use(k)
	return l.read(w, k.name), 0, true
}

// lane is one of the group's lanes: its own, or where there are more lanes than
// groups one of several, drawn.
func (l *load) lane(group int) *lane {
	groups := (l.o.Workers + l.o.GroupSize - 1) / l.o.GroupSize
	first := group % len(l.lanes)
	own := (len(l.lanes) - first + groups - 1) / groups
	if own <= 1 {
		return &l.lanes[first]
	}
	return &l.lanes[first+groups*l.r.IntN(own)]
}

// function decides what the worker does to the key.
func (l *load) function(w *worker, k *key) string {
	switch {
	case w.role == reader, k.open >= openMax, k.m.once && k.written:
		return history.Read
	case w.role == both && l.r.IntN(l.reads+l.writes) < l.reads:
		return history.Read
	}
	sum := 0
	for _, o := range k.m.writes {
		sum += o.n
	}
	n := l.r.IntN(sum)
	for _, o := range k.m.writes {
		if n < o.n {
			return o.f
		}
		n -= o.n
	}
	panic(fmt.Sprintf("workload: drew %d beyond the weights of %s", n, k.m.name))
}

// text keeps what add appends in a chunk that many values share.
func (l *load) text(add func(b []byte) []byte) []byte {
	const chunk, longest = 4096, 64 // bytes; a value takes at most two numbers
	if cap(l.chunk)-len(l.chunk) < longest {
		l.chunk = make([]byte, 0, chunk)
	}
	from := len(l.chunk)
	l.chunk = add(l.chunk)
	return l.chunk[from:len(l.chunk):len(l.chunk)]
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }
