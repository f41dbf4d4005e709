package sim

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/consensus"
)

// posted is how many messages a network test sends.
const posted = 4000

// exchange sends messages from n1 to n2, one each time so much time has passed,
// and returns when each left and what arrived.
func exchange(t *testing.T, s Settings, gap time.Duration, effects []nodes.Effect, edit func(w *World)) (left []time.Duration, arrived []arrival) {
	t.Helper()
	w, story := toyWorld(t, 7, 3, s, nil)
	if len(effects) > 0 {
		if e, err := w.Apply(context.Background(), "weather", effects); err != nil || !e.Proven() {
			t.Fatalf("%v, %v", e, err)
		}
	}
	if edit != nil {
		edit(w)
	}
	run(t, w, 20*time.Millisecond)
	for n := range posted {
		run(t, w, gap)
		left = append(left, w.Now())
		send(w, 1, 2, fmt.Sprintf("%05d", n))
	}
	run(t, w, 5*time.Second)
	return left, story.arrived
}

// send posts a message of a node at this moment.
func send(w *World, from, to nodes.ID, text string) {
	h := w.hosts[from]
	h.clock = max(h.clock, w.now)
	w.post(h, to, w.crew.(*typedCrew[string, string, *tale]).messages.put(text))
}

func number(a arrival) (n int) { fmt.Sscanf(a.message, "%d", &n); return n }

// fates counts what became of messages.
type fates struct {
	lost, doubled, overtaken int
	least, most              time.Duration // on their way
	slow                     int           // took longer than 10 ms
}

func fatesOf(left []time.Duration, arrived []arrival) (f fates) {
	times := make([]int, len(left))
	f.least = time.Hour
	newest := -1
	for _, a := range arrived {
		n := number(a)
		times[n]++
		took := a.at - left[n]
		f.least, f.most = min(f.least, took), max(f.most, took)
		if took > 10*time.Millisecond {
			f.slow++
		}
		if n < newest {
			f.overtaken++
		}
		newest = max(newest, n)
	}
	for _, n := range times {
		if n == 0 {
			f.lost++
		}
		if n > 1 {
			f.doubled++
		}
	}
	return f
}

// about tells whether a count fits a chance in a thousand: within five standard deviations.
func about(count, perMille int) bool {
	off := count*1000 - posted*perMille
	return off*off <= 25*posted*perMille*(1000-perMille)
}

const ms = time.Millisecond

// What is asked of the network is what it does, as seen over many messages.
func TestNetwork(t *testing.T) {
	on := func(k nodes.EffectKind, e nodes.Effect) []nodes.Effect {
		e.Kind, e.From, e.To = k, 1, 2
		return []nodes.Effect{e}
	}
	plain := Settings{Latency: 1000, Sync: 1, Segment: segmentMin}
	with := func(edit func(*Settings)) Settings {
		s := plain
		edit(&s)
		return s
	}
	for name, c := range map[string]struct {
		s       Settings
		effects []nodes.Effect
		edit    func(*World)
		right   func(f fates) bool
	}{
		"plain": {plain, nil, nil, func(f fates) bool { return f == fates{least: ms, most: ms} }},
		"spread": {with(func(s *Settings) { s.Spread = 3000 }), nil, nil, func(f fates) bool {
			return f.least < ms*11/10 && f.least >= ms && f.most < 4*ms && f.most > 39*ms/10 && f.overtaken > 100 && f.lost+f.doubled == 0
		}},
		"ordered":  {with(func(s *Settings) { s.Spread, s.Ordered = 3000, true }), nil, nil, func(f fates) bool { return f.overtaken == 0 && f.least >= ms && f.most < 4*ms && f.lost+f.doubled == 0 }},
		"slow":     {with(func(s *Settings) { s.Slow, s.SlowBy = 100, 50_000 }), nil, nil, func(f fates) bool { return about(f.slow, 100) && f.most == 51*ms && f.lost == 0 }},
		"lossy":    {with(func(s *Settings) { s.Lossy = 250 }), nil, nil, func(f fates) bool { return about(f.lost, 250) && f.doubled == 0 }},
		"doubled":  {with(func(s *Settings) { s.Doubled = 250 }), nil, nil, func(f fates) bool { return about(f.doubled, 250) && f.lost == 0 }},
		"calm":     {with(func(s *Settings) { s.Lossy, s.Doubled, s.Slow, s.SlowBy = 500, 500, 500, 50_000 }), nil, func(w *World) { w.Calm([]nodes.ID{1, 2}) }, func(f fates) bool { return f == fates{least: ms, most: ms} }},
		"not calm": {with(func(s *Settings) { s.Lossy = 500 }), nil, func(w *World) { w.Calm([]nodes.ID{1, 3}) }, func(f fates) bool { return about(f.lost, 500) }},
		"calm leaves injections": {with(func(s *Settings) { s.Lossy = 500 }), on(nodes.Lossy, nodes.Effect{PerMille: 100}), func(w *World) { w.Calm([]nodes.ID{1, 2}) },
			func(f fates) bool { return about(f.lost, 100) }},
		"effect lossy":   {plain, on(nodes.Lossy, nodes.Effect{PerMille: 300}), nil, func(f fates) bool { return about(f.lost, 300) && f.doubled == 0 }},
		"effect doubled": {plain, on(nodes.Duplicated, nodes.Effect{PerMille: 300}), nil, func(f fates) bool { return about(f.doubled, 300) && f.lost == 0 }},
		"effect delayed": {plain, on(nodes.Delayed, nodes.Effect{Delay: 20 * ms, Jitter: 5 * ms}), nil, func(f fates) bool {
			return f.least >= 16*ms && f.least < 17*ms && f.most <= 26*ms && f.most > 25*ms && f.lost == 0
		}},
		"effect reordered": {plain, on(nodes.Reordered, nodes.Effect{PerMille: 200, Delay: 20 * ms}), nil, func(f fates) bool {
			return about(f.slow, 200) && f.most == 21*ms && f.overtaken > 0 && f.lost == 0
		}},
		"effect reordered overtakes even so": {with(func(s *Settings) { s.Ordered = true }), on(nodes.Reordered, nodes.Effect{PerMille: 200, Delay: 20 * ms}), nil, func(f fates) bool {
			return about(f.slow, 200) && f.most == 21*ms && f.overtaken > 0 && f.lost == 0
		}},
		"effect cut":       {plain, on(nodes.Cut, nodes.Effect{}), nil, func(f fates) bool { return f.lost == posted }},
		"effect cut data":  {plain, on(nodes.CutData, nodes.Effect{}), nil, func(f fates) bool { return f.lost == posted }},
		"the other way":    {plain, []nodes.Effect{{Kind: nodes.Cut, From: 2, To: 1}}, nil, func(f fates) bool { return f.lost == 0 }},
		"the other node's": {plain, []nodes.Effect{{Kind: nodes.Cut, From: 1, To: 3}, {Kind: nodes.Cut, From: 3, To: 2}}, nil, func(f fates) bool { return f.lost == 0 }},
	} {
		left, arrived := exchange(t, c.s, 500*time.Microsecond, c.effects, c.edit)
		if f := fatesOf(left, arrived); !c.right(f) {
			t.Errorf("%s: of %d messages %+v", name, posted, f)
		}
	}
}

// A limited link lets its rate pass and no more, and drops what would wait too long.
func TestNetworkRate(t *testing.T) {
	const rate = nodes.RateMin
	left, arrived := exchange(t, Settings{Latency: 1000, Sync: 1, Segment: segmentMin}, 100*time.Microsecond, []nodes.Effect{{Kind: nodes.Limited, From: 1, To: 2, Rate: rate}}, nil)
	each := time.Duration(packetHead+5) * time.Second / rate
	for i := 1; i < len(arrived); i++ {
		if gap := arrived[i].at - arrived[i-1].at; gap < each-1 {
			t.Fatalf("message %d arrives %s behind the one before it; %s is what the rate allows", number(arrived[i]), gap, each)
		}
	}
	f := fatesOf(left, arrived)
	span := left[posted-1] - left[0] + time.Duration(queueMax)
	if got, want := len(arrived), int(span/each); got < want-2 || got > want+2 || f.overtaken > 0 {
		t.Errorf("%d messages arrived, want about %d; %+v", got, want, f)
	}
	if f.most > time.Duration(queueMax)+each+2*ms {
		t.Errorf("a message waited %s", f.most)
	}
}

// A link that is cut while a message is under way swallows it, and one that is
// mended before lets it pass.
func TestNetworkCutUnderWay(t *testing.T) {
	w, story := toyWorld(t, 1, 3, Settings{Latency: 5000, Sync: 1, Segment: segmentMin}, nil)
	ctx := context.Background()
	send(w, 1, 2, "cut under way")
	run(t, w, 2*ms)
	w.Apply(ctx, "cut", []nodes.Effect{{Kind: nodes.Cut, From: 1, To: 2}})
	send(w, 1, 2, "cut at the start")
	send(w, 2, 1, "other way")
	run(t, w, 20*ms)
	w.Revert(ctx, "cut")
	send(w, 1, 2, "after")
	run(t, w, 2*ms)
	w.Apply(ctx, "cut", []nodes.Effect{{Kind: nodes.CutData, From: 1, To: 2}})
	w.Revert(ctx, "cut")
	run(t, w, 20*ms)
	if got := told(story); !slices.Equal(got, []string{"other way", "after"}) {
		t.Errorf("arrived: %q", got)
	}
	if l := w.link(1, 2); l.sent != 3 || l.lost != 2 {
		t.Errorf("the link counts %d sent and %d lost, want 3 and 2", l.sent, l.lost)
	}
}

func told(story *tale) (out []string) {
	for _, a := range story.arrived {
		out = append(out, a.message)
	}
	return out
}

// A message leaves when its sender's own clock says so. A node that dies before
// never sent it; what had left arrives though the sender is dead.
func TestNetworkOfTheDead(t *testing.T) {
	for _, power := range []bool{false, true} {
		w, story := toyWorld(t, 1, 3, Settings{Latency: 5000, Sync: 1, Segment: segmentMin, Power: power}, nil)
		h := w.hosts[1]
		post := func(after time.Duration, text string) {
			h.clock = w.now + int64(after)
			w.post(h, 2, w.crew.(*typedCrew[string, string, *tale]).messages.put(text))
		}
		post(1*ms, "left")
		post(3*ms, "never left")
		run(t, w, 2*ms)
		if _, err := w.Apply(context.Background(), "kill", []nodes.Effect{{Kind: nodes.Down, Node: 1}}); err != nil {
			t.Fatal(err)
		}
		w.Revert(context.Background(), "kill")
		run(t, w, 20*ms)
		post(0, "of the next incarnation")
		run(t, w, 20*ms)
		if got := told(story); !slices.Equal(got, []string{"left", "of the next incarnation"}) {
			t.Errorf("power %t: arrived: %q", power, got)
		}
	}
}

// What arrives at a node that is down is gone; at a frozen one it waits.
func TestNetworkToTheFrozen(t *testing.T) {
	w, story := toyWorld(t, 1, 3, Settings{Latency: 1000, Sync: 1, Segment: segmentMin}, nil)
	ctx := context.Background()
	w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 2}})
	w.Apply(ctx, "pause", []nodes.Effect{{Kind: nodes.Frozen, Node: 3}})
	send(w, 1, 2, "to the dead")
	send(w, 1, 3, "to the frozen")
	run(t, w, 20*ms)
	if len(story.arrived) > 0 {
		t.Fatalf("arrived: %q", told(story))
	}
	w.Revert(ctx, "kill")
	w.Revert(ctx, "pause")
	run(t, w, 20*ms)
	if got := told(story); !slices.Equal(got, []string{"to the frozen"}) {
		t.Errorf("arrived: %q", got)
	}
}

// What has been on its way for long comes through a cut; what has not is lost.
func TestNetworkLateThroughACut(t *testing.T) {
	for took, comes := range map[time.Duration]bool{99 * ms: false, 101 * ms: true} {
		for _, kind := range []nodes.EffectKind{nodes.Cut, nodes.CutData} {
			w, story := toyWorld(t, 1, 3, Settings{Latency: took.Microseconds(), Sync: 1, Segment: segmentMin}, nil)
			send(w, 1, 2, "old")
			run(t, w, ms)
			w.Apply(ctx, "cut", []nodes.Effect{{Kind: kind, From: 1, To: 2}})
			run(t, w, 300*ms)
			if got := len(story.arrived) == 1; got != comes {
				t.Errorf("%s: a message that takes %s arrives: %t, want %t", kind, took, got, comes)
			}
		}
	}
}

// Copies of a message go each its own way.
func TestNetworkCopiesPart(t *testing.T) {
	_, arrived := exchange(t, Settings{Latency: 1000, Spread: 3000, Doubled: 500, Sync: 1, Segment: segmentMin}, ms, nil, nil)
	first, together, apart := map[int]time.Duration{}, 0, 0
	for _, a := range arrived {
		switch at, twice := first[number(a)]; {
		case !twice:
			first[number(a)] = a.at
		case at == a.at:
			together++
		default:
			apart++
		}
	}
	if apart < posted/3 || together > apart/100 {
		t.Errorf("%d copies arrive together, %d apart", together, apart)
	}
}

// Who is up learns that a process is gone, after the time that a message takes,
// unless a link between the two is cut in either direction.
func TestNetworkTellsOfTheDead(t *testing.T) {
	for name, c := range map[string]struct {
		cut   []nodes.Effect
		learn []nodes.ID
	}{
		"all is whole":           {nil, []nodes.ID{2, 3}},
		"its words do not pass":  {[]nodes.Effect{{Kind: nodes.Cut, From: 1, To: 2}}, []nodes.ID{3}},
		"the answers do not":     {[]nodes.Effect{{Kind: nodes.Cut, From: 3, To: 1}}, []nodes.ID{2}},
		"others are cut off":     {[]nodes.Effect{{Kind: nodes.Cut, From: 2, To: 3}}, []nodes.ID{2, 3}},
		"one is down, too":       {[]nodes.Effect{{Kind: nodes.Down, Node: 2}}, []nodes.ID{3}},
		"clients are cut off it": {[]nodes.Effect{{Kind: nodes.Cut, From: nodes.Clients, To: 1}}, []nodes.ID{2, 3}},
	} {
		w, story := toyWorld(t, 1, 3, Settings{Latency: 5000, Sync: 1, Segment: segmentMin}, nil)
		w.Apply(ctx, "cut", c.cut)
		run(t, w, 50*ms)
		story.resets = nil
		began := w.Now()
		w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 1}})
		run(t, w, 50*ms)
		var learn []nodes.ID
		for _, r := range story.resets {
			if learn = append(learn, r.to); r.from != 1 || r.at-began != 5*ms {
				t.Errorf("%s: %s is told of %s after %s", name, r.to, r.from, r.at-began)
			}
		}
		if slices.Sort(learn); !slices.Equal(learn, c.learn) {
			t.Errorf("%s: %v learn of it, want %v", name, learn, c.learn)
		}
	}
}

// The news of a death concern the incarnation that was connected, and no later one.
func TestNetworkTellsWhoWasThere(t *testing.T) {
	w, story := toyWorld(t, 1, 3, Settings{Latency: 5000, Sync: 1, Segment: segmentMin}, nil)
	run(t, w, 50*ms)
	for _, id := range []nodes.ID{1, 2} {
		w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: id}})
		w.Revert(ctx, "kill")
	}
	run(t, w, 50*ms)
	for _, r := range story.resets {
		if r.to == 2 {
			t.Errorf("a node that has just been started is told at %s that %s is gone", r.at, r.from)
		}
	}
	if len(story.resets) != 3 {
		t.Errorf("the news arrived %d times, want 3: n2's at n1, and both at n3", len(story.resets))
	}
}

// The ways of clients grow calm as those between nodes do.
func TestNetworkCalmForClients(t *testing.T) {
	for _, calm := range [][]nodes.ID{nil, {3}, {1, 2}} {
		w, _ := toyWorld(t, 1, 3, Settings{Latency: 1000, Slow: 500, SlowBy: 50_000, Sync: 1, Segment: segmentMin}, nil)
		w.Calm(calm)
		for _, way := range [][2]nodes.ID{{nodes.Clients, 1}, {2, nodes.Clients}} {
			slow := 0
			for range 200 {
				if w.delay(way[0], way[1]) > int64(10*ms) {
					slow++
				}
			}
			if (slow == 0) != slices.Contains(calm, 1) {
				t.Errorf("calm are %v: of 200 chunks from %s to %s %d are slow", calm, way[0], way[1], slow)
			}
		}
	}
}

// Who is asked to hand over is told to whom, if it is up; nobody hands over to itself.
func TestTransferIsAsked(t *testing.T) {
	w, story := toyWorld(t, 1, 3, Defaults(), nil)
	run(t, w, 50*ms)
	w.Apply(ctx, "kill", []nodes.Effect{{Kind: nodes.Down, Node: 3}})
	for _, pair := range [][2]nodes.ID{{1, 2}, {1, 1}, {0, 2}, {3, 1}} {
		w.Transfer(pair[0], pair[1])
	}
	run(t, w, 50*ms)
	if !slices.Equal(story.handed, []arrival{{from: 1, to: 2}}) {
		t.Errorf("asked to hand over: %v", story.handed)
	}
}

// Messages take the way through their codec where the world asks for it.
func TestNetworkWire(t *testing.T) {
	for _, wire := range []bool{false, true} {
		story := newTale()
		system := Of("toy", stamping{}, func() *tale { return story },
			func(story *tale, o consensus.Options) consensus.Core[string, string] {
				return &toy{tale: story, id: o.ID}
			})
		s := Defaults()
		s.Wire = wire
		story.world = boot(t, system, 1, 3, s, nil)
		run(t, story.world, 50*ms)
		a := newAsker(story.world, 1)
		a.write("x", "1", time.Second)
		run(t, story.world, time.Second)
		want := []string{"early", "late"}
		if wire {
			want = []string{"early, read", "late, read"}
		}
		if got := told(story); !slices.Equal(got, want) {
			t.Errorf("through the codec %t: n2 heard %q", wire, got)
		}
	}
}

// stamping is a codec that shows that a message was read back.
type stamping struct{ words }

func (stamping) Message(b []byte) (string, error) { return string(b) + ", read", nil }

// What arrives at a node that is busy waits until its step is carried out.
func TestNetworkToTheBusy(t *testing.T) {
	w, story := toyWorld(t, 1, 3, Settings{Latency: 100, Sync: 20_000, Segment: segmentMin}, nil)
	run(t, w, time.Second)
	a := newAsker(w, 2)
	a.write("x", "1", time.Second)
	for w.hosts[2].clock <= w.now {
		run(t, w, ms/2)
	}
	end := time.Duration(w.hosts[2].clock)
	send(w, 1, 2, "to the busy")
	run(t, w, time.Second)
	at := slices.IndexFunc(story.arrived, func(a arrival) bool { return a.message == "to the busy" })
	if at < 0 || story.arrived[at].at < end {
		t.Errorf("its step ends at %s; what it heard: %v", end, story.arrived)
	}
}
