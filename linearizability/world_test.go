package linearizability

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"chaos/history"
	"chaos/workload"
)

// A world runs clients against one true copy of each key, so that its
// histories are linearizable; a lie in it makes some of them illegal.
type world struct {
	r          *rand.Rand
	keys       []string
	processes  int
	operations int
	info, fail float64 // how often an operation ends so
	late       float64 // how often an info operation takes effect after its end, if ever
	lie        float64 // how often an answer is wrong
	stale      float64 // how often a read is served from the past, under the past's index
	small      bool    // values come from a small domain and repeat
	mute       bool    // failed swaps do not reveal what they saw; appends reveal their length
	noIndex    bool    // answers carry no log index, or a wrong one
	state      map[string]workload.Value
	events     []history.Event
	serial     int64
	index      uint64
	past       map[string][]moment
	written    []int64
}

// A moment is what a key held from an index on.
type moment struct {
	value workload.Value
	index uint64
}

// A client is one process between invocation and completion.
type client struct {
	process int
	invoke  history.Event
	open    bool
	applied bool
	answer  history.Event
}

func (w *world) run() history.History {
	w.state, w.past = make(map[string]workload.Value), make(map[string][]moment)
	clients := make([]client, w.processes)
	for i := range clients {
		clients[i].process = i
	}
	next := w.processes
	var ghosts []history.Event // info operations that may still take effect
	begun := 0
	for {
		c := &clients[w.r.IntN(len(clients))]
		switch {
		case !c.open && begun == w.operations:
			if !slices.ContainsFunc(clients, func(c client) bool { return c.open }) {
				return history.History{Header: history.Header{History: history.Version}, Events: w.events}
			}
		case !c.open:
			begun++
			c.invoke, c.open, c.applied = w.record(w.draw(c.process)), true, false
		case !c.applied && w.r.Float64() < w.fail:
			w.complete(c, history.Event{Type: history.Fail})
		case !c.applied && w.r.Float64() < w.info:
			ghosts = append(ghosts, c.invoke)
			w.complete(c, history.Event{Type: history.Info})
			c.process, next = next, next+1
		case !c.applied:
			c.answer, c.applied = w.apply(c.invoke), true
		case w.r.Float64() < w.info/2:
			w.complete(c, history.Event{Type: history.Info})
			c.process, next = next, next+1
		default:
			w.complete(c, c.answer)
		}
		if len(ghosts) > 0 && w.r.Float64() < w.late {
			w.apply(ghosts[0])
			ghosts = ghosts[1:]
		}
	}
}

func (w *world) record(e history.Event) history.Event {
	e.Index = len(w.events)
	e.Time = time.Duration(e.Index) * time.Millisecond
	w.events = append(w.events, e)
	return e
}

func (w *world) complete(c *client, e history.Event) {
	e.Process, e.F, e.Key, e.Node = c.process, c.invoke.F, c.invoke.Key, c.invoke.Node
	w.record(e)
	c.open = false
}

func (w *world) fresh() int64 {
	if w.small {
		return 1 + w.r.Int64N(3)
	}
	w.serial++
	return w.serial
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func rawValue(v workload.Value) json.RawMessage {
	switch v.Kind {
	case workload.Number:
		return raw(v.Number)
	case workload.List:
		return raw(v.List)
	}
	return raw(nil)
}

// draw invents an invocation that fits its key.
func (w *world) draw(process int) history.Event {
	key := w.keys[w.r.IntN(len(w.keys))]
	e := history.Event{Process: process, Type: history.Invoke, F: history.Read, Key: key, Node: fmt.Sprintf("n%d", process%3+1)}
	if w.r.IntN(5) < 2 {
		return e
	}
	switch kind, _ := testModels(key, ""); kind.Name {
	case "append":
		e.F, e.Value = history.Append, raw(w.fresh())
	case "counter":
		e.F, e.Value = history.Add, raw(1+w.r.Int64N(3))
	default:
		switch w.r.IntN(7) {
		case 0:
			e.F = history.Delete
		case 1, 2, 3:
			from := w.state[key] // often right, sometimes any value before
			if len(w.written) > 0 && w.r.IntN(2) == 0 {
				from = num(w.written[w.r.IntN(len(w.written))])
			}
			to := w.fresh()
			w.written = append(w.written, to)
			e.F, e.Value = history.CAS, raw([]any{json.RawMessage(rawValue(from)), to})
		default:
			v := w.fresh()
			w.written = append(w.written, v)
			e.F, e.Value = history.Write, raw(v)
		}
	}
	return e
}

// apply lets an operation take effect, and returns its answer.
func (w *world) apply(invoke history.Event) history.Event {
	c, err := parseCall(history.Operation{Invoke: invoke, Complete: history.Event{Type: history.Info}})
	if err != nil {
		panic(err)
	}
	m, _ := testModels(invoke.Key, "")
	before := w.state[invoke.Key]
	_, after := m.Step(before, c)
	w.state[invoke.Key] = after
	if c.F != history.Read {
		w.index++
	}
	w.past[invoke.Key] = append(w.past[invoke.Key], moment{after, w.index})
	e := history.Event{Type: history.Ok, At: w.index}
	if past := w.past[invoke.Key]; c.F == history.Read && w.r.Float64() < w.stale {
		m := past[w.r.IntN(len(past))]
		return history.Event{Type: history.Ok, At: m.index, Value: rawValue(m.value)}
	}
	if w.noIndex {
		e.At = w.r.Uint64N(3) * w.r.Uint64N(w.index+1)
	}
	if w.r.Float64() < w.lie {
		before, after = w.lied(before), w.lied(after)
	}
	switch c.F {
	case history.Read:
		e.Value = rawValue(before)
	case history.Add:
		e.Value = rawValue(after)
	case history.Append:
		if w.mute {
			e.Value = raw(len(after.List))
		}
	case history.CAS:
		out := map[string]any{"swapped": before.Equal(c.From)}
		if !w.mute {
			out["saw"] = json.RawMessage(rawValue(before))
		}
		e.Value = raw(out)
	case history.Write:
		e.Value = invoke.Value
	}
	return e
}

// lied is another value than v that the key might have had.
func (w *world) lied(v workload.Value) workload.Value {
	switch {
	case v.Kind == workload.List && w.r.IntN(2) == 0:
		return withoutElements(v, map[int64]bool{v.List[w.r.IntN(len(v.List))]: true})
	case v.Kind == workload.List:
		return v
	case len(w.written) > 0:
		return num(w.written[w.r.IntN(len(w.written))])
	}
	return num(v.Number + 1)
}
