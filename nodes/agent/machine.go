package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"chaos/nodes"
)

// A Machine is a host that can be hurt as a whole, from outside: a container.
type Machine interface {
	// Bring makes the machine what s asks for, starts it again where it was
	// down, and proves it from what the system outside shows.
	Bring(ctx context.Context, s nodes.MachineState) ([]nodes.Proof, error)
	// Prove reads whether the machine is what s says, and changes nothing.
	Prove(ctx context.Context, s nodes.MachineState) []nodes.Proof
}

// onMachines lists the hosts whose machines the effects speak of.
func (f *Fleet) onMachines(effects []nodes.Effect) (out []*host) {
	for _, h := range f.hosts {
		if slices.ContainsFunc(effects, func(e nodes.Effect) bool { return e.OnMachine() && e.Node == h.Self.ID }) {
			out = append(out, h)
		}
	}
	return out
}

// machines brings the machines that the effects speak of to what is wanted. One
// that comes back gets its links before its node, so that no fault has a gap.
func (f *Fleet) machines(ctx context.Context, effects []nodes.Effect, ev *nodes.Evidence) error {
	return f.eachMachine(effects, ev, func(h *host) ([]nodes.Proof, error) {
		s := f.wanted.Machine(h.Self.ID)
		if !s.Well() {
			h.leave(s.Frozen)
		}
		proofs, err := h.Machine.Bring(ctx, s)
		if err != nil {
			return proofs, fmt.Errorf("agent: the machine of %s: %w", h.Self.ID, err)
		}
		if s.Well() {
			more, err := f.welcome(ctx, h)
			return append(proofs, more...), err
		}
		return proofs, nil
	})
}

func (f *Fleet) proveMachines(ctx context.Context, effects []nodes.Effect, ev *nodes.Evidence) {
	_ = f.eachMachine(effects, ev, func(h *host) ([]nodes.Proof, error) {
		return h.Machine.Prove(ctx, f.wanted.Machine(h.Self.ID)), nil
	})
}

func (f *Fleet) eachMachine(effects []nodes.Effect, ev *nodes.Evidence, do func(*host) ([]nodes.Proof, error)) error {
	return f.gather(f.onMachines(effects), ev, do)
}

// leave notes that a machine is about to go because we want it so: its agent
// is not lost, and of a frozen one not even slow to answer.
func (h *host) leave(frozen bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away = true
	if frozen && h.ctl != nil {
		h.ctl.asleep.Store(true)
	}
}

// welcome brings the agent of a machine that is well again to what is wanted. An
// agent that only slept goes on; any other is opened anew.
func (f *Fleet) welcome(ctx context.Context, h *host) ([]nodes.Proof, error) {
	id := h.Self.ID
	h.mu.Lock()
	c, away := h.ctl, h.away
	h.mu.Unlock()
	if !away {
		return nil, nil
	}
	woke := false
	if c != nil {
		c.asleep.Store(false)
		_, err := c.Status(ctx)
		if woke = err == nil; !woke {
			c.conn.close(errLost)
		}
	}
	if woke {
		if links := wantOf(id, f.wanted.Links()); f.o.Links == nil {
			if err := c.links(ctx, links); err != nil {
				return nil, fmt.Errorf("agent: the links of %s: %w", id, err)
			}
			h.mu.Lock()
			h.pushed = links
			h.mu.Unlock()
		}
	} else {
		if err := f.open(ctx, h); err != nil {
			return nil, err
		}
		c = h.controller()
	}
	f.attend(h, c, !woke)
	return c.Node(ctx, f.wanted.Node(id), false)
}

// attend ends the time in which the host's agent is missed by nobody. Who
// watched it goes on, unless the agent is a new one or was lost before now.
func (f *Fleet) attend(h *host, c *Controller, fresh bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away = false
	if fresh || h.ctl != c {
		h.ctl = c
		f.work.Add(1)
		go f.watch(h, c)
	}
}

// forget notes that a controller is gone, and tells whether nobody has to bring
// it back: its machine is away, or has a new one already.
func (h *host) forget(c *Controller) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctl != c {
		return true
	}
	h.ctl = nil
	return h.away
}

func (h *host) isAway() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.away
}

// present tells that the host's agent can be asked.
func (h *host) present() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ctl != nil && !h.away
}

// silenced sorts out the links that a machine which is down or frozen leaves
// nothing to observe of: nothing passes there, whatever else is wanted. That it
// is so is asked of the machine each time: somebody else may have woken it.
func (f *Fleet) silenced(ctx context.Context, links []nodes.Link) (map[nodes.Link]nodes.Proof, []nodes.Link) {
	away := map[nodes.ID]nodes.Proof{}
	for _, h := range f.hosts {
		touches := func(l nodes.Link) bool { return l.From == h.Self.ID || l.To == h.Self.ID }
		if h.isAway() && slices.ContainsFunc(links, touches) {
			away[h.Self.ID] = f.proveAway(ctx, h)
		}
	}
	proofs := make(map[nodes.Link]nodes.Proof, len(links))
	var pending []nodes.Link
	for _, l := range links {
		p, ok := away[l.From]
		if to, other := away[l.To]; other && !p.Holds {
			p, ok = to, true
		}
		if !ok {
			pending = append(pending, l)
			continue
		}
		p.What = linkName(l)
		proofs[l] = p
	}
	return proofs, pending
}

// proveAway proves that the machine of a host which should be away is.
func (f *Fleet) proveAway(ctx context.Context, h *host) nodes.Proof {
	s := f.wanted.Machine(h.Self.ID)
	seen := nodes.Evidence{Proofs: h.Machine.Prove(ctx, s)}
	if !s.Well() && seen.Proven() {
		return nodes.Proof{Holds: true, How: fmt.Sprintf("the machine of %s is down or frozen", h.Self.ID)}
	}
	how := fmt.Sprintf("the machine of %s should be down or frozen, and is not proven to be", h.Self.ID)
	return nodes.Proof{How: strings.Join(append([]string{how}, seen.Failures()...), "; ")}
}
