package campaign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"chaos/history"
	"chaos/linearizability"
	"chaos/nodes/consensus"
	"chaos/nodes/sim"
	"chaos/paxos"
	"chaos/raft"
)

// simSystems are those that cmd/chaos simulates, each with the check that knows its core.
var simSystems = map[string]sim.System{
	"raft": raftWith(func(c consensus.Core[raft.Message, raft.Record]) consensus.Core[raft.Message, raft.Record] { return c }),
	"paxos": sim.Of("paxos", paxos.Codec{}, paxos.NewCheck,
		func(k *paxos.Check, o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
			c := paxos.New(o, paxos.Multi)
			k.Add(c)
			return c
		}),
	"paxos-classic": sim.Of("paxos-classic", paxos.Codec{}, paxos.NewCheck,
		func(k *paxos.Check, o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
			c := paxos.New(o, paxos.Classic)
			k.Add(c)
			return c
		}),
}

// raftWith is raft whose cores are wrapped.
func raftWith(wrap func(consensus.Core[raft.Message, raft.Record]) consensus.Core[raft.Message, raft.Record]) sim.System {
	return sim.Of("raft", raft.Codec{}, raft.NewCheck, func(k *raft.Check, o consensus.Options) consensus.Core[raft.Message, raft.Record] {
		c := raft.New(o)
		k.Add(c)
		return wrap(c)
	})
}

var simNames = []string{"raft", "paxos", "paxos-classic"}

// swarm is a seed's own plan.
func swarm(t testing.TB, system string, seed uint64, d time.Duration) Plan {
	t.Helper()
	plan, err := Swarm(system, seed, d)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// simulate carries out a seed's own configuration, changed by edit if that is set.
func simulate(t testing.TB, system string, seed uint64, d time.Duration, edit func(*Plan)) Simulation {
	t.Helper()
	plan := swarm(t, system, seed, d)
	if edit != nil {
		edit(&plan)
	}
	return simulated(t, simSystems[system], plan)
}

func simulated(t testing.TB, system sim.System, plan Plan) Simulation {
	t.Helper()
	s, err := Simulated{Plan: plan, System: system}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// print is a fingerprint of all that a simulation came to.
func (s *Simulation) print() [32]byte {
	b := fmt.Appendf(s.Encode(), "%d events, %d applied, %s, %d states, breach %v, %v", s.Events, s.Applied, s.Time, len(s.States), s.Breach, s.Moments)
	return sha256.Sum256(b)
}

// Equal seeds make equal histories, byte for byte.
func TestSameSeedSameHistory(t *testing.T) {
	for _, name := range simNames {
		for seed := range uint64(15) {
			a, b := simulate(t, name, seed+1, time.Second, nil), simulate(t, name, seed+1, time.Second, nil)
			if x, y := a.Encode(), b.Encode(); !bytes.Equal(x, y) || a.print() != b.print() {
				t.Fatalf("%s, seed %d: two simulations differ, with %d and %d events", name, seed+1, a.Events, b.Events)
			}
		}
	}
}

// Messages that are handed over as values share memory with the cores that sent
// them. That changes nothing: through the codec all happens alike.
func TestMessagesAreValues(t *testing.T) {
	for _, name := range simNames {
		for seed := range uint64(10) {
			through := func(wire bool) Simulation {
				return simulate(t, name, seed+1, time.Second, func(p *Plan) { p.Spec.Sim.Wire = wire })
			}
			a, b := through(false), through(true)
			if !bytes.Equal(a.Encode(), b.Encode()) || a.print() != b.print() {
				t.Fatalf("%s, seed %d: messages as values make another history than encoded ones", name, seed+1)
			}
		}
	}
}

// A simulation knows nothing of the machine: neither how many processors there
// are, nor what else the process simulates.
func TestSimulationsAreAlone(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const seeds = 4
	var want, got [3][seeds][32]byte
	each := func(do func(system string, n int, seed uint64)) {
		for n, name := range simNames {
			for seed := range uint64(seeds) {
				do(name, n, seed)
			}
		}
	}
	each(func(system string, n int, seed uint64) {
		s := simulate(t, system, seed+1, time.Second, nil)
		want[n][seed] = s.print()
	})
	runtime.GOMAXPROCS(2)
	var all sync.WaitGroup
	for n := range simNames {
		all.Go(func() {
			for seed := range uint64(seeds) {
				s := simulate(t, simNames[n], seed+1, time.Second, nil)
				got[n][seed] = s.print()
			}
		})
	}
	all.Wait()
	if got != want {
		t.Error("simulations beside each other differ from those that ran alone")
	}
}

// A batch that explores tells how many of its seeds are changed ones, and with one
// job it is the same each time; one that does not has none.
func TestBatchChanged(t *testing.T) {
	tally := func(explore bool) Tally {
		b := Batch{System: simSystems["raft"], First: 1, Seeds: 9, Duration: time.Second, Jobs: 1, Explore: explore}
		out, err := b.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out.CPU = 0
		return out
	}
	if a, b := tally(true), tally(true); a.Changed != 4 || !reflect.DeepEqual(a, b) { // every second one
		t.Errorf("%d of %d seeds are changed, want 4\n%+v\n%+v", a.Changed, a.Seeds, a, b)
	}
	if plain := tally(false); plain.Changed != 0 {
		t.Errorf("%d seeds are changed", plain.Changed)
	}
}

// A batch comes to the same whatever the number of its jobs.
func TestBatchJobs(t *testing.T) {
	tally := func(jobs int) Tally {
		b := Batch{System: simSystems["raft"], First: 5, Seeds: 12, Duration: time.Second, Jobs: jobs, KeepGoing: true}
		out, err := b.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		out.CPU, out.Simulated, out.Last = 0, float64(int64(out.Simulated*1e3+0.5)), Violation{} // sums of floats differ in the last bit
		return out
	}
	if a, b := tally(1), tally(2); !reflect.DeepEqual(a, b) {
		t.Errorf("one job: %+v\ntwo: %+v", a, b)
	}
}

// TestLongDeterminism is TestSameSeedSameHistory over many more seeds; with
// CHAOS_LONG=1, and -timeout 2h.
func TestLongDeterminism(t *testing.T) {
	if os.Getenv("CHAOS_LONG") == "" {
		t.Skip("takes ten CPU minutes; CHAOS_LONG=1 runs it")
	}
	const seeds, shard = 10_000, 500
	for _, name := range simNames {
		for from := uint64(1); from <= seeds; from += shard {
			var want [shard][32]byte
			for _, procs := range []int{1, 2} {
				before := runtime.GOMAXPROCS(procs)
				var all sync.WaitGroup
				for job := range procs {
					all.Go(func() {
						for i := job; i < shard; i += procs {
							s := simulate(t, name, from+uint64(i), time.Second, nil)
							if got := s.print(); procs == 1 {
								want[i] = got
							} else if got != want[i] {
								t.Errorf("%s, seed %d: two simulations differ", name, from+uint64(i))
							}
						}
					})
				}
				all.Wait()
				runtime.GOMAXPROCS(before)
			}
			t.Logf("%s: seeds up to %d are equal", name, from+shard-1)
			fmt.Fprintf(os.Stderr, "%s: seeds up to %d are equal, after %.0f CPU s\n", name, from+shard-1, CPUSeconds())
		}
	}
}

// Sound raft is silent: no invariant, no checker, no stuck majority.
func TestSoundIsSilent(t *testing.T) {
	unknown := 0
	for seed := range uint64(25) {
		plan := swarm(t, "raft", 1000+seed, 3*time.Second)
		s := simulated(t, simSystems["raft"], plan)
		found, verdict, err := s.Judge(context.Background(), plan)
		if err != nil {
			t.Fatalf("seed %d: %v", plan.Seed, err)
		}
		if found != nil {
			t.Errorf("%v", found)
		}
		if verdict.Outcome == linearizability.Unknown {
			unknown++
		}
		if err := history.Validate(s.History); err != nil {
			t.Errorf("seed %d: the history is ill-formed: %v", plan.Seed, err)
		}
		if len(s.Trouble) > 0 {
			t.Errorf("seed %d: trouble %q", plan.Seed, s.Trouble)
		}
	}
	if unknown > 20 {
		t.Errorf("%d of 25 seeds could not have shown anything", unknown)
	}
}

// One node alone, as shrinking leaves it, may die in the middle of any step.
func TestOneNodeAlone(t *testing.T) {
	for seed := range uint64(25) {
		plan := swarm(t, "raft", seed+1, 2*time.Second)
		plan.Schedule, plan.Spec.Faults, plan.Spec.Nodes = nil, nil, 1
		plan.Spec.Knobs.CrashAt = ""
		plan.Spec.Sim.Crashes, plan.Spec.Sim.Power = 100, true
		s := simulated(t, simSystems["raft"], plan)
		if found, _, err := s.Judge(context.Background(), plan); err != nil || found != nil {
			t.Errorf("seed %d: %v, %v", seed+1, found, err)
		}
	}
}

// Golden scenarios are plans that showed a defect once. Sound systems pass them.
func TestScenarios(t *testing.T) {
	names, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := ParseScenario(b)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.Encode(), b) {
				t.Errorf("it is not as Encode writes it")
			}
			system := simSystems[s.Plan.Spec.System]
			if system == nil {
				t.Fatalf("system %q can't be simulated", s.Plan.Spec.System)
			}
			out := simulated(t, system, s.Plan)
			if found, _, err := out.Judge(context.Background(), s.Plan); err != nil || found != nil {
				t.Errorf("%v, %v; want no violation", found, err)
			}
		})
	}
}

// busyPlan is a whole chaos test of a minute with everything that a swarm knows.
func busyPlan(t testing.TB, system string, seed uint64) Plan {
	s := Spec{System: system, Provider: "sim", Nodes: 5, Duration: Duration(time.Minute), Faults: swarmFaults, Workload: "mixed",
		Concurrency: 16, Rate: 100, Knobs: DefaultSpec().Knobs, Lease: DefaultSpec().Lease}
	s.world()
	p, err := Draw(s, seed)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// simHeapMax is what one simulation may hold at once, what waits to be collected included.
const simHeapMax = 64 << 20 // bytes

// One simulation of a minute, with every fault, stays small.
func TestSimulationIsSmall(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	peak := uint64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	runtime.GC()
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				metrics.Read(heap)
				peak = max(peak, heap[0].Value.Uint64())
			}
		}
	}()
	s := simulated(t, simSystems["raft"], busyPlan(t, "raft", 1))
	close(stop)
	<-stopped
	t.Logf("%d events, at most %.1f MiB", s.Events, float64(peak)/(1<<20))
	if peak > simHeapMax || peak == 0 {
		t.Errorf("the heap grew to %d bytes; at most %d", peak, simHeapMax)
	}
}

// BenchmarkWorld is a cluster under load, with nothing wrong and nobody who judges.
func BenchmarkWorld(b *testing.B) {
	for _, name := range simNames {
		b.Run(name, func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(1000)) // as chaos sim does
			s := Spec{System: name, Provider: "sim", Nodes: 3, Duration: Duration(10 * time.Second), Workload: "register",
				Concurrency: 16, Keys: 4, Knobs: DefaultSpec().Knobs, Lease: DefaultSpec().Lease}
			s.world()
			p, err := Draw(s, 1)
			if err != nil {
				b.Fatal(err)
			}
			p.Schedule = nil
			var events, ok uint64
			b.ReportAllocs()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpu(b)
			for b.Loop() {
				out := simulated(b, simSystems[name], p)
				events += out.Events
				for i := range out.History.Events {
					if out.History.Events[i].Type == history.Ok {
						ok++
					}
				}
				if out.Breach != nil {
					b.Fatal(out.Breach)
				}
			}
			took := (cpu(b) - start).Seconds()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(events)/took, "events/s")
			b.ReportMetric(float64(ok)/took, "committed/s")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(events), "allocs/event")
			b.ReportMetric(float64(events)/float64(b.N), "events/op")
		})
	}
}

// BenchmarkChaosTest is whole chaos tests: a minute simulated, 100 operations a
// second, every fault, judged.
func BenchmarkChaosTest(b *testing.B) {
	for _, name := range simNames {
		b.Run(name, func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(1000)) // as chaos sim does
			var events, operations uint64
			seed := uint64(0)
			start := cpu(b)
			for b.Loop() {
				seed++
				p := busyPlan(b, name, seed)
				out := simulated(b, simSystems[name], p)
				if _, _, err := out.Judge(context.Background(), p); err != nil {
					b.Fatal(err)
				}
				events += out.Events
				operations += uint64(len(out.History.Events) / 2)
			}
			took := (cpu(b) - start).Seconds()
			b.ReportMetric(float64(b.N)/took*60, "tests/core-minute")
			b.ReportMetric(float64(events)/took, "events/s")
			b.ReportMetric(float64(events)/float64(b.N), "events/test")
			b.ReportMetric(float64(operations)/float64(b.N), "ops/test")
		})
	}
}
