package workload

import (
	"time"

	"chaos/history"
)

// The time-outs of sends.
const (
	readTimeoutMin  = 100 * time.Millisecond
	readTimeoutMax  = 300 * time.Millisecond
	retryAfterMin   = 150 * time.Millisecond
	retryAfterMax   = 300 * time.Millisecond
	lateDoubleMin   = time.Second
	lateDoubleMax   = 3 * time.Second
	doubleTimeout   = 300 * time.Millisecond
	writeTimeoutMax = 10 * time.Second
	writeMargin     = time.Second // beyond the pause and the elections after it
)

// Of so many writes one is sent double, and so many more are sent again at
// other nodes while there is no answer. The rest wait for theirs: a write that
// is answered late teaches more than one whose end is unknown.
const (
	sendsOf = 20
	doubled = 1
	retried = 7
)

// read is a read at the worker's node. It is short: only a read that is invoked
// after a newer value was acknowledged can be proven stale, so it is better to
// ask again than to wait.
func (l *load) read(w *worker, key string) Op {
	timeout := min(l.from(readTimeoutMin, readTimeoutMax), l.from(readTimeoutMin, readTimeoutMax)) // more often short
	op := Op{F: history.Read, Key: key, Value: null, Node: w.node, Timeout: timeout}
	if n := len(l.o.Modes); n > 0 {
		op.Mode = l.o.Modes[l.r.IntN(n)]
	}
	return op
}

// write is a change of the key through the worker's node.
func (l *load) write(w *worker, k *key, f string) Op {
	k.written = true
	op := Op{F: f, Key: k.name, Value: k.m.value(l, k, f), Node: w.node, Timeout: l.patience()}
	w.written = l.value
	switch n := l.r.IntN(sendsOf); {
	case n < doubled:
		op.Retries = l.double()
	case n < doubled+retried:
		op.Retries = l.again(w.node)
	}
	return op
}

// patience is how long the last send of a write waits: longer than a pause of
// its node and the elections that follow.
func (l *load) patience() time.Duration {
	return min(l.o.Pause+3*l.o.Election+writeMargin, writeTimeoutMax)
}

// double sends the same once more, at once or late, answered or not.
func (l *load) double() []Retry {
	r := Retry{Node: l.r.IntN(l.o.Nodes), Timeout: doubleTimeout, Always: true}
	if l.r.IntN(2) == 0 {
		r.After = l.from(lateDoubleMin, lateDoubleMax)
	}
	return []Retry{r}
}

// again sends the same at one or two other nodes while there is no answer.
func (l *load) again(node int) []Retry {
	out := make([]Retry, 1+l.r.IntN(2))
	for i := range out {
		node = l.other(node)
		out[i] = Retry{After: l.from(retryAfterMin, retryAfterMax), Node: node, Timeout: l.patience()}
	}
	return out
}

// other draws another node, where there is one.
func (l *load) other(node int) int {
	if l.o.Nodes < 2 {
		return node
	}
	return (node + 1 + l.r.IntN(l.o.Nodes-1)) % l.o.Nodes
}

// from draws between two times.
func (l *load) from(low, high time.Duration) time.Duration {
	return low + time.Duration(l.r.Int64N(int64(high-low)))
}
