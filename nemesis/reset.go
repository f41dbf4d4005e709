package nemesis

import "chaos/nodes"

// Reset breaks the connections between the victims and the other nodes, and
// every new one as soon as it is made, as a firewall does that answers for both.
type Reset struct{}

// Name is "reset".
func (Reset) Name() string { return "reset" }

// About is the line of help.
func (Reset) About() string {
	return "reset connections between nodes, old and new (where links are relayed)"
}

// Kinds is reset.
func (Reset) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Reset} }

// Victims is one.
func (Reset) Victims() string { return "one" }

// Effects hurts each link between a victim and another node.
func (Reset) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only("direction"); err != nil {
		return nil, err
	}
	return onLinks(i, nodes.Effect{Kind: nodes.Reset})
}
