package workload

import "chaos/history"

// deltaMax is the most that one add adds.
const deltaMax = 9

// counter: an add returns the new value, so the answers order all adds, and one
// applied twice shows at the next.
var counter = manner{
	name:   "counter",
	writes: []weight{{history.Add, 1}},
	value:  delta,
}

// Counter adds to a number and reads it.
func Counter() Workload {
	return single("add to a number, which returns the new one, and read it", counter, model("counter", history.Read, history.Add))
}

func delta(l *load, _ *key, _ string) []byte {
	return l.text(func(b []byte) []byte { return appendInt(b, 1+l.r.Int64N(deltaMax)) })
}

// stepAdd: an absent key counts as 0; a sum that 64 bits don't hold is refused.
func stepAdd(s State, c Call) (bool, State) {
	sum := s.Number + c.Arg.Number
	if s.Kind == List || (sum > s.Number) != (c.Arg.Number > 0) && c.Arg.Number != 0 {
		return !c.Known, s
	}
	return !c.Revealed || c.Out.Number == sum, Num(sum)
}
