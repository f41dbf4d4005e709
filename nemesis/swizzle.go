package nemesis

import (
	"slices"
	"strconv"
	"time"

	"chaos/nodes"
)

// Swizzle cuts one victim off from all other nodes. Drawn into a schedule it is
// a compound: the members of a random subset are cut off one by one, and mended
// in another order, so that the cluster meets a row of partitions that nobody
// would think of.
type Swizzle struct{}

// swizzleLeast is how many members it takes for a subset to have an order and
// to leave somebody out.
const swizzleLeast = 3

// Name is "swizzle".
func (Swizzle) Name() string { return "swizzle" }

// About is the line of help.
func (Swizzle) About() string {
	return "cut the links of a random subset one by one, mend them in another order"
}

// Kinds is cut.
func (Swizzle) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Cut} }

// Victims is one.
func (Swizzle) Victims() string { return "one" }

// Effects cuts every link between a victim and another node.
func (Swizzle) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only(); err != nil {
		return nil, err
	}
	return onLinks(i, nodes.Effect{Kind: nodes.Cut})
}

// swizzle draws the steps of one, and how long they last.
func (d *drawer) swizzle() (steps []Step, length time.Duration) {
	members := d.r.Perm(d.o.Nodes)
	members = members[:2+d.r.IntN(d.o.Nodes-2)]
	count := len(members)
	gap := d.election/4 + d.upTo(d.election/2)
	length = min(d.budget, d.window()+2*time.Duration(count-1)*gap)
	gap = min(gap, length/time.Duration(3*count))
	d.next++
	recipe := Swizzle{}.Name() + "/of-" + strconv.Itoa(d.next) // until number names it
	var ids []string
	for k, m := range members {
		d.next++
		ids = append(ids, strconv.Itoa(d.next))
		steps = append(steps, Step{ID: ids[k], At: time.Duration(k) * gap, Action: Inject, Recipe: recipe,
			Fault: Swizzle{}.Name(), Victims: nodes.ID(m + 1).String(), Pick: d.pick()})
	}
	for k, n := range d.otherOrder(count) {
		steps = append(steps, Step{ID: ids[n], At: length - time.Duration(count-1-k)*gap, Action: Heal, Recipe: recipe})
	}
	return steps, length
}

// otherOrder draws a permutation that is not the one that changes nothing.
func (d *drawer) otherOrder(n int) []int {
	order := d.r.Perm(n)
	if slices.IsSorted(order) {
		slices.Reverse(order)
	}
	return order
}
