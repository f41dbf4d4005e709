package workload

import (
	"strings"

	"chaos/history"
)

// Universal is the model of a key that takes every function: what is known of a
// key when no workload is named.
var Universal = model("key", history.Read, history.Write, history.CAS, history.Delete, history.Add, history.Append)

// ModelFor returns the model of a key: that of the workload before its "/", else
// that of the workload named fallback. Where neither is one, ok is false and the
// model is [Universal].
func ModelFor(key, fallback string) (m Model, ok bool) {
	prefix, _, _ := strings.Cut(key, "/")
	for _, name := range []string{prefix, fallback} {
		for _, w := range all {
			if w.Name == name {
				return w.Model, true
			}
		}
	}
	return Universal, false
}

// model makes the model of a key that takes these functions.
func model(name string, functions ...string) Model {
	return Model{Name: name, Parse: parser(name, functions), Step: step}
}

// step is the sequential specification of one key. A call whose end is unknown
// says nothing of what it saw, and is legal wherever it stands.
func step(s State, c Call) (bool, State) {
	switch c.F {
	case history.Read:
		return stepRead(s, c)
	case history.Write:
		return true, c.Arg
	case history.CAS:
		return stepCAS(s, c)
	case history.Delete:
		return true, State{}
	case history.Add:
		return stepAdd(s, c)
	case history.Append:
		return stepAppend(s, c)
	}
	panic("workload: function " + c.F + " passed parsing")
}

// stepRead: a read shows the state.
func stepRead(s State, c Call) (bool, State) {
	return !c.Revealed || s.Equal(c.Out), s
}
