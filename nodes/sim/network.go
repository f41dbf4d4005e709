package sim

import (
	"chaos/nodes"
)

const (
	queueMax = int64(1e9) // ns that a message may wait for its turn on a limited link
	// longOnItsWay is how old a message must be to come through a cut, ns.
	longOnItsWay = int64(100e6)
	holdTry      = int64(20e6) // ns between two looks whether a client's way is free again
)

// A link is one direction between two hosts, or between clients and a host.
type link struct {
	nodes.LinkState
	last int64  // when the last message arrives
	free int64  // when a limited link has sent what it took
	sent uint64 // messages that it was given
	lost uint64 // of them, those that it swallowed
}

func (w *World) link(from, to nodes.ID) *link {
	return &w.links[int(from)*(w.options.Nodes+1)+int(to)]
}

// delay draws how long a message takes from one end to the other.
func (w *World) delay(from, to nodes.ID) int64 {
	s, l := &w.options.Settings, w.link(from, to)
	d := s.Latency*1000 + l.Delay
	if s.Spread > 0 {
		d += w.rand.Int64N(s.Spread * 1000)
	}
	if l.Jitter > 0 {
		d += w.rand.Int64N(2*l.Jitter+1) - l.Jitter
	}
	if s.Slow > 0 && !w.calm(from, to) && w.chance(s.Slow) {
		d += s.SlowBy * 1000
	}
	return max(d, 1)
}

// Calm ends the settings' losses, doubles and slow messages between the nodes
// named and their clients: what is left is what injections want.
func (w *World) Calm(ids []nodes.ID) {
	w.quiet = 1 // clients
	for _, id := range ids {
		w.quiet |= 1 << id
	}
}

func (w *World) calm(a, b nodes.ID) bool { return (w.quiet>>a)&(w.quiet>>b)&1 == 1 }

// chance is true in so many of a thousand cases.
func (w *World) chance(perMille int) bool { return w.rand.IntN(1000) < perMille }

// post sends a message that leaves when the sender's own clock says so.
func (w *World) post(h *host, to nodes.ID, slot int32) {
	l, s := w.link(h.id, to), &w.options.Settings
	l.sent++
	w.traceMessage(h, to, slot, l)
	rough := !w.calm(h.id, to)
	if l.Cut || l.CutData || lossy(w, l.Lossy) || rough && lossy(w, s.Lossy) {
		l.lost++
		w.crew.drop(slot)
		return
	}
	e := event{left: h.clock, slot: slot, inc: h.incarnation, kind: evMessage, a: uint8(h.id), b: uint8(to)}
	queued := int64(0)
	if l.Rate > 0 {
		start := max(h.clock, l.free)
		if queued = start - h.clock; queued > queueMax {
			l.lost++
			w.crew.drop(slot)
			return
		}
		l.free = start + int64(w.crew.size(slot)+packetHead)*1e9/l.Rate
		queued = l.free - h.clock
	}
	if lossy(w, l.Duplicated) || rough && lossy(w, s.Doubled) {
		twin := e
		twin.slot = w.crew.double(slot)
		w.launch(twin, l, queued)
	}
	w.launch(e, l, queued)
}

// packetHead is what IP and TCP add to a message, in bytes.
const packetHead = 52

func lossy(w *World, perMille int) bool { return perMille > 0 && w.chance(perMille) }

// launch puts a message on its way.
func (w *World) launch(e event, l *link, queued int64) {
	e.at = e.left + queued + w.delay(nodes.ID(e.a), nodes.ID(e.b))
	held := lossy(w, l.Reordered)
	if held {
		e.at += l.Hold
	}
	if w.options.Settings.Ordered && !held {
		e.at = max(e.at, l.last)
		l.last = e.at
	}
	w.push(e)
}

// arrive delivers a message, unless its sender had died before it left, or the
// way is cut by now. One that has been on its way for long comes through a cut:
// it was held up somewhere else, and answers of before a partition are what
// those on the wrong side of it must not believe.
func (w *World) arrive(e *event) {
	from, to := w.hosts[e.a], w.hosts[e.b]
	l := w.link(nodes.ID(e.a), nodes.ID(e.b))
	if !from.alive(e.inc, e.left) || (l.Cut || l.CutData) && w.now-e.left < longOnItsWay {
		l.lost++
		w.crew.drop(e.slot)
		return
	}
	w.traceArrival(e)
	w.count(lateMessage, to.incarnation > 1 && e.left < to.since)
	to.take(input{kind: inMessage, from: nodes.ID(e.a), slot: e.slot})
}

// hungUp breaks the connections of a process that is gone: clients and peers
// learn of it as far as links let them.
func (w *World) hungUp(h *host) {
	for _, other := range w.hosts[1:] {
		if other == h || other.node == nil || w.cutOff(h.id, other.id) {
			continue
		}
		w.push(event{at: w.now + w.delay(h.id, other.id), kind: evReset, a: uint8(h.id), b: uint8(other.id), inc: other.incarnation})
	}
	for _, c := range w.clients {
		if c.node == h.id {
			c.serverGone()
		}
	}
}

// cutOff tells whether two ends can't exchange anything.
func (w *World) cutOff(a, b nodes.ID) bool { return w.link(a, b).Cut || w.link(b, a).Cut }
