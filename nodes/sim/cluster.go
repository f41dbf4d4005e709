package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"chaos/nodes"
)

// A Provider is the simulation as a place for clusters.
type Provider struct{}

// Name is "sim".
func (Provider) Name() string { return "sim" }

// Probe says that every effect can be had but those that only relays and packets know.
func (Provider) Probe(context.Context, nodes.Options) nodes.Abilities {
	a := nodes.Abilities{Network: "virtual", Effects: map[nodes.EffectKind]error{
		nodes.Reset: errors.New("simulated nodes exchange messages, and have no connections to reset: leave reset out"),
	}}
	for _, k := range []nodes.EffectKind{nodes.Down, nodes.Frozen, nodes.Cut, nodes.CutData, nodes.Delayed, nodes.Lossy,
		nodes.Duplicated, nodes.Reordered, nodes.Limited, nodes.MachineDown, nodes.MachineFrozen,
		nodes.Skewed, nodes.DiskFails, nodes.Damaged} {
		a.Effects[k] = nil
	}
	return a
}

// Launch is not how simulated clusters start: they have no time of their own.
func (Provider) Launch(context.Context, nodes.System, nodes.Options) (nodes.Cluster, error) {
	return nil, errors.New("sim: a simulated cluster is made by New and moved on by Step")
}

var _ nodes.Cluster = (*World)(nil)

// Members lists the nodes.
func (w *World) Members() []nodes.Member { return w.members }

// Dial is an error: clients of a world are made by [World.Client].
func (w *World) Dial(context.Context, nodes.Member, nodes.Port) (net.Conn, error) {
	return nil, errors.New("sim: there are no sockets in a simulation")
}

// Incidents is empty: see [World.News].
func (w *World) Incidents() <-chan nodes.Incident { return nil }

// Close does nothing: there is nothing to leave behind.
func (w *World) Close(context.Context) error { return nil }

// A seal is what was true when an injection was applied: whether it held since
// then is told by comparing.
type seal struct {
	at   int64
	lost []uint64
}

// Apply adds the effects, and reads from the world that they hold.
func (w *World) Apply(_ context.Context, injection string, effects []nodes.Effect) (nodes.Evidence, error) {
	defer w.rescue()
	for _, e := range effects {
		if !e.Bounded() {
			return nodes.Evidence{}, fmt.Errorf("sim: %s is out of bounds", e)
		}
	}
	w.wanted.Add(injection, effects)
	w.trace(0, TraceFault, "%s: %s", injection, list(effects))
	w.seals[injection] = w.sealed()
	w.bring()
	return w.prove(injection, effects, true), nil
}

// Verify reads again that the effects hold, and that they did throughout.
func (w *World) Verify(_ context.Context, injection string) (nodes.Evidence, error) {
	return w.prove(injection, w.wanted.Effects(injection), true), nil
}

// Revert takes the injection away.
func (w *World) Revert(_ context.Context, injection string) (nodes.Evidence, error) {
	defer w.rescue()
	gone := w.wanted.Remove(injection)
	w.trace(0, TraceHealed, "%s ends", injection)
	w.bring()
	e := w.prove(injection, gone, false)
	delete(w.seals, injection)
	return e, nil
}

func list(effects []nodes.Effect) string {
	s := ""
	for i, e := range effects {
		if i > 0 {
			s += ", "
		}
		s += e.String()
	}
	return s
}

func (w *World) sealed() (s seal) {
	s.at = w.now
	for i := range w.links {
		s.lost = append(s.lost, w.links[i].lost)
	}
	return s
}

// bring makes hosts and links what the sum of all injections wants.
func (w *World) bring() {
	wanted := w.wanted.Links()
	for from := range w.options.Nodes + 1 {
		for to := range w.options.Nodes + 1 {
			l := w.link(nodes.ID(from), nodes.ID(to))
			l.LinkState = wanted[nodes.Link{From: nodes.ID(from), To: nodes.ID(to)}]
		}
	}
	for _, h := range w.hosts[1:] {
		w.bringHost(h)
	}
}

func (w *World) wantsDown(id nodes.ID) bool {
	return w.wanted.Node(id).Down || w.wanted.Machine(id).Down || w.wanted.Trouble(id).Damaged
}

func (w *World) bringHost(h *host) {
	machine, trouble := w.wanted.Machine(h.id), w.wanted.Trouble(h.id)
	h.disk.failing = trouble.DiskFails
	if h.wrong != trouble.Skew {
		h.wrong = trouble.Skew
		h.tune()
	}
	h.harm(trouble.Damaged)
	switch down := w.wantsDown(h.id); {
	case down && h.node != nil:
		h.kill(machine.Down || w.options.Settings.Power)
	case !down && h.node == nil && !h.disk.failing:
		h.start()
	}
	w.bringPause(h)
}

// bringPause freezes a node that is wanted frozen, before it does anything, and
// lets others go on.
func (w *World) bringPause(h *host) {
	frozen := w.wanted.Node(h.id).Frozen || w.wanted.Machine(h.id).Frozen
	switch {
	case h.node == nil:
	case frozen && !h.frozen:
		w.trace(h.id, TraceFrozen, "is frozen")
		h.frozen = true
	case !frozen && h.frozen:
		w.trace(h.id, TraceUp, "goes on")
		h.thaw()
	}
}

// prove reads the state of the world. holds says what was asked for.
func (w *World) prove(injection string, effects []nodes.Effect, holds bool) (out nodes.Evidence) {
	s, known := w.seals[injection]
	out.Proofs = make([]nodes.Proof, 0, len(effects))
	for i, e := range effects {
		// What another injection wants, too, still holds after a revert: that is right.
		ok := w.holds(e) == holds || !holds && w.elsewhere(e)
		p := nodes.Proof{Holds: ok}
		if i < toldMax || !ok {
			p.What, p.How = e.String(), w.how(e, s)
		}
		out.Proofs = append(out.Proofs, p)
	}
	if known {
		out.Took = time.Duration(w.now - s.at)
	}
	return out
}

// toldMax is how many proofs of one injection are put into words.
const toldMax = 12

// elsewhere tells whether another injection keeps in place what e did.
func (w *World) elsewhere(e nodes.Effect) bool {
	for _, name := range w.wanted.Injections() {
		for _, o := range w.wanted.Effects(name) {
			if o.Node == e.Node && o.From == e.From && o.To == e.To && slices.Contains(alike(e.Kind), o.Kind) {
				return true
			}
		}
	}
	return false
}

// alike lists the kinds of effects that look like k from outside.
func alike(k nodes.EffectKind) []nodes.EffectKind {
	switch k {
	case nodes.Down, nodes.MachineDown: // nor does a node start on a bad disk
		return []nodes.EffectKind{nodes.Down, nodes.MachineDown, nodes.Damaged, nodes.DiskFails}
	case nodes.Frozen, nodes.MachineFrozen:
		return []nodes.EffectKind{nodes.Frozen, nodes.MachineFrozen}
	}
	return []nodes.EffectKind{k}
}

// holds tells whether an effect holds now.
func (w *World) holds(e nodes.Effect) bool {
	if e.OnLink() {
		return w.link(e.From, e.To).holds(e.Kind)
	}
	h := w.hosts[e.Node]
	switch e.Kind {
	case nodes.Down, nodes.MachineDown:
		return h.node == nil
	case nodes.Frozen, nodes.MachineFrozen:
		return h.node != nil && h.frozen
	case nodes.Skewed:
		return h.wrong != 0
	case nodes.DiskFails:
		return h.disk.failing
	case nodes.Damaged:
		return h.damaged != nil
	}
	return false
}

func (l *link) holds(k nodes.EffectKind) bool {
	switch k {
	case nodes.Cut:
		return l.Cut
	case nodes.CutData:
		return l.CutData
	case nodes.Delayed:
		return l.Delay > 0
	case nodes.Lossy:
		return l.Lossy > 0
	case nodes.Duplicated:
		return l.Duplicated > 0
	case nodes.Reordered:
		return l.Reordered > 0
	case nodes.Limited:
		return l.Rate > 0
	}
	return false
}

// how tells what was read of an effect's place.
func (w *World) how(e nodes.Effect, s seal) string {
	if e.OnLink() {
		return w.howLink(e, s)
	}
	h := w.hosts[e.Node]
	switch e.Kind {
	case nodes.Skewed:
		return fmt.Sprintf("a tick takes %s", time.Duration(h.period))
	case nodes.DiskFails:
		return fmt.Sprintf("writes fail: %t; %s", h.disk.failing, h.state())
	case nodes.Damaged:
		return h.damage()
	}
	return fmt.Sprintf("incarnation %d %s", h.incarnation, h.state())
}

func (h *host) state() string {
	switch {
	case h.node == nil && h.refused != nil:
		return "could not start: " + h.refused.Error()
	case h.node == nil:
		return "has ended"
	case h.frozen:
		return "is frozen"
	}
	return "runs"
}

func (w *World) howLink(e nodes.Effect, s seal) string {
	l := w.link(e.From, e.To)
	how := "the link is " + l.LinkState.String()
	if i := int(e.From)*(w.options.Nodes+1) + int(e.To); len(s.lost) > i {
		how += fmt.Sprintf(", and has swallowed %d messages since", l.lost-s.lost[i])
	}
	return how
}
