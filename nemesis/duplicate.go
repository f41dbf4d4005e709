package nemesis

import "chaos/nodes"

// Duplicate lets a share of the packets between the victims and the other nodes
// arrive twice. TCP throws the second away; protocols over datagrams have to do
// so themselves.
type Duplicate struct{}

// Name is "duplicate".
func (Duplicate) Name() string { return "duplicate" }

// About is the line of help.
func (Duplicate) About() string { return "double packets between nodes (percent=10 direction=both)" }

// Kinds is duplicated.
func (Duplicate) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Duplicated} }

// Victims is all.
func (Duplicate) Victims() string { return "all" }

// Effects hurts each link between a victim and another node.
func (Duplicate) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only("percent", "direction"); err != nil {
		return nil, err
	}
	p, err := i.Args.percent(100, nodes.PerMilleMax)
	if err != nil {
		return nil, err
	}
	return onLinks(i, nodes.Effect{Kind: nodes.Duplicated, PerMille: p})
}
