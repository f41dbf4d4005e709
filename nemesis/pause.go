package nemesis

import "chaos/nodes"

// Pause stops the victims' process groups with SIGSTOP: they keep their
// connections, their memory and what they believe of time, and go on with it at
// the heal.
type Pause struct{}

// Name is "pause".
func (Pause) Name() string { return "pause" }

// About is the line of help.
func (Pause) About() string { return "SIGSTOP the victims; SIGCONT at the heal" }

// Kinds is frozen.
func (Pause) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Frozen} }

// Victims is one.
func (Pause) Victims() string { return "one" }

// Effects freezes every victim. There are no arguments.
func (Pause) Effects(i Injection) ([]nodes.Effect, error) {
	return onNodes(nodes.Frozen, i)
}
