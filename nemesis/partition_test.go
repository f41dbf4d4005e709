package nemesis

import (
	"fmt"
	"slices"
	"testing"

	"chaos/nodes"
)

// sees lists, for each member, whom it reaches both ways, itself included.
func sees(all []nodes.ID, effects []nodes.Effect) [][]nodes.ID {
	cut := map[nodes.Link]bool{}
	for _, e := range effects {
		cut[nodes.Link{From: e.From, To: e.To}] = true
	}
	var out [][]nodes.ID
	for _, a := range all {
		var row []nodes.ID
		for _, b := range all {
			if !cut[nodes.Link{From: a, To: b}] && !cut[nodes.Link{From: b, To: a}] {
				row = append(row, b)
			}
		}
		out = append(out, row)
	}
	return out
}

func TestRingGivesEachAMajorityOfItsOwn(t *testing.T) {
	for n := 3; n <= 13; n++ {
		for pick := range uint64(20) {
			_, effects := fire(t, Step{Fault: "partition-ring", Pick: pick}, members(n), 0)
			views := sees(members(n), effects)
			seen := map[string]bool{}
			for i, v := range views {
				if len(v) <= n/2 {
					t.Errorf("%d nodes, pick %d: n%d sees only %v", n, pick, i+1, v)
				}
				if seen[fmt.Sprint(v)] {
					t.Errorf("%d nodes, pick %d: two see the same %v", n, pick, v)
				}
				seen[fmt.Sprint(v)] = true
			}
		}
	}
}

func TestHalvesAndMinorityStayWholeInside(t *testing.T) {
	for _, c := range []struct {
		shape string
		n     int
		away  int
	}{{"halves", 5, 2}, {"halves", 4, 2}, {"minority", 5, 2}, {"minority", 4, 1}, {"one", 5, 1}, {"leader", 3, 1}} {
		i, effects := fire(t, Step{Fault: "partition-" + c.shape, Pick: 7}, members(c.n), 1)
		if len(i.Victims) != c.away || len(effects) != 2*c.away*(c.n-c.away) {
			t.Errorf("%s of %d: victims %v, %d links", c.shape, c.n, i.Victims, len(effects))
		}
		for k, v := range sees(members(c.n), effects) {
			want := c.n - c.away
			if slices.Contains(i.Victims, nodes.ID(k+1)) {
				want = c.away
			}
			if len(v) != want {
				t.Errorf("%s of %d: n%d sees %v", c.shape, c.n, k+1, v)
			}
		}
	}
}

func TestLeaderIsIsolated(t *testing.T) {
	_, effects := fire(t, Step{Fault: "partition-leader"}, members(3), 2)
	if got := words(effects); got != "n1→n2 cut, n2→n1 cut, n2→n3 cut, n3→n2 cut" {
		t.Errorf("effects: %s", got)
	}
}

func TestBridgeConnectsTwoSides(t *testing.T) {
	_, effects := fire(t, Step{Fault: "partition-bridge", Victims: "n3", Pick: 3}, five(), 0)
	views := sees(five(), effects)
	for k, v := range views {
		if want := map[bool]int{true: 5, false: 3}[k == 2]; len(v) != want {
			t.Errorf("n%d sees %v", k+1, v)
		}
	}
	if _, _, err := Fire(Step{Fault: "partition-bridge", Victims: "all"}, five(), 0, nil); err == nil {
		t.Error("a bridge of all nodes is not refused")
	}
}

func TestOneWay(t *testing.T) {
	for _, c := range []struct{ fault, direction, want string }{
		{"partition-one-way", "out", "n2→n1 cut, n2→n3 cut"},
		{"partition-one-way", "in", "n1→n2 cut, n3→n2 cut"},
		{"partition-one-way-data", "out", "n2→n1 cut-data, n2→n3 cut-data"},
	} {
		_, effects := fire(t, Step{Fault: c.fault, Victims: "n2", Args: Args{"direction": c.direction}}, members(3), 0)
		if got := words(effects); got != c.want {
			t.Errorf("%s %s: %s; want %s", c.fault, c.direction, got, c.want)
		}
	}
	both := map[string]bool{}
	for pick := range uint64(20) {
		_, effects := fire(t, Step{Fault: "partition-one-way", Victims: "n2", Pick: pick}, members(3), 0)
		both[words(effects)] = true
	}
	if len(both) != 2 {
		t.Errorf("20 picks drew %d directions, not both", len(both))
	}
	if _, _, err := Fire(Step{Fault: "partition-one-way", Args: Args{"direction": "up"}}, five(), 0, nil); err == nil {
		t.Error("a wrong direction is not refused")
	}
}

func TestClientsAreCutFromTheLeaderOnly(t *testing.T) {
	_, effects := fire(t, Step{Fault: "partition-client"}, five(), 4)
	if got := words(effects); got != "clients→n4 cut" {
		t.Errorf("effects: %s", got)
	}
}

func TestPartitionDrawsEveryShapeThatFits(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		seen := map[string]bool{}
		for pick := range uint64(300) {
			i, _ := fire(t, Step{Fault: "partition", Pick: pick}, members(n), 1)
			seen[i.Fault] = true
		}
		if len(seen) != len(shapesFor(n)) {
			t.Errorf("%d nodes: 300 picks drew %d shapes of %d", n, len(seen), len(shapesFor(n)))
		}
	}
	i, _ := fire(t, Step{Fault: "partition", Args: Args{"shape": "halves"}}, five(), 0)
	if i.Fault != "partition-halves" || len(i.Victims) != 2 {
		t.Errorf("the shape asked for became %+v", i)
	}
	if _, _, err := Fire(Step{Fault: "partition", Args: Args{"shape": "rings"}}, five(), 0, nil); err == nil {
		t.Error("a wrong shape is not refused")
	}
}

func TestTooFewForAShape(t *testing.T) {
	for _, s := range shapes {
		if _, _, err := Fire(Step{Fault: s.Name()}, members(s.least-1), 0, nil); err == nil {
			t.Errorf("%s of %d nodes is not refused", s.Name(), s.least-1)
		}
		fire(t, Step{Fault: s.Name()}, members(s.least), 1)
	}
	if _, _, err := Fire(Step{Fault: "partition-one", Victims: "all"}, five(), 0, nil); err == nil {
		t.Error("a partition that cuts nothing is not refused")
	}
}
