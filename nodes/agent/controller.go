package agent

import (
	"context"
	"io"
	"time"

	"chaos/nodes"
)

// A Hello introduces a controller to an agent. It is the first line of a stream.
type Hello struct {
	Version int            `json:"version"` // filled in by Connect
	Key     string         `json:"key,omitempty"`
	Run     string         `json:"run"`   // names the firewall's table, chaos_<run>: letters, digits and _ only
	Lease   time.Duration  `json:"lease"` // how long everything lives without a beat
	Self    nodes.Member   `json:"self"`
	View    []nodes.Member `json:"view"`            // all members as this host sees them
	Clients []string       `json:"clients"`         // addresses that clients come from, as this host sees them
	Probe   int            `json:"probe,omitempty"` // UDP port of probes, on every host; 0: no probes of links here
}

// A Controller is the other end of one agent's stream. Its calls may be made
// from many goroutines; each ends at the latest with its ctx or with the agent.
type Controller struct{ *controller }

// Connect says hello and beats from then on, every quarter of the lease. A
// refused hello is an error. The stream belongs to the Controller from now on.
func Connect(ctx context.Context, stream io.ReadWriteCloser, h Hello) (*Controller, error) {
	c, err := connect(ctx, stream, h)
	if err != nil {
		return nil, err
	}
	return &Controller{c}, nil
}
