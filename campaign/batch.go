package campaign

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"chaos/linearizability"
	"chaos/nodes/sim"
)

// A Violation is a seed whose simulation broke a promise.
type Violation struct {
	Seed   uint64 `json:"seed"`
	By     string `json:"by"`             // the invariant or the checker that saw it
	Node   string `json:"node,omitempty"` // where, if it was one node
	Detail string `json:"detail"`
}

// String reads "seed 42: log-matching at n2: …".
func (v Violation) String() string {
	at := ""
	if v.Node != "" {
		at = " at " + v.Node
	}
	return fmt.Sprintf("seed %d: %s%s: %s", v.Seed, v.By, at, v.Detail)
}

// judgeTimeout bounds the check of one simulated history, in real time: those
// are short, and one that is not decided by then counts as unknown.
const judgeTimeout = 20 * time.Second

// settleBound is how soon after the last heal an operation must succeed. In
// simulation the healed cluster was asked before clients went on, with a bound
// of its own and that of the majority before it; 0: the usual bound.
func settleBound(p Plan) time.Duration {
	if p.Spec.Provider == (sim.Provider{}).Name() {
		return 2*stuckAfter + linearizability.SettleBound
	}
	return 0
}

// Judge judges what was simulated. The violation is nil where no promise was broken.
func (s *Simulation) Judge(ctx context.Context, plan Plan) (*Violation, linearizability.Verdict, error) {
	if b := s.Breach; b != nil {
		v := &Violation{Seed: plan.Seed, By: b.Invariant, Detail: b.Detail}
		if b.Node != 0 {
			v.Node = b.Node.String()
		}
		return v, linearizability.Verdict{Checker: b.Invariant, Outcome: linearizability.Invalid, Reason: b.Error()}, nil
	}
	verdict, err := linearizability.Judge(ctx, linearizability.Input{History: s.History, Required: plan.Spec.Faults,
		Options: linearizability.Options{Timeout: judgeTimeout, Settle: settleBound(plan)}})
	if err != nil || verdict.Outcome != linearizability.Invalid {
		s.qualify(&verdict)
		return nil, verdict, err
	}
	by := "run"
	for _, p := range verdict.Parts {
		if p.Outcome == linearizability.Invalid {
			by = p.Checker
			break
		}
	}
	return &Violation{Seed: plan.Seed, By: by, Detail: verdict.Reason}, verdict, nil
}

// A Batch simulates many seeds.
type Batch struct {
	System    sim.System
	First     uint64
	Seeds     int           // how many
	Duration  time.Duration // simulated, of each storm
	Jobs      int           // seeds under way at once
	KeepGoing bool          // past the first violation
	Explore   bool          // seeds that reached something new are changed and tried again before others
	Progress  func(Tally)   // called now and then; may be nil
}

// A Tally is what a batch came to so far.
type Tally struct {
	System     string                  `json:"system"`
	First      uint64                  `json:"first"`
	Seeds      int                     `json:"seeds"`
	Changed    int                     `json:"changed"` // of the seeds: those that are others, changed
	Outcome    linearizability.Outcome `json:"outcome"` // of all of it, as its caller grades it
	CPU        float64                 `json:"cpu_seconds"`
	Simulated  float64                 `json:"simulated_seconds"`
	Events     uint64                  `json:"events"`
	Operations int                     `json:"operations"`
	Applied    uint64                  `json:"applied"` // commands, over all nodes
	States     int                     `json:"states"`  // different shapes of the cluster
	Unknown    int                     `json:"unknown"` // seeds that could not have shown every kind of violation
	Violations []Violation             `json:"violations"`
	Moments    []sim.Moment            `json:"moments"`
	Last       Violation               `json:"-"`
}

// batchAt is a batch at work; its lock guards everything below it.
type batchAt struct {
	Batch
	mu     sync.Mutex
	tally  Tally
	states map[uint64]struct{}
	began  time.Time
	next   int      // seeds handed out
	queue  []uint64 // changed seeds that are to be tried first
	err    error
	done   bool
}

// exploreMax bounds how many changed seeds wait, and exploreEach how many one
// seed that reached something new brings.
const (
	exploreMax  = 256
	exploreEach = 4
)

// Run simulates until the seeds are used up, ctx ends, or a violation is found.
// An error is a failure of the harness.
func (b Batch) Run(ctx context.Context) (Tally, error) {
	at := &batchAt{Batch: b, states: map[uint64]struct{}{}, began: time.Now()}
	at.tally = Tally{System: b.System.Name(), First: b.First, Violations: []Violation{}}
	start := CPUSeconds()
	var all sync.WaitGroup
	for range max(1, min(b.Jobs, 4*runtime.NumCPU())) {
		all.Add(1)
		go func() {
			defer all.Done()
			at.work(ctx)
		}()
	}
	all.Wait()
	at.tally.CPU = CPUSeconds() - start
	at.tally.States = len(at.states)
	slices.SortFunc(at.tally.Violations, func(a, b Violation) int { return compareSeeds(a.Seed, b.Seed) })
	return at.tally, at.err
}

func compareSeeds(a, b uint64) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

func (b *batchAt) work(ctx context.Context) {
	for ctx.Err() == nil {
		seed, ok := b.take()
		if !ok {
			return
		}
		plan, err := Swarm(b.System.Name(), seed, b.Duration)
		if err != nil {
			b.fail(seed, err)
			return
		}
		s, err := Simulated{Plan: plan, System: b.System}.Run(ctx)
		if err != nil {
			b.fail(seed, err)
			return
		}
		found, verdict, err := s.Judge(ctx, plan)
		if err != nil {
			b.fail(seed, err)
			return
		}
		if !halfway(ctx, s, found) {
			b.count(seed, plan, s, found, verdict)
		}
	}
}

// halfway tells of a seed that the end of ctx met in its storm, or while it was
// judged: it shows nothing that the seed would show again.
func halfway(ctx context.Context, s Simulation, found *Violation) bool {
	return s.Cut || ctx.Err() != nil && found == nil
}

// take hands out the next seed: a changed one every second time, if there is one.
func (b *batchAt) take() (uint64, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done || b.next >= b.Seeds {
		return 0, false
	}
	b.next++
	if n := len(b.queue); n > 0 && b.next%2 == 0 {
		seed := b.queue[0]
		b.queue = b.queue[1:]
		return seed, true
	}
	return b.First + uint64(b.next-1), true
}

func (b *batchAt) fail(seed uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = fmt.Errorf("seed %d: %w", seed, err)
	}
	b.done = true
}

func (b *batchAt) count(seed uint64, plan Plan, s Simulation, found *Violation, verdict linearizability.Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &b.tally
	t.Seeds++
	if seed>>mutationShift != 0 {
		t.Changed++
	}
	t.Simulated += s.Time.Seconds()
	t.Events += s.Events
	t.Applied += s.Applied
	t.Operations += len(s.History.Events) / 2
	if verdict.Outcome == linearizability.Unknown {
		t.Unknown++
	}
	fresh := b.learn(s)
	if fresh && b.Explore && seed>>mutationShift == 0 {
		for n := range uint64(exploreEach) {
			if len(b.queue) < exploreMax {
				b.queue = append(b.queue, Mutation(seed, n+1))
			}
		}
	}
	if found != nil {
		t.Violations = append(t.Violations, *found)
		t.Last = *found
		b.done = b.done || !b.KeepGoing
	}
	if b.Progress != nil {
		t.States, t.CPU = len(b.states), time.Since(b.began).Seconds()
		b.Progress(*t)
	}
}

// learn adds the moments and shapes of one simulation, and tells whether any was new.
func (b *batchAt) learn(s Simulation) (fresh bool) {
	before := len(b.states)
	for f := range s.States {
		if len(b.states) < batchStatesMax {
			b.states[f] = struct{}{}
		}
	}
	fresh = len(b.states) > before+newStates
	for i, m := range s.Moments {
		if i == len(b.tally.Moments) {
			b.tally.Moments = append(b.tally.Moments, sim.Moment{Name: m.Name})
		}
		k := &b.tally.Moments[i]
		fresh = fresh || k.Seen == 0 && m.Seen > 0
		k.Seen += m.Seen
	}
	return fresh
}

const (
	batchStatesMax = 1 << 22 // shapes that a batch remembers
	newStates      = 200     // shapes that nobody saw before and that make a seed interesting
)

// MomentSeeds is how many seeds must have reached every moment.
const MomentSeeds = 10_000

// Missed lists the moments that so many seeds should have reached, and did not.
func (t Tally) Missed() (out []string) {
	if t.Seeds < MomentSeeds {
		return nil
	}
	for _, m := range t.Moments {
		if m.Seen == 0 {
			out = append(out, m.Name)
		}
	}
	return out
}
