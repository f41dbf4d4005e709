package nemesis

import (
	"errors"
	"time"

	"chaos/nodes"
)

// Slow delays every packet between the victims and the other nodes. With the
// argument delay each directed link waits that long; without it each waits a
// time of its own, drawn from Pick between the arguments min and max. Jitter is
// a quarter of the delay unless it is given.
//
// Loopback answers in a tenth of a millisecond, and a node restarts in fifty:
// protocol bugs need links on which messages overtake a restart. So half of the
// drawn schedules run over such a background from their start to their end.
type Slow struct{}

// The delays of links. SlowMax bounds what an argument may ask for.
const (
	BackgroundMin = 5 * time.Millisecond
	BackgroundMax = 50 * time.Millisecond
	SlowMax       = 10 * time.Second
)

// Name is "slow".
func (Slow) Name() string { return "slow" }

// About is the line of help.
func (Slow) About() string {
	return "delay packets between nodes (delay=20ms jitter=5ms, or min=5ms max=50ms a link)"
}

// Kinds is delayed.
func (Slow) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Delayed} }

// Victims is all.
func (Slow) Victims() string { return "all" }

// Effects delays each directed link that has a victim at one of its ends.
func (Slow) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only("delay", "jitter", "min", "max"); err != nil {
		return nil, err
	}
	low, high, err := delays(i.Args)
	if err != nil {
		return nil, err
	}
	links := map[nodes.Link]bool{}
	for _, l := range both(between(i.Victims, i.Members)) {
		links[l] = l.From != l.To
	}
	r := draws(i.Pick, saltSlow)
	var out []nodes.Effect
	for _, l := range nodes.SortedLinks(links) {
		if !links[l] {
			continue
		}
		d := low + time.Duration(r.Int64N(int64(high-low)+1))
		j, err := i.Args.duration("jitter", d/4, SlowMax)
		if err != nil {
			return nil, err
		}
		out = append(out, nodes.Effect{Kind: nodes.Delayed, From: l.From, To: l.To, Delay: d, Jitter: min(d, j)})
	}
	if len(out) == 0 {
		return nil, errors.New("slow needs at least 2 nodes")
	}
	return out, nil
}

// delays reads the range that each link's delay is drawn from.
func delays(a Args) (low, high time.Duration, err error) {
	_, lowGiven := a["min"]
	_, highGiven := a["max"]
	if _, fixed := a["delay"]; fixed {
		if lowGiven || highGiven {
			return 0, 0, errors.New("args: delay is fixed, min and max are drawn between: give one or the other")
		}
		low, err = a.duration("delay", 0, SlowMax)
		return low, low, err
	}
	if low, err = a.duration("min", BackgroundMin, SlowMax); err != nil {
		return 0, 0, err
	}
	if high, err = a.duration("max", max(low, BackgroundMax), SlowMax); err != nil {
		return 0, 0, err
	}
	if low > high {
		return 0, 0, errors.New("args: min is more than max")
	}
	return low, high, nil
}
