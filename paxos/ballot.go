package paxos

import (
	"cmp"
	"fmt"

	"chaos/nodes/consensus"
)

// A Ballot is the paper's proposal number. Ballots are totally ordered, first
// by Round and then by Node, and no two proposers ever use the same one, since
// each puts its own name in ("Paxos Made Simple", section 2.5). The zero Ballot
// lies below every other and is used by nobody.
type Ballot struct {
	Round uint64
	Node  consensus.ID
}

// Compare tells how b stands to o: -1 below, 0 equal, 1 above.
func (b Ballot) Compare(o Ballot) int {
	return cmp.Or(cmp.Compare(b.Round, o.Round), cmp.Compare(b.Node, o.Node))
}

// Less tells whether b lies below o.
func (b Ballot) Less(o Ballot) bool { return b.Compare(o) < 0 }

// IsZero tells whether b is no ballot at all.
func (b Ballot) IsZero() bool { return b == Ballot{} }

// String writes a ballot as people see it: "3.n1", or "-" for none.
func (b Ballot) String() string {
	if b.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%d.%s", b.Round, b.Node)
}

// highest is the higher of two ballots.
func highest(a, b Ballot) Ballot {
	if a.Less(b) {
		return b
	}
	return a
}

// votes is a set of voters, one bit for the place of each in the configuration.
type votes uint64

// votersMax bounds a configuration: a set of voters is one machine word.
const votersMax = 64

// count is how many voters are in the set.
func (v votes) count() int {
	n := 0
	for ; v != 0; v &= v - 1 {
		n++
	}
	return n
}
