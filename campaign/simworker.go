package campaign

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/sim"
	"chaos/workload"
)

// A simWorker is a worker whose waits are events of a simulated world.
type simWorker struct {
	identity
	run     *simRun
	clients []*sim.Client // by node
	doubles doubles
	op      workload.Op
	at      attempts
	node    int  // asked now
	copying bool // what is asked now is a late copy, whose answer nobody needs
	idle    bool // it has nothing more to do
	waking  bool // it will be woken
}

func newSimWorker(r *simRun, number int) *simWorker {
	dice := rand.New(rand.NewPCG(r.Plan.Seed, sessionStream+uint64(number)))
	w := &simWorker{run: r, idle: true}
	w.identity = identity{number: number, workers: r.Plan.Spec.Concurrency, process: number, draw: func() uint64 { return dice.Uint64() | 1 }}
	w.session = w.draw()
	for _, m := range r.world.Members() {
		w.clients = append(w.clients, r.world.Client(m.ID, w.ended))
	}
	return w
}

// sessionStream and those after it, one a worker, feed sessions.
const sessionStream = 1 << 32

// wake is what the world calls at the times that workers and probes asked for.
func (r *simRun) wake(slot int32) {
	if int(slot) < len(r.workers) {
		r.workers[slot].waking = false
		r.workers[slot].next()
		return
	}
	r.probes[int(slot)-len(r.workers)].ask()
}

// rest has the worker woken after a time.
func (w *simWorker) rest(d time.Duration) {
	w.waking = true
	w.run.world.Wake(w.run.world.Now()+d, int32(w.number))
}

// next does whatever comes next.
func (w *simWorker) next() {
	r := w.run
	now := r.world.Now()
	if !r.loading {
		w.idle = true
		return
	}
	if d, ok := w.doubles.next(now); ok {
		w.copying = true
		w.send(d.node, d.event, 2, d.timeout)
		return
	}
	if r.capped() {
		w.idle = true
		return
	}
	if wait := r.paced(now); wait > 0 {
		w.rest(wait)
		return
	}
	op, invoke, wait, ok := r.book.next(now, &w.identity, r.name)
	switch {
	case !ok:
		w.idle = true
	case wait > 0:
		w.rest(wait)
	default:
		r.given++
		w.op, w.at = op, begin(op, invoke)
		w.attempt()
	}
}

// capped tells whether clients have done all that they may.
func (r *simRun) capped() bool {
	return r.most > 0 && r.given >= r.most && r.phase != history.Final && r.phase != history.Again
}

// paced takes the next slot of time for an operation if it has come.
func (r *simRun) paced(now time.Duration) (wait time.Duration) {
	if r.rate == 0 || r.phase == history.Final || r.phase == history.Again {
		return 0
	}
	if now < r.slot {
		return r.slot - now
	}
	r.slot = max(r.slot, now-r.rate) + r.rate
	return 0
}

func (r *simRun) name(node int) string { return r.world.Members()[node].ID.String() }

// attempt makes the next send of the operation, or ends it.
func (w *simWorker) attempt() {
	node, timeout, ok := w.at.next()
	if !ok || w.run.hurried && w.at.count > 1 {
		w.complete()
		return
	}
	w.send(node, w.at.invoke, w.at.count, timeout)
}

func (w *simWorker) send(node int, invoke history.Event, attempt int, timeout time.Duration) {
	w.node = node
	w.clients[node].Do(asked(invoke, simNonce, attempt), timeout)
}

// ended is what a client calls at the end of a send.
func (w *simWorker) ended(e history.Event) {
	if w.copying {
		w.copying = false
		w.rest(simThink)
		return
	}
	w.at.ended(told(w.at.invoke, w.run.name(w.node), w.at.count, e))
	w.attempt()
}

func (w *simWorker) complete() {
	r := w.run
	now := r.world.Now()
	w.doubles.keep(&w.at, now)
	w.account(w.op, w.at.done)
	r.book.complete(w.at.done, now)
	r.traceAnswer(w.at.done)
	w.rest(simThink)
}

// traceAnswer tells of a client's operation at its end.
func (r *simRun) traceAnswer(e history.Event) {
	if r.Trace == nil {
		return
	}
	id, err := nodes.ParseID(e.Node)
	if err != nil {
		return
	}
	text := fmt.Sprintf("client %d: %s %s %s", e.Process, e.F, e.Key, e.Type)
	if e.Type == history.Ok {
		text += " " + string(e.Value)
	} else {
		text += ", " + e.Error
	}
	r.Trace(sim.Traced{At: r.world.Now(), Node: id, Kind: sim.TraceNote, Text: text})
}

// hurry ends what is under way: its outcome is then open.
func (w *simWorker) hurry() {
	for _, c := range w.clients {
		c.Hurry()
	}
}

// A probe asks one node, over a connection of its own, whether it serves: a
// read that a quorum confirms, then one through the log.
type probe struct {
	run     *simRun
	id      nodes.ID
	client  *sim.Client
	session uint64
	active  bool
	through bool // the next question goes through the log
	ok      bool // both were answered since the probe began
	why     string
}

func newProbe(r *simRun, id nodes.ID) *probe {
	p := &probe{run: r, id: id, session: r.Plan.Seed<<8 | uint64(id)<<1 | 1}
	p.client = r.world.Client(id, p.answered)
	return p
}

// answering waits until each of the nodes serves, at most so long.
func (r *simRun) answering(ids []nodes.ID, bound time.Duration) bool {
	for _, id := range ids {
		r.probes[id-1].start()
	}
	defer func() {
		for _, id := range ids {
			r.probes[id-1].active = false
		}
	}()
	end := r.world.Now() + bound
	for r.world.Now() < end {
		if !slices.ContainsFunc(ids, func(id nodes.ID) bool { return !r.probes[id-1].ok }) {
			return true
		}
		if !r.until(min(end, r.world.Now()+readyPoll)) {
			return false
		}
	}
	return false
}

func (p *probe) start() {
	asking := p.active || p.client.Asking()
	p.active, p.ok, p.through, p.why = true, false, false, "no answer"
	if !asking {
		p.ask()
	}
}

func (p *probe) ask() {
	if !p.active || p.ok || p.client.Asking() {
		return
	}
	e := history.Event{Type: history.Invoke, F: history.Read, Key: simNonce + "/probe/0", Mode: nodes.ModeIndex, Attempts: 1}
	if p.through {
		p.session += 1 << 32 // a new one each time: nothing of earlier attempts is in the way
		e.Mode, e.Session, e.Sequence = nodes.ModeLog, p.session, 1
	}
	p.client.Do(e, p.run.patience)
}

func (p *probe) answered(e history.Event) {
	switch {
	case e.Type == history.Ok && p.through:
		p.ok = true
		return
	case e.Type == history.Ok:
		p.through = true
	default:
		p.why = e.Error
	}
	if p.active {
		p.run.world.Wake(p.run.world.Now()+readyPoll, int32(len(p.run.workers)+int(p.id)-1))
	}
}
