package sim

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
	"chaos/nodes/replica"
)

// The bounds of a host.
const (
	inboxMax  = 1 << 12 // inputs that wait for a node; messages beyond it are lost
	ticksMax  = 3       // missed ticks that are made good after a stall, as in a live node
	waitTime  = 10 * time.Second
	inflight  = 4096      // commands undecided, where Settings name no bound
	batchSize = 256 << 10 // bytes
)

// What an input asks of the node.
const (
	inMessage = iota
	inReset
	inBytes
	inWorked
	inTransfer
)

// An input waits for a node that is busy or frozen.
type input struct {
	kind uint8
	from nodes.ID
	slot int32
}

// A host is a machine: a disk, a clock, and a node while it is up.
type host struct {
	world       *World
	id          nodes.ID
	disk        *disk
	rand        *rand.Rand // the disk's and the start's; the core has its own
	audit       *bytes.Buffer
	node        node // nil: down
	incarnation uint32
	deaths      []int64 // by incarnation, from 1: when it ended; never while it lives
	since       int64   // when the incarnation began

	clock   int64 // of the step that runs, or the end of the last
	busy    bool  // a step's evFree is to come
	frozen  bool
	inbox   []input
	spare   []input
	ticks   int   // due and not fed
	period  int64 // ns between ticks, with the clock's skew
	skew    int   // per mille, of this host
	wrong   int   // per mille, a fault's
	works   slab[work]
	last    consensus.Status // after the last step
	touched []*Client        // have answers to flush
	entries []entered        // applied by the step that runs
	crashAt func(string)     // armed; nil otherwise
	doomed  int64            // it dies in the middle of its next step that takes so long, ns; 0: it does not
	dying   int64            // when the step that runs passed its crash point; 0: it did not
	damaged *flip
	refused error // why it could not start
}

// A work is what the background did; done tells the node.
type work struct {
	err  error
	done func(error)
}

// start boots the node from its disk.
func (h *host) start() {
	w := h.world
	h.incarnation++
	h.since = w.now
	h.deaths = append(h.deaths, never)
	h.clock, h.busy, h.frozen, h.ticks = w.now, false, false, 0
	h.inbox = h.inbox[:0]
	h.disk.clock = &h.clock
	k := w.options.Knobs
	o := consensus.Options{ID: h.id, Voters: w.voters, HeartbeatTicks: k.HeartbeatTicks, ElectionTicks: k.ElectionTicks,
		MaxInflight: w.options.Settings.Flight, MaxBatchBytes: w.options.Settings.Batch,
		Rand: rand.New(rand.NewPCG(w.options.Seed^w.options.Settings.Chance, uint64(h.id)<<32|uint64(h.incarnation)))}
	if o.MaxInflight == 0 {
		o.MaxInflight = inflight
	}
	if o.MaxBatchBytes == 0 {
		o.MaxBatchBytes = batchSize
	}
	w.inside = h
	node, err := w.crew.start(h, o)
	w.inside = nil
	if err != nil {
		h.refuse(err)
		return
	}
	h.node, h.refused = node, nil
	w.count(startedParted, w.parted(h))
	w.trace(h.id, TraceUp, "starts, incarnation %d", h.incarnation)
	w.check(w.watch.Started(h.id))
	h.occupy()
	w.push(event{at: w.now + 1 + w.rand.Int64N(h.period), kind: evTick, b: uint8(h.id), inc: h.incarnation})
}

// refuse notes that the node could not start.
func (h *host) refuse(err error) {
	h.refused = err
	h.world.count(damageRefused, h.damaged != nil)
	h.deaths[h.incarnation-1] = h.world.now
	h.world.trace(h.id, TraceDown, "can't start: %v", err)
	if h.damaged == nil && !h.disk.failing {
		h.world.incident(h.id, fmt.Sprintf("it could not start: %v", err))
	}
}

// kill ends the process at this moment.
func (h *host) kill(power bool) {
	w := h.world
	if h.node == nil {
		return
	}
	w.trace(h.id, TraceDown, "is killed")
	h.die(w.now)
	if power {
		w.trace(h.id, TraceNote, "loses its power")
		h.lose()
	}
}

// lose takes the machine's power away.
func (h *host) lose() { h.world.count(lostUnsynced, h.disk.lost(h.world.now, h.rand)) }

// die ends the incarnation at t; what it did later never happened.
func (h *host) die(t int64) {
	w := h.world
	h.node = nil // it is never closed: a kill closes nothing
	h.deaths[h.incarnation-1] = t
	h.disk.killed(t)
	h.enter(t)
	h.busy, h.frozen, h.dying = false, false, 0
	for _, in := range h.inbox {
		w.forget(in)
	}
	h.inbox, h.touched = h.inbox[:0], h.touched[:0]
	h.works = slab[work]{}
	w.hungUp(h)
}

// fail ends a node that can't go on, as its program would.
func (h *host) fail(err error) {
	w := h.world
	w.trace(h.id, TraceDown, "ends: %v", err)
	unasked := !errors.Is(err, errDiskFails)
	w.count(diskEnded, !unasked)
	h.die(h.clock)
	if unasked {
		w.incident(h.id, "exit: "+err.Error())
	}
}

// alive tells whether the incarnation still runs at t, or did. What it did in
// the moment of its death it did: so crash points come behind their stage.
func (h *host) alive(inc uint32, t int64) bool { return t <= h.deaths[inc-1] }

// ready tells whether the node can be fed now.
func (h *host) ready() bool { return h.node != nil && !h.busy && !h.frozen }

// take gives the node an input, now or as soon as it can.
func (h *host) take(in input) {
	if h.node == nil || len(h.inbox) >= inboxMax {
		h.world.forget(in)
		return
	}
	h.inbox = append(h.inbox, in)
	if h.ready() {
		h.step()
	}
}

// step feeds what waits, then the ticks that are due, and has all of it carried
// out together, as a live node does.
func (h *host) step() {
	w := h.world
	h.clock = max(h.clock, w.now)
	batch := h.inbox
	h.inbox, h.spare = h.spare[:0], batch
	w.inside = h
	for i := range batch {
		if err := h.feed(batch[i]); err != nil || h.node == nil {
			h.end(err, batch[i+1:])
			return
		}
	}
	for ; h.ticks > 0; h.ticks-- {
		if err := h.node.Tick(); err != nil {
			h.end(err, nil)
			return
		}
		w.check(w.watch.Stepped(h.id))
	}
	if err := h.node.Flush(); err != nil {
		h.end(err, nil)
		return
	}
	w.inside = nil
	if h.node == nil {
		return
	}
	h.occupy()
}

// end stops a node in the middle of a step.
func (h *host) end(err error, rest []input) {
	h.world.inside = nil
	for _, in := range rest {
		h.world.forget(in)
	}
	if err != nil && h.node != nil {
		h.fail(err)
	}
}

// occupy keeps the host busy until its own clock's time has come.
func (h *host) occupy() {
	w := h.world
	if h.dying > 0 {
		w.push(event{at: h.dying, kind: evCrash, b: uint8(h.id), inc: h.incarnation})
		h.busy = true
		return
	}
	if h.clock <= w.now {
		h.settled()
		return
	}
	h.busy = true
	if h.doomed > 0 && h.clock-w.now >= h.doomed {
		h.dying = w.now + w.rand.Int64N(h.clock-w.now)
		w.push(event{at: h.dying, kind: evCrash, b: uint8(h.id), inc: h.incarnation})
		return
	}
	w.push(event{at: h.clock, kind: evFree, b: uint8(h.id), inc: h.incarnation})
}

// freed goes on when a step has been carried out.
func (h *host) freed() {
	h.busy = false
	h.settled()
	if h.ready() && (len(h.inbox) > 0 || h.ticks > 0) {
		h.step()
	}
}

// settled tells the watch that all of a step is out, and holds the state
// machines of all nodes to each other.
func (h *host) settled() {
	w := h.world
	h.enter(never)
	w.check(w.watch.Flushed(h.id))
	index, hash := h.node.Position()
	w.position(h.id, index, hash)
	w.note(h)
}

func (h *host) feed(in input) (err error) {
	switch in.kind {
	case inMessage:
		err = h.node.receive(in.from, in.slot)
	case inReset:
		err = h.node.PeerReset(in.from)
	case inTransfer:
		err = h.node.Transfer(in.from)
	case inBytes:
		return h.hear(in.slot)
	case inWorked:
		done := h.works.take(in.slot)
		done.done(done.err)
	}
	h.world.check(h.world.watch.Stepped(h.id))
	return err
}

// tick lets one tick pass. Ticks that come while the node is busy are kept, a few at most.
func (h *host) tick() {
	h.world.push(event{at: h.world.now + h.period, kind: evTick, b: uint8(h.id), inc: h.incarnation})
	if h.frozen {
		h.ticks = ticksMax
		return
	}
	h.ticks = min(h.ticks+1, ticksMax)
	if h.ready() {
		h.step()
	}
}

// thaw lets it go on: what came meanwhile waits for it.
func (h *host) thaw() {
	if !h.frozen {
		return
	}
	h.world.count(wokenBehind, h.last.Term < h.world.newest())
	h.frozen = false
	if h.ready() && (len(h.inbox) > 0 || h.ticks > 0) {
		h.step()
	}
}

// tune sets the clock's rate.
func (h *host) tune() {
	tick := int64(h.world.options.Knobs.Tick)
	h.period = max(1, tick*1000/int64(max(100, 1000+h.skew+h.wrong)))
}

// background carries slow work out at once, on a clock of its own, and tells the
// node when the time that it took has passed.
func (h *host) background(do func() error, done func(error)) {
	clock := h.clock
	h.disk.clock = &clock
	err := do()
	h.disk.clock = &h.clock
	slot := h.works.put(work{err, done})
	h.world.push(event{at: max(clock, h.world.now) + 1, kind: evWorked, b: uint8(h.id), inc: h.incarnation, slot: slot})
}

// passed is called by the node at each crash point. At the armed one the host
// dies; what the rest of the step does comes later than that, so never.
func (h *host) passed(point string) {
	if h.crashAt != nil {
		h.crashAt(point)
	}
}

// arm has the host die at the crash point that spec names, once.
func (h *host) arm(spec string) (err error) {
	h.crashAt, err = replica.CrashAt(spec, func() {
		h.dying = h.clock
		h.clock++
	})
	return err
}

// crashed ends the host at the crash point that it passed.
func (h *host) crashed() {
	w, at := h.world, h.dying
	w.count(diedInStep, h.doomed > 0)
	w.count(diedAtPoint, h.doomed == 0)
	h.dying, h.crashAt, h.doomed = 0, nil, 0
	w.trace(h.id, TraceDown, "dies at its crash point")
	h.die(at)
	if w.options.Settings.Power {
		h.lose()
	}
	w.incident(h.id, CrashPoint)
}

func (h *host) log(line string) {
	h.world.noticeLog(line)
	h.world.trace(h.id, TraceNote, "%s", line)
}

// Reply implements replica.Replier.
func (h *host) Reply(conn uint64, r kv.Response) {
	c := h.world.clients[uint32(conn)]
	if c.server != conn {
		return // that connection is gone
	}
	c.answers = kv.AppendResponse(c.answers, r)
	if !slices.Contains(h.touched, c) {
		h.touched = append(h.touched, c)
	}
}

// Flush implements replica.Replier: answers leave.
func (h *host) Flush() {
	for _, c := range h.touched {
		c.answer(h.clock)
	}
	h.touched = h.touched[:0]
}
