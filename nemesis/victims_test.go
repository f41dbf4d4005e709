package nemesis

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"chaos/nodes"
)

func TestRulesNameSoMany(t *testing.T) {
	for _, c := range []struct {
		rule string
		n    int
		want int // 0: refused
	}{
		{"one", 1, 1}, {"one", 5, 1}, {"half", 5, 2}, {"half", 4, 2}, {"half", 1, 0},
		{"minority", 3, 1}, {"minority", 5, 2}, {"minority", 4, 1}, {"minority", 2, 0},
		{"majority", 3, 2}, {"majority", 5, 3}, {"majority", 4, 3}, {"majority", 1, 1},
		{"all", 5, 5}, {"leader", 5, 1}, {"follower", 5, 1}, {"follower", 1, 0}, {"followers", 5, 4},
		{"leader-minority", 5, 2}, {"leader-minority", 3, 1}, {"leader-minority", 2, 0},
		{"follower-minority", 5, 2}, {"follower-minority", 4, 1}, {"follower-minority", 2, 0},
	} {
		for pick := range uint64(30) {
			got, err := Resolve(c.rule, pick, members(c.n), 1, nil)
			if len(got) != c.want || (err == nil) != (c.want > 0) || !slices.IsSorted(got) {
				t.Fatalf("%s of %d, pick %d: %v, %v; want %d", c.rule, c.n, pick, got, err, c.want)
			}
			again, _ := Resolve(c.rule, pick, members(c.n), 1, nil)
			if !slices.Equal(got, again) {
				t.Fatalf("%s of %d, pick %d: %v, then %v", c.rule, c.n, pick, got, again)
			}
		}
	}
}

func TestLeaderAndFollowers(t *testing.T) {
	for pick := range uint64(50) {
		if got, _ := Resolve("leader", pick, five(), 4, nil); got[0] != 4 {
			t.Fatalf("pick %d: leader n4, victim %v", pick, got)
		}
		if got, _ := Resolve("leader-minority", pick, five(), 4, nil); !slices.Contains(got, 4) {
			t.Fatalf("pick %d: leader n4, minority %v", pick, got)
		}
		for _, rule := range []string{"follower", "followers", "follower-minority"} {
			if got, _ := Resolve(rule, pick, five(), 4, nil); slices.Contains(got, 4) {
				t.Fatalf("pick %d: %s hits the leader: %v", pick, rule, got)
			}
		}
	}
}

func TestUnknownOrDeadLeaderIsDrawn(t *testing.T) {
	for _, c := range []struct {
		leader nodes.ID
		down   []nodes.ID
	}{{0, nil}, {9, nil}, {2, []nodes.ID{2}}} {
		seen := map[nodes.ID]bool{}
		for pick := range uint64(100) {
			got, err := Resolve("leader", pick, five(), c.leader, c.down)
			if err != nil || len(got) != 1 || slices.Contains(c.down, got[0]) {
				t.Fatalf("leader %v, down %v, pick %d: %v, %v", c.leader, c.down, pick, got, err)
			}
			seen[got[0]] = true
		}
		if len(seen) != 5-len(c.down) {
			t.Errorf("leader %v, down %v: drew only %d members", c.leader, c.down, len(seen))
		}
	}
}

func TestDrawsPreferNodesThatAreUp(t *testing.T) {
	for pick := range uint64(50) {
		got, _ := Resolve("majority", pick, five(), 1, []nodes.ID{2, 5})
		if fmt.Sprint(got) != "[n1 n3 n4]" {
			t.Fatalf("pick %d: n2 and n5 are down, victims %v", pick, got)
		}
		if got, _ := Resolve("one", pick, five(), 1, five()); len(got) != 1 {
			t.Fatalf("pick %d: all down: %v", pick, got)
		}
	}
}

func TestListedVictims(t *testing.T) {
	got, err := Resolve("n3, n1", 0, five(), 0, nil)
	if err != nil || fmt.Sprint(got) != "[n1 n3]" {
		t.Errorf("n3, n1: %v, %v", got, err)
	}
	for rule, want := range map[string]string{"n9": "not a member", "n1,n1": "twice", "leaders": `"leader"`, "": "no rule", "n0": "no rule", "-": "not a member"} {
		if _, err := Resolve(rule, 0, five(), 0, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q in it", rule, err, want)
		}
	}
}
