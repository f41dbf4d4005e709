package nodes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Link is the directed way from one member to another; [Clients] stands for
// every client.
type Link struct{ From, To ID }

// A LinkState is what holds on one link: the sum of the effects on it, which
// does not depend on their order. Delays, jitters and chances add up, a chance
// to at most [PerMilleMax]; of holds the longest counts, of rates the least.
type LinkState struct {
	Cut, CutData, Reset          bool
	Delay, Jitter                int64 // ns
	Lossy, Duplicated, Reordered int   // per mille of the packets
	Hold                         int64 // ns that a reordered packet waits longer
	Rate                         int64 // bytes a second; 0: not limited
}

// Weather tells whether single packets meet different fates on the link, or
// its rate is limited.
func (s LinkState) Weather() bool {
	return s.Lossy > 0 || s.Duplicated > 0 || s.Reordered > 0 || s.Rate > 0
}

// String reads "cut", "delayed 20ms±5ms, lossy 2.5%", or "well".
func (s LinkState) String() string {
	var out []string
	add := func(holds bool, format string, args ...any) {
		if holds {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(s.Cut, "%s", Cut)
	add(s.CutData, "%s", CutData)
	add(s.Reset, "%s", Reset)
	add(s.Delay > 0 || s.Jitter > 0, "%s %s±%s", Delayed, time.Duration(s.Delay), time.Duration(s.Jitter))
	add(s.Lossy > 0, "%s %s", Lossy, Percent(s.Lossy))
	add(s.Duplicated > 0, "%s %s", Duplicated, Percent(s.Duplicated))
	add(s.Reordered > 0, "%s %s by %s", Reordered, Percent(s.Reordered), time.Duration(s.Hold))
	add(s.Rate > 0, "%s %s", Limited, Rate(s.Rate))
	if len(out) == 0 {
		return "well"
	}
	return strings.Join(out, ", ")
}

// Percent writes a number of parts in a thousand: "2.5%".
func Percent(perMille int) string {
	if perMille%10 == 0 {
		return fmt.Sprintf("%d%%", perMille/10)
	}
	return fmt.Sprintf("%d.%d%%", perMille/10, perMille%10)
}

// Rate writes a number of bytes a second: "100kB/s".
func Rate(bytes int64) string {
	switch {
	case bytes%1_000_000 == 0:
		return fmt.Sprintf("%dMB/s", bytes/1_000_000)
	case bytes%1_000 == 0:
		return fmt.Sprintf("%dkB/s", bytes/1_000)
	}
	return fmt.Sprintf("%dB/s", bytes)
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
	case Lossy:
		s.Lossy = min(s.Lossy+e.PerMille, PerMilleMax)
	case Duplicated:
		s.Duplicated = min(s.Duplicated+e.PerMille, PerMilleMax)
	case Reordered:
		s.Reordered = min(s.Reordered+e.PerMille, PerMilleMax)
		s.Hold = max(s.Hold, int64(e.Delay))
	case Limited:
		if s.Rate == 0 || e.Rate < s.Rate {
			s.Rate = e.Rate
		}
	}
	return s
}

// SortedLinks lists the keys of m by From, then To.
func SortedLinks[V any](m map[Link]V) []Link {
	return slices.SortedFunc(maps.Keys(m), func(a, b Link) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
}
