package nemesis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"chaos/nodes"
)

// A Cursor walks a schedule: an interpreter tells it the time and who leads, and
// it tells which step is due.
//
// The steps of one group, which is a recipe or else one injection, come in their
// order, and a step that waited for its condition moves those after it in its
// group by as long: so a compound keeps its timing on a slow machine, and no
// group holds up another.
type Cursor struct {
	steps  Schedule
	group  []string // by step
	fired  []bool
	first  int // all steps before it have fired
	left   int
	groups map[string]*groupState
}

type groupState struct {
	shift  time.Duration // by how much later steps are moved
	leader nodes.ID      // when the last injection of the group fired
}

// NewCursor starts at the beginning of a schedule that [Validate] accepts, or that was drawn.
func NewCursor(s Schedule) *Cursor {
	c := &Cursor{steps: s, fired: make([]bool, len(s)), left: len(s), groups: map[string]*groupState{}}
	injected := map[string]string{}
	for _, st := range s {
		g, known := injected[st.ID]
		if !known {
			if g = "recipe " + st.Recipe; st.Recipe == "" {
				g = "injection " + st.ID
			}
			injected[st.ID] = g
		}
		c.group = append(c.group, g)
		if c.groups[g] == nil {
			c.groups[g] = &groupState{}
		}
	}
	return c
}

// Done tells whether every step has fired.
func (c *Cursor) Done() bool { return c.left == 0 }

// Next returns the step that is due, and counts it as fired; ok is false when
// none is, and then wait says when to ask again at the latest, or sooner when
// another leader is seen. leader is the one observed now, 0 when there is none.
func (c *Cursor) Next(now time.Duration, leader nodes.ID) (step Step, wait time.Duration, ok bool) {
	held := map[string]bool{} // groups that have an earlier step to do
	wait = -1
	for i := c.first; i < len(c.steps); i++ {
		st := c.steps[i]
		if c.fired[i] || held[c.group[i]] {
			continue
		}
		if st.At > now {
			wait = sooner(wait, st.At-now)
			break // and so are all after it
		}
		held[c.group[i]] = true
		g := c.groups[c.group[i]]
		due := st.At + g.shift
		latest := due + st.Within
		switch {
		case now >= latest || now >= due && g.met(st.After, leader):
			c.fire(i, now, leader)
			return st, 0, true
		case now < due:
			wait = sooner(wait, due-now)
		default:
			wait = sooner(wait, latest-now)
		}
	}
	return Step{}, max(0, wait), false
}

// met tells whether the condition holds.
func (g *groupState) met(c Condition, leader nodes.ID) bool {
	switch c {
	case AnyLeader:
		return leader != 0
	case NewLeader:
		return leader != 0 && leader != g.leader
	}
	return true
}

func (c *Cursor) fire(i int, now time.Duration, leader nodes.ID) {
	st, g := c.steps[i], c.groups[c.group[i]]
	if st.After != Now {
		g.shift += min(max(0, now-st.At-g.shift), st.Within)
	}
	if st.Action == Inject {
		g.leader = leader
	}
	c.fired[i] = true
	c.left--
	for c.first < len(c.fired) && c.fired[c.first] {
		c.first++
	}
}

func sooner(a, b time.Duration) time.Duration {
	if a < 0 {
		return b
	}
	return min(a, b)
}

// Fire resolves the victims of an inject and says what is then wrong. down
// names the members that are down or frozen now. A fault "partition" becomes
// the shape that is drawn from the step's Pick.
func Fire(st Step, members []nodes.ID, leader nodes.ID, down []nodes.ID) (Injection, []nodes.Effect, error) {
	f, err := Find(st.Fault)
	if err != nil {
		return Injection{}, nil, fmt.Errorf("fault: %s", strings.TrimPrefix(err.Error(), "nemesis: "))
	}
	args := st.Args
	if p, ok := f.(Partition); ok {
		if f, err = p.shape(args, st.Pick, len(members)); err != nil {
			return Injection{}, nil, err
		}
		args = without(args, "shape")
	}
	rule := st.Victims
	if rule == "" {
		rule = f.Victims()
	}
	all := slices.Sorted(slices.Values(members))
	victims, err := Resolve(rule, st.Pick, all, leader, down)
	if err != nil {
		return Injection{}, nil, err
	}
	i := Injection{ID: st.ID, Fault: f.Name(), Args: args, Victims: victims, Pick: st.Pick, Members: all, Leader: leader}
	effects, err := f.Effects(i)
	return i, effects, err
}

// FinalHeal lists a heal for each injection that lives, the youngest first. It
// is derived from what was really injected, not from the schedule. live is in
// the order of injection.
func FinalHeal(live []Injection) []Step {
	var out []Step
	for _, i := range slices.Backward(live) {
		out = append(out, Step{ID: i.ID, Action: Heal})
	}
	return out
}
