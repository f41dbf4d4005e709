package campaign

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/workload"
)

// Bounds of driving.
const (
	opTimeoutMax  = 10 * time.Second
	doubleTimeout = 300 * time.Millisecond // of a late second copy, whose answer nobody needs
	doublesMax    = 8                      // late copies that a worker has in store
	closeTimeout  = time.Second
)

// A load drives clients against a cluster: one goroutine for each worker.
type load struct {
	rec     *recorder
	system  nodes.System
	cluster nodes.Cluster
	members []nodes.Member
	options nodes.Options
	nonce   string
	start   time.Time // what the times of late copies count from
	rate    pace
	workers []*worker
	hard    context.Context // bounds operations under way; ended by hurry
	end     context.CancelFunc
}

func newLoad(rec *recorder, s nodes.System, c nodes.Cluster, o nodes.Options, nonce string, spec Spec) *load {
	l := &load{rec: rec, system: s, cluster: c, members: c.Members(), options: o, nonce: nonce, start: time.Now()}
	if spec.Rate > 0 {
		l.rate = pace{every: time.Second / time.Duration(spec.Rate)}
	}
	l.resume()
	for i := range spec.Concurrency {
		w := &worker{load: l, clients: make([]nodes.Client, len(l.members)),
			identity: identity{number: i, workers: spec.Concurrency, process: i, session: newSession(), draw: newSession}}
		l.workers = append(l.workers, w)
	}
	return l
}

func (l *load) name(node int) string { return l.members[node].ID.String() }

// run lets every worker work until the generator has nothing left or ctx ends.
// An operation under way is finished, bounded by its own time-out.
func (l *load) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range l.workers {
		all.Add(1)
		go func() {
			defer all.Done()
			w.run(ctx)
		}()
	}
	all.Wait()
}

// hurry ends what is still under way after a grace; its outcome is then open.
func (l *load) hurry(grace time.Duration) { time.AfterFunc(grace, l.end) }

// resume allows operations again after hurry. No worker is running.
func (l *load) resume() {
	if l.end != nil {
		l.end()
	}
	l.hard, l.end = context.WithCancel(context.Background())
}

func (l *load) close() {
	l.end()
	for _, w := range l.workers {
		for _, c := range w.clients {
			if c != nil {
				c.Close()
			}
		}
	}
}

// A pace spreads operations evenly over time, for all workers together.
type pace struct {
	every time.Duration
	mu    sync.Mutex
	next  time.Time
}

// wait returns how long to wait for the next free slot, and takes it.
func (p *pace) wait() time.Duration {
	if p.every == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	d := p.next.Sub(now)
	p.next = p.next.Add(p.every)
	return d
}

// A worker is one client at a time, as its identity says.
type worker struct {
	identity
	load    *load
	clients []nodes.Client // by member; opened when first needed
	doubles doubles
}

func newSession() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) | 1
}

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.sendDoubles()
		if !sleep(ctx, w.load.rate.wait()) {
			return
		}
		op, invoke, wait, ok := w.load.rec.next(w)
		if !ok {
			return
		}
		if wait > 0 {
			if !sleep(ctx, wait) {
				return
			}
			continue
		}
		w.load.rec.complete(w.perform(op, invoke))
	}
}

// perform sends the operation, and again where the workload says so.
func (w *worker) perform(op workload.Op, invoke history.Event) history.Event {
	if w.session == 0 {
		panic("campaign: a worker without a session")
	}
	a := begin(op, invoke)
	for node, timeout, ok := a.next(); ok; node, timeout, ok = a.next() {
		a.ended(w.send(node, invoke, a.count, timeout))
	}
	w.doubles.keep(&a, time.Since(w.load.start))
	w.account(op, a.done)
	return a.done
}

func (w *worker) sendDoubles() {
	if len(w.doubles) == 0 {
		return
	}
	now := time.Since(w.load.start)
	for d, ok := w.doubles.next(now); ok; d, ok = w.doubles.next(now) {
		w.send(d.node, d.event, 2, d.timeout)
	}
}

// send makes one attempt at one node.
func (w *worker) send(node int, invoke history.Event, attempt int, timeout time.Duration) history.Event {
	ctx, cancel := context.WithTimeout(w.load.hard, timeout)
	defer cancel()
	c, err := w.client(ctx, node)
	if err != nil {
		return told(invoke, w.load.name(node), attempt, history.Event{Type: history.Fail, Error: err.Error()})
	}
	return told(invoke, w.load.name(node), attempt, c.Do(ctx, asked(invoke, w.load.nonce, attempt)))
}

func (w *worker) client(ctx context.Context, node int) (nodes.Client, error) {
	if w.clients[node] == nil {
		c, err := w.load.system.Dial(ctx, w.load.members[node], w.load.cluster.Dial, w.load.options)
		if err != nil {
			return nil, err
		}
		w.clients[node] = c
	}
	return w.clients[node], nil
}

// sleep waits, and tells whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
