package linearizability

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"chaos/history"
	"chaos/workload"
)

const (
	// storyTimeout bounds the search for few operations that tell the tale.
	storyTimeout = 10 * time.Second
	// storyMax is how many operations a story spells out: the last ones.
	storyMax = 12
	// effectsTold is how many effects of one fault a story spells out.
	effectsTold = 6
	// justBefore is how long before the few a fault may have ended that is still told.
	justBefore = time.Second
)

// tell makes the verdict on a key that is not linearizable: the few operations
// that cannot be ordered, who led meanwhile, and which faults were active.
func tell(ctx context.Context, h history.History, all []history.Operation, k keyed) Verdict {
	limited, cancel := context.WithTimeout(ctx, storyTimeout)
	defer cancel()
	few := shrink(k.model, k.ops, func() bool { return limited.Err() != nil })
	s := story{h: h, all: all, few: few, calls: make(map[int]workload.Call)}
	for _, o := range k.ops { // as they were before shrinking forgot parts of them
		s.calls[o.source] = o.call
	}
	accusation := s.accusation()
	v := Verdict{Checker: "linearizable", Outcome: Invalid, Key: k.key, Evidence: s.evidence()}
	v.Reason = fmt.Sprintf("key %s is not linearizable: %s", k.key, accusation)
	v.Story = append(s.operations(k.key), accusation+".")
	v.Story = append(v.Story, s.leaders()...)
	v.Story = append(v.Story, s.faults()...)
	return v
}

// A story is the material of one violation.
type story struct {
	h     history.History
	all   []history.Operation
	few   []operation
	calls map[int]workload.Call // by source
}

// operations is one line for each of the few, in order of invocation.
func (s story) operations(key string) []string {
	lines := []string{fmt.Sprintf("On key %s no order of these %d operations is legal:", key, len(s.few))}
	few := s.few
	if len(few) > storyMax {
		lines = append(lines, fmt.Sprintf("  (%d earlier ones left out)", len(few)-storyMax))
		few = few[len(few)-storyMax:]
	}
	for _, o := range few {
		op := s.all[o.source]
		began := fmt.Sprintf("process %d asked %s at %s", op.Invoke.Process, node(op), place(op.Invoke))
		end := "no answer by then"
		if o.ret != never {
			end = "answered at " + place(op.Complete)
		}
		lines = append(lines, fmt.Sprintf("  %s: %s, %s", s.words(o), began, end))
	}
	return lines
}

// words is the call as the history has it; what was answered later than the
// shortest illegal beginning does not matter.
func (s story) words(o operation) string {
	if o.ret == never {
		return describeAsk(o.call)
	}
	return describeCall(s.calls[o.source])
}

// accusation is one sentence: the last answer of the few, which made the
// history illegal, and what contradicts it.
func (s story) accusation() string {
	last, ok := s.lastAnswer()
	if !ok {
		return "its operations have no legal order"
	}
	op := s.all[last.source]
	claim := fmt.Sprintf("%s answered %s (invoked at %s)", node(op), s.words(last), place(op.Invoke))
	against, ok := s.contradiction(last)
	switch {
	case ok:
		o := s.all[against.source]
		verb := "had been acknowledged"
		if against.call.F == history.Read {
			verb = "had been answered"
		}
		return fmt.Sprintf("%s although %s %s at %s by %s", claim, s.words(against), verb, place(o.Complete), node(o))
	case last.call.Revealed && last.call.Out.Kind != workload.Absent && !s.stored(last):
		return claim + " although no operation that had begun by then stores that"
	}
	return claim + ", which no order of what had begun by then explains"
}

func (s story) lastAnswer() (operation, bool) {
	last, ok := operation{ret: -1}, false
	for _, o := range s.few {
		if o.ret != never && o.ret > last.ret {
			last, ok = o, true
		}
	}
	return last, ok
}

// contradiction is the latest operation that had been answered when last was
// invoked and tells of another value.
func (s story) contradiction(last operation) (operation, bool) {
	best, ok := operation{ret: -1}, false
	for _, o := range s.few {
		if o.ret < last.invoke && o.ret > best.ret && s.denies(o, last) {
			best, ok = o, true
		}
	}
	return best, ok
}

// denies tells whether o shows another value than last, or an element that
// the list which last shows lacks.
func (s story) denies(o, last operation) bool {
	v, shows := s.shows(o)
	w, _ := s.shows(last)
	if last.call.F == history.Read && o.call.F == history.Append {
		return !slices.Contains(w.List, v.Number)
	}
	if last.call.F == history.Read && v.Kind == workload.List {
		return slices.ContainsFunc(v.List, func(e int64) bool { return !slices.Contains(w.List, e) })
	}
	return shows && !v.Equal(w)
}

// shows is the value that the key had when o took effect, as its answer tells.
func (s story) shows(o operation) (workload.Value, bool) {
	c := s.calls[o.source]
	switch {
	case c.F == history.Delete:
		return workload.Value{}, true
	case c.F == history.Append:
		return c.Arg, true
	case c.F == history.Write || c.F == history.CAS && c.Swapped:
		return c.Arg, true
	}
	return c.Out, c.Revealed
}

// stored tells whether any of the few stores what last saw.
func (s story) stored(last operation) bool {
	for _, o := range s.few {
		if v, ok := writes(o); ok && last.call.Out.Equal(workload.Value{Kind: workload.Number, Number: v}) {
			return true
		}
		if o.call.F == history.Append || o.call.F == history.Add {
			return true // its value depends on others; say nothing of it
		}
	}
	return false
}

// span is the part of the history in which the few happened, as indices of events.
func (s story) span() (from, to int) {
	from, to = never, -1
	for _, o := range s.few {
		from, to = min(from, o.invoke), max(to, o.invoke)
		if o.ret != never {
			to = max(to, o.ret)
		}
	}
	return from, to
}

// leaders says who led when the few began, and each change until they ended.
func (s story) leaders() []string {
	from, to := s.span()
	var before string
	var lines []string
	for _, e := range s.h.Events {
		if e.Index > to {
			break
		}
		if e.Process != history.Nemesis || e.F != history.Leader {
			continue
		}
		n, err := history.DecodeNote(e)
		if err != nil {
			continue
		}
		line := fmt.Sprintf("%s was seen to lead in term %d from %s.", n.Leader, n.Term, place(e))
		if n.Leader == "" || n.Leader == "-" {
			line = fmt.Sprintf("No leader was seen from %s.", place(e))
		}
		if e.Index < from {
			before = line
		} else {
			lines = append(lines, line)
		}
	}
	if before != "" {
		lines = slices.Insert(lines, 0, before)
	}
	return last(lines, storyMax)
}

// faults names the windows that overlap the few.
func (s story) faults() []string {
	from, to := s.span()
	return faultsBetween(s.h, from, to)
}

// faultsBetween is one line for each window that overlaps these events or ended
// just before them, and for a restart of all nodes among them.
func faultsBetween(h history.History, from, to int) []string {
	began := timeAt(h, from)
	var lines []string
	before := "No fault was active meanwhile."
	for _, w := range history.Windows(h) {
		line := fmt.Sprintf("Fault %s on %s was active from event %d (%s) to event %d (%s)",
			w.Fault, cmp.Or(strings.Join(w.Victims, ", "), "links"), w.From, seconds(w.Start), w.To, seconds(w.End))
		if len(w.Effects) > 0 {
			line += ": " + enumerate(w.Effects, effectsTold)
		}
		switch {
		case w.From > to:
		case w.To >= from || began-w.End <= justBefore:
			lines = append(lines, line+".")
		default:
			before = line + ", and no other one since."
		}
	}
	lines = append(lines, restarts(h, from, to)...)
	if len(lines) == 0 {
		return []string{before}
	}
	return last(lines, storyMax)
}

// timeAt is the time of the first event from this index on, or of the last one.
func timeAt(h history.History, from int) time.Duration {
	i, _ := slices.BinarySearchFunc(h.Events, from, func(e history.Event, index int) int { return e.Index - index })
	if len(h.Events) == 0 {
		return 0
	}
	return h.Events[min(i, len(h.Events)-1)].Time
}

// restarts tells of the phases in which all nodes were killed and started again.
func restarts(h history.History, from, to int) (lines []string) {
	for _, e := range h.Events {
		if e.F != history.Phase || e.Index < from || e.Index > to {
			continue
		}
		if n, err := history.DecodeNote(e); err == nil && n.Phase == history.Restart {
			lines = append(lines, fmt.Sprintf("All nodes were killed and started again from %s.", place(e)))
		}
	}
	return lines
}

func last(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }

// evidence is the indices of the events of the few, ascending.
func (s story) evidence() []int {
	var list []int
	for _, o := range s.few {
		list = append(list, o.invoke)
		if o.ret != never {
			list = append(list, o.ret)
		}
	}
	slices.Sort(list)
	return list
}
