package workload

import (
	"math"

	"chaos/history"
)

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

// nearOneIn is how many swaps there are for one that expects nearly what the
// key holds, and must not happen.
const nearOneIn = 8

// near is n without its last digit, or with one more: the beginning of its text,
// or a text that it is the beginning of.
func near(n, turn int64) int64 {
	if turn%2 == 0 && n >= 10 {
		return n / 10
	}
	return min(n, math.MaxInt64/100)*10 + 1
}

func swapOrWrite(l *load, k *key, f string) []byte {
	if f == history.Write {
		return writeUnique(l, k, f)
	}
	l.value++
	return l.text(func(b []byte) []byte {
		b = append(b, '[')
		switch n := k.seen.Number; {
		case k.seen.Kind != Number:
			b = append(b, "null"...)
		case l.value%nearOneIn == 0:
			b = appendInt(b, near(n, l.value/nearOneIn))
		default:
			b = appendInt(b, n)
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
