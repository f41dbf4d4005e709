package campaign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/consensus"
)

// A world is a system, a provider and a cluster in memory: one perfect store
// behind every node. What is wrong with a node or its clients' links is felt;
// links among nodes don't matter to a perfect store.
type world struct {
	latency time.Duration // of an answer

	mu       sync.Mutex
	count    int
	wanted   nodes.Wanted
	data     map[string]any // int64 or []int64
	sessions map[uint64]served
	applied  int                          // commands executed
	broken   map[string]error             // by "apply kill-1": what a call to the cluster answers
	unproven map[string]bool              // by "apply kill-1": whether its evidence is missing
	until    map[string]time.Time         // likewise: how long it was given
	observe  func(call, injection string) // sees every call to the cluster; may be nil
	silent   map[nodes.ID]bool            // nodes that never answer
	launch   error
	asked    nodes.Options // of the launch
	rules    []string      // what a client did that it must not
	closed   int
	news     chan nodes.Incident
}

// served is the last command of a session, and its answer.
type served struct {
	sequence uint64
	answer   json.RawMessage
}

func newWorld() *world {
	return &world{latency: time.Millisecond, data: map[string]any{}, sessions: map[uint64]served{}, broken: map[string]error{},
		unproven: map[string]bool{}, until: map[string]time.Time{}, silent: map[nodes.ID]bool{}, news: make(chan nodes.Incident, 16)}
}

func (w *world) Name() string    { return "memory" }
func (w *world) Modes() []string { return []string{nodes.ModeIndex, nodes.ModeLog} }
func (w *world) Exec(nodes.Member, []nodes.Member, string, nodes.Options) nodes.Exec {
	return nodes.Exec{}
}
func (w *world) Dial(_ context.Context, m nodes.Member, _ nodes.DialFunc, o nodes.Options) (nodes.Client, error) {
	return &memoryClient{w, m.ID, o.Cluster}, nil
}

func (w *world) Observe(_ context.Context, m nodes.Member, _ nodes.DialFunc) (nodes.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.wanted.Node(m.ID); s.Down || s.Frozen || w.silent[m.ID] {
		return nodes.Status{}, errors.New("away")
	}
	role := "follower"
	if m.ID == w.leader() {
		role = "leader"
	}
	return nodes.Status{Status: consensus.Status{ID: m.ID, Role: role, Leader: w.leader(), Term: 1}}, nil
}

// leader is the first node that is up. The lock is held.
func (w *world) leader() nodes.ID {
	for i := range w.count {
		if s := w.wanted.Node(nodes.ID(i + 1)); !s.Down && !s.Frozen {
			return nodes.ID(i + 1)
		}
	}
	return 0
}

// A memoryPlace is the world as a Provider: Name and Launch have other meanings there.
type memoryPlace struct{ *world }

func (p memoryPlace) Name() string { return "nowhere" }

func (p memoryPlace) Probe(context.Context, nodes.Options) nodes.Abilities {
	a := nodes.Abilities{Network: "none", Effects: map[nodes.EffectKind]error{}}
	for _, k := range []nodes.EffectKind{nodes.Down, nodes.Frozen, nodes.Cut, nodes.CutData, nodes.Delayed, nodes.Reset} {
		a.Effects[k] = nil
	}
	return a
}

func (p memoryPlace) Launch(_ context.Context, _ nodes.System, o nodes.Options) (nodes.Cluster, error) {
	p.count, p.asked = o.Nodes, o
	if p.launch != nil {
		return nil, p.launch
	}
	return memoryCluster(p), nil
}

// A memoryCluster is the world as a Cluster.
type memoryCluster struct{ *world }

func (c memoryCluster) Members() (out []nodes.Member) {
	for i := range c.count {
		out = append(out, nodes.Member{ID: nodes.ID(i + 1)})
	}
	return out
}

func (c memoryCluster) Dial(context.Context, nodes.Member, nodes.Port) (net.Conn, error) {
	return nil, errors.New("there is nothing to dial")
}

func (c memoryCluster) Apply(ctx context.Context, injection string, effects []nodes.Effect) (nodes.Evidence, error) {
	return c.act(ctx, "apply", injection, func() []nodes.Effect {
		c.wanted.Add(injection, effects)
		return effects
	})
}

func (c memoryCluster) Verify(ctx context.Context, injection string) (nodes.Evidence, error) {
	return c.act(ctx, "verify", injection, func() []nodes.Effect { return c.wanted.Effects(injection) })
}

func (c memoryCluster) Revert(ctx context.Context, injection string) (nodes.Evidence, error) {
	return c.act(ctx, "revert", injection, func() []nodes.Effect { return c.wanted.Remove(injection) })
}

func (c memoryCluster) act(ctx context.Context, call, injection string, do func() []nodes.Effect) (e nodes.Evidence, err error) {
	if c.observe != nil {
		c.observe(call, injection)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return e, err
	}
	c.until[call+" "+injection], _ = ctx.Deadline()
	if err := c.broken[call+" "+injection]; err != nil {
		e.Proofs = append(e.Proofs, nodes.Proof{What: "a part of it", Holds: true, How: "seen"}) // before it broke
		return e, err
	}
	for _, effect := range do() {
		e.Proofs = append(e.Proofs, nodes.Proof{What: effect.String(), Holds: !c.unproven[call+" "+injection], How: "seen"})
	}
	return e, nil
}

func (c memoryCluster) Incidents() <-chan nodes.Incident { return c.news }

func (c memoryCluster) Close(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil { // who is given no time leaves everything as it is
		return err
	}
	if c.closed++; c.closed == 1 {
		close(c.news)
	}
	return c.broken["close"]
}

type memoryClient struct {
	w       *world
	node    nodes.ID
	cluster string
}

func (c *memoryClient) Close() error { return nil }

// Do answers at once, certainly fails where the node is down, and waits in vain
// where it is frozen or cut off.
func (c *memoryClient) Do(ctx context.Context, e history.Event) history.Event {
	timer := time.NewTimer(c.w.latency)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		e.Type, e.Error = history.Fail, "never sent"
		return e
	case <-timer.C:
	}
	c.w.mu.Lock()
	state, links := c.w.wanted.Node(c.node), c.w.wanted.Links()
	there, back := links[nodes.Link{From: nodes.Clients, To: c.node}], links[nodes.Link{From: c.node, To: nodes.Clients}]
	lost := state.Frozen || c.w.silent[c.node] || there.Cut || there.CutData || back.Cut || back.CutData
	if !state.Down && !lost {
		e = c.w.serve(e)
	}
	c.w.mu.Unlock()
	switch {
	case state.Down:
		e.Type, e.Error = history.Fail, "refused"
	case lost:
		<-ctx.Done()
		e.Type, e.Error = history.Info, "timed out"
	}
	return e
}

// serve executes a command once for each session and sequence. The lock is held.
func (w *world) serve(e history.Event) history.Event {
	last, known := w.sessions[e.Session]
	switch {
	case e.Session == 0 && (e.F != history.Read || e.Mode == nodes.ModeLog):
		w.rules = append(w.rules, fmt.Sprintf("%s without a session", e.F))
	case e.Session != 0 && e.Mode == nodes.ModeIndex && e.F == history.Read && e.Sequence != 1:
		w.rules = append(w.rules, "a read past the log has a session")
	case !known && e.Session != 0 && e.Sequence > 1:
		w.rules = append(w.rules, fmt.Sprintf("session %d begins at %d", e.Session, e.Sequence))
	case known && e.Sequence < last.sequence:
		e.Type, e.Error = history.Fail, "an old sequence"
		return e
	case known && e.Sequence == last.sequence:
		e.Type, e.Value = history.Ok, last.answer
		return e
	}
	e.Type, e.Value = history.Ok, w.execute(e)
	w.applied++
	if e.Session != 0 {
		w.sessions[e.Session] = served{e.Sequence, e.Value}
	}
	return e
}

func (w *world) execute(e history.Event) json.RawMessage {
	var n int64
	json.Unmarshal(e.Value, &n)
	held := w.data[e.Key]
	switch e.F {
	case history.Write:
		w.data[e.Key] = n
		return e.Value
	case history.Delete:
		delete(w.data, e.Key)
		return nil
	case history.Add:
		old, _ := held.(int64)
		w.data[e.Key] = old + n
		return encoded(old + n)
	case history.Append:
		list, _ := held.([]int64)
		w.data[e.Key] = append(slices.Clone(list), n)
		return encoded(len(list) + 1)
	case history.CAS:
		var pair [2]*int64
		json.Unmarshal(e.Value, &pair)
		old, present := held.(int64)
		swapped := pair[0] == nil && !present || pair[0] != nil && present && *pair[0] == old
		if swapped {
			w.data[e.Key] = *pair[1]
		}
		return encoded(map[string]any{"swapped": swapped, "saw": held})
	}
	return encoded(held)
}

func encoded(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
