package nodes

import (
	"context"
	"time"
)

// Links is the network as one thing that can be hurt: by an agent in front of
// every node, or by a relay between all of them.
type Links interface {
	// Set brings every link to what is wanted. A link that is not named is well.
	// It returns when the new state is in force.
	Set(ctx context.Context, wanted map[Link]LinkState) error
	// Probe sends something of its own along each of the links and tells what
	// became of it, in the order asked. It judges nothing. It takes as long as
	// what it sent needs to arrive or to be counted as dropped, and is bounded.
	Probe(ctx context.Context, links []Link) ([]Observation, error)
}

// An Observation is what became of one probe of one link.
type Observation struct {
	Link    Link
	Passed  bool          // the probe arrived
	Took    time.Duration // on its one way, where it passed: how long the link held it back
	Dropped uint64        // how much the link's own counter of drops grew by this probe
	How     string        // what was read, in words: "probe lost, drop counter 3→4"
}
