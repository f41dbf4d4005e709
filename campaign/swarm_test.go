package campaign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/linearizability"
	"chaos/nemesis"
	"chaos/nodes/sim"
	"chaos/workload"
)

func validPlan(p Plan) error {
	return errors.Join(p.Spec.Check(), nemesis.Validate(p.Schedule, members(p.Spec.Nodes)), p.Refuse(sim.Provider{}.Probe(context.Background(), nodesOptions)))
}

// Every seed draws a valid plan, which its text brings back; and over many seeds
// every dimension is drawn both ways.
func TestSwarm(t *testing.T) {
	const seeds = 2000
	drawn := map[string]int{}
	for seed := uint64(1); seed <= seeds; seed++ {
		p := swarm(t, "raft", seed, 10*time.Second)
		if err := validPlan(p); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if p.Seed != seed || p.Spec.System != "raft" || p.Spec.Provider != "sim" {
			t.Fatalf("seed %d makes the plan of %d, %s, %s", seed, p.Seed, p.Spec.System, p.Spec.Provider)
		}
		if seed%40 == 0 {
			again, err := ParsePlan(p.Encode())
			if err != nil || !reflect.DeepEqual(again, p) {
				t.Fatalf("seed %d: read back as another plan, %v", seed, err)
			}
		}
		w, k := p.Spec.Sim, p.Spec.Knobs
		trip := time.Duration(2*(w.Latency+w.Spread+w.Sync+w.SyncBy)) * time.Microsecond
		if election := time.Duration(k.Tick) * time.Duration(k.ElectionTicks+1); election < 4*trip {
			t.Fatalf("seed %d: an election begins after %s, and question and answer take %s", seed, election, trip)
		}
		for name, is := range dimensionsOf(p) {
			if drawn[name] += 0; is {
				drawn[name]++
			}
		}
	}
	for name, n := range drawn {
		if n < seeds/100 || n > seeds*99/100 {
			t.Errorf("%s: %d of %d seeds; both ways must be drawn", name, n, seeds)
		}
	}
}

// A swarm draws from all faults that a simulation can bring about, and from no
// others; the shapes of partitions come with partitions.
func TestSwarmFaults(t *testing.T) {
	able := sim.Provider{}.Probe(context.Background(), nodesOptions)
	for _, f := range nemesis.All() {
		if can := nemesis.Unable(f, able) == nil; can != slices.ContainsFunc(swarmFaults, func(asked string) bool { return nemesis.Covers(asked, f.Name()) }) {
			t.Errorf("%s can be brought about: %t; a swarm draws from %v", f.Name(), can, swarmFaults)
		}
	}
}

// dimensionsOf says what a plan has of all that a swarm may draw.
func dimensionsOf(p Plan) map[string]bool {
	w, k := p.Spec.Sim, p.Spec.Knobs
	is := map[string]bool{
		"slow": w.Slow > 0, "slow by elections": w.Slow > 0 && w.SlowBy >= 100_000, "lossy": w.Lossy > 0, "doubled": w.Doubled > 0, "ordered": w.Ordered,
		"wire": w.Wire, "spread": w.Spread > 0, "far": w.Latency > 2000, "crashes": w.Crashes > 0, "slow disk": w.Sync > 1000, "power": w.Power,
		"take over": w.TakeOver, "syncs differ": w.SyncBy > 0, "small segments": w.Segment == 8<<10, "large segments": w.Segment == 64<<10,
		"restless by death": w.Crashes > 0 && w.Crashes < 200 && w.SlowBy >= 100_000 && !w.Ordered && w.Spread == 2000 && w.Slow >= 20,
		"restless by cuts":  w.Crashes == 0 && w.SlowBy >= 100_000 && p.Spec.Rate == 400 && slices.Equal(p.Spec.Faults, []string{"partition"}),
		"skew":              w.Skew > 0, "transfer": w.Transfer > 0, "few in flight": w.Flight > 0, "small batches": w.Batch > 0,
		"crash point": k.CrashAt != "", "snapshots often": k.SnapshotEntries < 50, "snapshots never": k.SnapshotEntries == 10_000,
		"hot keys": p.Spec.Keys == 1, "many clients": p.Spec.Concurrency > 14, "quick": p.Spec.Rate > 100,
	}
	for n := 3; n <= 7; n++ {
		is[fmt.Sprint("nodes ", n)] = p.Spec.Nodes == n
	}
	for _, f := range swarmFaults {
		is["fault "+f] = slices.Contains(p.Spec.Faults, f)
	}
	for _, load := range workload.All() {
		is["workload "+load.Name] = p.Spec.Workload == load.Name
	}
	for _, point := range sim.CrashPoints {
		is["crash "+point] = strings.Contains(k.CrashAt, point)
	}
	return is
}

// A changed seed is a number, too: it brings its plan back, which is valid, and
// another one than the seed's own. Changes leave most of a plan as it was.
func TestMutations(t *testing.T) {
	most, redrawn := 0, 0
	for seed := uint64(1); seed <= 80; seed++ {
		own := swarm(t, "paxos", seed, 5*time.Second)
		for n := uint64(1); n <= 8; n++ {
			m := Mutation(seed, n)
			if m&(1<<mutationShift-1) != seed || m>>mutationShift != n || Mutation(m, 0) != seed {
				t.Fatalf("change %d of seed %d is %d", n, seed, m)
			}
			p := swarm(t, "paxos", m, 5*time.Second)
			if err := validPlan(p); err != nil {
				t.Fatalf("seed %d, change %d: %v", seed, n, err)
			}
			if again := swarm(t, "paxos", m, 5*time.Second); !reflect.DeepEqual(p, again) {
				t.Fatalf("seed %d, change %d: two plans", seed, n)
			}
			if p.Seed != m || p.Spec.Sim.Chance == own.Spec.Sim.Chance {
				t.Fatalf("seed %d, change %d: seed %d, throw %d of the dice", seed, n, p.Seed, p.Spec.Sim.Chance)
			}
			if n%2 == 0 && !reflect.DeepEqual(p.Schedule, own.Schedule) {
				redrawn++
			}
			a, b := dimensionsOf(own), dimensionsOf(p)
			differ := 0
			for name := range a {
				if a[name] != b[name] {
					differ++
				}
			}
			most = max(most, differ)
		}
	}
	if most == 0 || most > 20 {
		t.Errorf("changes of seeds alter up to %d things", most)
	}
	if redrawn < 200 {
		t.Errorf("%d of 320 changed seeds have another schedule for what else is equal", redrawn)
	}
	if last := Mutation(1<<mutationShift-1, MutationsMax); last>>mutationShift != MutationsMax {
		t.Errorf("the last change is %d", last)
	}
}

// A batch counts what it did, stops at a violation unless told otherwise, and
// tries changed seeds when it may.
func TestBatch(t *testing.T) {
	ctx := context.Background()
	run := func(b Batch) Tally {
		t.Helper()
		b.Duration, b.Jobs = time.Second, 2
		out, err := b.Run(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	calls := 0
	got := run(Batch{System: simSystems["raft"], First: 1, Seeds: 8, Progress: func(Tally) { calls++ }})
	if got.Seeds != 8 || calls != 8 || got.Events == 0 || got.Operations == 0 || got.Applied == 0 || got.States == 0 || got.Simulated < 8 || len(got.Violations) > 0 || len(got.Moments) == 0 {
		t.Errorf("%d calls, %+v", calls, got)
	}
	explored := run(Batch{System: simSystems["raft"], First: 1, Seeds: 30, Explore: true})
	plain := run(Batch{System: simSystems["raft"], First: 1, Seeds: 30})
	if explored.Seeds != 30 || explored.Events == plain.Events {
		t.Errorf("with changed seeds %d events of %d seeds, without %d", explored.Events, explored.Seeds, plain.Events)
	}
	bad := forgetful()
	stopped := run(Batch{System: bad, First: 1, Seeds: 200})
	if n := len(stopped.Violations); n == 0 || n > 2 || stopped.Seeds == 200 {
		t.Errorf("of a system that forgets, %d seeds show %v", stopped.Seeds, stopped.Violations)
	}
	on := run(Batch{System: bad, First: 1, Seeds: 40, KeepGoing: true})
	if len(on.Violations) == 0 || on.Seeds != 40 || !slices.IsSortedFunc(on.Violations, func(a, b Violation) int { return compareSeeds(a.Seed, b.Seed) }) {
		t.Errorf("%d seeds, %v", on.Seeds, on.Violations)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if out, err := (Batch{System: bad, First: 1, Seeds: 40, Duration: time.Second, Jobs: 1}).Run(ended); err != nil || out.Seeds != 0 {
		t.Errorf("after its end %d seeds, %v", out.Seeds, err)
	}
}

// What a batch counts is the sum of what its seeds came to.
func TestBatchCounts(t *testing.T) {
	ctx := context.Background()
	want := Tally{System: "raft", First: 21, Violations: []Violation{}}
	states := map[uint64]struct{}{}
	for seed := uint64(21); seed < 29; seed++ {
		plan := swarm(t, "raft", seed, time.Second)
		s := simulated(t, simSystems["raft"], plan)
		found, verdict, err := s.Judge(ctx, plan)
		if err != nil || found != nil {
			t.Fatalf("seed %d: %v, %v", seed, found, err)
		}
		want.Seeds++
		want.Events += s.Events
		want.Applied += s.Applied
		want.Operations += len(s.History.Events) / 2
		if verdict.Outcome == linearizability.Unknown {
			want.Unknown++
		}
		for f := range s.States {
			states[f] = struct{}{}
		}
		for i, m := range s.Moments {
			if len(want.Moments) == i {
				want.Moments = append(want.Moments, sim.Moment{Name: m.Name})
			}
			want.Moments[i].Seen += m.Seen
		}
	}
	want.States = len(states)
	told := 0
	b := Batch{System: simSystems["raft"], First: 21, Seeds: 8, Duration: time.Second, Jobs: 2, Progress: func(got Tally) {
		if told++; got.Seeds != told {
			t.Errorf("%d seeds are told of when %d are done", got.Seeds, told)
		}
	}}
	got, err := b.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got.CPU, got.Simulated = 0, 0
	if !reflect.DeepEqual(got, want) || want.Unknown == 0 {
		t.Errorf("counted %+v\nwant    %+v", got, want)
	}
	b.Duration = 0
	if out, err := b.Run(ctx); err == nil || !strings.Contains(err.Error(), "seed ") || out.Seeds != 0 {
		t.Errorf("seeds that can't be drawn: %+v, %v", out, err)
	}
}

// A seed that reached something new has four changes tried, every second time;
// one that did not has none, and changes are not changed.
func TestExploring(t *testing.T) {
	b := &batchAt{Batch: Batch{First: 1, Seeds: 7, Explore: true}, states: map[uint64]struct{}{}}
	reached := func(seed uint64, moments ...uint64) {
		var s Simulation
		for i, n := range moments {
			s.Moments = append(s.Moments, sim.Moment{Name: fmt.Sprint(i), Seen: n})
		}
		b.count(seed, Plan{}, s, nil, linearizability.Verdict{})
	}
	reached(5, 0, 1)
	reached(6, 0, 3)
	reached(Mutation(6, 9), 1, 0)
	var got []uint64
	for seed, ok := b.take(); ok; seed, ok = b.take() {
		got = append(got, seed)
	}
	if want := []uint64{1, Mutation(5, 1), 3, Mutation(5, 2), 5, Mutation(5, 3), 7}; !slices.Equal(got, want) {
		t.Errorf("the seeds are %d, want %d", got, want)
	}
	if b.tally.Moments[1].Seen != 4 || len(b.queue) != 1 {
		t.Errorf("moments %v, %d changes wait", b.tally.Moments, len(b.queue))
	}
	b = &batchAt{Batch: Batch{First: 1, Seeds: 7}, states: map[uint64]struct{}{}}
	if reached(5, 1); len(b.queue) > 0 {
		t.Errorf("without exploring %d changes wait", len(b.queue))
	}
}

// A violation is named by who saw it, an invariant or a checker, and by the seed
// as it was, changes included.
func TestViolationsAreNamed(t *testing.T) {
	ctx := context.Background()
	plan := swarm(t, "raft", 3, time.Second)
	plan.Spec.Faults = nil
	s := simulated(t, simSystems["raft"], plan)
	if found, _, err := s.Judge(ctx, plan); found != nil || err != nil {
		t.Fatal(found, err)
	}
	plan.Seed = Mutation(3, 2)
	for i := range s.History.Events {
		if e := &s.History.Events[i]; e.F == history.Read && e.Type == history.Ok && len(e.Value) > 0 && string(e.Value) != "null" && e.Value[0] != '[' {
			e.Value = []byte("123456789") // nobody wrote it
			break
		}
	}
	found, verdict, err := s.Judge(ctx, plan)
	if err != nil || found == nil || found.By != "linearizable" || found.Seed != plan.Seed || verdict.Outcome != linearizability.Invalid {
		t.Errorf("a read of what nobody wrote: %v, %s, %v", found, verdict.Outcome, err)
	}
	s.Breach = &sim.Breach{Invariant: "log-matching", Node: 2, Detail: "why"}
	found, verdict, err = s.Judge(ctx, plan)
	if want := (Violation{Seed: plan.Seed, By: "log-matching", Node: "n2", Detail: "why"}); err != nil || found == nil || *found != want || verdict.Outcome != linearizability.Invalid {
		t.Errorf("a breach: %v, %s, %v", found, verdict.Outcome, err)
	}
}

// Moments that nobody saw are named once there were enough seeds.
func TestMissed(t *testing.T) {
	all := Tally{Seeds: MomentSeeds, Moments: []sim.Moment{{Name: "a", Seen: 1}, {Name: "b"}}}
	if got := all.Missed(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("missed %q", got)
	}
	all.Seeds--
	if got := all.Missed(); got != nil {
		t.Errorf("too few seeds missed %q", got)
	}
}

func TestViolationWords(t *testing.T) {
	v := Violation{Seed: 42, By: "log-matching", Node: "n2", Detail: "why"}
	if got := v.String(); got != "seed 42: log-matching at n2: why" {
		t.Error(got)
	}
	v.Node = ""
	if got := v.String(); !bytes.HasPrefix([]byte(got), []byte("seed 42: log-matching: why")) {
		t.Error(got)
	}
}
