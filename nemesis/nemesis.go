// Package nemesis decides what to do to a cluster, and when. A schedule is
// drawn from a seed before the run and is pure data; a fault turns the victims
// that a rule chose into effects; the cluster carries effects out and proves
// them. Nothing here sleeps, spawns or reads a clock.
package nemesis

import (
	"time"

	"chaos/nodes"
)

// A Fault is one way to hurt a cluster: a pure function from victims to effects.
// How an effect is brought about, proven and undone is the cluster's affair, so
// that one fault file serves every provider and the simulation.
type Fault interface {
	// Name is what --faults calls it: "kill", "partition-ring".
	Name() string
	// About is one line for help and docs.
	About() string
	// Kinds are the effects that it needs.
	Kinds() []nodes.EffectKind
	// Victims is the rule used where a step names none: "one", "leader".
	Victims() string
	// Effects says what is wrong while the injection lives. It draws only from
	// the injection's Pick, and depends on nothing else.
	Effects(i Injection) ([]nodes.Effect, error)
}

// Args are a step's settings, by name: {"delay":"20ms","jitter":"5ms"}.
type Args map[string]string

// An Injection is one live fault: its arguments, and the victims as they were
// resolved when it fired.
type Injection struct {
	ID      string
	Fault   string
	Args    Args
	Victims []nodes.ID // ascending
	Pick    uint64     // seeds what the fault itself has to choose
	Members []nodes.ID // all nodes, ascending
	Leader  nodes.ID   // as observed when it fired; 0 when unknown
}

// An Action is what a Step does.
type Action string

// The actions of steps.
const (
	Inject Action = "inject"
	Heal   Action = "heal"
)

// A Step is one line of a schedule. At counts from the start of the storm.
// Where After is set, the step waits for it from At on, at most for Within,
// and then fires all the same.
type Step struct {
	ID      string // of the injection; a heal names the same one
	At      time.Duration
	After   Condition
	Within  time.Duration
	Action  Action
	Fault   string // of an inject
	Args    Args   // of an inject
	Victims string // a rule: one, minority, majority, all, leader, follower, n1,n3
	Pick    uint64 // the draw that resolves the rule
	Recipe  string // the compound that the step belongs to
}

// A Condition is something that a step may wait for.
type Condition string

// The conditions. NewLeader: a leader other than the one when the injection
// before it fired was observed.
const (
	Now       Condition = ""
	NewLeader Condition = "new-leader"
	AnyLeader Condition = "leader"
)

// A Schedule is pure data: equal seeds and options draw equal schedules. Steps
// are in order of At.
type Schedule []Step
