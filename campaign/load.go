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
	rate    pace
	workers []*worker
	hard    context.Context // bounds operations under way; ended by hurry
	end     context.CancelFunc
}

func newLoad(rec *recorder, s nodes.System, c nodes.Cluster, o nodes.Options, nonce string, spec Spec) *load {
	l := &load{rec: rec, system: s, cluster: c, members: c.Members(), options: o, nonce: nonce}
	if spec.Rate > 0 {
		l.rate = pace{every: time.Second / time.Duration(spec.Rate)}
	}
	l.resume()
	for i := range spec.Concurrency {
		w := &worker{load: l, number: i, process: i, clients: make([]nodes.Client, len(l.members))}
		w.session = newSession()
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

// A worker is one client at a time: its process retires at info, and the worker
// goes on under a new number and a new session.
type worker struct {
	load     *load
	number   int
	process  int
	session  uint64
	sequence uint64
	clients  []nodes.Client // by member; opened when first needed
	doubles  []double
}

// A double is a late further copy of an operation that has already ended.
type double struct {
	due     time.Time
	node    int
	event   history.Event
	timeout time.Duration
}

func newSession() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) | 1
}

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.sendDoubles(ctx)
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

// perform sends the operation, and again where the workload says so, and grades
// all attempts as one: ok if any was, fail only if all certainly failed.
func (w *worker) perform(op workload.Op, invoke history.Event) history.Event {
	if w.session == 0 {
		panic("campaign: a worker without a session")
	}
	timeout := min(op.Timeout, opTimeoutMax)
	retries, doubles := split(op.Retries)
	if len(retries) > 0 {
		timeout = min(timeout, retries[0].After)
	}
	done := w.send(op.Node, invoke, 1, timeout)
	for i, r := range retries {
		if done.Type != history.Info {
			break
		}
		timeout := r.Timeout
		if i+1 < len(retries) {
			timeout = min(timeout, retries[i+1].After)
		}
		done = merge(done, w.send(r.Node, invoke, i+2, timeout))
	}
	w.keep(doubles, invoke, done)
	w.account(op, done)
	return done
}

// account keeps process and session in step with what happened. A process
// retires at info. A session exists once its first command was executed: until
// then a certain failure leaves nothing to go on with.
func (w *worker) account(op workload.Op, done history.Event) {
	switch {
	case done.Type == history.Info:
		w.process += len(w.load.workers)
		w.session, w.sequence = newSession(), 0
	case sessionless(op):
	case done.Type == history.Ok:
		w.sequence++
	case w.sequence == 0:
		w.session = newSession()
	default:
		w.sequence++ // never the same number for two commands
	}
}

// sessionless tells whether the operation goes past the log, where sessions live:
// a read does unless its mode says otherwise.
func sessionless(op workload.Op) bool { return op.F == history.Read && op.Mode != nodes.ModeLog }

func split(all []workload.Retry) (retries, doubles []workload.Retry) {
	for _, r := range all {
		if r.Always {
			doubles = append(doubles, r)
		} else {
			retries = append(retries, r)
		}
	}
	return retries, doubles
}

// merge grades two attempts as one. An attempt that certainly failed says
// nothing about an earlier one that perhaps happened.
func merge(before, after history.Event) history.Event {
	if before.Type == history.Info && after.Type == history.Fail {
		before.Attempts = after.Attempts
		return before
	}
	return after
}

// keep stores late copies. What certainly failed is never sent again: that
// would make it happen.
func (w *worker) keep(doubles []workload.Retry, invoke, done history.Event) {
	for _, r := range doubles {
		if done.Type != history.Fail && len(w.doubles) < doublesMax {
			w.doubles = append(w.doubles, double{time.Now().Add(r.After), r.Node, invoke, r.Timeout})
		}
	}
}

func (w *worker) sendDoubles(ctx context.Context) {
	if len(w.doubles) == 0 {
		return
	}
	now, kept := time.Now(), w.doubles[:0]
	for _, d := range w.doubles {
		if now.Before(d.due) {
			kept = append(kept, d)
			continue
		}
		w.send(d.node, d.event, 2, min(d.timeout, doubleTimeout))
	}
	w.doubles = kept
}

// send makes one attempt at one node.
func (w *worker) send(node int, invoke history.Event, attempt int, timeout time.Duration) history.Event {
	ctx, cancel := context.WithTimeout(w.load.hard, timeout)
	defer cancel()
	out := invoke
	out.Attempts, out.Value, out.Node = attempt, nil, w.load.name(node)
	c, err := w.client(ctx, node)
	if err != nil {
		out.Type, out.Error = history.Fail, err.Error()
		return out
	}
	ask := invoke
	ask.Key, ask.Attempts = w.load.nonce+"/"+invoke.Key, attempt
	done := c.Do(ctx, ask)
	out.Type, out.Value, out.At, out.Error = done.Type, done.Value, done.At, done.Error
	return out
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
