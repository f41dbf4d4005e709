package nemesis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"chaos/nodes"
)

// The rules that name victims, beside lists of members like "n1,n3".
var rules = []string{"one", "half", "minority", "majority", "all", "leader", "follower", "followers",
	"leader-minority", "follower-minority"}

// Resolve turns a rule into members, ascending; equal arguments give equal victims.
//
//	one         one member
//	half        half of the members, rounded down
//	minority    as many as leave a majority: (n-1)/2
//	majority    as few as are one: n/2+1
//	all         every member
//	leader      the leader; where it is unknown or down, a drawn member
//	follower    one member that is not the leader
//	followers   every member but the leader; where it is unknown, a drawn one is spared
//	leader-minority    the leader, and others to make a minority
//	follower-minority  a minority without the leader
//	n1,n3       these
//
// Draws take members that are up before those in down: hurting a node that
// is away already shows nothing.
func Resolve(rule string, pick uint64, members []nodes.ID, leader nodes.ID, down []nodes.ID) ([]nodes.ID, error) {
	n := len(members)
	if n == 0 {
		return nil, fmt.Errorf("victims: %q of no members", rule)
	}
	order := upFirst(shuffled(draws(pick, saltVictims), members), down)
	if !slices.Contains(members, leader) || slices.Contains(down, leader) {
		leader = order[0]
	}
	others := slices.DeleteFunc(slices.Clone(order), func(m nodes.ID) bool { return m == leader })
	var out []nodes.ID
	switch rule {
	case "one":
		out = order[:1]
	case "half":
		out = order[:n/2]
	case "minority":
		out = order[:(n-1)/2]
	case "majority":
		out = order[:n/2+1]
	case "all":
		out = order
	case "leader":
		out = []nodes.ID{leader}
	case "follower":
		out = others[:min(1, len(others))]
	case "followers":
		out = others
	case "leader-minority":
		out = append([]nodes.ID{leader}, others...)[:(n-1)/2]
	case "follower-minority":
		out = others[:(n-1)/2]
	default:
		return listed(rule, members)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("victims: %q of %d is nobody", rule, n)
	}
	return slices.Sorted(slices.Values(out)), nil
}

// listed reads "n1,n3".
func listed(rule string, members []nodes.ID) ([]nodes.ID, error) {
	var out []nodes.ID
	for _, name := range strings.Split(rule, ",") {
		id, err := nodes.ParseID(strings.TrimSpace(name))
		if err != nil {
			return nil, fmt.Errorf("victims: there is no rule %q; did you mean %q? There are %s, or members like n1,n3",
				rule, nearest(rule, rules), strings.Join(rules, ", "))
		}
		if !slices.Contains(members, id) {
			return nil, fmt.Errorf("victims: %s is not a member; members are %v", id, members)
		}
		if slices.Contains(out, id) {
			return nil, fmt.Errorf("victims: %s stands twice in %q", id, rule)
		}
		out = append(out, id)
	}
	slices.Sort(out)
	return out, nil
}

// upFirst moves the members that are down behind the others; else order stays.
func upFirst(order, down []nodes.ID) []nodes.ID {
	slices.SortStableFunc(order, func(a, b nodes.ID) int {
		return away(a, down) - away(b, down)
	})
	return order
}

func away(id nodes.ID, down []nodes.ID) int {
	if slices.Contains(down, id) {
		return 1
	}
	return 0
}

// Each use of a Pick draws from a stream of its own, so that a change to one
// does not change the others.
const (
	saltVictims = 1 + iota
	saltShape
	saltCut
	saltSlow
	saltProfile
	saltPlace
)

func draws(pick, salt uint64) *rand.Rand { return rand.New(rand.NewPCG(pick, salt)) }

func shuffled(r *rand.Rand, ids []nodes.ID) []nodes.ID {
	out := slices.Clone(ids)
	r.Shuffle(len(out), func(a, b int) { out[a], out[b] = out[b], out[a] })
	return out
}
