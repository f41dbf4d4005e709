package workload

import (
	"math"

	"chaos/history"
)

// cas: swaps expect the value that was last observed of the key, so that many
// succeed. One that finds another value is a read of that one. Now and then the
// key is deleted, so that absence is found, too, and swaps begin from it.
var cas = manner{
	name:   "cas",
	writes: []weight{{history.CAS, 6}, {history.Write, 2}, {history.Delete, 1}},
	value:  swapOrWrite,
}

// CAS reads, writes, deletes, and swaps one value for another if it is there.
func CAS() Workload {
	return single("read, write, delete and compare-and-set", cas,
		model("cas", history.Read, history.Write, history.CAS, history.Delete))
}

// Of so many swaps three ask for what must not happen, if what was seen is still
// there, each in a way that a store may get wrong. Their turns lie apart.
const (
	swapsOf   = 16
	nearTurn  = 0  // it expects nearly what the key holds
	otherTurn = 5  // it expects that the key is absent, or is not
	againTurn = 10 // it expects nearly what the key holds, and brings what it holds
)

// near is n without its last digit, or with one more: the beginning of its text,
// or a text that it is the beginning of.
func near(n, turn int64) int64 {
	if turn%2 == 0 && n >= 10 {
		return n / 10
	}
	return min(n, math.MaxInt64/100)*10 + 1
}

func swapOrWrite(l *load, k *key, f string) []byte {
	switch f {
	case history.Delete:
		return null
	case history.Write:
		return writeUnique(l, k, f)
	}
	l.value++
	from, to := k.swap(l.value)
	return l.text(func(b []byte) []byte {
		b = append(b, '[')
		if from.Kind == Number {
			b = appendInt(b, from.Number)
		} else {
			b = append(b, "null"...)
		}
		b = append(b, ',')
		return append(appendInt(b, to), ']')
	})
}

// swap says what the swap to a new value expects and brings.
func (k *key) swap(fresh int64) (from Value, to int64) {
	n, there := k.seen.Number, k.seen.Kind == Number
	switch turn := fresh % swapsOf; {
	case turn == otherTurn && there, turn != otherTurn && !there:
		return Value{}, fresh
	case turn == otherTurn:
		return Num(fresh), fresh // a number that was never there
	case turn == nearTurn:
		return Num(near(n, fresh/swapsOf)), fresh
	case turn == againTurn:
		return Num(near(n, fresh/swapsOf)), n
	}
	return Num(n), fresh
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
