package linearizability

import (
	"slices"

	"chaos/history"
	"chaos/workload"
)

// shrink returns few of a key's operations that have no legal order by
// themselves, whose contradiction is therefore the key's own. It starts from
// the shortest beginning of the key's history that is illegal, and leaves out
// only what cannot make a legal history illegal: operations that change
// nothing, and mutations that nobody left observed. When stop says so it
// returns what it has; nil only where not even the whole was shown illegal.
func shrink(m workload.Model, ops []operation, stop func() bool) []operation {
	illegal := func(part []operation) bool { return decide(m, part, stop) == Invalid }
	part := shortestBeginning(ops, illegal)
	part = leaveOut(part, observers, illegal)
	for {
		before := len(part)
		part = leaveOut(part, unobserved, illegal)
		part = leaveOut(part, elements, illegal)
		if len(part) == before {
			return part
		}
	}
}

// shortestBeginning cuts the history behind the first answer that made it
// illegal. Every beginning of a linearizable history is linearizable, so a
// binary search finds it.
func shortestBeginning(ops []operation, illegal func([]operation) bool) []operation {
	var ends []int
	for _, o := range ops {
		if o.ret != never {
			ends = append(ends, o.ret)
		}
	}
	slices.Sort(ends)
	low, high := 0, len(ends)-1 // the cut behind ends[high] is illegal, as far as is known
	for low < high {
		middle := (low + high) / 2
		if illegal(beginning(ops, ends[middle])) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	if high < 0 {
		return ops
	}
	return beginning(ops, ends[high])
}

// beginning is the history up to the event cut: later answers are not known yet.
func beginning(ops []operation, cut int) []operation {
	var part []operation
	for _, o := range ops {
		switch {
		case o.invoke > cut:
		case o.ret <= cut:
			part = append(part, o)
		case o.call.F != history.Read:
			part = append(part, o.opened())
		}
	}
	return part
}

// A leave returns ops without those that go marks, where that is sound; else nil.
type leave func(ops []operation, goes func(i int) bool) []operation

// leaveOut applies leave to as many operations as it can, in blocks that
// shrink, as long as what remains is illegal.
func leaveOut(ops []operation, l leave, illegal func([]operation) bool) []operation {
	for size := (len(ops) + 1) / 2; size > 0; size /= 2 {
		for from := 0; from < len(ops); {
			part := l(ops, func(i int) bool { return i >= from && i < from+size })
			if part != nil && len(part) < len(ops) && illegal(part) {
				ops = part
			} else {
				from += size
			}
		}
	}
	return ops
}

// observers leaves out what changes nothing: reads and failed swaps.
func observers(ops []operation, goes func(int) bool) []operation {
	return without(ops, func(i int) bool {
		c := ops[i].call
		return goes(i) && (c.F == history.Read || c.F == history.CAS && !swapped(ops[i]))
	})
}

// unobserved leaves out mutations whose value nobody observed; see droppableWrites.
func unobserved(ops []operation, goes func(int) bool) []operation {
	chosen := make(map[int]bool)
	for i, o := range ops {
		if goes(i) {
			chosen[o.source] = true
		}
	}
	drop := droppable(ops, func(o operation) bool { return chosen[o.source] })
	return without(ops, func(i int) bool { return drop[i] })
}

// elements leaves out appends together with what reads show of their elements:
// a legal order stays legal when an element is taken from every list. Lengths
// are forgotten, which only allows more.
func elements(ops []operation, goes func(int) bool) []operation {
	if shapeOf(ops) != list {
		return nil
	}
	gone := make(map[int64]bool)
	for i, o := range ops {
		if goes(i) && o.call.F == history.Append {
			gone[o.call.Arg.Number] = true
		}
	}
	var part []operation
	for _, o := range ops {
		switch {
		case o.call.F == history.Append && gone[o.call.Arg.Number]:
			continue
		case o.call.F == history.Append:
			o.call.Revealed = false
		default:
			o.call.Out = withoutElements(o.call.Out, gone)
		}
		part = append(part, o)
	}
	return part
}

func without(ops []operation, goes func(int) bool) []operation {
	var part []operation
	for i, o := range ops {
		if !goes(i) {
			part = append(part, o)
		}
	}
	return part
}

// withoutElements takes elements from a list; an empty one is an absent one.
func withoutElements(v workload.Value, gone map[int64]bool) workload.Value {
	rest := slices.DeleteFunc(slices.Clone(v.List), func(e int64) bool { return gone[e] })
	if len(rest) == 0 {
		return workload.Value{}
	}
	return workload.Value{Kind: workload.List, List: rest}
}
