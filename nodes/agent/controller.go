package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"chaos/nodes"
)

// beatsPerLease is how often a controller beats within one lease: three may be
// lost or late before anything heals.
const beatsPerLease = 4

// A Hello introduces a controller to an agent. It is the first line of a stream.
type Hello struct {
	Version int            `json:"version"` // filled in by Connect
	Key     string         `json:"key,omitempty"`
	Run     string         `json:"run"`   // names the firewall's table, chaos_<run>: letters, digits and _ only
	Lease   time.Duration  `json:"lease"` // how long everything lives without a beat; 0: 15 s
	Self    nodes.Member   `json:"self"`
	View    []nodes.Member `json:"view"`            // all members as this host sees them
	Clients []string       `json:"clients"`         // addresses that clients come from, as this host sees them
	Probe   int            `json:"probe,omitempty"` // UDP port of probes, on every host; 0: this agent has nothing to do with links
}

// A Report is an incident as an agent tells it. Link is set where a link's
// fault had lapsed.
type Report struct {
	nodes.Incident
	Link *nodes.Link
}

// A Controller is the other end of one agent's stream. Its calls may be made
// from many goroutines; each ends at the latest with its ctx or with the agent.
type Controller struct {
	conn    *lineConn
	report  func(Report)
	asleep  atomic.Bool // the agent can't answer, because we want it so
	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan answer
}

// Connect says hello and beats from then on, every quarter of the lease. A
// refused hello is an error. The stream belongs to the Controller from now on.
// report is called for each incident, one at a time and in the order in which
// the agent told them among its answers; it must not block.
func Connect(ctx context.Context, stream io.ReadWriteCloser, h Hello, report func(Report)) (*Controller, error) {
	h.Version = version
	if h.Lease == 0 {
		h.Lease = defaultLease
	}
	c := &Controller{conn: newLineConn(stream), report: report, pending: map[uint64]chan answer{}}
	go c.receive()
	if _, err := c.call(ctx, request{Op: opHello, Hello: &h}); err != nil {
		c.conn.close(err)
		return nil, err
	}
	go c.beat(h.Lease)
	return c, nil
}

// Done is closed when the agent is lost or has said farewell.
func (c *Controller) Done() <-chan struct{} { return c.conn.done }

// Err is why, after Done.
func (c *Controller) Err() error { return c.conn.err }

// Exec says how to start the node from now on, and in which folder.
func (c *Controller) Exec(ctx context.Context, e nodes.Exec, dir string) error {
	_, err := c.call(ctx, request{Op: opExec, Exec: &e, Dir: dir})
	return err
}

// Node brings the node to a state and proves it. Only where start is true does
// it start a node that does not run.
func (c *Controller) Node(ctx context.Context, s nodes.NodeState, start bool) ([]nodes.Proof, error) {
	a, err := c.call(ctx, request{Op: opNode, State: s, Start: start})
	return a.Proofs, err
}

// Prove reads from the system whether the node is in a state, and changes nothing.
func (c *Controller) Prove(ctx context.Context, s nodes.NodeState) ([]nodes.Proof, error) {
	a, err := c.call(ctx, request{Op: opProve, State: s})
	return a.Proofs, err
}

// Status asks the agent about itself.
func (c *Controller) Status(ctx context.Context) (Status, error) {
	a, err := c.call(ctx, request{Op: opStatus})
	if a.Status == nil {
		return Status{}, err
	}
	return *a.Status, err
}

// Effects is [Probe] carried out by the agent.
func (c *Controller) Effects(ctx context.Context) (map[nodes.EffectKind]error, error) {
	a, err := c.call(ctx, request{Op: opProbe})
	out := map[nodes.EffectKind]error{}
	for kind, why := range a.Effects {
		out[kind] = nil
		if why != "" {
			out[kind] = errors.New(why)
		}
	}
	return out, err
}

// Close lets the agent heal everything, stop the node and end. It returns when
// that is done, with what went wrong about it.
func (c *Controller) Close(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opBye})
	c.conn.close(nil)
	return err
}

func (c *Controller) links(ctx context.Context, want []linkWant) error {
	_, err := c.call(ctx, request{Op: opLinks, Links: want})
	return err
}

func (c *Controller) expect(ctx context.Context, w []watching) error {
	_, err := c.call(ctx, request{Op: opExpect, Watch: w})
	return err
}

func (c *Controller) send(ctx context.Context, s []sending) error {
	_, err := c.call(ctx, request{Op: opSend, Send: s})
	return err
}

func (c *Controller) observe(ctx context.Context, w []watching, wait time.Duration) ([]seen, error) {
	a, err := c.call(ctx, request{Op: opObserve, Watch: w, Wait: wait})
	if err == nil && len(a.Seen) != len(w) {
		err = fmt.Errorf("agent: asked about %d probes, told about %d", len(w), len(a.Seen))
	}
	return a.Seen, err
}

// call sends one request and waits for its answer.
func (c *Controller) call(ctx context.Context, r request) (answer, error) {
	got := make(chan answer, 1)
	c.mu.Lock()
	c.last++
	r.ID = c.last
	c.pending[r.ID] = got
	c.mu.Unlock()
	defer c.forget(r.ID)
	if err := c.conn.send(r); err != nil {
		select {
		case <-c.conn.done:
			return answer{}, fmt.Errorf("agent: %s: %w: %w", r.Op, errLost, err)
		default:
			return answer{}, err
		}
	}
	select {
	case a := <-got:
		return a, fromText(a.Error)
	case <-ctx.Done():
		return answer{}, fmt.Errorf("agent: %s: %w", r.Op, ctx.Err())
	case <-c.conn.done:
	}
	select { // the answer may have come just before the end
	case a := <-got:
		return a, fromText(a.Error)
	default:
		return answer{}, fmt.Errorf("agent: %s: %w: %w", r.Op, errLost, c.conn.err)
	}
}

var errLost = errors.New("the agent is lost")

func fromText(s string) error {
	if s == "" {
		return nil
	}
	return errors.New(s)
}

func (c *Controller) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

func (c *Controller) receive() {
	for {
		var a answer
		if err := c.conn.receive(&a); err != nil {
			c.conn.close(err)
			return
		}
		if a.Incident != nil && c.report != nil {
			c.report(Report{*a.Incident, a.Link})
		}
		c.mu.Lock()
		got := c.pending[a.ID]
		delete(c.pending, a.ID)
		c.mu.Unlock()
		if got != nil {
			got <- a
		}
	}
}

// beat renews the lease, and gives the agent up if it leaves beats unanswered
// for a whole lease: by then it has healed everything. One that sleeps with its
// machine, because we want it so, goes on when it wakes: it finds the beats that
// wait for it, and its lease counts only the time awake.
func (c *Controller) beat(lease time.Duration) {
	tick := time.NewTicker(lease / beatsPerLease)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.conn.done:
			return
		}
		slept := c.asleep.Load()
		ctx, cancel := context.WithTimeout(context.Background(), lease)
		_, err := c.call(ctx, request{Op: opBeat})
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			if slept || c.asleep.Load() {
				continue
			}
			c.conn.close(fmt.Errorf("agent: no answer to a beat for %s", lease))
		} else if err != nil && !errors.Is(err, errLost) && c.report != nil {
			c.report(Report{nodes.Incident{Kind: "lapse", Detail: err.Error()}, nil})
		}
	}
}
