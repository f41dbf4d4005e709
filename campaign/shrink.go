package campaign

import (
	"context"
	"fmt"
	"slices"
	"time"

	"chaos/nemesis"
	"chaos/nodes/sim"
	"chaos/results"
	"chaos/workload"
)

// Bounds of shrinking.
const (
	shrinkTriesMax = 4000 // simulations
	shrinkThrows   = 6    // of the dice, for one smaller plan
	shrinkThrowMax = 24   // of them, once so few bring nothing more
	shrinkRounds   = 8    // over all ways to make a plan smaller
)

// A Shrinker makes a failing plan smaller as long as the same violation
// remains: the same invariant or checker sees it. A smaller plan is tried with
// a few throws of the dice, since all that was removed moves the rest.
type Shrinker struct {
	System   sim.System
	Progress func(tries int, p Plan) // called at each smaller plan; may be nil

	by     string
	throws uint64
	best   Plan
	found  Violation
	tries  int
}

// Shrink returns the smallest plan found, what it breaks, and how many simulations it took.
func (s *Shrinker) Shrink(ctx context.Context, p Plan, found Violation) (Plan, Violation, int) {
	s.by, s.throws, s.best, s.found = found.By, shrinkThrows, p, found
	for range shrinkRounds {
		improved := false
		for _, way := range shrinkWays {
			improved = way(ctx, s) || improved
			if ctx.Err() != nil || s.tries >= shrinkTriesMax {
				return s.best, s.found, s.tries
			}
		}
		if !improved && s.throws == shrinkThrowMax {
			break
		}
		if !improved {
			s.throws = shrinkThrowMax
		}
	}
	return s.best, s.found, s.tries
}

// shrinkWays are the ways to make a plan smaller, in order.
var shrinkWays = []func(context.Context, *Shrinker) bool{shrinkEnd, shrinkInjections, shrinkLoad, shrinkNodes, shrinkWorld}

// keep takes a smaller plan over if it still shows the violation.
func (s *Shrinker) keep(ctx context.Context, p Plan) bool {
	if nemesis.Validate(p.Schedule, members(p.Spec.Nodes)) != nil || p.Spec.Check() != nil {
		return false
	}
	world := p.Spec.settings()
	for throw := range s.throws {
		if ctx.Err() != nil || s.tries >= shrinkTriesMax {
			return false
		}
		q := p
		settings := world
		if throw > 0 {
			settings.Chance = throw
		}
		q.Spec.Sim = &settings
		s.tries++
		out, err := Simulated{Plan: q, System: s.System}.Run(ctx)
		if err != nil || out.Cut {
			return false
		}
		found, _, err := out.Judge(ctx, q)
		if err == nil && found != nil && found.By == s.by {
			s.best, s.found = q, *found
			if s.Progress != nil {
				s.Progress(s.tries, q)
			}
			return true
		}
	}
	return false
}

// shrinkEnd ends the storm earlier.
func shrinkEnd(ctx context.Context, s *Shrinker) (improved bool) {
	for _, part := range []int64{2, 4, 6, 8, 9} {
		p := s.best
		d := (time.Duration(p.Spec.Duration) * time.Duration(part) / 10).Round(time.Millisecond)
		if d < DurationMin {
			continue
		}
		if s.keep(ctx, shortened(p, d)) {
			return true
		}
	}
	return false
}

// shortened is the plan with a storm that ends at d, and asks only for what it
// still has.
func shortened(p Plan, d time.Duration) Plan {
	p.Spec.Duration = Duration(d)
	p.Schedule = slices.DeleteFunc(slices.Clone(p.Schedule), func(st nemesis.Step) bool { return st.Action == nemesis.Inject && st.At >= d })
	p.Schedule = paired(p.Schedule, d)
	p.Spec.Faults = named(p.Schedule, p.Spec.Faults)
	return p
}

// paired drops heals of what is not injected, and moves those behind the end to it.
func paired(steps nemesis.Schedule, end time.Duration) (out nemesis.Schedule) {
	injected := map[string]bool{}
	for _, st := range steps {
		switch {
		case st.Action == nemesis.Inject:
			injected[st.ID] = true
		case !injected[st.ID]:
			continue
		}
		st.At = min(st.At, end)
		out = append(out, st)
	}
	return out
}

// shrinkInjections removes injections with their heals: first many at once, then fewer.
func shrinkInjections(ctx context.Context, s *Shrinker) (improved bool) {
	for size := len(injections(s.best)); size > 0; size /= 2 {
		for from := 0; from < len(injections(s.best)); {
			ids := injections(s.best)
			drop := ids[from:min(from+size, len(ids))]
			p := s.best
			p.Schedule = slices.DeleteFunc(slices.Clone(p.Schedule), func(st nemesis.Step) bool { return slices.Contains(drop, st.ID) })
			p.Spec.Faults = named(p.Schedule, p.Spec.Faults)
			if s.keep(ctx, p) {
				improved = true
			} else {
				from += size
			}
		}
	}
	return improved
}

func injections(p Plan) (out []string) {
	for _, st := range p.Schedule {
		if st.Action == nemesis.Inject {
			out = append(out, st.ID)
		}
	}
	return out
}

// named keeps the faults that the schedule still has.
func named(steps nemesis.Schedule, faults []string) []string {
	out := []string{}
	for _, f := range faults {
		if slices.ContainsFunc(steps, func(st nemesis.Step) bool { return nemesis.Covers(f, st.Fault) }) {
			out = append(out, f)
		}
	}
	return out
}

// shrinkLoad takes clients and operations away, and mixes less.
func shrinkLoad(ctx context.Context, s *Shrinker) (improved bool) {
	try := func(edit func(*Spec)) {
		p := s.best
		edit(&p.Spec)
		improved = s.keep(ctx, p) || improved
	}
	if s.best.Spec.Workload == workload.Mixed().Name {
		for _, w := range workload.All()[1:] {
			if s.best.Spec.Workload == workload.Mixed().Name {
				try(func(spec *Spec) { spec.Workload = w.Name })
			}
		}
	}
	for n := s.best.Spec.Concurrency / 2; n >= 1; n /= 2 {
		try(func(spec *Spec) { spec.Concurrency = min(spec.Concurrency, n) })
	}
	for rate := s.best.Spec.Rate / 2; rate >= 5; rate /= 2 {
		try(func(spec *Spec) { spec.Rate = min(spec.Rate, rate) })
	}
	cap := s.best.Spec.settings().Cap
	if cap == 0 {
		cap = s.best.Spec.Rate * int(time.Duration(s.best.Spec.Duration)/time.Second)
	}
	for n := cap / 2; n >= 1; n /= 2 {
		try(func(spec *Spec) { spec.Sim = with(spec, func(w *sim.Settings) { w.Cap = n }) })
	}
	return improved
}

// with is the spec's world, changed.
func with(spec *Spec, edit func(*sim.Settings)) *sim.Settings {
	w := spec.settings()
	edit(&w)
	return &w
}

// shrinkNodes takes nodes away.
func shrinkNodes(ctx context.Context, s *Shrinker) (improved bool) {
	for s.best.Spec.Nodes > 1 {
		p := s.best
		p.Spec.Nodes--
		if !s.keep(ctx, p) {
			return improved
		}
		improved = true
	}
	return improved
}

// shrinkWorld makes network, disk, clocks and knobs plainer.
func shrinkWorld(ctx context.Context, s *Shrinker) (improved bool) {
	plain := sim.Defaults()
	for _, edit := range []func(*Spec, *sim.Settings){
		func(_ *Spec, w *sim.Settings) { w.Slow, w.SlowBy = 0, 0 },
		func(_ *Spec, w *sim.Settings) { w.Lossy = 0 },
		func(_ *Spec, w *sim.Settings) { w.Doubled = 0 },
		func(_ *Spec, w *sim.Settings) { w.Spread = 0 },
		func(_ *Spec, w *sim.Settings) { w.Latency, w.Spread = plain.Latency, 0 },
		func(_ *Spec, w *sim.Settings) { w.Ordered = true },
		func(_ *Spec, w *sim.Settings) { w.SyncBy = 0 },
		func(_ *Spec, w *sim.Settings) { w.Sync, w.SyncBy = plain.Sync, 0 },
		func(_ *Spec, w *sim.Settings) { w.Skew = 0 },
		func(_ *Spec, w *sim.Settings) { w.Transfer = 0 },
		func(_ *Spec, w *sim.Settings) { w.TakeOver = false },
		func(_ *Spec, w *sim.Settings) { w.Crashes = 0 },
		func(_ *Spec, w *sim.Settings) { w.Power = false },
		func(_ *Spec, w *sim.Settings) { w.Wire = false },
		func(_ *Spec, w *sim.Settings) { w.Flight, w.Batch = 0, 0 },
		func(_ *Spec, w *sim.Settings) { w.Segment = plain.Segment },
		func(spec *Spec, _ *sim.Settings) { spec.Knobs.CrashAt = "" },
		func(spec *Spec, _ *sim.Settings) { spec.Knobs.SnapshotEntries = 10_000 },
		func(spec *Spec, _ *sim.Settings) { spec.Knobs.HeartbeatTicks, spec.Knobs.ElectionTicks = 3, 20 },
		func(spec *Spec, _ *sim.Settings) { spec.Keys, spec.KeyOps = 0, 0 },
	} {
		p := s.best
		w := p.Spec.settings()
		edit(&p.Spec, &w)
		p.Spec.Sim = &w
		if same(p.Spec, s.best.Spec) {
			continue
		}
		improved = s.keep(ctx, p) || improved
	}
	return improved
}

func same(a, b Spec) bool {
	return a.settings() == b.settings() && a.Knobs == b.Knobs && a.Keys == b.Keys && a.KeyOps == b.KeyOps
}

// Describe tells how small a plan is: "3 nodes, 1 client, 2 injections, 1.2s".
func (p Plan) Describe() string {
	s := fmt.Sprintf("%s, %s, %s, %s", results.Counted(p.Spec.Nodes, "node"), results.Counted(p.Spec.Concurrency, "client"),
		results.Counted(len(injections(p)), "injection"), time.Duration(p.Spec.Duration))
	if n := p.Spec.settings().Cap; n > 0 {
		s += ", at most " + results.Counted(n, "operation")
	}
	return s
}
