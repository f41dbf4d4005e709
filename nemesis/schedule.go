package nemesis

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// The bounds of schedules.
const (
	StepsMax        = 10_000
	WindowMin       = 600 * time.Millisecond // no drawn window of a plain fault is shorter, unless the storm is
	electionDefault = 400 * time.Millisecond
	windowLeast     = 3               // election time-outs
	windowMost      = 10              // election time-outs
	electionTrips   = 2               // one-way trips of an election that count
	machineLeast    = 3 * time.Second // a machine takes its time to go, to come, and to be missed
	gapElections    = 2               // election time-outs between two acts, in which the cluster recovers
	actsMax         = 2_000
)

// Background is the recipe of the delays that last for the whole storm. Their
// window is the run itself, so it is not one to count invocations in.
const Background = "background"

// Options say what to draw.
type Options struct {
	Duration   time.Duration // of the storm; 2 s at least for a schedule that means something
	Faults     []Fault       // each appears at least once; partition in several shapes
	Nodes      int           // members; what so few can't suffer is left out
	Election   time.Duration // the system's longest election time-out; default 400 ms
	Recipes    bool          // weave in the compound recipes that the faults allow
	Background bool          // links can be slowed: half of the draws then run over delays of 5 to 50 ms a link
}

// Draw makes a schedule. First come the windows that were asked for, paired
// where time is short, then recipes, then more windows, until the storm is
// full; their order is drawn. Between two acts lies a gap in which the cluster
// recovers. Every injection is healed before the storm ends.
func Draw(r *rand.Rand, o Options) Schedule {
	var slowest time.Duration // of all links, for the whole storm
	if o.Background && o.Nodes > 1 && r.IntN(2) == 0 {
		slowest = BackgroundMin + time.Duration(r.Int64N(int64((BackgroundMax-BackgroundMin)/time.Millisecond)))*time.Millisecond
	}
	d := newDrawer(r, o, slowest)
	acts := d.acts()
	r.Shuffle(len(acts), func(a, b int) { acts[a], acts[b] = acts[b], acts[a] })
	steps := d.lay(acts)
	if slowest > 0 {
		steps = append(steps, d.background(slowest)...)
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return number(steps)
}

// A drawer holds what one draw goes by.
type drawer struct {
	r        *rand.Rand
	o        Options
	names    []string // the faults that are possible
	election time.Duration
	gap      time.Duration
	lead     time.Duration // before the first act
	shapes   deck[string]
	faults   deck[string]
	next     int // the number of the next injection, until they get their names
	budget   time.Duration
	count    int  // steps so far
	single   bool // kill and pause overlap now
}

// An act is a group of steps whose At counts from its own start.
type act struct {
	steps  []Step
	length time.Duration // with all waits at their longest
	recipe string
}

func newDrawer(r *rand.Rand, o Options, slowest time.Duration) *drawer {
	d := &drawer{r: r, o: o, election: o.Election}
	if d.election <= 0 {
		d.election = electionDefault
	}
	// An election takes some round trips, and clients get less done: over slow
	// links windows have to be longer to show as much.
	d.election += electionTrips * slowest
	d.gap = max(WindowMin, gapElections*d.election)
	d.lead = min(max(300*time.Millisecond, d.election), o.Duration/10)
	d.budget = o.Duration - d.lead - o.Duration/50
	for _, f := range o.Faults {
		if fits(f.Name(), o.Nodes) && !slices.Contains(d.names, f.Name()) {
			d.names = append(d.names, f.Name())
		}
	}
	d.faults = deck[string]{r: r, cards: d.names}
	d.shapes.r = r
	for _, s := range shapesFor(o.Nodes) {
		d.shapes.cards = append(d.shapes.cards, s.Name())
	}
	return d
}

// fits tells whether a cluster of n members can suffer the fault.
func fits(fault string, n int) bool {
	for _, s := range shapes {
		if s.Name() == fault {
			return n >= s.least
		}
	}
	if fault == (Swizzle{}).Name() {
		return n >= swizzleLeast
	}
	return n >= 2 || n == 1 && !slices.Contains(onLinkFaults, fault)
}

// onLinkFaults need two nodes, for a link to be between them.
var onLinkFaults = []string{Slow{}.Name(), Partition{}.Name(), Lossy{}.Name(), Duplicate{}.Name(), Reorder{}.Name(),
	Throttle{}.Name(), WAN{}.Name(), Reset{}.Name()}

// Fits says why a cluster of n members can't suffer the fault; nil when it can.
func Fits(f Fault, n int) error {
	if fits(f.Name(), n) {
		return nil
	}
	least := 2
	if f.Name() == (Swizzle{}).Name() {
		least = swizzleLeast
	}
	for _, s := range shapes {
		if s.Name() == f.Name() {
			least = s.least
		}
	}
	return fmt.Errorf("fault %s needs at least %d nodes, and there are %d", f.Name(), least, n)
}

// acts chooses what happens, as much as the time holds.
func (d *drawer) acts() []act {
	if len(d.names) == 0 || d.budget <= 0 {
		return nil
	}
	out := d.asked()
	left := d.budget
	for _, a := range out {
		left -= a.length + d.gap
		d.count += len(a.steps)
	}
	left += d.gap // none is needed after the last
	add := func(a act) {
		if a.length+d.gap <= left && d.count+len(a.steps) <= StepsMax-2 && len(out) < actsMax {
			out, left, d.count = append(out, a), left-a.length-d.gap, d.count+len(a.steps)
		}
	}
	for _, n := range d.r.Perm(len(recipes)) {
		d.recipe(recipes[n], add)
	}
	for miss := 0; miss < 3 && left > 0; { // three that don't fit end it
		before := len(out)
		n := d.r.IntN(2 * len(recipes))
		switch {
		case n >= len(recipes):
			add(d.plain(1 + d.r.IntN(2)))
		case d.ways(recipes[n]) == nil:
			continue // what the faults don't allow says nothing of the room that is left
		default:
			d.recipe(recipes[n], add)
		}
		if len(out) == before {
			miss++
		}
	}
	return out
}

// asked makes a window for each fault asked for, and for partition several,
// one after the other if that leaves time for recipes, else in pairs, else all
// at once.
func (d *drawer) asked() []act {
	var names []string
	for _, n := range d.names {
		times := 1
		if n == (Partition{}).Name() {
			times = min(2+d.r.IntN(2), len(d.shapes.cards))
		}
		for range times {
			names = append(names, n)
		}
	}
	d.r.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
	for _, together := range []int{1, 2, 3, len(names)} {
		var out []act
		var sum time.Duration
		for part := range slices.Chunk(names, together) {
			out = append(out, d.overlapped(part))
			sum += out[len(out)-1].length + d.gap
		}
		if sum < d.budget/3 || together == 3 && sum <= d.budget || together >= len(names) {
			return out
		}
	}
	panic("nemesis: unreachable: the last grouping is always taken")
}

// onNodeFaults hurt a node itself: where two of them overlap each takes one victim.
var onNodeFaults = []string{Kill{}.Name(), Pause{}.Name(), MachineKill{}.Name(), MachinePause{}.Name(),
	DiskFails{}.Name(), Damage{}.Name()}

func distinctOnNodes(names []string) (n int) {
	for _, f := range onNodeFaults {
		if slices.Contains(names, f) {
			n++
		}
	}
	return n
}

// plain draws windows of that many faults, overlapping.
func (d *drawer) plain(count int) act {
	var names []string
	for range count {
		names = append(names, d.faults.draw())
	}
	return d.overlapped(names)
}

// overlapped makes a window for each name, or the row of them that it stands for; each but the first begins while the
// one before it lives. A node that is down can't be paused, so where both are
// drawn each takes one victim, and Resolve finds the second another one.
func (d *drawer) overlapped(names []string) act {
	var a act
	d.single = distinctOnNodes(names) > 1
	var start time.Duration
	for _, n := range names {
		var w time.Duration
		var steps []Step
		if n == (Swizzle{}).Name() {
			steps, w = d.swizzle()
		} else {
			w = d.window()
			if n == (MachineKill{}).Name() || n == (MachinePause{}).Name() {
				w = min(d.budget, max(w, machineLeast))
			}
			inject := d.inject(0, n)
			steps = []Step{inject, {ID: inject.ID, At: w, Action: Heal}}
		}
		start = max(0, min(start, d.budget-w))
		for _, s := range steps {
			s.At += start
			a.steps = append(a.steps, s)
		}
		a.length = max(a.length, start+w)
		start += w/4 + d.upTo(w/2)
	}
	return a
}

// window draws how long a plain fault lives.
func (d *drawer) window() time.Duration {
	least := max(WindowMin, windowLeast*d.election)
	most := max(least, min(windowMost*d.election, d.o.Duration/15))
	return min(d.budget, least+d.upTo(most-least))
}

// upTo draws whole milliseconds from 0 to t.
func (d *drawer) upTo(t time.Duration) time.Duration {
	ms := max(0, t.Milliseconds())
	return time.Duration(d.r.Int64N(ms+1)) * time.Millisecond
}

// inject draws the step that brings a fault about.
func (d *drawer) inject(at time.Duration, name string) Step {
	if name == (Partition{}).Name() {
		name = d.shapes.draw()
	}
	d.next++
	s := Step{ID: strconv.Itoa(d.next), At: at, Action: Inject, Fault: name, Victims: d.rule(name), Pick: d.pick()}
	if name == (Slow{}).Name() {
		delay := 10*time.Millisecond + d.upTo(20*time.Millisecond)
		s.Args = Args{"delay": delay.String(), "jitter": d.upTo(delay / 2).String()}
	} else if args := d.weatherArgs(name); args != nil {
		s.Args = args
	}
	return s
}

// pick draws a number that other languages read from JSON unharmed.
func (d *drawer) pick() uint64 { return d.r.Uint64() >> 11 }

// rule draws whom to hurt. The leader is named often: what it does wrong shows.
func (d *drawer) rule(fault string) string {
	choice := map[string][]string{
		"kill":                   {"leader", "leader", "one", "follower", "minority", "majority", "all"},
		"pause":                  {"leader", "leader", "leader", "one", "follower", "minority", "majority"},
		"clock":                  {"leader", "leader", "one", "minority"},
		"disk-fails":             {"leader", "one", "follower", "minority"},
		"machine-kill":           {"leader", "one", "follower", "minority"},
		"machine-pause":          {"leader", "leader", "one", "follower", "minority"},
		"partition-one":          {"one", "leader", "follower"},
		"partition-one-way":      {"leader", "leader", "follower"},
		"partition-one-way-data": {"leader", "leader", "follower"},
		"partition-bridge":       {"one", "leader", "follower"},
		"slow":                   {"all", "all", "leader", "one"},
		"lossy":                  {"all", "all", "leader", "one", "minority"},
		"duplicate":              {"all", "all", "leader"},
		"reorder":                {"all", "all", "leader"},
		"throttle":               {"all", "leader", "one"},
		"reset":                  {"leader", "one", "follower", "minority"},
	}[fault]
	choice = slices.DeleteFunc(choice, func(rule string) bool {
		many := rule == "minority" || rule == "majority" || rule == "all"
		onNode := slices.Contains(onNodeFaults, fault)
		return d.o.Nodes < 3 && rule == "minority" || d.o.Nodes < 2 && rule == "follower" ||
			d.single && onNode && (many || d.o.Nodes < 3 && rule == "follower")
	})
	if len(choice) == 0 {
		f, err := Find(fault)
		if err != nil {
			panic(fmt.Sprintf("nemesis: drew fault %q, which does not exist", fault))
		}
		return f.Victims()
	}
	return choice[d.r.IntN(len(choice))]
}

// background delays all links from the start of the storm to its end.
func (d *drawer) background(slowest time.Duration) []Step {
	return []Step{
		{ID: Background, Action: Inject, Fault: Slow{}.Name(), Victims: "all", Pick: d.pick(), Recipe: Background,
			Args: Args{"min": BackgroundMin.String(), "max": slowest.String()}},
		{ID: Background, At: d.o.Duration, Action: Heal, Recipe: Background},
	}
}

// lay puts the acts one after the other and shares out the time that is left.
func (d *drawer) lay(acts []act) []Step {
	slack := d.budget + d.gap
	for _, a := range acts {
		slack -= a.length + d.gap
	}
	if slack < 0 && len(acts) > 1 {
		panic(fmt.Sprintf("nemesis: %d acts are %s longer than the storm of %s", len(acts), -slack, d.o.Duration))
	}
	var out []Step
	at := d.lead
	for i, a := range acts {
		share := d.upTo(2 * slack / time.Duration(len(acts)-i+1))
		share = max(0, min(share, slack))
		slack -= share
		at += share
		for _, s := range a.steps {
			s.At += at
			if a.recipe != "" {
				s.Recipe = a.recipe + "/" + strconv.Itoa(i) // until number names it
			}
			out = append(out, s)
		}
		at += a.length + d.gap
	}
	return out
}

// number names injections by fault and recipes by kind, in order of time:
// kill-1, kill-2, stale-reads-1.
func number(steps []Step) Schedule {
	ids, recipes, counts := map[string]string{}, map[string]string{}, map[string]int{}
	name := func(known map[string]string, key, kind string) string {
		if _, ok := known[key]; !ok {
			counts[kind]++
			known[key] = kind + "-" + strconv.Itoa(counts[kind])
		}
		return known[key]
	}
	for i := range steps {
		s := &steps[i]
		if s.Recipe == Background {
			s.ID = Background + "-1"
			continue
		}
		s.ID = name(ids, s.ID, s.Fault)
		if s.Recipe != "" {
			s.Recipe = name(recipes, s.Recipe, s.Recipe[:slices.Index([]byte(s.Recipe), '/')])
		}
	}
	return steps
}

// A deck deals its cards in drawn order, and all of them before any again.
type deck[T any] struct {
	r     *rand.Rand
	cards []T
	dealt []int
}

func (k *deck[T]) draw() T {
	if len(k.dealt) == 0 {
		k.dealt = k.r.Perm(len(k.cards))
	}
	c := k.cards[k.dealt[0]]
	k.dealt = k.dealt[1:]
	return c
}

// LongestPause is how long a node may stay frozen under the schedule: what the
// time-outs of writers must outlast. Overlapping windows are not added up.
func (s Schedule) LongestPause() time.Duration {
	var longest time.Duration
	since, wait := map[string]time.Duration{}, map[string]time.Duration{}
	for _, st := range s {
		if st.Action == Inject && (st.Fault == Pause{}.Name() || st.Fault == MachinePause{}.Name()) {
			since[st.ID] = st.At
		}
		for id := range since {
			wait[id] += st.Within
		}
		if at, ok := since[st.ID]; ok && st.Action == Heal {
			longest = max(longest, st.At-at+wait[st.ID])
			delete(since, st.ID)
		}
	}
	return longest
}
