package nemesis

import (
	"fmt"
	"testing"

	"chaos/nodes"
)

func TestQuorum(t *testing.T) {
	node := func(k nodes.EffectKind, ids ...nodes.ID) (out []nodes.Effect) {
		for _, id := range ids {
			out = append(out, nodes.Effect{Kind: k, Node: id})
		}
		return out
	}
	link := func(k nodes.EffectKind, from, to nodes.ID) nodes.Effect {
		return nodes.Effect{Kind: k, From: from, To: to}
	}
	shape := func(name, victims string) []nodes.Effect {
		_, e := fire(t, Step{Fault: "partition-" + name, Victims: victims, Pick: 1}, five(), 1)
		return e
	}
	for _, c := range []struct {
		name     string
		n        int
		effects  []nodes.Effect
		quorum   bool
		majority string
	}{
		{"well", 5, nil, true, "[n1 n2 n3 n4 n5]"},
		{"minority down", 5, node(nodes.Down, 1, 2), true, "[n3 n4 n5]"},
		{"majority down", 5, node(nodes.Down, 1, 2, 3), false, "[n4 n5]"},
		{"down and frozen", 3, append(node(nodes.Down, 1), node(nodes.Frozen, 2)...), false, "[n3]"},
		{"all down", 3, node(nodes.Down, 1, 2, 3), false, "[]"},
		{"leader isolated", 5, shape("leader", ""), true, "[n2 n3 n4 n5]"},
		{"halves", 5, shape("halves", "n1,n2"), true, "[n3 n4 n5]"},
		{"isolated, and one of the rest down", 3, append(shape("one", "n1"), node(nodes.Down, 2)...), false, "[n1]"},
		{"one way is no connection", 3, []nodes.Effect{link(nodes.Cut, 1, 2), link(nodes.CutData, 3, 1)}, true, "[n2 n3]"},
		{"reset", 2, []nodes.Effect{link(nodes.Reset, 1, 2)}, false, "[n1]"},
		{"delays part nobody", 3, []nodes.Effect{link(nodes.Delayed, 1, 2)}, true, "[n1 n2 n3]"},
		{"clients don't count", 3, []nodes.Effect{link(nodes.Cut, nodes.Clients, 1)}, true, "[n1 n2 n3]"},
		{"bridge", 5, shape("bridge", "n3"), true, ""},
		{"even split", 4, []nodes.Effect{link(nodes.Cut, 1, 3), link(nodes.Cut, 1, 4), link(nodes.Cut, 2, 3), link(nodes.Cut, 2, 4)}, false, "[n1 n2]"},
	} {
		if got := Quorum(members(c.n), c.effects); got != c.quorum {
			t.Errorf("%s: quorum %v", c.name, got)
		}
		if got := fmt.Sprint(Majority(members(c.n), c.effects)); c.majority != "" && got != c.majority {
			t.Errorf("%s: %s; want %s", c.name, got, c.majority)
		}
	}
}
