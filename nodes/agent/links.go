package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"syscall"
	"time"

	"chaos/nodes"
)

const (
	probeWait  = 300 * time.Millisecond  // for a probe on a link that is not delayed
	trainGrace = 1500 * time.Millisecond // for a busy machine to send all of a train; one that is complete ends the wait
	trainLeast = 200                     // probes of a train, where the chance of a fate is to be told
	trainMost  = 1200
	trainFew   = 8                      // where only the rate is
	rateTime   = 150 * time.Millisecond // what a train takes on a limited link that is free
)

// agentLinks are links that the agents' own firewalls hurt.
type agentLinks struct {
	fleet  *Fleet
	mu     sync.Mutex
	wanted map[nodes.Link]nodes.LinkState
	was    map[nodes.Link]nodes.LinkState // weather and delays that were there before, until they were seen to be gone
	tries  map[nodes.Link]int             // trains in a row that did not show what is wanted
}

// wantOf are the links that one host's firewall has to hurt, in order.
func wantOf(id nodes.ID, wanted map[nodes.Link]nodes.LinkState) (out []linkWant) {
	for _, l := range nodes.SortedLinks(wanted) {
		if heldBy(l) == id {
			out = append(out, linkWant{l, wanted[l]})
		}
	}
	return out
}

func (a *agentLinks) Set(ctx context.Context, wanted map[nodes.Link]nodes.LinkState) error {
	a.want(wanted)
	return a.fleet.each(a.fleet.hosts, func(h *host) error {
		want := wantOf(h.Self.ID, wanted)
		h.mu.Lock()
		c, same, away := h.ctl, reflect.DeepEqual(want, h.pushed), h.away
		h.mu.Unlock()
		if away { // it is brought to what is wanted when it comes back
			return nil
		}
		if c == nil && len(want) > 0 {
			return fmt.Errorf("agent: %s: %w", h.Self.ID, errLost)
		}
		if c == nil || same {
			return nil
		}
		if err := c.links(ctx, want); err != nil {
			return fmt.Errorf("agent: the links of %s: %w", h.Self.ID, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.ctl == c {
			h.pushed = want
		}
		return nil
	})
}

// want remembers what is wanted, and of each link that has other weather or
// another delay from now on what it had.
func (a *agentLinks) want(wanted map[nodes.Link]nodes.LinkState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.was == nil {
		a.was, a.tries = map[nodes.Link]nodes.LinkState{}, map[nodes.Link]int{}
	}
	for l, before := range a.wanted {
		between := l.From != nodes.Clients && l.To != nodes.Clients // a dial tells no exact time
		if (before.Weather() || between && before.Delay > 0) && before != wanted[l] {
			a.was[l] = before
		}
	}
	a.wanted = wanted
}

// settle forgets the weather before, where an observation shows what is wanted
// now. Where it does not the next train is slower, for the sake of a busy machine.
func (a *agentLinks) settle(all []nodes.Observation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range all {
		if !judge(a.wanted[o.Link], o).Holds {
			if o.Train.Sent > 0 {
				a.tries[o.Link]++
			}
			continue
		}
		delete(a.tries, o.Link)
		if a.was[o.Link] == o.Was {
			delete(a.was, o.Link)
		}
	}
}

// train is what it takes to tell the state of a link: nil where that is a single
// probe. Its length makes a right fault show nothing in one train of 400 at most.
func (a *agentLinks) train(l nodes.Link) *train {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, was := a.wanted[l], a.was[l]
	if now.Cut || now.CutData || !now.Weather() && !was.Weather() || l.From == nodes.Clients || l.To == nodes.Clients {
		return nil
	}
	t := train{Size: trainSize, Slow: min(1<<min(a.tries[l], 8), trainSlowest)}
	for _, p := range []int{now.Lossy, now.Duplicated, now.Reordered, was.Lossy, was.Duplicated, was.Reordered} {
		if p > 0 {
			arrive := max(nodes.PerMilleMax-now.Lossy, 1) // of a thousand; the others show nothing else
			show := 6 * nodes.PerMilleMax * nodes.PerMilleMax / (p * arrive)
			t.Count = max(t.Count, min(max(show, trainLeast), trainMost))
		}
	}
	if hold := max(now.Hold, was.Hold); hold > 0 {
		t.Tail = trainBurst * (1 + int(time.Duration(hold)/trainPause))
	}
	rate := now.Rate
	if rate == 0 {
		rate = was.Rate
	}
	if rate > 0 {
		volume := int(time.Duration(rate) * rateTime / time.Second)
		t.Flood, t.Tail = true, min(t.Tail, trainBurst)
		if t.Count == 0 {
			t.Count = max(volume/trainSizeMax, trainFew)
		}
		t.Size = min(max(volume/t.Count, trainSize), trainSizeMax)
	}
	return &t
}

// A probeRun is one round of probes: for each link a nonce, and what was seen.
type probeRun struct {
	a     *agentLinks
	watch map[nodes.ID][]watching // by the host that looks
	send  map[nodes.ID][]sending  // by the host that sends
	mu    sync.Mutex
	seen  map[nodes.Link]seen
	fails map[nodes.ID]string // what kept a host from looking or sending
}

func (a *agentLinks) Probe(ctx context.Context, links []nodes.Link) ([]nodes.Observation, error) {
	r := &probeRun{
		a: a, watch: map[nodes.ID][]watching{}, send: map[nodes.ID][]sending{},
		seen: map[nodes.Link]seen{}, fails: map[nodes.ID]string{},
	}
	for _, l := range links {
		w := watching{Link: l, Nonce: nonce(), Train: a.train(l)}
		r.watch[heldBy(l)] = append(r.watch[heldBy(l)], w)
		if l.From != nodes.Clients && l.To != nodes.Clients {
			r.send[l.From] = append(r.send[l.From], sending{l.To, w.Nonce, w.Train})
		}
	}
	r.on(func(h *host, c *Controller) error {
		if len(r.watch[h.Self.ID]) == 0 {
			return nil
		}
		return c.expect(ctx, r.watch[h.Self.ID])
	})
	r.on(func(h *host, c *Controller) error {
		if len(r.send[h.Self.ID]) == 0 {
			return nil
		}
		return c.send(ctx, r.send[h.Self.ID])
	})
	r.on(func(h *host, c *Controller) error { return r.observe(ctx, h, c) })
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]nodes.Observation, len(links))
	for i, l := range links {
		out[i] = r.describe(l)
	}
	a.settle(out)
	return out, nil
}

// on does one step on every host at once, and remembers who could not.
func (r *probeRun) on(do func(*host, *Controller) error) {
	_ = r.a.fleet.each(r.a.fleet.hosts, func(h *host) error {
		c, err := h.controller(), errLost
		if c != nil {
			err = do(h, c)
		}
		if err != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.fails[h.Self.ID] = err.Error()
		}
		return nil
	})
}

// observe asks one host what became of the probes that it should have got.
// Links of clients are looked at one by one, since their probes are dials.
func (r *probeRun) observe(ctx context.Context, h *host, c *Controller) error {
	var peers []watching
	var work sync.WaitGroup
	defer work.Wait()
	for _, w := range r.watch[h.Self.ID] {
		if w.Link.From == nodes.Clients || w.Link.To == nodes.Clients {
			work.Go(func() { r.dial(ctx, h, c, w) })
			continue
		}
		peers = append(peers, w)
	}
	if len(peers) == 0 {
		return nil
	}
	seen, err := c.observe(ctx, peers, r.a.patience(peers))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, w := range peers {
		r.seen[w.Link] = seen[i]
	}
	return nil
}

// patience is how long these probes may take at most.
func (a *agentLinks) patience(watch []watching) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	var longest time.Duration
	for _, w := range watch {
		s := a.wanted[w.Link]
		takes := time.Duration(s.Delay + s.Jitter + s.Hold)
		if t := w.Train; t != nil {
			takes += trainGrace + trainQuiet + t.pause()*time.Duration((t.Count+t.Tail)/trainBurst)
			if s.Rate > 0 {
				takes += room(s.Rate) + spent(int64((t.Count+t.Tail)*(t.Size+headers6)), s.Rate)
			}
		}
		longest = max(longest, takes)
	}
	return probeWait + longest
}

// dial probes a link of clients by opening a connection as one of them. Being
// refused is an answer, too, so the way is open. While it tries the host watches
// its counter of drops; whichever shows first ends the probe.
func (r *probeRun) dial(ctx context.Context, h *host, c *Controller, w watching) {
	back := watching{Link: nodes.Link{From: w.Link.To, To: w.Link.From}}
	ctx, cancel := context.WithTimeout(ctx, r.a.patience([]watching{w})+r.a.patience([]watching{back}))
	defer cancel()
	began, dialed := time.Now(), make(chan seen, 1)
	go func() {
		conn, err := r.a.fleet.o.Dial(ctx, h.Self, nodes.ClientPort)
		if err == nil {
			conn.Close()
		}
		s := seen{Passed: err == nil || errors.Is(err, syscall.ECONNREFUSED), Held: time.Since(began)}
		if s.Passed {
			cancel()
		}
		dialed <- s
	}()
	until, _ := ctx.Deadline()
	counted, err := c.observe(ctx, []watching{w}, time.Until(until)-probeWait/2)
	cancel()
	var result seen
	if err != nil || counted[0].Dropped == 0 {
		result = <-dialed
	} // else the packet that opens the connection is lost, whatever the dial may say later
	if err == nil {
		result.Before, result.Dropped = counted[0].Before, counted[0].Dropped
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[w.Link] = result
}

// describe says in words what was seen of one link.
func (r *probeRun) describe(l nodes.Link) nodes.Observation {
	s, ok := r.seen[l]
	r.a.mu.Lock()
	was := r.a.was[l]
	r.a.mu.Unlock()
	o := nodes.Observation{Link: l, Passed: s.Passed, Took: s.Held, Dropped: s.Dropped}
	switch {
	case s.Train != nil:
		o.Train, o.Was = *s.Train, was
		o.Passed, o.How = s.Train.Arrived > 0, s.Train.String()
	case r.fails[heldBy(l)] != "" && !ok:
		o.How = fmt.Sprintf("%s could not look: %s", heldBy(l), r.fails[heldBy(l)])
	case s.Passed:
		o.Was, o.How = was, "probe arrived"
		if s.Held > 0 {
			o.How += fmt.Sprintf(" after %s", s.Held)
		}
	case s.Dropped > 0:
		o.How = fmt.Sprintf("probe lost, drop counter %d→%d", s.Before, s.Before+s.Dropped)
	case r.fails[l.From] != "":
		o.How = fmt.Sprintf("%s could not send: %s", l.From, r.fails[l.From])
	default:
		o.How = fmt.Sprintf("probe neither arrived nor was counted as dropped within %s", probeWait)
	}
	return o
}

// nonce draws a number that nobody can guess, so that nobody can forge an arrival.
func nonce() uint64 {
	var b [8]byte
	rand.Read(b[:]) // it never fails
	return binary.BigEndian.Uint64(b[:])
}
