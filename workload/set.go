package workload

import "chaos/history"

// set: a key is one element of a set, written once and then only read. It is
// there from then on, whatever happens: the plainest way to see a write lost.
// A key takes an eighth of the operations of others, so that there are many.
var set = manner{
	name:   "set",
	writes: []weight{{history.Write, 1}},
	value:  writeUnique,
	divide: 8,
	once:   true,
}

// Set writes each key once and reads it from then on.
func Set() Workload {
	return single("one key an element: written once, then read", set, model("set", history.Read, history.Write))
}
