package nemesis

import (
	"fmt"

	"chaos/nodes"
)

// Reorder holds a share of the packets between the victims and the other nodes
// back, for so long that those that come within the hold overtake them.
type Reorder struct{}

// reorderMost is the largest share that an argument may ask for, in a thousand:
// where most are held back, it is the others that come early.
const reorderMost = 500

// Name is "reorder".
func (Reorder) Name() string { return "reorder" }

// About is the line of help.
func (Reorder) About() string {
	return "let packets between nodes overtake others (percent=10 hold=5ms direction=both)"
}

// Kinds is reordered.
func (Reorder) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Reordered} }

// Victims is all.
func (Reorder) Victims() string { return "all" }

// Effects hurts each link between a victim and another node.
func (Reorder) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only("percent", "hold", "direction"); err != nil {
		return nil, err
	}
	p, err := i.Args.percent(100, reorderMost)
	if err != nil {
		return nil, err
	}
	hold, err := i.Args.duration("hold", holdDefault, nodes.HoldMax)
	if err != nil {
		return nil, err
	}
	if hold < nodes.HoldMin {
		return nil, fmt.Errorf("args: hold: %s is less than %s", hold, nodes.HoldMin)
	}
	return onLinks(i, nodes.Effect{Kind: nodes.Reordered, PerMille: p, Delay: hold})
}
