package campaign

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/sim"
	"chaos/raft"
)

var nodesOptions = nodes.Options{}

type raftCore = consensus.Core[raft.Message, raft.Record]

type raftOutput = consensus.Output[raft.Message, raft.Record]

// A forgetter is a core whose votes and terms never reach the journal.
type forgetter struct{ raftCore }

func forget(o raftOutput) raftOutput {
	o.Records = slices.DeleteFunc(o.Records, func(r raft.Record) bool { return r.Kind == raft.Hard })
	return o
}

func (f forgetter) Tick() raftOutput { return forget(f.raftCore.Tick()) }
func (f forgetter) Receive(e consensus.Envelope[raft.Message]) raftOutput {
	return forget(f.raftCore.Receive(e))
}
func (f forgetter) Propose(c consensus.Command) raftOutput { return forget(f.raftCore.Propose(c)) }
func (f forgetter) Transfer(to consensus.ID) raftOutput    { return forget(f.raftCore.Transfer(to)) }
func (f forgetter) PeerReset(id consensus.ID) raftOutput   { return forget(f.raftCore.PeerReset(id)) }
func (f forgetter) Compact(s consensus.Snapshot) []raft.Record {
	return slices.DeleteFunc(f.raftCore.Compact(s), func(r raft.Record) bool { return r.Kind == raft.Hard })
}

func forgetful() sim.System { return raftWith(func(c raftCore) raftCore { return forgetter{c} }) }

// A hasty core, while it believes to lead, answers reads without asking anybody.
type hasty struct{ raftCore }

func (h hasty) Read(key uint64) raftOutput {
	if s := h.Status(); s.Leader == s.ID {
		return raftOutput{Reads: []consensus.Read{{Key: key, Index: s.Commit}}}
	}
	return h.raftCore.Read(key)
}

func impatient() sim.System { return raftWith(func(c raftCore) raftCore { return hasty{c} }) }

// failing is a plan of a swarm that shows what is wrong with a system.
func failing(t *testing.T, system sim.System, d time.Duration) (Plan, Violation) {
	t.Helper()
	for seed := range uint64(300) {
		plan := swarm(t, "raft", seed+1, d)
		out := simulated(t, system, plan)
		if found, _, err := out.Judge(context.Background(), plan); err == nil && found != nil && len(injections(plan)) > 2 {
			return plan, *found
		}
	}
	t.Fatal("no seed shows it")
	return Plan{}, Violation{}
}

// A plan that shows a bug becomes a smaller one that shows the same; its text
// brings it back, and a sound system passes it.
func TestShrink(t *testing.T) {
	t.Run("votes are not saved", func(t *testing.T) { shrink(t, forgetful()) })
	t.Run("a leader answers alone", func(t *testing.T) { shrink(t, impatient()) })
}

// shrink wants a bug that needs neither faults nor many clients: leaving a part
// broken at the end is enough.
func shrink(t *testing.T, system sim.System) {
	ctx := context.Background()
	plan, found := failing(t, system, 3*time.Second)
	before := plan.Encode()
	steps := 0
	last := 0
	s := Shrinker{System: system, Progress: func(tries int, p Plan) {
		steps++
		if tries <= last {
			t.Errorf("try %d follows try %d", tries, last)
		}
		last = tries
		if err := validPlan(p); err != nil {
			t.Errorf("a plan on the way: %v", err)
		}
	}}
	small, still, tries := s.Shrink(ctx, plan, found)
	t.Logf("from %s to %s in %d simulations, %d steps", plan.Describe(), small.Describe(), tries, steps)
	if !bytes.Equal(plan.Encode(), before) {
		t.Error("shrinking changed the plan that it was given")
	}
	if still.By != found.By || steps == 0 || tries < steps || tries > shrinkTriesMax {
		t.Errorf("%v became %v, %d steps in %d simulations", found, still, steps, tries)
	}
	if len(injections(small)) >= len(injections(plan)) || small.Spec.Concurrency > plan.Spec.Concurrency || small.Spec.Duration > plan.Spec.Duration || small.Spec.Nodes > plan.Spec.Nodes {
		t.Errorf("%s became %s", plan.Describe(), small.Describe())
	}
	if small.Spec.Concurrency > 1 || len(injections(small)) > 0 {
		t.Errorf("it needs neither faults nor many clients, and there are still %s", small.Describe())
	}
	for _, name := range small.Spec.Faults {
		if !slices.ContainsFunc(small.Schedule, func(st nemesis.Step) bool { return nemesis.Covers(name, st.Fault) }) {
			t.Errorf("the fault %s is still asked for, and nothing brings it about", name)
		}
	}
	scenario := Scenario{About: []string{t.Name()}, Defect: "vote-not-saved", Breaks: still.By, Plan: small}
	again, err := ParseScenario(scenario.Encode())
	if err != nil {
		t.Fatal(err)
	}
	out := simulated(t, system, again.Plan)
	if v, _, err := out.Judge(ctx, again.Plan); err != nil || v == nil || *v != still {
		t.Errorf("the scenario shows %v (%v), want %v", v, err, still)
	}
	out = simulated(t, simSystems["raft"], again.Plan)
	if v, _, err := out.Judge(ctx, again.Plan); err != nil || v != nil {
		t.Errorf("sound raft shows %v (%v)", v, err)
	}
}

// What ends early has the smallest plan found so far.
func TestShrinkEnds(t *testing.T) {
	plan, found := failing(t, forgetful(), 2*time.Second)
	ctx, cancel := context.WithCancel(context.Background())
	s := Shrinker{System: forgetful(), Progress: func(int, Plan) { cancel() }}
	small, still, tries := s.Shrink(ctx, plan, found)
	if still.By != found.By || tries > shrinkThrows*20 {
		t.Errorf("%v after %d simulations", still, tries)
	}
	out := simulated(t, forgetful(), small)
	if v, _, err := out.Judge(context.Background(), small); err != nil || v == nil || v.By != found.By {
		t.Errorf("what it ended with shows %v, %v", v, err)
	}
}

// A violation that nothing shows again is left as it is.
func TestShrinkNothing(t *testing.T) {
	plan := swarm(t, "raft", 1, time.Second)
	plan.Schedule, plan.Spec.Faults = nil, []string{}
	plan.Spec.Nodes, plan.Spec.Concurrency, plan.Spec.Rate, plan.Spec.Workload = 2, 2, 10, "register"
	s := Shrinker{System: simSystems["raft"]}
	small, still, tries := s.Shrink(context.Background(), plan, Violation{By: "nothing"})
	if !bytes.Equal(small.Encode(), plan.Encode()) || still.By != "nothing" || tries == 0 {
		t.Errorf("after %d simulations it became %s", tries, small.Describe())
	}
}

// Heals of what is not injected go, and those behind the end come to it.
func TestPaired(t *testing.T) {
	at := func(id string, at time.Duration, action nemesis.Action) nemesis.Step {
		return nemesis.Step{ID: id, At: at, Action: action}
	}
	got := paired(nemesis.Schedule{at("a", 1, nemesis.Inject), at("b", 2, nemesis.Heal), at("a", 9, nemesis.Heal)}, 5)
	if len(got) != 2 || got[0].ID != "a" || got[1].ID != "a" || got[1].At != 5 {
		t.Errorf("paired: %+v", got)
	}
}

// A shorter storm asks for no fault that it has no more: another provider would refuse it.
func TestShortened(t *testing.T) {
	p := shortPlan() // kill-1 at 50 ms, pause-1 at 600 ms
	q := shortened(p, 300*time.Millisecond)
	if !slices.Equal(q.Spec.Faults, []string{"kill"}) || !slices.Equal(injections(q), []string{"kill-1"}) || q.Schedule[1].At != 300*time.Millisecond {
		t.Errorf("it asks for %v and has %+v", q.Spec.Faults, q.Schedule)
	}
	if len(p.Spec.Faults) != 2 || len(p.Schedule) != 3 {
		t.Error("the plan itself was changed")
	}
}

// A fragile core panics at its third tick.
type fragile struct {
	raftCore
	ticks *int
}

func (f fragile) Tick() raftOutput {
	if *f.ticks++; *f.ticks == 3 {
		panic("it was unlucky")
	}
	return f.raftCore.Tick()
}

// unlucky is raft of which a throw of the dice makes a core fragile now and then.
func unlucky() sim.System {
	return sim.Of("raft", raft.Codec{}, raft.NewCheck, func(k *raft.Check, o consensus.Options) raftCore {
		fate := o.Rand.Uint64() % 16
		c := raft.New(o)
		k.Add(c)
		if fate == 0 {
			return fragile{c, new(int)}
		}
		return c
	})
}

// A smaller plan is kept for the same violation only, with the throw of the dice
// that showed it, if it is valid, and while there are tries left.
func TestShrinkKeeps(t *testing.T) {
	ctx, thrown := context.Background(), 0
	for seed := uint64(1); seed <= 20; seed++ {
		plan := swarm(t, "raft", seed, time.Second)
		s := Shrinker{System: unlucky(), by: "panic", throws: 4}
		if !s.keep(ctx, plan) {
			continue
		}
		if s.found.By != s.by || s.tries == 0 {
			t.Fatalf("seed %d: kept for %v after %d simulations", seed, s.found, s.tries)
		}
		out := simulated(t, unlucky(), s.best)
		if v, _, err := out.Judge(ctx, s.best); err != nil || v == nil || *v != s.found {
			t.Errorf("seed %d: it was kept for %v and shows %v, %v", seed, s.found, v, err)
		}
		if s.best.Spec.Sim.Chance != plan.Spec.Sim.Chance {
			thrown++
		}
		for why, try := range map[string]func(s *Shrinker, p *Plan){
			"for another violation":   func(s *Shrinker, _ *Plan) { s.by = "log-matching" },
			"though it is not valid":  func(_ *Shrinker, p *Plan) { p.Spec.Nodes = 0 },
			"though no try is left":   func(s *Shrinker, _ *Plan) { s.tries = shrinkTriesMax },
			"though nobody shows it":  func(s *Shrinker, _ *Plan) { s.System = simSystems["raft"] },
			"with no throw of a dice": func(s *Shrinker, _ *Plan) { s.throws = 0 },
		} {
			again := Shrinker{System: unlucky(), by: s.by, throws: 1}
			p := s.best
			try(&again, &p)
			if again.keep(ctx, p) {
				t.Errorf("seed %d: a plan is kept %s", seed, why)
			}
		}
	}
	if thrown < 3 {
		t.Errorf("%d plans were kept for another throw of the dice", thrown)
	}
}
