package workload

import "chaos/history"

// appends: a read shows the whole list, and with it every append so far and
// their order: what is lost, doubled or moved shows even when much came after.
// A list grows with every append, and so do its reads: keys live for a quarter
// of the operations of others.
var appends = manner{
	name:   "append",
	writes: []weight{{history.Append, 1}},
	value:  writeUnique,
	divide: 4,
}

// Append adds unique elements to a list and reads the whole of it.
func Append() Workload {
	return single("append unique elements to a list, read all of it", appends, model("append", history.Read, history.Append))
}

// stepAppend: the element stands at the end; the answer may be the new length.
func stepAppend(s State, c Call) (bool, State) {
	if s.Kind == Number {
		return !c.Known, s // not a list: refused
	}
	list := make([]int64, len(s.List), len(s.List)+1)
	copy(list, s.List)
	next := State{Kind: List, List: append(list, c.Arg.Number)}
	return !c.Revealed || c.Out.Number == int64(len(next.List)), next
}
