package workload

import "chaos/history"

// cas: swaps expect the value that was last observed of the key, so that many
// succeed. One that finds another value is a read of that one.
var cas = manner{
	name:   "cas",
	writes: []weight{{history.CAS, 3}, {history.Write, 1}},
	value:  swapOrWrite,
}

// CAS reads, writes, and swaps one value for another if it is there.
func CAS() Workload {
	return single("read, write and compare-and-set", cas, model("cas", history.Read, history.Write, history.CAS))
}

func swapOrWrite(l *load, k *key, f string) []byte {
	if f == history.Write {
		return writeUnique(l, k, f)
	}
	l.value++
	return l.text(func(b []byte) []byte {
		b = append(b, '[')
		if k.seen.Kind == Number {
			b = appendInt(b, k.seen.Number)
		} else {
			b = append(b, "null"...)
		}
		b = append(b, ',')
		return append(appendInt(b, l.value), ']')
	})
}

// stepCAS: a swap that happened found what it expected; one that did not found
// something else, and if it says what, that is the state.
func stepCAS(s State, c Call) (bool, State) {
	found := s.Equal(c.From)
	switch {
	case !c.Known && found:
		return true, c.Arg
	case !c.Known:
		return true, s
	case c.Swapped:
		return found && (!c.Revealed || s.Equal(c.Out)), c.Arg
	}
	return !found && (!c.Revealed || s.Equal(c.Out)), s
}
