package nodes

import (
	"context"
	"fmt"
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
	Train   Train         // where the state of the link needs more than one probe
	Was     LinkState     // the weather before the present state, as long as nobody has seen that it is gone
}

// A Train is what became of many probes of one link, sent one after the other.
// Its zero value says that there was none.
type Train struct {
	Sent    int           `json:"sent"`              // that count
	Arrived int           `json:"arrived"`           // of them, each counted once
	Doubled int           `json:"doubled,omitempty"` // arrivals beyond the first of each
	Late    int           `json:"late,omitempty"`    // arrived after one that was sent later
	Refused int           `json:"refused,omitempty"` // found the link's queue full, where its rate is limited
	Busy    int           `json:"busy,omitempty"`    // passed the link, but the machine was too busy to read them
	Bytes   int64         `json:"bytes,omitempty"`   // that arrived, as the link counts them
	Load    int64         `json:"load,omitempty"`    // all bytes that the link took from the first probe to the last
	Ahead   int64         `json:"ahead,omitempty"`   // bytes that waited there when the first probe came
	Span    time.Duration `json:"span,omitempty"`    // from the first's coming to the link until the last arrived
}

// String reads "of 200 probes 181 arrived, 3 doubled, 20 late, in 48ms".
func (t Train) String() string {
	s := fmt.Sprintf("of %d probes %d arrived", t.Sent, t.Arrived)
	for _, c := range []struct {
		count int
		what  string
	}{{t.Doubled, "doubled"}, {t.Late, "late"}, {t.Refused, "refused"}, {t.Busy, "not read in time"}} {
		if c.count > 0 {
			s += fmt.Sprintf(", %d %s", c.count, c.what)
		}
	}
	return s + fmt.Sprintf(", in %s", t.Span.Round(100*time.Microsecond))
}
