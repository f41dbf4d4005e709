package linearizability

import (
	"math"

	"chaos/history"
	"chaos/workload"
)

// prune leaves out open operations that cannot change whether the key is
// linearizable. Each open operation can stand at any later place of an order,
// so the cost of the search doubles with each; most of them nobody ever saw.
func prune(ops []operation) []operation {
	drop := droppable(ops, func(o operation) bool { return !o.call.Known })
	kept := make([]operation, 0, len(ops))
	for i, o := range ops {
		if !drop[i] {
			kept = append(kept, o)
		}
	}
	return kept
}

// droppable marks the mutations among candidates that may be left out of ops,
// all at once: if ops have a legal order, so have the rest. Where the
// candidates are open operations the reverse holds too, because what is open
// may stand at the very end.
func droppable(ops []operation, candidate func(operation) bool) []bool {
	switch shapeOf(ops) {
	case register:
		return droppableWrites(ops, candidate)
	case list:
		return droppableAppends(ops, candidate)
	}
	return make([]bool, len(ops))
}

// A shape tells which argument applies to the functions that a key saw.
type shape int

const (
	other    shape = iota
	register       // read, write, cas, delete
	list           // read, append
)

func shapeOf(ops []operation) shape {
	registers, lists := true, true
	for _, o := range ops {
		switch o.call.F {
		case history.Read:
		case history.Write, history.CAS, history.Delete:
			lists = false
		case history.Append:
			registers = false
		default:
			return other
		}
	}
	switch {
	case registers:
		return register
	case lists:
		return list
	}
	return other
}

// swapped tells whether o may have replaced a value by another.
func swapped(o operation) bool { return !o.call.Known || o.call.Swapped }

// writes returns the number that o may have stored. Deletes store none: every
// fresh key is absent too, so that an absence seen has no single cause.
func writes(o operation) (int64, bool) {
	mutates := o.call.F == history.Write || o.call.F == history.CAS && swapped(o)
	return o.call.Arg.Number, mutates && o.call.Arg.Kind == workload.Number
}

// droppableWrites marks writes and swaps whose unique value nobody observed.
//
// Why that is sound: let D be the marked operations, and take a legal order of
// all. Where the state is a value of D, the rest did nothing that depends on
// it: a read or a failed cas would have observed it, a swap from it counts as
// observing it, and an open cas that found it did nothing and can move to the
// end. So without D each of the rest meets the state that it met before. A
// failed cas that does not reveal what it saw breaks the argument (it only
// saw "something else"); then nothing is dropped.
func droppableWrites(ops []operation, candidate func(operation) bool) []bool {
	drop := make([]bool, len(ops))
	writers := make(map[int64]int)
	for _, o := range ops {
		if o.call.F == history.CAS && o.call.Known && !o.call.Swapped && !o.call.Revealed {
			return drop
		}
		if v, ok := writes(o); ok {
			writers[v]++
		}
	}
	unique := func(o operation) bool {
		v, ok := writes(o)
		return ok && candidate(o) && writers[v] == 1
	}
	seen := observed(ops, unique)
	for i, o := range ops {
		drop[i] = unique(o) && !seen[o.call.Arg.Number]
	}
	return drop
}

// observed is the set of values that operations which stay have met: what
// reads and failed swaps saw, and what swaps replaced. A swap that may go
// observes its value only if its own result was observed.
func observed(ops []operation, mayGo func(operation) bool) map[int64]bool {
	seen := make(map[int64]bool)
	see := func(v workload.Value) {
		if v.Kind == workload.Number {
			seen[v.Number] = true
		}
	}
	var chains []operation
	for _, o := range ops {
		c := o.call
		if c.Known && c.Revealed && c.F != history.Write {
			see(c.Out)
		}
		if c.F != history.CAS || !swapped(o) {
			continue
		}
		if mayGo(o) {
			chains = append(chains, o)
		} else {
			see(c.From)
		}
	}
	for again := true; again; {
		again = false
		rest := chains[:0]
		for _, o := range chains {
			if seen[o.call.Arg.Number] {
				see(o.call.From)
				again = true
			} else {
				rest = append(rest, o)
			}
		}
		chains = rest
	}
	return seen
}

// droppableAppends marks appends of unique elements that no read shows. A read
// shows the whole list, so in any legal order such an append stands after all
// reads; nothing after it depends on it, except an append that reveals the
// length it made. So a read must have begun after all of those had ended.
func droppableAppends(ops []operation, candidate func(operation) bool) []bool {
	drop := make([]bool, len(ops))
	writers, shown := make(map[int64]int), make(map[int64]bool)
	lastLength, lastRead := -1, math.MinInt
	for _, o := range ops {
		switch c := o.call; {
		case c.F == history.Append:
			writers[c.Arg.Number]++
			if c.Known && c.Revealed {
				lastLength = max(lastLength, o.ret)
			}
		case c.Known && c.Revealed:
			lastRead = max(lastRead, o.invoke)
			for _, e := range c.Out.List {
				shown[e] = true
			}
		}
	}
	for i, o := range ops {
		e := o.call.Arg.Number
		free := lastLength < 0 || lastRead > lastLength && !(o.call.Known && o.call.Revealed)
		drop[i] = o.call.F == history.Append && candidate(o) && free && writers[e] == 1 && !shown[e]
	}
	return drop
}
