package nemesis

import "chaos/nodes"

// Throttle limits each link between the victims and the other nodes to a number
// of bytes a second. Packets wait for one another, and what finds a queue of 0.2
// seconds full is lost, as in front of any slow line.
type Throttle struct{}

const throttleDefault = 250_000 // bytes a second

// Name is "throttle".
func (Throttle) Name() string { return "throttle" }

// About is the line of help.
func (Throttle) About() string {
	return "limit the rate of each link between nodes (rate=250kB/s direction=both)"
}

// Kinds is limited.
func (Throttle) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Limited} }

// Victims is all.
func (Throttle) Victims() string { return "all" }

// Effects hurts each link between a victim and another node.
func (Throttle) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only("rate", "direction"); err != nil {
		return nil, err
	}
	rate, err := i.Args.rate(throttleDefault)
	if err != nil {
		return nil, err
	}
	return onLinks(i, nodes.Effect{Kind: nodes.Limited, Rate: rate})
}
