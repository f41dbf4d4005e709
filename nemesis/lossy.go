package nemesis

import "chaos/nodes"

// Lossy loses a share of the packets between the victims and the other nodes,
// each by a draw of its own. TCP sends them again, later; what it carries slows
// down, and connections that lose too much in a row break.
type Lossy struct{}

// lossyMost is the largest share that an argument may ask for, in a thousand:
// beyond it hardly a connection opens, and a partition shows more.
const lossyMost = 900

// Name is "lossy".
func (Lossy) Name() string { return "lossy" }

// About is the line of help.
func (Lossy) About() string { return "lose packets between nodes (percent=10 direction=both)" }

// Kinds is lossy.
func (Lossy) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Lossy} }

// Victims is all.
func (Lossy) Victims() string { return "all" }

// Effects hurts each link between a victim and another node.
func (Lossy) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only("percent", "direction"); err != nil {
		return nil, err
	}
	p, err := i.Args.percent(100, lossyMost)
	if err != nil {
		return nil, err
	}
	return onLinks(i, nodes.Effect{Kind: nodes.Lossy, PerMille: p})
}
