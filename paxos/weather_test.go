package paxos

import (
	"math/rand/v2"
	"slices"
	"testing"

	"chaos/nodes/consensus"
)

// A weather is a storm with a clock: messages take as long as their link says,
// and faults last for some time. Where a storm finds odd orders, this finds what
// needs time: a proposer that is parted and does not know of its successor, an
// answer that comes when its question is forgotten.
type weather struct {
	*storm
	now    int // in parts of a tick
	flying []flight
	mendAt int
}

// A flight is a message that arrives at a time.
type flight struct {
	at int
	e  Envelope
}

const (
	partsPerTick = 3
	weatherTicks = 300
	weatherSeeds = 100
	slowParts    = 60 // the longest way of a late message
)

func newWeather(mode Mode, seed uint64) *weather {
	w := &weather{storm: newStorm(mode, seed+1_000_000)}
	w.r = rand.New(rand.NewPCG(seed, 78))
	return w
}

// pass lets one part of a tick pass.
func (w *weather) pass() {
	w.now++
	w.launch()
	w.flying = slices.DeleteFunc(w.flying, func(f flight) bool {
		if f.at > w.now || w.failure != "" {
			return false
		}
		if !w.cut[[2]consensus.ID{f.e.From, f.e.To}] && w.r.IntN(50) > 0 {
			w.feed(w.at(f.e.To), func(c *Core) Output { return c.Receive(f.e) })
		}
		return true
	})
	for _, r := range w.replicas {
		w.load(r)
	}
	if w.r.IntN(10*partsPerTick) == 0 {
		w.turn()
	}
	if w.now >= w.mendAt {
		w.clearUp()
	}
}

// clearUp mends all links, or first some of them and the others later.
func (w *weather) clearUp() {
	w.mendAt = w.now + partsPerTick*(3+w.r.IntN(20))
	some := w.r.IntN(2) == 0
	for _, a := range w.voters.Voters {
		for _, b := range w.voters.Voters {
			if !some || w.r.IntN(2) == 0 {
				w.cut[[2]consensus.ID{a, b}], w.slow[[2]consensus.ID{a, b}] = false, false
			}
		}
	}
}

// launch gives new messages their time of arrival; some come twice.
func (w *weather) launch() {
	for _, e := range w.net {
		far := 2
		if w.slow[[2]consensus.ID{e.From, e.To}] {
			far = slowParts
		}
		for range 1 + (w.r.IntN(40) / 39) {
			w.flying = append(w.flying, flight{w.now + w.r.IntN(far), e})
		}
	}
	w.net = nil
	w.r.Shuffle(len(w.flying), func(i, j int) { w.flying[i], w.flying[j] = w.flying[j], w.flying[i] })
}

// feed steps r, and sometimes lets it crash on the way.
func (w *weather) feed(r *replica, input func(*Core) Output) {
	if !r.up {
		return
	}
	crash := wholly
	if w.r.IntN(1500) == 0 {
		crash = stage(w.r.IntN(int(wholly)))
	}
	o := input(r.core)
	w.judge(w.watch.Stepped(r.id))
	w.perform(r, o, crash, w.r.IntN(8))
	w.checkReads(r)
}

// load has time pass at r, and its clients ask.
func (w *weather) load(r *replica) {
	if w.now%partsPerTick == int(r.id)%partsPerTick {
		w.feed(r, (*Core).Tick)
	}
	switch w.r.IntN(8) {
	case 0:
		w.serial++
		w.feed(r, func(c *Core) Output { return c.Propose(consensus.Command{Origin: r.id, Serial: w.serial}) })
	case 1, 2:
		w.feed(r, func(*Core) Output { return w.read(r) })
	}
}

// turn draws what happens next in the world.
func (w *weather) turn() {
	a := w.replicas[w.r.IntN(len(w.replicas))]
	switch w.r.IntN(8) {
	case 0:
		w.crash(a)
	case 1, 2, 3:
		for _, r := range w.replicas {
			if !r.up {
				w.start(r)
			}
		}
	case 4:
		w.compact(a)
	case 5:
		w.feed(a, func(c *Core) Output { return c.Transfer(consensus.ID(1 + w.r.IntN(len(w.replicas)))) })
	default:
		id, broken := w.isolate(a.id), w.r.IntN(2) == 0
		for _, r := range w.replicas {
			if broken && r.id != id {
				w.feed(r, func(c *Core) Output { return c.PeerReset(id) })
			}
		}
		w.mendAt = w.now + partsPerTick*(5+w.r.IntN(30))
	}
}

// play lets all of the weather pass, and then demands a calm end.
func (w *weather) play() {
	for w.now < partsPerTick*weatherTicks && w.failure == "" {
		w.pass()
	}
	if w.failure == "" {
		w.calm()
	}
}

func TestWeather(t *testing.T) {
	for _, mode := range []Mode{Multi, Classic} {
		var seen [moments]uint64
		commands, reads := 0, 0
		for seed := range uint64(weatherSeeds) {
			w := newWeather(mode, seed)
			if w.play(); w.failure != "" {
				t.Fatalf("mode %d, seed %d: %s", mode, seed, w.failure)
			}
			commands, reads = commands+len(w.log), reads+w.done
			for i, n := range w.watch.seen {
				seen[i] += n
			}
		}
		t.Logf("mode %d: %d commands, %d reads; moments %d", mode, commands, reads, seen)
		if commands < 100*weatherSeeds || reads < 100*weatherSeeds {
			t.Errorf("mode %d: the weather is too rough to mean anything", mode)
		}
	}
}
