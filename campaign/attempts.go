package campaign

import (
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/workload"
)

// attempts is one operation on its way to its end: what is sent where, and how
// all sends grade as one. It is pure; live workers and simulated ones walk it.
type attempts struct {
	invoke  history.Event
	done    history.Event
	sends   []workload.Retry // the first, and those that follow one without an answer
	doubles []workload.Retry // further copies whatever the answer was
	count   int              // sends so far
}

func begin(op workload.Op, invoke history.Event) attempts {
	a := attempts{invoke: invoke, sends: append(make([]workload.Retry, 0, 1+len(op.Retries)), workload.Retry{Node: op.Node, Timeout: min(op.Timeout, opTimeoutMax)})}
	for _, r := range op.Retries {
		if r.Always {
			a.doubles = append(a.doubles, r)
		} else {
			a.sends = append(a.sends, r)
		}
	}
	return a
}

// next says where to send now, and how long to wait for the answer; ok is false
// when the operation has ended, as done says.
func (a *attempts) next() (node int, timeout time.Duration, ok bool) {
	if a.count == len(a.sends) || a.count > 0 && a.done.Type != history.Info {
		return 0, 0, false
	}
	s := a.sends[a.count]
	a.count++
	if a.count < len(a.sends) {
		s.Timeout = min(s.Timeout, a.sends[a.count].After)
	}
	return s.Node, s.Timeout, true
}

// ended tells how the last send ended: ok if any was, fail only if all certainly failed.
func (a *attempts) ended(e history.Event) {
	if a.count > 1 {
		e = merge(a.done, e)
	}
	a.done = e
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

// asked is what one send asks the node: the key as the system knows it.
func asked(invoke history.Event, nonce string, attempt int) history.Event {
	invoke.Key, invoke.Attempts = nonce+"/"+invoke.Key, attempt
	return invoke
}

// told is how one send ended, in the words of the operation.
func told(invoke history.Event, node string, attempt int, done history.Event) history.Event {
	out := invoke
	out.Attempts, out.Node = attempt, node
	out.Type, out.Value, out.At, out.Error = done.Type, done.Value, done.At, done.Error
	return out
}

// An identity is who a worker is at present. Its process retires at info, and
// the worker goes on under a new number and a new session.
type identity struct {
	number   int // of the worker
	workers  int // how many there are
	process  int
	session  uint64
	sequence uint64
	draw     func() uint64 // a session that nobody had; never 0
}

// account keeps process and session in step with what happened. A session
// exists once its first command was executed: until then a certain failure
// leaves nothing to go on with.
func (w *identity) account(op workload.Op, done history.Event) {
	switch {
	case done.Type == history.Info:
		w.process += w.workers
		w.session, w.sequence = w.draw(), 0
	case sessionless(op):
	case done.Type == history.Ok:
		w.sequence++
	case w.sequence == 0:
		w.session = w.draw()
	default:
		w.sequence++ // never the same number for two commands
	}
}

// sessionless tells whether the operation goes past the log, where sessions live:
// a read does unless its mode says otherwise.
func sessionless(op workload.Op) bool { return op.F == history.Read && op.Mode != nodes.ModeLog }

// A double is a late further copy of an operation that has already ended.
type double struct {
	due     time.Duration
	node    int
	event   history.Event
	timeout time.Duration
}

// doubles are those that a worker has in store.
type doubles []double

// keep stores late copies. What certainly failed is never sent again: that
// would make it happen.
func (d *doubles) keep(a *attempts, now time.Duration) {
	for _, r := range a.doubles {
		if a.done.Type != history.Fail && len(*d) < doublesMax {
			*d = append(*d, double{now + r.After, r.Node, a.invoke, min(r.Timeout, doubleTimeout)})
		}
	}
}

// next takes one that is due.
func (d *doubles) next(now time.Duration) (double, bool) {
	for i, c := range *d {
		if now >= c.due {
			*d = append((*d)[:i], (*d)[i+1:]...)
			return c, true
		}
	}
	return double{}, false
}
