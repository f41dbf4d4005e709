package nemesis

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"chaos/nodes"
)

// Partition cuts the network in a shape that the argument "shape" names, or that
// is drawn from the injection's Pick.
type Partition struct{}

// A Shape is one way to cut the network: "partition-ring" and its like.
type Shape struct {
	name, about, victims string
	kind                 nodes.EffectKind
	least                int      // members that it needs
	args                 []string // the arguments that it takes
	cut                  func(i Injection, r *rand.Rand) ([]nodes.Link, error)
}

// shapes are in the order of help.
var shapes = []Shape{
	{name: "one", about: "the victims are cut off from all other nodes", victims: "one", least: 2, cut: apart},
	{name: "halves", about: "half of the nodes can't reach the other half", victims: "half", least: 2, cut: apart},
	{name: "minority", about: "as many nodes as leave a majority are cut off together", victims: "minority", least: 3, cut: apart},
	{name: "leader", about: "the leader is cut off from all other nodes, not from clients", victims: "leader", least: 2, cut: apart},
	{name: "ring", about: "every node sees a majority, and no two the same one", victims: "all", least: 3, cut: ring},
	{name: "bridge", about: "two sides that only one node, the victim, connects", victims: "one", least: 3, cut: bridge},
	{name: "one-way", about: "packets from the victims to the others are lost, or (direction=in) those to them", victims: "one", least: 2, args: []string{"direction"}, cut: oneWay},
	{name: "one-way-data", about: "as one-way, but bare acknowledgements of TCP pass", victims: "one", kind: nodes.CutData, least: 2, args: []string{"direction"}, cut: oneWay},
	{name: "client", about: "clients are cut off from the leader, which its peers still reach", victims: "leader", least: 2, cut: clients},
}

// Name is "partition".
func (Partition) Name() string { return "partition" }

// About is the line of help.
func (Partition) About() string { return "cut the network, in a shape drawn from those below" }

// Kinds are those of all shapes.
func (Partition) Kinds() []nodes.EffectKind {
	return []nodes.EffectKind{nodes.Cut, nodes.CutData}
}

// Victims is "": each shape has its own rule, see [Fire].
func (Partition) Victims() string { return "" }

// Effects are those of the shape.
func (p Partition) Effects(i Injection) ([]nodes.Effect, error) {
	s, err := p.shape(i.Args, i.Pick, len(i.Members))
	if err != nil {
		return nil, err
	}
	i.Args = without(i.Args, "shape")
	return s.Effects(i)
}

// shape is the one that the arguments name, or one drawn of those that a cluster
// of n members can take.
func (Partition) shape(a Args, pick uint64, n int) (Shape, error) {
	if name, ok := a["shape"]; ok {
		var names []string
		for _, s := range shapes {
			if s.name == name {
				return s, nil
			}
			names = append(names, s.name)
		}
		return Shape{}, fmt.Errorf("args: shape: there is no %q; did you mean %q?", name, nearest(name, names))
	}
	fit := shapesFor(n)
	if len(fit) == 0 {
		return Shape{}, fmt.Errorf("a cluster of %d can't be partitioned", n)
	}
	return fit[draws(pick, saltShape).IntN(len(fit))], nil
}

// shapesFor lists the shapes that a cluster of n members can take.
func shapesFor(n int) []Shape {
	var out []Shape
	for _, s := range shapes {
		if n >= s.least {
			out = append(out, s)
		}
	}
	return out
}

// Name is the shape's name after "partition-".
func (s Shape) Name() string { return "partition-" + s.name }

// About is the line of help.
func (s Shape) About() string { return s.about }

// Kinds is cut, or cut-data.
func (s Shape) Kinds() []nodes.EffectKind {
	if s.kind == "" {
		return []nodes.EffectKind{nodes.Cut}
	}
	return []nodes.EffectKind{s.kind}
}

// Victims is the shape's own rule.
func (s Shape) Victims() string { return s.victims }

// Effects cuts every link of the shape, in order of From, then To.
func (s Shape) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only(s.args...); err != nil {
		return nil, err
	}
	if len(i.Members) < s.least {
		return nil, fmt.Errorf("%s needs at least %d nodes; there are %d", s.Name(), s.least, len(i.Members))
	}
	links, err := s.cut(i, draws(i.Pick, saltCut))
	if err != nil {
		return nil, err
	}
	if len(links) == 0 {
		return nil, fmt.Errorf("%s of %v cuts no link of %v", s.Name(), i.Victims, i.Members)
	}
	set := map[nodes.Link]bool{}
	for _, l := range links {
		set[l] = true
	}
	var out []nodes.Effect
	for _, l := range nodes.SortedLinks(set) {
		out = append(out, nodes.Effect{Kind: s.Kinds()[0], From: l.From, To: l.To})
	}
	return out, nil
}

// apart cuts both ways between the victims and the rest; each side stays whole.
func apart(i Injection, _ *rand.Rand) ([]nodes.Link, error) {
	return both(between(i.Victims, rest(i))), nil
}

// oneWay cuts from the victims to the rest, or the other way.
func oneWay(i Injection, r *rand.Rand) ([]nodes.Link, error) {
	direction, err := i.Args.oneOf("direction", "out", "in")
	if err != nil {
		return nil, err
	}
	if direction == "" {
		direction = []string{"out", "in"}[r.IntN(2)]
	}
	if direction == "in" {
		return between(rest(i), i.Victims), nil
	}
	return between(i.Victims, rest(i)), nil
}

// clients cuts the way from clients to the victims.
func clients(i Injection, _ *rand.Rand) ([]nodes.Link, error) {
	return between([]nodes.ID{nodes.Clients}, i.Victims), nil
}

// ring stands the members in a drawn circle and leaves each only as many
// neighbours on either side as make a majority with itself. Of three members
// that would be all, so one link is cut: then too each sees a majority of its own.
func ring(i Injection, r *rand.Rand) ([]nodes.Link, error) {
	circle := shuffled(r, i.Members)
	n := len(circle)
	reach := n / 4 // the least with 1+2*reach > n/2 ...
	if 1+2*reach <= n/2 {
		reach++ // ... rounded up
	}
	if n == 3 {
		return both(between(circle[:1], circle[1:2])), nil
	}
	var cut []nodes.Link
	for a := range n {
		for b := range n {
			if d := (a - b + n) % n; min(d, n-d) > reach {
				cut = append(cut, nodes.Link{From: circle[a], To: circle[b]})
			}
		}
	}
	return cut, nil
}

// bridge parts all but the first victim into two sides.
func bridge(i Injection, r *rand.Rand) ([]nodes.Link, error) {
	if len(i.Victims) != 1 {
		return nil, fmt.Errorf("victims: a bridge is one node, not %v", i.Victims)
	}
	sides := shuffled(r, rest(i))
	half := len(sides) / 2
	return both(between(sides[:half], sides[half:])), nil
}

// rest lists the members that are no victims.
func rest(i Injection) []nodes.ID {
	return slices.DeleteFunc(slices.Clone(i.Members), func(m nodes.ID) bool {
		return slices.Contains(i.Victims, m)
	})
}

// between lists the links from every one of a to every one of b.
func between(a, b []nodes.ID) []nodes.Link {
	var out []nodes.Link
	for _, from := range a {
		for _, to := range b {
			out = append(out, nodes.Link{From: from, To: to})
		}
	}
	return out
}

// both adds the way back to each link.
func both(links []nodes.Link) []nodes.Link {
	for _, l := range slices.Clone(links) {
		links = append(links, nodes.Link{From: l.To, To: l.From})
	}
	return links
}

func without(a Args, name string) Args {
	out := Args{}
	for _, k := range sortedKeys(a) {
		if k != name {
			out[k] = a[k]
		}
	}
	return out
}
