package sim

import (
	"fmt"

	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
	"chaos/nodes/replica"
)

// A System makes the nodes of one of our own systems, and the watch that looks
// at all of them.
type System interface {
	Name() string
	// crew makes what one world needs: the messages under way, and the watch.
	crew(w *World) crew
}

// A crew keeps what depends on the types of a system's messages and records.
type crew interface {
	// start makes the node of a host from what its disk holds.
	start(h *host, o consensus.Options) (node, error)
	// drop forgets a message that never arrives.
	drop(slot int32)
	// double copies a message under way.
	double(slot int32) int32
	// size is the bytes of a message on the wire.
	size(slot int32) int
	// describe writes a message for people.
	describe(slot int32) string
	watch() consensus.Watch
}

// A node is a replica.Node whose types are hidden.
type node interface {
	Tick() error
	PeerReset(id consensus.ID) error
	Request(conn uint64, q kv.Request, encoded []byte) error
	Transfer(to consensus.ID) error
	Flush() error
	Close() error
	Status() replica.Status
	Position() (index, hash uint64)
	receive(from consensus.ID, slot int32) error
	core() consensus.Status
}

// Of is a system made of a core and its codec. watch makes what looks at all
// cores of one cluster; core makes the core of one incarnation, known to it.
func Of[M, R any, W consensus.Watch](name string, codec consensus.Codec[M, R], watch func() W,
	core func(W, consensus.Options) consensus.Core[M, R]) System {
	return system[M, R, W]{name, codec, watch, core}
}

type system[M, R any, W consensus.Watch] struct {
	name  string
	codec consensus.Codec[M, R]
	watch func() W
	core  func(W, consensus.Options) consensus.Core[M, R]
}

// Name is what --system calls it.
func (s system[M, R, W]) Name() string { return s.name }

func (s system[M, R, W]) crew(w *World) crew {
	return &typedCrew[M, R, W]{system: s, world: w, watching: s.watch()}
}

type typedCrew[M, R any, W consensus.Watch] struct {
	system   system[M, R, W]
	world    *World
	watching W
	messages slab[M]
	scratch  []byte
}

func (c *typedCrew[M, R, W]) drop(slot int32)         { c.messages.get(slot) }
func (c *typedCrew[M, R, W]) double(slot int32) int32 { return c.messages.put(c.messages.items[slot]) }
func (c *typedCrew[M, R, W]) watch() consensus.Watch  { return c.watching }
func (c *typedCrew[M, R, W]) describe(slot int32) string {
	return describe(c.messages.items[slot])
}

func (c *typedCrew[M, R, W]) size(slot int32) int {
	c.scratch = c.system.codec.AppendMessage(c.scratch[:0], c.messages.items[slot])
	return len(c.scratch)
}

func (c *typedCrew[M, R, W]) start(h *host, o consensus.Options) (node, error) {
	n := &typedNode[M, R, W]{crew: c, host: h}
	config := replica.Config[M, R]{
		System: c.system.name, Cluster: c.world.options.Cluster, Options: o, Codec: c.system.codec, Disk: h.disk,
		NewCore: func(o consensus.Options) consensus.Core[M, R] {
			n.inner = c.system.core(c.watching, o)
			return n.inner
		},
		SegmentBytes: c.world.options.Settings.Segment, SnapshotEntries: c.world.options.Knobs.SnapshotEntries,
		WaitTicks: int(waitTime / c.world.options.Knobs.Tick),
		Sender:    sender[M, R, W]{n}, Replier: h, Applied: h.applied, Crash: h.passed, Background: h.background, Log: h.log,
	}
	if h.audit != nil {
		config.Audit, config.AuditBytes = h.audit, int64(h.audit.Len())
	}
	node, err := replica.NewNode(config)
	if err != nil {
		return nil, err
	}
	n.Node = node
	return n, nil
}

type typedNode[M, R any, W consensus.Watch] struct {
	*replica.Node[M, R]
	crew  *typedCrew[M, R, W]
	host  *host
	inner consensus.Core[M, R]
}

// A sender is a node's way to its peers.
type sender[M, R any, W consensus.Watch] struct{ node *typedNode[M, R, W] }

// Flush implements replica.Sender; what was sent is on its way already.
func (sender[M, R, W]) Flush() {}

// Send implements replica.Sender. Where the world asks for it, the message
// takes the way through its codec.
func (s sender[M, R, W]) Send(e *consensus.Envelope[M]) {
	n, c := s.node, s.node.crew
	if !c.world.options.Settings.Wire {
		c.world.post(n.host, e.To, c.messages.put(e.Message))
		return
	}
	c.scratch = c.system.codec.AppendMessage(c.scratch[:0], e.Message)
	m, err := c.system.codec.Message(c.scratch)
	if err != nil {
		panic(fmt.Sprintf("sim: %s sent a message that can't be read back: %v", e.From, err))
	}
	c.world.post(n.host, e.To, c.messages.put(m))
}

func (n *typedNode[M, R, W]) receive(from consensus.ID, slot int32) error {
	return n.Receive(consensus.Envelope[M]{From: from, To: n.host.id, Message: *n.crew.messages.get(slot)})
}

func (n *typedNode[M, R, W]) core() consensus.Status { return n.inner.Status() }

var _ nodes.Provider = Provider{}
