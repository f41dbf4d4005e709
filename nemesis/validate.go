package nemesis

import (
	"fmt"
	"time"

	"chaos/nodes"
)

// The bounds of steps that come from a file.
const (
	AtMax     = 24 * time.Hour
	WithinMax = time.Minute
	nameMax   = 64 // bytes of an ID or a recipe's name
)

// Validate says what is wrong with a schedule that was not drawn here: the
// first wrong step, by its place from 1 and its ID, and the field. An injection
// without a heal is right; the end of the storm heals it.
func Validate(s Schedule, members []nodes.ID) error {
	if len(s) > StepsMax {
		return fmt.Errorf("schedule: %d steps are more than %d", len(s), StepsMax)
	}
	v := validator{members: members, live: map[string]bool{}}
	for n, st := range s {
		if err := v.step(st); err != nil {
			return fmt.Errorf("schedule: step %d (%.64q): %w", n+1, st.ID, err)
		}
	}
	return nil
}

type validator struct {
	members []nodes.ID
	before  time.Duration
	live    map[string]bool // by ID: injected, and not healed yet
}

func (v *validator) step(st Step) error {
	if err := v.when(st); err != nil {
		return err
	}
	if !named(st.ID) {
		return fmt.Errorf("id: must be 1 to %d letters, digits and dashes", nameMax)
	}
	if st.Recipe != "" && !named(st.Recipe) {
		return fmt.Errorf("recipe: must be at most %d letters, digits and dashes", nameMax)
	}
	switch st.Action {
	case Inject:
		return v.inject(st)
	case Heal:
		return v.heal(st)
	}
	return fmt.Errorf("action: %.64q is not one of inject, heal", string(st.Action))
}

// when checks the times and the condition.
func (v *validator) when(st Step) error {
	if st.At < 0 || st.At > AtMax {
		return fmt.Errorf("at: %s is not between 0 and %s", st.At, AtMax)
	}
	if st.At < v.before {
		return fmt.Errorf("at: %s is before the step above it, at %s", st.At, v.before)
	}
	v.before = st.At
	if st.Within < 0 || st.Within > WithinMax {
		return fmt.Errorf("within: %s is not between 0 and %s", st.Within, WithinMax)
	}
	switch st.After {
	case Now:
		if st.Within != 0 {
			return fmt.Errorf("within: there is no condition to wait for; set after to leader or new-leader")
		}
	case AnyLeader, NewLeader:
		if st.Within == 0 {
			return fmt.Errorf("within: a condition needs a bound above 0")
		}
	default:
		return fmt.Errorf("after: %.64q is not one of leader, new-leader", string(st.After))
	}
	return nil
}

func (v *validator) inject(st Step) error {
	if _, used := v.live[st.ID]; used {
		return fmt.Errorf("id: a step above injects the same")
	}
	if _, _, err := Fire(st, v.members, 0, nil); err != nil {
		return err
	}
	v.live[st.ID] = true
	return nil
}

func (v *validator) heal(st Step) error {
	if living, used := v.live[st.ID]; !used {
		return fmt.Errorf("id: no step above injects it")
	} else if !living {
		return fmt.Errorf("id: a step above has healed it")
	}
	if st.Fault != "" || len(st.Args) > 0 || st.Victims != "" {
		return fmt.Errorf("fault: a heal names only the injection; fault, args and victims stand at its inject")
	}
	v.live[st.ID] = false
	return nil
}

// named tells whether s can be part of a file's name and of a line for people.
func named(s string) bool {
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= nameMax
}
