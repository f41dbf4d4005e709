package campaign

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"chaos/nemesis"
	"chaos/nodes/sim"
	"chaos/workload"
)

// A seed of a simulation is two numbers in one: what is drawn from, and how
// often that draw was changed in one respect afterwards. So a changed
// configuration is still one number, which brings it back.
const mutationShift = 40

// Mutation is the n-th change of a seed. Only unchanged seeds are changed.
func Mutation(seed, n uint64) uint64 { return seed&(1<<mutationShift-1) | n<<mutationShift }

// MutationsMax is how many changes of one seed there are.
const MutationsMax = 1 << 12

// swarmStream and mutationStream feed the draws of configurations.
const (
	swarmStream    = 5
	mutationStream = 6
)

// swarmFaults are what a swarm draws from.
var swarmFaults = []string{"kill", "pause", "partition", "slow", "lossy", "duplicate", "reorder", "throttle", "wan", "swizzle",
	"machine-kill", "machine-pause", "clock", "disk-fails", "damage"}

// Swarm draws a whole configuration from a seed, and the schedule for it: how
// many nodes, their time-outs, what hurts them, what clients do, and what
// network and disks are like. Every seed is another kind of test, since a bug
// that one kind hides shows in another (Groce et al., "Swarm Testing", 2012).
func Swarm(system string, seed uint64, d time.Duration) (Plan, error) {
	base, mutation := seed&(1<<mutationShift-1), seed>>mutationShift
	s := Spec{System: system, Provider: "sim", Duration: Duration(d), Lease: DefaultSpec().Lease}
	r := stream(base, swarmStream)
	for _, draw := range dimensions {
		draw(&s, r)
	}
	if mutation > 0 {
		m := stream(base, mutationStream+mutation<<8)
		if n := m.IntN(2 * len(dimensions)); n < len(dimensions) {
			dimensions[n](&s, m)
		}
		s.Sim.Chance = m.Uint64() >> 11
	}
	settle(&s)
	p, err := Draw(s, base)
	if err != nil {
		return Plan{}, fmt.Errorf("seed %d: %w", seed, err)
	}
	if mutation > 0 && mutation%2 == 0 {
		p.Schedule = redrawn(p, base^s.Sim.Chance)
	}
	p.Seed = seed
	return p, nil
}

// redrawn is another schedule for the same configuration.
func redrawn(p Plan, seed uint64) nemesis.Schedule {
	q, err := Draw(p.Spec, seed)
	if err != nil {
		return p.Schedule
	}
	return q.Schedule
}

// dimensions are what a swarm draws, each by itself and in this order.
var dimensions = []func(s *Spec, r *rand.Rand){drawSize, drawClients, drawFaults, drawNetwork, drawDisk, drawTimes, drawLimits, drawCrash, drawRestless}

// of draws one of the values.
func of[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// perhaps draws a number up to limit in half of the cases, else 0.
func perhaps(r *rand.Rand, limit int) int {
	if n := 1 + r.IntN(limit); r.IntN(2) == 0 {
		return n
	}
	return 0
}

func drawSize(s *Spec, r *rand.Rand) { s.Nodes = of(r, 3, 3, 3, 3, 5, 5, 5, 4, 6, 7) }

func drawClients(s *Spec, r *rand.Rand) {
	names := []string{"mixed", "mixed", "mixed"}
	for _, w := range workload.All() {
		names = append(names, w.Name)
	}
	s.Workload = of(r, names...)
	s.Concurrency = 8 + r.IntN(17)
	s.Rate = of(r, 40, 100, 100, 200, 400)
	s.Keys = of(r, 0, 0, 1, 2)
}

// drawFaults takes each fault in half of the cases, so that some seeds have
// nearly all and some one or two.
func drawFaults(s *Spec, r *rand.Rand) {
	s.Faults = nil
	weight := 1 + r.IntN(3)
	for _, f := range swarmFaults {
		if r.IntN(4) < weight {
			s.Faults = append(s.Faults, f)
		}
	}
	if len(s.Faults) == 0 {
		s.Faults = []string{of(r, "kill", "partition", "pause")}
	}
}

// spreadMax bounds how unequal messages are, µs: reads of clients wait a few
// hundred milliseconds, and must have a chance.
const spreadMax = 20_000

func drawNetwork(s *Spec, r *rand.Rand) {
	w := s.world()
	w.Latency = of[int64](r, 50, 200, 1000, 1000, 5000, 15000)
	w.Spread = min(w.Latency*of[int64](r, 0, 1, 1, 3, 8), spreadMax)
	w.Slow, w.SlowBy = perhaps(r, 60), w.Latency*int64(5+r.IntN(60))
	if r.IntN(3) == 0 {
		w.SlowBy = late(r)
	}
	w.Lossy, w.Doubled = perhaps(r, 80), perhaps(r, 80)
	if w.Ordered = r.IntN(2) == 0; w.Ordered {
		w.Slow = 0 // all behind a slow message would wait for it
	}
	w.Wire = r.IntN(4) == 0
}

// late is a message's delay of several elections, µs.
func late(r *rand.Rand) int64 { return 100_000 + r.Int64N(1_400_000) }

func drawDisk(s *Spec, r *rand.Rand) {
	w := s.world()
	w.Crashes = of[int64](r, 0, 0, 60, 150, 500, 1500)
	w.Sync = of[int64](r, 20, 300, 300, 2000, 6000)
	w.SyncBy = w.Sync * of[int64](r, 0, 1, 4)
	w.Power = r.IntN(2) == 0
	w.Segment = of[int64](r, 8<<10, 16<<10, 64<<10)
}

// drawTimes draws time-outs and the distance of snapshots.
func drawTimes(s *Spec, r *rand.Rand) {
	w := s.world()
	w.Skew = perhaps(r, 200)
	w.Transfer, w.TakeOver = of[int64](r, 0, 0, 300, 1500), r.IntN(2) == 0
	k := &s.Knobs
	k.Tick = Duration(10 * time.Millisecond)
	k.HeartbeatTicks = 2 + r.IntN(4)
	k.ElectionTicks = k.HeartbeatTicks*3 + r.IntN(20)
	k.SnapshotEntries = of(r, 4+r.IntN(40), 40+r.IntN(300), 10_000)
}

// drawLimits draws bounds of the core small enough to be met.
func drawLimits(s *Spec, r *rand.Rand) {
	w := s.world()
	w.Flight, w.Batch = 0, 0
	if r.IntN(3) == 0 {
		w.Flight = 4 + r.IntN(60)
	}
	if r.IntN(2) == 0 {
		w.Batch = 32 + r.IntN(of(r, 60, 400, 2000))
	}
}

func drawCrash(s *Spec, r *rand.Rand) {
	point, node, count := of(r, sim.CrashPoints...), r.IntN(3)+1, 1+r.IntN(of(r, 3, 20, 100))
	s.Knobs.CrashAt = ""
	if r.IntN(3) == 0 {
		s.Knobs.CrashAt = fmt.Sprintf("n%d:%s:%d", node, point, count)
	}
}

// drawRestless has come together in some seeds what seldom does by chance:
// messages that are late by elections, and nodes that die every few steps or are
// cut off again and again.
func drawRestless(s *Spec, r *rand.Rand) {
	if r.IntN(4) > 0 {
		return
	}
	w := s.world()
	s.Nodes = of(r, 3, 3, 5)
	w.Ordered, w.Slow, w.SlowBy = false, 20+r.IntN(100), late(r)
	if r.IntN(2) == 0 { // and no node comes far between two deaths, so that what it counts repeats
		w.Crashes, w.Latency, w.Spread = 60+r.Int64N(140), of[int64](r, 2000, 5000, 15000), 2000
		return
	}
	w.Crashes, s.Faults, s.Rate = 0, []string{"partition"}, 400
}

func (s *Spec) world() *sim.Settings {
	if s.Sim == nil {
		d := sim.Defaults()
		s.Sim = &d
	}
	return s.Sim
}

// microsPerByte is how long a way may be for each byte that a message may have.
const microsPerByte = 20

// settle makes drawn settings fit each other: an election must outlast some
// round trips, and a fault needs enough nodes.
func settle(s *Spec) {
	w := s.Sim
	trip := time.Duration(2*(w.Latency+w.Spread)+2*(w.Sync+w.SyncBy)) * time.Microsecond
	s.Knobs.ElectionTicks = max(s.Knobs.ElectionTicks, int(4*trip/time.Duration(s.Knobs.Tick)), s.Knobs.HeartbeatTicks+2)
	if w.Batch > 0 { // over slow links small messages would let nobody catch up in time
		w.Batch = max(w.Batch, int((w.Latency+w.Spread)/microsPerByte))
	}
	s.Faults = slices.DeleteFunc(s.Faults, func(name string) bool {
		f, err := nemesis.Find(name)
		return err != nil || nemesis.Fits(f, s.Nodes) != nil
	})
	if len(s.Faults) == 0 {
		s.Faults = []string{"kill"}
	}
}
