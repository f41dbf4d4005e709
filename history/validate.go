package history

import (
	"encoding/json"
	"fmt"
)

// A RuleError names the event that makes a history ill-formed, and the rule
// that it breaks. An ill-formed history gets no verdict.
type RuleError struct {
	Index int
	Rule  string
}

// Error is "event 812: process 3 invokes read while …".
func (e *RuleError) Error() string { return fmt.Sprintf("event %d: %s", e.Index, e.Rule) }

// Validate tells whether h is well-formed: indices ascend, a process has one
// operation open at a time and retires at info, a completion tells of what was
// invoked, and the nemesis keeps its forms. The error is a *RuleError.
func Validate(h History) error {
	v := validator{last: -1, open: map[int]Event{}, retired: map[int]int{}, injected: map[string]int{}}
	for _, e := range h.Events {
		if rule := v.event(e); rule != "" {
			return &RuleError{Index: e.Index, Rule: rule}
		}
	}
	return nil
}

type validator struct {
	last     int
	open     map[int]Event  // by process: its invocation
	retired  map[int]int    // by process: the info event that ended it
	injected map[string]int // by injection: the event that commanded it
}

// event returns the rule that e breaks, or "".
func (v *validator) event(e Event) string {
	switch {
	case e.Index < 0:
		return "an index is never negative"
	case e.Index <= v.last:
		return fmt.Sprintf("indices ascend, but the event before has index %d", v.last)
	case e.Time < 0:
		return "time is never negative"
	case e.Type > Info:
		return fmt.Sprintf("there is no type %d", e.Type)
	case e.F == "":
		return "the function is missing"
	case e.Process < Nemesis:
		return fmt.Sprintf("there is no process %d", e.Process)
	}
	v.last = e.Index
	switch {
	case e.Process == Nemesis:
		return v.nemesis(e)
	case e.Type == Invoke:
		return v.invoke(e)
	}
	return v.complete(e)
}

func (v *validator) invoke(e Event) string {
	if at, ok := v.retired[e.Process]; ok {
		return fmt.Sprintf("process %d invokes %s although it retired at event %d, an info", e.Process, e.F, at)
	}
	if i, ok := v.open[e.Process]; ok {
		return fmt.Sprintf("process %d invokes %s while its %s of event %d is open", e.Process, e.F, i.F, i.Index)
	}
	v.open[e.Process] = e
	return ""
}

func (v *validator) complete(e Event) string {
	i, ok := v.open[e.Process]
	switch {
	case !ok:
		return fmt.Sprintf("process %d completes %s, but has nothing open", e.Process, e.F)
	case i.F != e.F || i.Key != e.Key:
		return fmt.Sprintf("process %d completes %s of %q, but invoked %s of %q at event %d", e.Process, e.F, e.Key, i.F, i.Key, i.Index)
	}
	delete(v.open, e.Process)
	if e.Type == Info {
		v.retired[e.Process] = e.Index
	}
	return ""
}

// nemesis checks the forms that package documentation gives nemesis events.
func (v *validator) nemesis(e Event) string {
	note, err := DecodeNote(e)
	if err != nil {
		return err.Error()
	}
	allowed := map[string][]Type{
		Inject: {Invoke, Ok, Info}, Verify: {Ok, Info}, Heal: {Invoke, Ok, Info},
		Phase: {Info}, Leader: {Info}, Incident: {Info},
	}
	if !contains(allowed[e.F], e.Type) {
		return fmt.Sprintf("%s is never of type %s", e.F, e.Type)
	}
	if e.F != Inject && e.F != Verify && e.F != Heal {
		return ""
	}
	commanded, known := v.injected[note.ID]
	switch {
	case note.ID == "":
		return e.F + " names no injection"
	case e.F == Inject && e.Type == Invoke && known:
		return fmt.Sprintf("injection %s was commanded before, at event %d", note.ID, commanded)
	case e.F == Inject && e.Type == Invoke:
		v.injected[note.ID] = e.Index
	case !known:
		return fmt.Sprintf("%s of injection %s, which was never commanded", e.F, note.ID)
	}
	return ""
}

func contains(types []Type, t Type) bool {
	for _, a := range types {
		if a == t {
			return true
		}
	}
	return false
}

// DecodeNote reads the value of a nemesis event. An event without a value has
// an empty note.
func DecodeNote(e Event) (Note, error) {
	switch e.F {
	case Inject, Verify, Heal, Phase, Leader, Incident:
	default:
		return Note{}, fmt.Errorf("the nemesis has no function %q", e.F)
	}
	var n Note
	if len(e.Value) == 0 {
		return n, nil
	}
	if err := json.Unmarshal(e.Value, &n); err != nil {
		return Note{}, fmt.Errorf("the note of %s is malformed: %w", e.F, plainError(err))
	}
	return n, nil
}
