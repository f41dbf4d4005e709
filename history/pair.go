package history

import (
	"slices"
	"time"
)

// Operations pairs the invocations of a well-formed history with their
// completions, in order of invocation. Events of the nemesis are left out.
func Operations(h History) []Operation {
	ops := make([]Operation, 0, len(h.Events)/2)
	open := make(map[int]int) // by process: its operation
	for _, e := range h.Events {
		switch {
		case e.Process == Nemesis:
		case e.Type == Invoke:
			open[e.Process] = len(ops)
			end := Event{Index: -1, Process: e.Process, Type: Info, F: e.F, Key: e.Key}
			ops = append(ops, Operation{Invoke: e, Complete: end})
		default:
			if i, ok := open[e.Process]; ok {
				ops[i].Complete = e
				delete(open, e.Process)
			}
		}
	}
	return ops
}

// A Window is the life of one injection as its controller saw it: from the
// completion of inject to the invocation of heal.
type Window struct {
	Note                      // what the events of the injection said of it, merged
	From, To    int           // event indices; To is one past the last event where no heal was invoked
	Start, End  time.Duration // since the run began
	Injected    bool          // proven when injected
	Verified    bool          // proven just before the heal, and never found missing
	Gap         bool          // found missing once
	Healed      bool          // the heal was proven
	Closed      bool          // a heal was invoked
	HealedAt    time.Duration // when the heal was proven
	HealedIndex int           // of the event that proves it
}

// Proven tells whether the fault was proven at both its ends, and that it was
// undone: a window with a gap does not count.
func (w Window) Proven() bool { return w.Injected && w.Verified && w.Healed }

// Contains tells whether the event of that index lies within the window.
func (w Window) Contains(index int) bool { return w.From < index && index < w.To }

// Windows lists the fault windows of a well-formed history in order of From.
// An injection that never completed has none.
func Windows(h History) []Window {
	var list []Window
	at := make(map[string]int) // by injection: its window
	commanded := make(map[string]Note)
	for _, e := range h.Events {
		if e.Process != Nemesis || (e.F != Inject && e.F != Verify && e.F != Heal) {
			continue
		}
		note, err := DecodeNote(e)
		if err != nil {
			continue
		}
		if e.F == Inject && e.Type == Invoke {
			commanded[note.ID] = note
		}
		i, known := at[note.ID]
		if e.F == Inject && e.Type != Invoke && !known {
			i, known = len(list), true
			at[note.ID] = i
			list = append(list, Window{Note: commanded[note.ID], From: e.Index, Start: e.Time, Injected: e.Type == Ok})
		}
		if !known {
			continue
		}
		w := &list[i]
		if e.F == Inject { // later notes tell of other injections than were live when it began
			w.Quorum = w.Quorum || note.Quorum
		}
		w.Note = merge(w.Note, note)
		w.observe(e)
	}
	closeOpen(list, h)
	slices.SortStableFunc(list, func(a, b Window) int { return a.From - b.From })
	return list
}

func (w *Window) observe(e Event) {
	switch {
	case e.F == Verify && e.Type != Ok:
		w.Gap, w.Verified = true, false
	case e.F == Verify:
		w.Verified = !w.Gap
	case e.F == Heal && e.Type == Invoke && !w.Closed:
		w.Closed, w.To, w.End = true, e.Index, e.Time
	case e.F == Heal && e.Type == Ok && !w.Healed:
		w.Healed, w.HealedAt, w.HealedIndex = true, e.Time, e.Index
	}
}

// closeOpen ends windows that nobody healed with the history.
func closeOpen(list []Window, h History) {
	for i := range list {
		if w := &list[i]; !w.Closed {
			last := h.Events[len(h.Events)-1]
			w.To, w.End = last.Index+1, last.Time
		}
	}
}

// merge adds what a later note of the same injection says.
func merge(a, b Note) Note {
	a.ID = first(a.ID, b.ID)
	a.Fault, a.Recipe, a.Detail = first(a.Fault, b.Fault), first(a.Recipe, b.Recipe), first(a.Detail, b.Detail)
	a.Required = a.Required || b.Required
	a.Victims, a.Kinds = union(a.Victims, b.Victims), union(a.Kinds, b.Kinds)
	a.Effects, a.Failures, a.How = union(a.Effects, b.Effects), union(a.Failures, b.Failures), union(a.How, b.How)
	a.Took += b.Took
	return a
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}
