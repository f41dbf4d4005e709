package nodes

import (
	"cmp"
	"maps"
	"slices"
)

// A Link is the directed way from one member to another; [Clients] stands for
// every client.
type Link struct{ From, To ID }

// A LinkState is what holds on one link: the sum of the effects on it.
type LinkState struct {
	Cut, CutData, Reset bool
	Delay, Jitter       int64 // ns; the sums over all injections
}

// A NodeState is what holds for one node.
type NodeState struct{ Down, Frozen bool }

// Wanted is the state that the controller wants: a set of effects for each live
// injection. Its zero value wants everything to be well.
type Wanted struct{ injections map[string][]Effect }

// Add puts an injection's effects in place of what it had.
func (w *Wanted) Add(injection string, effects []Effect) {
	if w.injections == nil {
		w.injections = map[string][]Effect{}
	}
	w.injections[injection] = slices.Clone(effects)
}

// Remove takes an injection away and returns what it had.
func (w *Wanted) Remove(injection string) []Effect {
	e := w.injections[injection]
	delete(w.injections, injection)
	return e
}

// Effects is what an injection holds now, nil if it is not live.
func (w *Wanted) Effects(injection string) []Effect { return w.injections[injection] }

// Injections names the live injections in order.
func (w *Wanted) Injections() []string { return slices.Sorted(maps.Keys(w.injections)) }

// Node sums what holds for a node.
func (w *Wanted) Node(id ID) (s NodeState) {
	for _, effects := range w.injections {
		for _, e := range effects {
			if !e.OnLink() && e.Node == id {
				s.Down = s.Down || e.Kind == Down
				s.Frozen = s.Frozen || e.Kind == Frozen
			}
		}
	}
	return s
}

// Links sums what holds on every link that is not well.
func (w *Wanted) Links() map[Link]LinkState {
	out := map[Link]LinkState{}
	for _, effects := range w.injections {
		for _, e := range effects {
			if e.OnLink() {
				l := Link{e.From, e.To}
				out[l] = out[l].with(e)
			}
		}
	}
	return out
}

func (s LinkState) with(e Effect) LinkState {
	switch e.Kind {
	case Cut:
		s.Cut = true
	case CutData:
		s.CutData = true
	case Reset:
		s.Reset = true
	case Delayed:
		s.Delay += int64(e.Delay)
		s.Jitter += int64(e.Jitter)
	}
	return s
}

// SortedLinks lists the keys of m by From, then To.
func SortedLinks[V any](m map[Link]V) []Link {
	return slices.SortedFunc(maps.Keys(m), func(a, b Link) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
}
