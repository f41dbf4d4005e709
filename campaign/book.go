package campaign

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"chaos/history"
	"chaos/workload"
)

// A book is the history as it grows, and the generator that looks on. It has no
// clock and no lock: a recorder puts both around it, a simulation needs neither.
type book struct {
	blocks   [][]history.Event // all full but the last
	count    int               // events in all blocks
	gen      workload.Generator
	ok, fail int
	info     int
	lastOk   time.Duration
}

// next asks the generator for the worker's next operation and adds its
// invocation. The caller sends only after that.
func (b *book) next(now time.Duration, w *identity, name func(node int) string) (op workload.Op, e history.Event, wait time.Duration, ok bool) {
	op, wait, ok = b.gen.Next(now, w.number, w.process)
	if !ok || wait > 0 {
		return op, e, wait, ok
	}
	e = history.Event{Process: w.process, Type: history.Invoke, F: op.F, Key: op.Key, Value: op.Value,
		Node: name(op.Node), Mode: op.Mode}
	if !sessionless(op) {
		e.Session, e.Sequence = w.session, w.sequence+1
	}
	return op, b.add(e, now), 0, true
}

// complete adds how an operation ended.
func (b *book) complete(e history.Event, now time.Duration) {
	e = b.add(e, now)
	switch e.Type {
	case history.Ok:
		b.ok++
		b.lastOk = e.Time
	case history.Fail:
		b.fail++
	case history.Info:
		b.info++
	}
}

// noteEvent is a nemesis event that has no place yet.
func noteEvent(t history.Type, f string, n history.Note) history.Event {
	b, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("campaign: a note that can't be written: %v", err))
	}
	return history.Event{Process: history.Nemesis, Type: t, F: f, Node: n.Node, Value: b}
}

// How a block grows: few times, because events are long and are copied each time.
const (
	blockFirst = 256 // events
	growth     = 4
)

// add gives the event its place.
func (b *book) add(e history.Event, now time.Duration) history.Event {
	e.Index, e.Time = b.count, now
	n := len(b.blocks) - 1
	if n < 0 || len(b.blocks[n]) == blockEvents {
		b.blocks = append(b.blocks, nil)
		n++
	}
	if k := len(b.blocks[n]); k == cap(b.blocks[n]) { // it grows, so that a short history stays small
		b.blocks[n] = append(make([]history.Event, 0, min(max(blockFirst, growth*k), blockEvents)), b.blocks[n]...)
	}
	b.blocks[n] = append(b.blocks[n], e)
	b.count++
	if b.gen != nil {
		b.gen.Observe(e)
	}
	return e
}

// all is the whole history.
func (b *book) all() []history.Event { return slices.Concat(b.blocks...) }
