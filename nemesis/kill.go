package nemesis

import "chaos/nodes"

// Kill ends the victims' process groups with SIGKILL and keeps them down; the
// heal starts them again on what their disks hold.
type Kill struct{}

// Name is "kill".
func (Kill) Name() string { return "kill" }

// About is the line of help.
func (Kill) About() string { return "SIGKILL the victims; start them again at the heal" }

// Kinds is down.
func (Kill) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Down} }

// Victims is one.
func (Kill) Victims() string { return "one" }

// Effects takes every victim down. There are no arguments.
func (Kill) Effects(i Injection) ([]nodes.Effect, error) {
	return onNodes(nodes.Down, i)
}

// onNodes has one effect for each victim.
func onNodes(k nodes.EffectKind, i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only(); err != nil {
		return nil, err
	}
	var out []nodes.Effect
	for _, v := range i.Victims {
		out = append(out, nodes.Effect{Kind: k, Node: v})
	}
	return out, nil
}
