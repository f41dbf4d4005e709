// Package agent is the hands of chaos on a host: it starts one node, kills,
// stops and restarts it, drops or delays what comes from its peers, proves what
// it did, and undoes all of it when its controller goes silent.
//
// An agent speaks JSON lines over one duplex stream and knows nothing of where
// it runs: beside the harness, in a network namespace, in a container, behind
// SSH. On the other end a [Controller] talks to one agent, and a [Fleet] keeps
// the agents of a whole cluster at what is wanted.
package agent

import (
	"context"
	"io"
	"sync"

	"chaos/nodes"
)

// ServeOptions are the settings of one agent.
type ServeOptions struct {
	// Key is what the controller must show in its hello. It is needed where the
	// stream is a socket; "" where having the stream is proof enough.
	Key string
	// Sole, where set, is held while a controller is served; another one is
	// refused meanwhile. A listener hands the same one to every Serve.
	Sole *sync.Mutex
	// Seed feeds the jitter of delays. Zero is a seed like any other.
	Seed uint64
	// Log takes one line for the person who watches; may be nil.
	Log func(string)

	vacancy *vacancy // of the door that the controller came through; nil: none
}

// Serve is one agent's life: it obeys the controller at the other end of the
// stream until the stream ends, ctx ends, or no beat came within the lease.
// Then it heals everything, kills the node's process group, closes the stream
// and returns: nil after a farewell or the stream's end, else why.
func Serve(ctx context.Context, stream io.ReadWriteCloser, o ServeOptions) error {
	return serve(ctx, stream, o)
}

// Probe tries what an agent could do in the current network namespace: for
// each kind of effect nil, or why not and the remedy. It leaves nothing behind.
func Probe(ctx context.Context) map[nodes.EffectKind]error { return probe(ctx) }
