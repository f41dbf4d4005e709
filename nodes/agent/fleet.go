package agent

import (
	"context"
	"io"
	"net"

	"chaos/nodes"
)

// A Host is one place with one agent and one node.
type Host struct {
	Self nodes.Member   // as the controller and the clients see it
	View []nodes.Member // every member, itself included, as this host sees it
	Dir  string         // the node's folder as this host sees it; "": nodes/<id> in the run's folder
	// Clients are the addresses that clients come from, as this host sees them;
	// none: links of clients can't be hurt here.
	Clients []string
	// Open opens a stream to the host's agent, a new one if the last is gone.
	Open func(ctx context.Context) (io.ReadWriteCloser, error)
	// Adapt, where set, changes how the node is started here: the path of the program.
	Adapt func(nodes.Exec) nodes.Exec
}

// FleetOptions say what a Fleet consists of.
type FleetOptions struct {
	System  nodes.System
	Options nodes.Options
	Hosts   []Host      // in order of their members' IDs
	Links   nodes.Links // nil: the agents' own firewalls
	// Key is what the agents want to see; "" where their streams are proof enough.
	Key string
	// ProbePort is the UDP port for probes of links on every host; 0: the default.
	ProbePort int
	// Dial connects as a client of the run does.
	Dial nodes.DialFunc
	// Stop, where set, is called last by Close: it takes the hosts away.
	Stop func(ctx context.Context) error
}

// A Fleet is a [nodes.Cluster] made of one agent for each node. It holds what
// is wanted, brings every agent to it (one that was lost and came back, too),
// and collects the evidence.
type Fleet struct{ *fleet }

var _ nodes.Cluster = (*Fleet)(nil)

// NewFleet opens every agent and starts every node. It returns when all
// processes run; on an error nothing is left running.
func NewFleet(ctx context.Context, o FleetOptions) (*Fleet, error) {
	f, err := newFleet(ctx, o)
	if err != nil {
		return nil, err
	}
	return &Fleet{f}, nil
}

// Members are the nodes as the controller sees them.
func (f *Fleet) Members() []nodes.Member { return f.members() }

// Dial connects to one port of a node as a client of the run does.
func (f *Fleet) Dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	return f.o.Dial(ctx, m, p)
}

// Apply adds the effects under the injection's name, and proves that they hold.
func (f *Fleet) Apply(ctx context.Context, injection string, effects []nodes.Effect) (nodes.Evidence, error) {
	return f.apply(ctx, injection, effects)
}

// Verify proves again that the injection's effects hold, and held since Apply.
func (f *Fleet) Verify(ctx context.Context, injection string) (nodes.Evidence, error) {
	return f.verify(ctx, injection)
}

// Revert takes the injection away, and proves that what no other one wants is gone.
func (f *Fleet) Revert(ctx context.Context, injection string) (nodes.Evidence, error) {
	return f.revert(ctx, injection)
}

// Incidents delivers what happened that nobody asked for. It is closed by
// Close. At most 1024 wait to be read; what comes on top is only logged.
func (f *Fleet) Incidents() <-chan nodes.Incident { return f.incidents }

// Close heals everything, stops every node and ends the agents.
func (f *Fleet) Close(ctx context.Context) error { return f.close(ctx) }
