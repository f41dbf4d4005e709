package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"chaos/nodes"
)

const (
	maxIncidents  = 1024                  // that wait to be read
	maxGaps       = 100                   // told of one injection
	reopenTries   = 8                     // of a lost agent, in a row
	reopenPause   = 50 * time.Millisecond // before the second try; doubled each time
	reopenWait    = 10 * time.Second      // for one try
	linksWait     = 5 * time.Second       // for the links of fresh hosts to come up
	farewellWait  = 10 * time.Second      // for an agent to heal and end, where ctx allows more
	fetchWait     = 10 * time.Second      // for the files of all nodes, where ctx allows more
	defaultFolder = "nodes"               // below the run's folder
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
	// Fetch, where set, brings the node's files into the run's folder. It is
	// called when the node has ended.
	Fetch func(ctx context.Context) error
	// Machine, where set, hurts the host as a whole.
	Machine Machine
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
	// StopEndsAll says that nothing which ran on the hosts outlives Stop. Then
	// an agent that could not end its node (a process deep in a slow disk)
	// fails nothing.
	StopEndsAll bool
}

// A Fleet is a [nodes.Cluster] made of one agent for each node. It holds what
// is wanted, brings every agent to it (one that was lost and came back, too),
// and collects the evidence.
type Fleet struct {
	o      FleetOptions
	begin  time.Time
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	links  nodes.Links
	work   sync.WaitGroup

	op     sync.Mutex // one Apply, Verify, Revert, Close or return of an agent at a time
	hosts  []*host
	wanted nodes.Wanted
	closed bool

	mu        sync.Mutex // gaps, live and incidents: told by agents at any time
	gaps      map[string][]string
	live      map[string][]nodes.Effect // a copy of wanted, for those who don't hold op
	incidents chan nodes.Incident
	ended     bool
}

// A host is a Host and the state of its agent.
type host struct {
	Host
	mu     sync.Mutex
	ctl    *Controller // nil while the agent is lost
	pushed []linkWant  // what the agent's firewall was last brought to
	away   bool        // the machine is down or frozen because we want it so
}

var _ nodes.Cluster = (*Fleet)(nil)

// NewFleet opens every agent and starts every node. It returns when all
// processes run; on an error nothing is left running.
func NewFleet(ctx context.Context, o FleetOptions) (*Fleet, error) {
	if o.ProbePort == 0 && o.Links == nil {
		o.ProbePort = defaultProbes
	}
	f := &Fleet{
		o: o, begin: time.Now(), links: o.Links, gaps: map[string][]string{},
		live: map[string][]nodes.Effect{}, incidents: make(chan nodes.Incident, maxIncidents),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	for _, h := range o.Hosts {
		f.hosts = append(f.hosts, &host{Host: h})
	}
	if f.links == nil {
		f.links = &agentLinks{fleet: f}
	}
	err := f.each(f.hosts, func(h *host) error { return f.open(ctx, h) })
	if err != nil {
		return nil, errors.Join(err, f.Close(context.WithoutCancel(ctx)))
	}
	f.awaitLinks(ctx)
	for _, h := range f.hosts {
		f.work.Add(1)
		go f.watch(h, h.controller())
	}
	return f, nil
}

// awaitLinks waits until every link passes: a fresh bridge may take a second to
// open its ports, which nobody should take for the work of a fault. What stays
// silent is only logged, since it may not matter to the run.
func (f *Fleet) awaitLinks(ctx context.Context) {
	if f.o.Links != nil {
		return
	}
	var ev nodes.Evidence
	for until := time.Now().Add(linksWait); time.Now().Before(until); {
		ev = nodes.Evidence{}
		if err := f.prove(ctx, nil, &ev); err != nil || len(ev.Proofs) == 0 || ev.Proven() {
			return
		}
	}
	f.log(fmt.Sprintf("links are silent from the start: %v", ev.Failures()))
}

// Members are the nodes as the controller sees them.
func (f *Fleet) Members() (out []nodes.Member) {
	for _, h := range f.hosts {
		out = append(out, h.Self)
	}
	return out
}

// Dial connects to one port of a node as a client of the run does.
func (f *Fleet) Dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	return f.o.Dial(ctx, m, p)
}

// Incidents delivers what happened that nobody asked for. It is closed by
// Close. At most 1024 wait to be read; what comes on top is only logged.
func (f *Fleet) Incidents() <-chan nodes.Incident { return f.incidents }

// Close heals everything, stops every node and ends the agents. It may be
// called twice.
func (f *Fleet) Close(ctx context.Context) error {
	f.cancel()
	first, err := f.farewell(ctx)
	if !first {
		return nil
	}
	f.work.Wait() // without holding op, for which a watcher may be waiting
	f.fetch(ctx)
	if f.o.Stop != nil {
		stopped := f.o.Stop(ctx)
		if stopped == nil && f.o.StopEndsAll && err != nil {
			f.log("closing the hosts ended what their agents could not: " + err.Error())
			err = nil
		}
		err = errors.Join(err, stopped)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	close(f.incidents)
	return err
}

// farewell ends every agent; from then on the fleet takes no more orders.
func (f *Fleet) farewell(ctx context.Context) (first bool, err error) {
	f.op.Lock()
	defer f.op.Unlock()
	if f.closed {
		return false, nil
	}
	f.closed = true
	ctx, cancel := context.WithTimeout(ctx, farewellWait)
	defer cancel()
	return true, f.each(f.hosts, func(h *host) error {
		c := h.controller()
		if c == nil || h.isAway() {
			return nil
		}
		if err := c.Close(ctx); err != nil && !errors.Is(err, errLost) {
			return fmt.Errorf("agent: closing %s: %w", h.Self.ID, err)
		}
		return nil
	})
}

// fetch brings the files of every node into the run's folder. What can't be had
// is told and fails nothing: the record of the run is complete without.
func (f *Fleet) fetch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	_ = f.each(f.hosts, func(h *host) error {
		if h.Fetch != nil && !h.isAway() {
			if err := h.Fetch(ctx); err != nil {
				f.log(fmt.Sprintf("the files of %s: %v", h.Self.ID, err))
			}
		}
		return nil
	})
}

// open connects to a host's agent and brings it to what is wanted.
func (f *Fleet) open(ctx context.Context, h *host) error {
	stream, err := h.Open(ctx)
	if err != nil {
		return fmt.Errorf("agent: opening the agent of %s: %w", h.Self.ID, err)
	}
	c, err := Connect(ctx, stream, Hello{
		Key: f.o.Key, Run: word(f.o.Options.Cluster), Lease: f.o.Options.Lease, Self: h.Self,
		View: h.View, Clients: h.Clients, Probe: f.o.ProbePort,
	}, func(r Report) { f.report(h, r) })
	if err != nil {
		return fmt.Errorf("agent: greeting the agent of %s: %w", h.Self.ID, err)
	}
	if err := f.settle(ctx, h, c); err != nil {
		c.conn.close(err)
		return err
	}
	return nil
}

// settle brings a fresh agent to what is wanted.
func (f *Fleet) settle(ctx context.Context, h *host, c *Controller) error {
	dir := h.Dir
	if dir == "" {
		dir = filepath.Join(f.o.Options.Dir, defaultFolder, h.Self.ID.String())
	}
	e := f.o.System.Exec(h.Self, h.View, dir, f.o.Options)
	if h.Adapt != nil {
		e = h.Adapt(e)
	}
	if err := c.Exec(ctx, e, dir); err != nil {
		return fmt.Errorf("agent: preparing %s: %w", h.Self.ID, err)
	}
	links := wantOf(h.Self.ID, f.wanted.Links())
	if f.o.Links == nil && len(links) > 0 {
		if err := c.links(ctx, links); err != nil {
			return fmt.Errorf("agent: the links of %s: %w", h.Self.ID, err)
		}
	}
	state := f.wanted.Node(h.Self.ID)
	if _, err := c.Node(ctx, state, !state.Down); err != nil {
		return fmt.Errorf("agent: starting %s: %w", h.Self.ID, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ctl, h.pushed = c, links
	return nil
}

// watch notices when an agent is lost, and brings it back.
func (f *Fleet) watch(h *host, c *Controller) {
	defer f.work.Done()
	for c != nil {
		select {
		case <-c.Done():
		case <-f.ctx.Done():
			return
		}
		if f.ctx.Err() != nil || h.forget(c) {
			return
		}
		lost := time.Now()
		f.lost(h, "the agent was lost: "+text(c.Err()))
		if c = f.reopen(h); c != nil {
			f.lost(h, fmt.Sprintf("the agent is back after %s", time.Since(lost).Round(time.Millisecond)))
		}
	}
}

// reopen tries a bounded number of times.
func (f *Fleet) reopen(h *host) *Controller {
	pause := reopenPause
	for try := range reopenTries {
		if try > 0 {
			select {
			case <-time.After(pause):
			case <-f.ctx.Done():
				return nil
			}
			pause *= 2
		}
		err := f.reopenOnce(h)
		if err == nil {
			return h.controller()
		}
		f.log(fmt.Sprintf("try %d of %d: %v", try+1, reopenTries, err))
		if f.ctx.Err() != nil {
			return nil
		}
	}
	f.lost(h, fmt.Sprintf("the agent was given up after %d tries", reopenTries))
	return nil
}

func (f *Fleet) reopenOnce(h *host) error {
	ctx, cancel := context.WithTimeout(f.ctx, reopenWait)
	defer cancel()
	f.op.Lock() // so that nothing is wanted meanwhile that the agent would miss
	defer f.op.Unlock()
	if f.closed {
		return context.Canceled
	}
	return f.open(ctx, h)
}

// lost records a gap in whatever the host's agent held up, and tells of it.
func (f *Fleet) lost(h *host, what string) {
	id := h.Self.ID
	f.gap(id.String()+": "+what, func(e nodes.Effect) bool {
		if !e.OnLink() {
			return e.Node == id
		}
		return f.o.Links == nil && heldBy(nodes.Link{From: e.From, To: e.To}) == id
	})
	f.tell(nodes.Incident{Node: id, Kind: "agent-lost", Detail: what})
}

// heldBy names the host whose firewall hurts a link: the receiver, but the
// sender where that is a node and clients receive.
func heldBy(l nodes.Link) nodes.ID {
	if l.To == nodes.Clients {
		return l.From
	}
	return l.To
}

// report takes what an agent tells unasked.
func (f *Fleet) report(h *host, r Report) {
	r.Node = h.Self.ID
	if r.Kind == "lapse" {
		f.gap(r.Detail, func(e nodes.Effect) bool {
			if r.Link == nil {
				return e.Kind == nodes.Frozen && e.Node == r.Node
			}
			return e.OnLink() && e.From == r.Link.From && e.To == r.Link.To
		})
	}
	f.tell(r.Incident)
}

// gap records that the effects chosen had lapsed, for every live injection that has one.
func (f *Fleet) gap(what string, touches func(nodes.Effect) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what = fmt.Sprintf("at %s: %s", time.Since(f.begin).Round(time.Millisecond), what)
	for injection, effects := range f.live {
		if slices.ContainsFunc(effects, touches) && len(f.gaps[injection]) < maxGaps {
			f.gaps[injection] = append(f.gaps[injection], what)
		}
	}
}

// tell hands an incident on without ever waiting.
func (f *Fleet) tell(i nodes.Incident) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	select {
	case f.incidents <- i:
	default:
		f.log(fmt.Sprintf("incident not read: %s %s: %s", i.Node, i.Kind, i.Detail))
	}
}

func (f *Fleet) log(line string) {
	if f.o.Options.Log != nil {
		f.o.Options.Log(line)
	}
}

func (f *Fleet) host(id nodes.ID) *host {
	for _, h := range f.hosts {
		if h.Self.ID == id {
			return h
		}
	}
	return nil
}

func (h *host) controller() *Controller {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ctl
}

// each does the same on many hosts at once and returns all errors, in order.
func (f *Fleet) each(hosts []*host, do func(*host) error) error {
	errs := make([]error, len(hosts))
	var work sync.WaitGroup
	for i, h := range hosts {
		work.Go(func() { errs[i] = do(h) })
	}
	work.Wait()
	return errors.Join(errs...)
}

// word makes a cluster's name fit for the name of a table.
func word(s string) string {
	b := []byte(s)
	for i, c := range b {
		if !wordOnly(string(rune(c))) {
			b[i] = '_'
		}
	}
	if len(b) == 0 {
		return "run"
	}
	return string(b[:min(len(b), 64)])
}
