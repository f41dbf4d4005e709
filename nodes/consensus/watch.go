package consensus

import "fmt"

// A Watch looks at all cores of one cluster from the side and holds them to the
// properties that their papers promise. It stands beside the core that it
// knows (raft.Check, paxos.Check), reads its private state and never changes
// it. A simulation calls it; a live cluster can't, because no node sees another.
type Watch interface {
	// Started is called when a node begins an incarnation: its core is restored
	// from what its disk kept. What it had told anybody must still be there.
	Started(id ID) error
	// Stepped is called after every input that the node's core was fed.
	Stepped(id ID) error
	// Flushed is called when an Output was carried out whole: what it said is
	// durable, and others may know it.
	Flushed(id ID) error
	// Moments are all moments that the Watch knows, in a fixed order, with how
	// often each was seen.
	Moments() []Moment
}

// A Breach is a promise that was broken, as a Watch tells it.
type Breach struct {
	Invariant string // its name, as in "log-matching"
	Node      ID     // where it was seen
	Detail    string // one sentence with the numbers
}

// Error reads "log-matching broken at n2: …".
func (b *Breach) Error() string {
	return fmt.Sprintf("%s broken at %s: %s", b.Invariant, b.Node, b.Detail)
}

// A Moment is a rare situation of the protocol that a good batch of simulations
// reaches: "split vote", "log truncated".
type Moment struct {
	Name string `json:"name"`
	Seen uint64 `json:"seen"`
}
