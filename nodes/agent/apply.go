package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"chaos/nodes"
)

const (
	probeRounds   = 3  // of what did not show at once what it should
	maxWellProbes = 64 // links probed beside those that an injection names
)

// Apply adds the effects under the injection's name, and proves that they hold.
// Where an agent is lost that is a gap in the evidence, not an error.
func (f *Fleet) Apply(ctx context.Context, injection string, effects []nodes.Effect) (nodes.Evidence, error) {
	return f.operate(func(ev *nodes.Evidence) error {
		if err := f.check(effects); err != nil {
			return err
		}
		before := f.wanted.Effects(injection)
		f.wanted.Add(injection, effects)
		f.remember(injection)
		return f.enforce(ctx, append(slices.Clone(before), effects...), before != nil, ev)
	})
}

// Verify proves again that the injection's effects hold, and held since Apply.
func (f *Fleet) Verify(ctx context.Context, injection string) (nodes.Evidence, error) {
	return f.operate(func(ev *nodes.Evidence) error {
		effects := f.wanted.Effects(injection)
		if effects == nil {
			return fmt.Errorf("agent: there is no injection %q to verify", injection)
		}
		err := f.nodes(effects, ev, func(c *Controller, s nodes.NodeState) ([]nodes.Proof, error) {
			return c.Prove(ctx, s)
		})
		f.proveMachines(ctx, effects, ev)
		if named := linksOf(effects); len(named) > 0 {
			err = errors.Join(err, f.prove(ctx, named, ev))
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		ev.Gaps = append(ev.Gaps, f.gaps[injection]...)
		return err
	})
}

// Revert takes the injection away, and proves that what no other one wants is
// gone. A node that ends up wanted well is started if it does not run.
func (f *Fleet) Revert(ctx context.Context, injection string) (nodes.Evidence, error) {
	return f.operate(func(ev *nodes.Evidence) error {
		effects := f.wanted.Remove(injection)
		if effects == nil {
			return fmt.Errorf("agent: there is no injection %q to revert", injection)
		}
		f.remember(injection)
		err := f.enforce(ctx, effects, true, ev)
		if err != nil && len(f.onMachines(effects)) > 0 {
			f.wanted.Add(injection, effects) // so that it can be tried again: nobody else thaws a machine
			f.remember(injection)
		}
		return err
	})
}

// operate is what Apply, Verify and Revert have in common: one at a time, timed.
func (f *Fleet) operate(do func(*nodes.Evidence) error) (ev nodes.Evidence, err error) {
	f.op.Lock()
	defer f.op.Unlock()
	if f.closed {
		return ev, errors.New("agent: the fleet is closed")
	}
	begin := time.Now()
	err = do(&ev)
	ev.Took = time.Since(begin)
	return ev, err
}

// remember copies what an injection holds to where reports of agents look it up.
func (f *Fleet) remember(injection string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.gaps, injection)
	f.live[injection] = f.wanted.Effects(injection)
	if f.live[injection] == nil {
		delete(f.live, injection)
	}
}

// check refuses what makes no sense before anything is hurt.
func (f *Fleet) check(effects []nodes.Effect) error {
	known := func(id nodes.ID) bool { return f.host(id) != nil }
	for _, e := range effects {
		ok := known(e.Node)
		if e.OnLink() {
			ok = e.From != e.To && (known(e.From) || e.From == nodes.Clients) && (known(e.To) || e.To == nodes.Clients)
		}
		if e.OnMachine() {
			ok = ok && f.host(e.Node).Machine != nil
		}
		if !ok || !e.Bounded() {
			return fmt.Errorf("agent: the effect %q does not fit this cluster", e)
		}
	}
	return nil
}

// enforce brings the nodes and links that the effects speak of to what is
// wanted now, and proves it. revive starts nodes that are wanted up.
func (f *Fleet) enforce(ctx context.Context, effects []nodes.Effect, revive bool, ev *nodes.Evidence) error {
	if err := f.machines(ctx, effects, ev); err != nil {
		return err
	}
	var errs [2]error
	var work sync.WaitGroup
	named := linksOf(effects)
	if len(named) > 0 {
		work.Go(func() { errs[0] = f.links.Set(ctx, f.wanted.Links()) })
	}
	errs[1] = f.nodes(effects, ev, func(c *Controller, s nodes.NodeState) ([]nodes.Proof, error) {
		return c.Node(ctx, s, revive && !s.Down)
	})
	work.Wait()
	if errors.Is(errs[0], errLost) {
		ev.Gaps = append(ev.Gaps, errs[0].Error())
		errs[0] = nil
	}
	if len(named) == 0 || errs[0] != nil {
		return errors.Join(errs[:]...)
	}
	return errors.Join(errs[1], f.prove(ctx, named, ev))
}

// nodes does something with every node that the effects speak of, at once, and
// adds the proofs in the order of the nodes.
func (f *Fleet) nodes(effects []nodes.Effect, ev *nodes.Evidence,
	do func(*Controller, nodes.NodeState) ([]nodes.Proof, error)) error {
	var hosts []*host
	for _, h := range f.hosts {
		if slices.ContainsFunc(effects, func(e nodes.Effect) bool { return !e.OnLink() && !e.OnMachine() && e.Node == h.Self.ID }) {
			hosts = append(hosts, h)
		}
	}
	return f.gather(hosts, ev, func(h *host) ([]nodes.Proof, error) { return f.one(h, do) })
}

// gather does something with each of the hosts, at once, and adds the proofs in
// the order of the nodes.
func (f *Fleet) gather(hosts []*host, ev *nodes.Evidence, do func(*host) ([]nodes.Proof, error)) error {
	var mu sync.Mutex
	proofs := map[nodes.ID][]nodes.Proof{}
	err := f.each(hosts, func(h *host) error {
		p, err := do(h)
		mu.Lock()
		defer mu.Unlock()
		proofs[h.Self.ID] = p
		return err
	})
	for _, h := range hosts {
		ev.Proofs = append(ev.Proofs, proofs[h.Self.ID]...)
	}
	return err
}

// one acts on one node. A lost agent is a proof that does not hold.
func (f *Fleet) one(h *host, do func(*Controller, nodes.NodeState) ([]nodes.Proof, error)) ([]nodes.Proof, error) {
	c := h.controller()
	if c == nil {
		return []nodes.Proof{{What: h.Self.ID.String(), How: errLost.Error()}}, nil
	}
	if h.isAway() {
		return []nodes.Proof{{What: h.Self.ID.String(), How: "its machine is wanted down or frozen"}}, nil
	}
	proofs, err := do(c, f.wanted.Node(h.Self.ID))
	if errors.Is(err, errLost) {
		return []nodes.Proof{{What: h.Self.ID.String(), How: err.Error()}}, nil
	}
	return proofs, err
}

func linksOf(effects []nodes.Effect) (out []nodes.Link) {
	for _, e := range effects {
		if l := (nodes.Link{From: e.From, To: e.To}); e.OnLink() && !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// prove probes the named links and, so that the shape of a partition is proven
// and not only its holes, those between nodes that nobody named. What does not
// show at once what is wanted is probed again: a single datagram may get lost.
func (f *Fleet) prove(ctx context.Context, named []nodes.Link, ev *nodes.Evidence) error {
	wanted := f.wanted.Links()
	all := append(slices.Clone(named), f.others(named)...)
	proofs, pending := f.silenced(ctx, all)
	for round := 0; round < probeRounds && len(pending) > 0; round++ {
		seen, err := f.links.Probe(ctx, pending)
		if err != nil {
			return fmt.Errorf("agent: probing links: %w", err)
		}
		pending = pending[:0]
		for _, o := range seen {
			p := judge(wanted[o.Link], o)
			if proofs[o.Link] = p; !p.Holds {
				pending = append(pending, o.Link)
			}
		}
	}
	for _, l := range all {
		p, ok := proofs[l]
		if !ok {
			p = nodes.Proof{What: linkName(l), How: "it was not observed"}
		}
		ev.Proofs = append(ev.Proofs, p)
	}
	return nil
}

// others are the links between nodes that are not named: all of them, or an
// even sample where they are many.
func (f *Fleet) others(named []nodes.Link) (out []nodes.Link) {
	for _, from := range f.hosts {
		for _, to := range f.hosts {
			l := nodes.Link{From: from.Self.ID, To: to.Self.ID}
			if from != to && !slices.Contains(named, l) && from.present() && to.present() {
				out = append(out, l)
			}
		}
	}
	if len(out) <= maxWellProbes {
		return out
	}
	sample := make([]nodes.Link, maxWellProbes)
	for i := range sample {
		sample[i] = out[i*len(out)/maxWellProbes]
	}
	return sample
}
