package linearizability

import (
	"cmp"
	"slices"

	"chaos/history"
	"chaos/workload"
)

const (
	// bridgeDepth is how many open operations may be placed at one gap of a proposed order.
	bridgeDepth = 3
	// bridgeTries bounds the steps spent on one gap.
	bridgeTries = 2000
)

// witness tells whether the order that the log indices propose explains the
// operations. The indices come from the suspect, so the order is verified
// against real time and model: true is a proof, false proves nothing.
func witness(m workload.Model, ops []operation) bool {
	order := propose(m, ops)
	return order != nil && explains(m, ops, order)
}

// explains verifies an order, given as indices into ops: it holds each
// operation once, none before one that had returned when it was invoked, and
// each step is legal.
func explains(m workload.Model, ops []operation, order []int) bool {
	if len(order) != len(ops) {
		return false
	}
	placed := make([]bool, len(ops))
	earliest := never // return of all that stand later
	for i := len(order) - 1; i >= 0; i-- {
		at := order[i]
		if placed[at] || ops[at].invoke > earliest {
			return false
		}
		placed[at] = true
		earliest = min(earliest, ops[at].ret)
	}
	state := m.Init
	for _, at := range order {
		ok, next := m.Step(state, ops[at].call)
		if !ok {
			return false
		}
		state = next
	}
	return true
}

// propose orders the answered operations as the claimed log indices say, and
// puts open ones where an answer needs them, the rest at the end. It returns
// nil where it finds no order.
func propose(m workload.Model, ops []operation) []int {
	ranks := claim(ops)
	var known, open []int
	for i := range ops {
		if ranks[i].at > 0 {
			known = append(known, i)
		} else {
			open = append(open, i)
		}
	}
	slices.SortFunc(known, func(a, b int) int { return ranks[a].compare(ranks[b]) })
	state, order := m.Init, make([]int, 0, len(ops))
	for _, i := range known {
		ok, next := m.Step(state, ops[i].call)
		if !ok {
			b := bridge{m: m, ops: ops, open: open, target: i, tries: bridgeTries}
			if !b.find(state, bridgeDepth) {
				return nil
			}
			order = append(order, b.path...)
			open = slices.DeleteFunc(open, func(p int) bool { return slices.Contains(b.path, p) })
			next = b.after
		}
		state, order = next, append(order, i)
	}
	return append(order, open...)
}

// A rank is a place in the proposed order.
type rank struct {
	at    uint64 // 0: none
	class int    // at equal at: an open append before its successor, then mutations, then reads
	tie   int
}

func (r rank) compare(s rank) int {
	return cmp.Or(cmp.Compare(r.at, s.at), cmp.Compare(r.class, s.class), cmp.Compare(r.tie, s.tie))
}

// claim gives each answered operation its rank: the log index, or, where a
// system tells none, the order of completion. Reads carry the index they were
// served at, so they follow the mutation of that index.
func claim(ops []operation) []rank {
	indexed := true
	for _, o := range ops {
		indexed = indexed && (o.at > 0 || o.ret == never)
	}
	ranks := make([]rank, len(ops))
	for i, o := range ops {
		switch {
		case o.ret == never:
		case !indexed:
			ranks[i] = rank{at: uint64(o.ret) + 1}
		case o.call.F == history.Read:
			ranks[i] = rank{at: o.at, class: 2, tie: o.invoke}
		default:
			ranks[i] = rank{at: o.at, class: 1, tie: o.invoke}
		}
	}
	placeAppends(ops, ranks)
	return ranks
}

// placeAppends ranks open appends before the element that follows theirs in
// the longest list that was read.
func placeAppends(ops []operation, ranks []rank) {
	var longest []int64
	appender := make(map[int64]int)
	for i, o := range ops {
		if o.call.F == history.Append {
			appender[o.call.Arg.Number] = i
		}
		if o.call.F == history.Read && len(o.call.Out.List) > len(longest) {
			longest = o.call.Out.List
		}
	}
	seen := firstSeen(ops)
	next := uint64(0)
	for place := len(longest) - 1; place >= 0; place-- {
		i, ok := appender[longest[place]]
		if !ok {
			continue
		}
		if ranks[i].at == 0 {
			at := next
			if s := seen[longest[place]]; s > 0 && (at == 0 || s < at) {
				at = s
			}
			if at == 0 {
				continue
			}
			ranks[i] = rank{at: at, class: 0, tie: place}
		}
		next = ranks[i].at
	}
}

// firstSeen is the lowest index at which a read showed an element: an open append
// of it stands before that, and not only before the next append.
func firstSeen(ops []operation) map[int64]uint64 {
	seen := make(map[int64]uint64)
	for _, o := range ops {
		if o.call.F != history.Read || o.at == 0 {
			continue
		}
		for _, e := range o.call.Out.List {
			if at, ok := seen[e]; !ok || o.at < at {
				seen[e] = o.at
			}
		}
	}
	return seen
}

// A bridge looks for open operations that make a target legal.
type bridge struct {
	m      workload.Model
	ops    []operation
	open   []int
	target int
	tries  int
	path   []int
	after  workload.State // behind the target
}

func (b *bridge) find(s workload.State, depth int) bool {
	if b.tries--; b.tries < 0 {
		return false
	}
	if ok, after := b.m.Step(s, b.ops[b.target].call); ok {
		b.after = after
		return true
	}
	if depth == 0 {
		return false
	}
	for _, p := range b.open {
		if b.ops[p].invoke > b.ops[b.target].ret || slices.Contains(b.path, p) {
			continue
		}
		ok, next := b.m.Step(s, b.ops[p].call)
		if !ok {
			continue
		}
		b.path = append(b.path, p)
		if b.find(next, depth-1) {
			return true
		}
		b.path = b.path[:len(b.path)-1]
	}
	return false
}
