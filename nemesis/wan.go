package nemesis

import (
	"fmt"
	"time"

	"chaos/nodes"
)

// WAN gives every link the delay, jitter and loss of a place: the argument
// profile names it, else it is drawn from Pick. Which node lives in which region
// is drawn from Pick, too.
type WAN struct{}

// A way is what packets meet between two places, in one direction.
type way struct {
	delay, jitter time.Duration
	perMille      int // of packets that get lost
}

// A profile is a place to run a cluster in.
type profile struct {
	name string
	near way   // within a region
	far  []way // between regions: of the first and second, first and third, second and third; none: there is one region
}

// profiles are in the order of help. The distances of three-regions are those of
// two coasts and another continent, on a bad day.
var profiles = []profile{
	{name: "same-rack", near: way{250 * time.Microsecond, 100 * time.Microsecond, 0}},
	{name: "three-regions", near: way{time.Millisecond, 250 * time.Microsecond, 0}, far: []way{
		{32 * time.Millisecond, 3 * time.Millisecond, 10},
		{38 * time.Millisecond, 4 * time.Millisecond, 10},
		{68 * time.Millisecond, 7 * time.Millisecond, 10},
	}},
	{name: "flaky-wifi", near: way{8 * time.Millisecond, 8 * time.Millisecond, 50}},
}

// Name is "wan".
func (WAN) Name() string { return "wan" }

// About is the line of help.
func (WAN) About() string {
	return "delay, jitter and loss of a place (profile=same-rack, three-regions or flaky-wifi)"
}

// Kinds are delayed and lossy.
func (WAN) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Delayed, nodes.Lossy} }

// Victims is all.
func (WAN) Victims() string { return "all" }

// Effects hurts each link between a victim and another node as the regions of
// both ask.
func (WAN) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only("profile"); err != nil {
		return nil, err
	}
	p, err := findProfile(i)
	if err != nil {
		return nil, err
	}
	region := map[nodes.ID]int{}
	for n, id := range shuffled(draws(i.Pick, saltPlace), i.Members) {
		region[id] = n % 3
	}
	links, err := onLinks(i, nodes.Effect{Kind: nodes.Delayed})
	var out []nodes.Effect
	for _, e := range links {
		w := p.near
		if a, b := region[e.From], region[e.To]; len(p.far) > 0 && a != b {
			w = p.far[a+b-1]
		}
		e.Delay, e.Jitter = w.delay, w.jitter
		out = append(out, e)
		if w.perMille > 0 {
			out = append(out, nodes.Effect{Kind: nodes.Lossy, From: e.From, To: e.To, PerMille: w.perMille})
		}
	}
	return out, err
}

func findProfile(i Injection) (profile, error) {
	name, given := i.Args["profile"]
	if !given {
		return profiles[draws(i.Pick, saltProfile).IntN(len(profiles))], nil
	}
	var names []string
	for _, p := range profiles {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return profile{}, fmt.Errorf("args: profile: there is no %.64q; did you mean %q?", name, nearest(name, names))
}
