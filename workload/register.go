package workload

import "chaos/history"

// register: one value, read and written. Every write has a value of its own, so
// that a read tells which write it saw.
var register = manner{
	name:   "register",
	writes: []weight{{history.Write, 1}},
	value:  writeUnique,
}

// Register reads and writes one value a key.
func Register() Workload {
	return single("read and write one value a key", register, model("register", history.Read, history.Write))
}

func writeUnique(l *load, _ *key, _ string) []byte {
	l.value++
	return l.text(func(b []byte) []byte { return appendInt(b, l.value) })
}
