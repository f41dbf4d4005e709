package nemesis

import (
	"slices"

	"chaos/nodes"
)

// A link that loses so many packets of a thousand counts as parted: every other
// exchange over it then has to be repeated.
const lostParts = 300

// Majority is the largest set of members that are up, not frozen, and all
// connected with each other both ways under the sum of the effects; of equal
// ones the first. Delays don't part nodes, nor does weather, unless a link loses
// so much in sum that hardly a connection opens. Links of clients don't count.
//
// It asks for more than an algorithm may need: under a ring a leader may still
// reach a majority that can't reach each other. So what it calls able is able.
func Majority(members []nodes.ID, effects []nodes.Effect) []nodes.ID {
	bad := map[nodes.Link]bool{}
	sick := map[nodes.ID]bool{}
	lost := map[nodes.Link]int{}
	for _, e := range effects {
		switch e.Kind {
		case nodes.Down, nodes.Frozen, nodes.MachineDown, nodes.MachineFrozen, nodes.DiskFails, nodes.Damaged:
			sick[e.Node] = true
		case nodes.Cut, nodes.CutData, nodes.Reset:
			bad[nodes.Link{From: e.From, To: e.To}] = true
			bad[nodes.Link{From: e.To, To: e.From}] = true
		case nodes.Lossy:
			l := nodes.Link{From: e.From, To: e.To}
			if lost[l] += e.PerMille; lost[l] >= lostParts {
				bad[l], bad[nodes.Link{From: e.To, To: e.From}] = true, true
			}
		}
	}
	well := slices.DeleteFunc(slices.Clone(members), func(m nodes.ID) bool { return sick[m] })
	var best []nodes.ID
	grow(nil, well, bad, &best)
	return best
}

// grow tries every connected set that adds some of the candidates, in order, to
// set, and leaves out what can't become larger than the best.
func grow(set, candidates []nodes.ID, bad map[nodes.Link]bool, best *[]nodes.ID) {
	if len(set) > len(*best) {
		*best = slices.Clone(set)
	}
	for i, c := range candidates {
		if len(set)+len(candidates)-i <= len(*best) {
			return
		}
		var next []nodes.ID
		for _, d := range candidates[i+1:] {
			if !bad[nodes.Link{From: c, To: d}] {
				next = append(next, d)
			}
		}
		grow(append(slices.Clone(set), c), next, bad, best)
	}
}

// Quorum tells whether more than half of the members are up, not frozen, and
// connected with each other; see [Majority].
func Quorum(members []nodes.ID, effects []nodes.Effect) bool {
	return len(Majority(members, effects)) > len(members)/2
}
