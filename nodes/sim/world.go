package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/replica"
)

// Options are what a world is made of.
type Options struct {
	System   System
	Nodes    int
	Knobs    nodes.Knobs // CrashAt too
	Cluster  string
	Settings Settings
	Seed     uint64
	Audit    bool         // nodes keep their audit
	Trace    func(Traced) // sees everything that happens; may be nil
}

// A Moment is a rare situation of the protocol, with how often it was seen.
type Moment = consensus.Moment

// A Breach is a promise that was broken.
type Breach = consensus.Breach

// CrashPoints are the places in a step where a plan may have a node die.
var CrashPoints = replica.CrashPoints

// CrashPoint is the detail of the incident of a node that died at its armed crash point.
const CrashPoint = "crash point"

// A World is one simulated cluster with its clients. One owner calls it.
type World struct {
	options Options
	rand    *rand.Rand // of network and scheduling
	now     int64      // ns since the beginning
	seq     uint64
	queue   queue
	events  uint64
	voters  consensus.Configuration
	hosts   []*host // by ID; the first is nil
	members []nodes.Member
	links   []link // by from and to; clients are 0
	crew    crew
	watch   consensus.Watch
	wanted  nodes.Wanted
	quiet   uint64          // nodes between which the settings' weather is over; clients are 0
	seals   map[string]seal // what held when an injection was applied
	clients []*Client
	chunks  slab[chunk]
	inside  *host // whose node runs now: a panic is its own
	ledger  ledger
	breach  *consensus.Breach
	moments [worldMomentsCount]uint64
	states  map[uint64]struct{}
	woken   func(slot int32)
	news    []nodes.Incident
}

// New makes a world in which nothing runs yet. woken is called at the times
// that [World.Wake] asks for.
func New(o Options, woken func(slot int32)) *World {
	o.Knobs = o.Knobs.WithDefaults()
	w := &World{options: o, rand: rand.New(rand.NewPCG(o.Seed^o.Settings.Chance, worldStream)), hosts: make([]*host, o.Nodes+1),
		links: make([]link, (o.Nodes+1)*(o.Nodes+1)), seals: map[string]seal{}, states: map[uint64]struct{}{},
		woken: woken, ledger: newLedger()}
	w.crew = o.System.crew(w)
	w.watch = w.crew.watch()
	for i := range o.Nodes {
		id := nodes.ID(i + 1)
		w.voters.Voters = append(w.voters.Voters, id)
		w.members = append(w.members, nodes.Member{ID: id, Host: id.String()})
		h := &host{world: w, id: id, rand: rand.New(rand.NewPCG(o.Seed^o.Settings.Chance, diskStream+uint64(id)))}
		h.disk = newDisk(&w.now, func() int64 { return w.syncTime(h) })
		if o.Settings.Skew > 0 {
			h.skew = w.rand.IntN(2*o.Settings.Skew+1) - o.Settings.Skew
		}
		if o.Audit {
			h.audit = &bytes.Buffer{}
		}
		h.tune()
		w.hosts[id] = h
	}
	return w
}

// The streams of chance that one seed feeds, beside those of the cores.
const (
	worldStream = 1 << 48
	diskStream  = 2 << 48
)

// Boot starts every node, and arms the crash point of the knobs.
func (w *World) Boot() error {
	defer w.rescue()
	id, spec, err := w.options.Knobs.Crash()
	if err != nil {
		return err
	}
	for _, h := range w.hosts[1:] {
		if spec != "" && h.id == id {
			if err := h.arm(spec); err != nil {
				return err
			}
		}
		h.start()
	}
	return nil
}

// Now is the time since the beginning.
func (w *World) Now() time.Duration { return time.Duration(w.now) }

// Events counts what has happened so far.
func (w *World) Events() uint64 { return w.events }

// Wake has the owner's function called with slot at a time, or at once if that has passed.
func (w *World) Wake(at time.Duration, slot int32) {
	w.push(event{at: max(int64(at), w.now), kind: evWake, slot: slot})
}

// Run lets happen what is due up to a time, and no longer. It is false after a breach.
func (w *World) Run(until time.Duration) bool {
	for w.breach == nil {
		if !w.some(int64(until)) {
			break
		}
	}
	w.now = max(w.now, int64(until))
	return w.breach == nil
}

// some lets up to stride events happen, none later than until. It is false when
// nothing more is due then.
func (w *World) some(until int64) (more bool) {
	defer w.rescue()
	for range stride {
		if first := w.queue.next(); first == nil || first.at > until || w.breach != nil {
			return false
		}
		e := w.queue.pop()
		w.now = e.at
		w.events++
		w.happen(&e)
	}
	return true
}

// stride is how many events happen under one guard against panics.
const stride = 256

// rescue makes a panic of a node that node's own: it ends, and the world goes
// on. Any other panic is a mistake of the simulator.
func (w *World) rescue() {
	h := w.inside
	if h == nil {
		return
	}
	if p := recover(); p != nil {
		w.inside = nil
		w.breach = &consensus.Breach{Invariant: "panic", Node: h.id, Detail: fmt.Sprint(p)}
		w.trace(h.id, TraceBroken, "panics: %v\n%s", p, debug.Stack())
	}
}

// Breach is the first invariant that broke, or nil.
func (w *World) Breach() *consensus.Breach { return w.breach }

// check keeps the first breach.
func (w *World) check(err error) {
	if err == nil || w.breach != nil {
		return
	}
	b, ok := err.(*consensus.Breach)
	if !ok {
		b = &consensus.Breach{Invariant: "watch", Detail: err.Error()}
	}
	w.breach = b
	w.trace(b.Node, TraceBroken, "%v", b)
}

func (w *World) push(e event) {
	w.seq++
	e.seq = w.seq
	w.queue.push(e)
}

// happen hands an event to whom it concerns.
func (w *World) happen(e *event) {
	switch e.kind {
	case evMessage:
		w.arrive(e)
	case evBytes:
		w.bytesArrive(e.slot)
	case evRetry, evConnect, evBroken, evTimeout:
		w.clients[e.slot].happen(e)
	case evWake:
		w.woken(e.slot)
	default:
		if h := w.hosts[e.b]; h.node != nil && h.incarnation == e.inc {
			h.happen(e)
		}
	}
}

func (h *host) happen(e *event) {
	switch e.kind {
	case evTick:
		h.tick()
	case evFree:
		h.freed()
	case evCrash:
		h.crashed()
	case evReset:
		h.take(input{kind: inReset, from: nodes.ID(e.a)})
	case evWorked:
		h.take(input{kind: inWorked, slot: e.slot})
	}
}

// forget drops an input that nobody takes.
func (w *World) forget(in input) {
	switch in.kind {
	case inMessage:
		w.crew.drop(in.slot)
	case inBytes:
		w.recycle(w.chunks.take(in.slot))
	}
}

// incident notes something that nobody asked for.
func (w *World) incident(id nodes.ID, detail string) {
	w.news = append(w.news, nodes.Incident{Node: id, Kind: "exit", Detail: detail})
}

// News takes the incidents since it was last asked.
func (w *World) News() []nodes.Incident {
	out := w.news
	w.news = nil
	return out
}

// Restart starts a node that is down, unless somebody wants it to be.
func (w *World) Restart(id nodes.ID) {
	defer w.rescue()
	if h := w.hosts[id]; h.node == nil && !w.wantsDown(id) {
		h.start()
		w.bringPause(h)
	}
}

// Doom has a node die soon at a moment that hurts: at one of its next crash
// points, or in the middle of its next step that takes time, or one that takes
// long: then a snapshot is being installed. The incident is that of a crash point.
func (w *World) Doom(id nodes.ID) {
	h := w.hosts[id]
	if h.node == nil || h.crashAt != nil || h.doomed > 0 {
		return
	}
	if s := &w.options.Settings; w.rand.IntN(2) == 0 {
		h.doomed = 1
		if w.rand.IntN(2) == 0 {
			h.doomed = longStep * (s.Sync + s.SyncBy) * 1000
		}
		return
	}
	point := replica.CrashPoints[w.rand.IntN(len(replica.CrashPoints))]
	if err := h.arm(fmt.Sprintf("%s:%d", point, 1+w.rand.IntN(3))); err != nil {
		panic(fmt.Sprintf("sim: %v", err)) // the point is one of the list
	}
}

// longStep is how many of the longest syncs a step must take to be a long one.
const longStep = 2

// Spare takes back what Doom did to those that have not died of it yet.
func (w *World) Spare() {
	for _, h := range w.hosts[1:] {
		h.crashAt, h.doomed = nil, 0
	}
}

// Transfer asks a node to hand its leadership to another one.
func (w *World) Transfer(from, to nodes.ID) {
	defer w.rescue()
	if h := w.hosts[from]; from != 0 && from != to && h.node != nil {
		w.trace(from, TraceNote, "is asked to hand over to %s", to)
		h.take(input{kind: inTransfer, from: to})
	}
}

// Status is what a node says of itself, if it can be asked now.
func (w *World) Status(id nodes.ID) (nodes.Status, bool) {
	h := w.hosts[id]
	if h.node == nil || h.frozen || w.link(0, id).Cut || w.link(id, 0).Cut {
		return nodes.Status{}, false
	}
	index, _ := h.node.Position()
	s := nodes.Status{Status: h.node.core(), Incarnation: uint64(h.incarnation)}
	s.Applied = index
	return s, true
}

// Audit is what a node's own record holds so far.
func (w *World) Audit(id nodes.ID) []byte {
	if a := w.hosts[id].audit; a != nil {
		return a.Bytes()
	}
	return nil
}

// syncTime draws how long a sync takes.
func (w *World) syncTime(h *host) int64 {
	s := &w.options.Settings
	return s.Sync*1000 + h.rand.Int64N(s.SyncBy*1000+1)
}

// Applied counts the entries that all state machines together have applied.
func (w *World) Applied() uint64 { return w.ledger.count }

// Accuse makes a breach that its owner found the world's own, unless there is one.
func (w *World) Accuse(b *consensus.Breach) { w.check(b) }
