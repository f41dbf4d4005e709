package campaign

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"chaos/history"
	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/sim"
	"chaos/workload"
)

// Simulated carries a plan out in virtual time. Equal plans make equal
// histories, byte for byte.
type Simulated struct {
	Plan     Plan
	System   sim.System
	Audit    bool             // nodes keep their own record
	Trace    func(sim.Traced) // sees everything that happens; may be nil
	Progress func(Progress)   // called now and then; may be nil
}

// A Simulation is what came of it.
type Simulation struct {
	Record
	Cut     bool              // its storm was interrupted: run again, the seed is another simulation
	Breach  *sim.Breach       // the first invariant that broke; nil if none did
	Audits  map[string][]byte // by node
	Moments []sim.Moment
	States  map[uint64]struct{} // shapes that the cluster had, as fingerprints
	Events  uint64
	Time    time.Duration // simulated
	Applied uint64        // commands, over all nodes
}

// Bounds of a simulated run, in simulated time.
const (
	simNonce    = "sim"
	simThink    = 20 * time.Microsecond // of a client between an answer and its next question
	simObserve  = observeEvery
	simCrashMax = 400 * time.Millisecond // a node that died in the middle of a step is started again sooner
	stuckAfter  = 60 * time.Second       // a healed majority that does not answer by then is stuck
)

// tripsAsked is how many of the longest ways an answer may take without anything being wrong.
const tripsAsked = 20

// settings are the world's: the plan's own, or the defaults.
func (s Spec) settings() sim.Settings {
	if s.Sim != nil {
		return *s.Sim
	}
	return sim.Defaults()
}

// directorStream feeds what the director has to choose.
const directorStream = 7

// Stuck is the invariant that breaks when a healed majority does not answer.
const Stuck = "stuck"

// simRun is one simulation at work. It is the director: everything else
// happens in the world's own events.
type simRun struct {
	Simulated
	world    *sim.World
	book     book
	seen     claims
	storm    *storm
	workers  []*simWorker
	probes   []*probe
	loading  bool
	hurried  bool
	patience time.Duration // of a probe for one answer
	rate     time.Duration // between operations; 0: as fast as answers come
	slot     time.Duration // the next free one
	transfer time.Duration // about how far apart transfers of leadership are; 0: none
	crashes  time.Duration // about how far apart crashes in the middle of a step are; 0: none
	dice     *rand.Rand    // what the director has to choose
	given    int           // operations that clients began
	most     int           // after so many they stop; 0: never
	looked   time.Duration
	phase    string
	since    time.Duration // when the phase began
	shown    time.Time     // when who watches was told last
	cut      string        // how the storm was interrupted; empty if it was not
	outgoing nodes.ID      // the leader that is being replaced as the majority is chosen; 0: none
	crashed  bool
	revive   map[nodes.ID]time.Duration
}

// Run carries the plan out. The end of ctx ends the storm where it stands; what
// follows the storm is short, and takes place all the same.
func (s Simulated) Run(ctx context.Context) (Simulation, error) {
	spec := s.Plan.Spec
	settings := spec.settings()
	r := &simRun{Simulated: s, revive: map[nodes.ID]time.Duration{}}
	r.world = sim.New(sim.Options{System: s.System, Nodes: spec.Nodes, Knobs: spec.Knobs.Nodes(), Cluster: simNonce,
		Settings: settings, Seed: s.Plan.Seed, Audit: s.Audit, Trace: s.Trace}, r.wake)
	r.storm = newStorm(r, r.world, func() nodes.ID { return r.seen.current(r.world.Now()) })
	r.patience = askTimeout + tripsAsked*time.Duration(settings.Latency+settings.Spread+settings.Sync+settings.SyncBy)*time.Microsecond
	r.most = settings.Cap
	r.transfer = time.Duration(settings.Transfer) * time.Millisecond
	r.crashes = time.Duration(settings.Crashes) * time.Millisecond
	r.dice = stream(s.Plan.Seed^settings.Chance, directorStream)
	if spec.Rate > 0 {
		r.rate = time.Second / time.Duration(spec.Rate)
	}
	for i := range spec.Concurrency {
		r.workers = append(r.workers, newSimWorker(r, i))
	}
	for _, m := range r.world.Members() {
		r.probes = append(r.probes, newProbe(r, m.ID))
	}
	interrupted, err := r.carryOut(ctx)
	if err != nil {
		return Simulation{}, err
	}
	return r.result(interrupted), nil
}

func (r *simRun) result(interrupted string) Simulation {
	spec := r.Plan.Spec
	if b := r.world.Breach(); b != nil {
		n := history.Note{Detail: history.Invariant + b.Error()}
		if b.Node != 0 {
			n.Node = b.Node.String()
		}
		r.note(history.Info, history.Incident, n)
	}
	out := Simulation{Breach: r.world.Breach(), Moments: r.world.Moments(), States: r.world.States(), Events: r.world.Events(),
		Time: r.world.Now(), Applied: r.world.Applied(), Audits: map[string][]byte{}}
	out.History = history.History{Header: history.Header{History: history.Version, System: spec.System, Provider: spec.Provider,
		Seed: r.Plan.Seed, Nonce: simNonce, Workload: spec.Workload}, Events: r.book.all()}
	out.Interrupted, out.Cut = interrupted, r.cut != ""
	out.Trouble = r.storm.trouble
	for _, m := range r.world.Members() {
		if a := r.world.Audit(m.ID); a != nil {
			out.Audits[m.ID.String()] = a
		}
	}
	return out
}

// note implements noter.
func (r *simRun) note(t history.Type, f string, n history.Note) history.Event {
	return r.book.add(noteEvent(t, f, n), r.world.Now())
}

// until lets the world run to a time, and looks at its nodes now and then. It
// is false after a breach.
func (r *simRun) until(t time.Duration) bool {
	for r.world.Now() < t {
		if !r.world.Run(min(t, r.looked+simObserve)) {
			return false
		}
		if r.world.Now() >= r.looked+simObserve {
			r.look()
		}
	}
	return r.world.Breach() == nil
}

// look asks every node what it believes, and takes the incidents.
func (r *simRun) look() {
	now := r.world.Now()
	r.looked = now
	if r.phase == history.Storm {
		r.meddle(now)
	}
	for _, m := range r.world.Members() {
		if s, ok := r.world.Status(m.ID); ok && r.seen.saw(m.ID, s, now) {
			r.note(history.Info, history.Leader, history.Note{Leader: m.ID.String(), Term: s.Term})
		}
		if at, ok := r.revive[m.ID]; ok && now >= at {
			delete(r.revive, m.ID)
			r.world.Restart(m.ID)
		}
	}
	for _, i := range r.world.News() {
		r.incident(i)
	}
	r.show(false)
}

// meddle hands leadership over and has nodes die, about as often as the settings say.
func (r *simRun) meddle(now time.Duration) {
	due := func(every time.Duration) bool { return every > 0 && r.dice.Int64N(int64(every)) < int64(simObserve) }
	if due(r.transfer) {
		r.world.Transfer(r.seen.current(now), r.anybody())
	}
	if due(r.crashes) {
		r.world.Doom(r.anybody())
	}
}

func (r *simRun) anybody() nodes.ID { return nodes.ID(1 + r.dice.IntN(r.Plan.Spec.Nodes)) }

func (r *simRun) incident(i nodes.Incident) {
	if i.Detail == sim.CrashPoint {
		r.crashed = r.crashed || strings.HasPrefix(r.Plan.Spec.Knobs.CrashAt, i.Node.String()+":")
		r.revive[i.Node] = r.world.Now() + time.Duration(r.dice.Int64N(int64(simCrashMax)))
		r.note(history.Info, history.Incident, history.Note{Node: i.Node.String(), Detail: history.CrashPoint + r.Plan.Spec.Knobs.CrashAt})
		return
	}
	r.note(history.Info, history.Incident, history.Note{Node: i.Node.String(), Detail: i.Detail})
}

// carryOut is the run from its first moment to its last.
func (r *simRun) carryOut(ctx context.Context) (interrupted string, err error) {
	w, err := workload.Find(r.Plan.Spec.Workload)
	if err != nil {
		return "", err
	}
	r.enter(history.WarmUp)
	if err := r.world.Boot(); err != nil {
		return "", err
	}
	if !r.answering(r.all(), readyTimeout) {
		return "the nodes did not answer at the start", nil
	}
	o := workload.Options{Workers: r.Plan.Spec.Concurrency, Nodes: r.Plan.Spec.Nodes, Modes: simModes, Keys: r.Plan.Spec.Keys, KeyOps: r.Plan.Spec.KeyOps,
		Mix: r.Plan.Spec.Mix, Election: 2 * r.Plan.Spec.Knobs.Election(), Pause: r.Plan.Schedule.LongestPause()}
	gen := w.New(o, stream(r.Plan.Seed^r.chance(), workloadStream))
	r.book.gen = gen
	r.load()
	if !r.strike(ctx) {
		return "an invariant broke in the storm", nil
	}
	r.missedCrash()
	if !r.recover() {
		return "an invariant broke after the storm", nil
	}
	if broke := r.finish(gen.(workload.Keeper)); broke != "" {
		return broke, nil
	}
	return r.cut, nil
}

func (r *simRun) chance() uint64 {
	if s := r.Plan.Spec.Sim; s != nil {
		return s.Chance
	}
	return 0
}

// simModes are the read modes of our own nodes.
var simModes = []string{nodes.ModeIndex, nodes.ModeLog}

func (r *simRun) all() (out []nodes.ID) {
	for _, m := range r.world.Members() {
		out = append(out, m.ID)
	}
	return out
}

// strike is the storm: it lasts its whole duration, or until ctx ends. It is
// false after a breach.
func (r *simRun) strike(ctx context.Context) bool {
	r.enter(history.Storm)
	start, cursor := r.world.Now(), nemesis.NewCursor(r.Plan.Schedule)
	end := start + time.Duration(r.Plan.Spec.Duration)
	for r.world.Now() < end {
		if ctx.Err() != nil {
			r.cut = interruptedAfter(r.world.Now() - start)
			return true
		}
		wait, due := time.Duration(0), false
		if !cursor.Done() {
			wait, due = r.storm.strike(context.Background(), cursor, r.world.Now()-start)
		} else {
			wait = r.looked + simObserve - r.world.Now()
		}
		if due {
			continue
		}
		if !r.until(min(end, r.world.Now()+max(wait, time.Microsecond))) {
			return false
		}
	}
	return true
}

// missedCrash notes a crash point that the whole storm did not reach.
func (r *simRun) missedCrash() {
	if r.cut != "" {
		return
	}
	if note, missed := missedCrash(r.Plan.Spec.Knobs.CrashAt, r.crashed); missed {
		r.note(history.Info, history.Incident, note)
	}
}

// finish reads everything at the end, restarts all nodes, and reads again.
func (r *simRun) finish(keeper workload.Keeper) (interrupted string) {
	r.enter(history.Final)
	r.drive(newFinal(workload.FinalReads(keeper.UsedKeys(), r.Plan.Spec.Nodes, simModes)))
	if op, ok := workload.LastWrite(keeper.UsedKeys()); ok {
		r.drive(&once{op: op})
	}
	r.enter(history.Restart)
	r.killAll()
	if !r.answering(r.all(), stuckAfter) {
		r.stuck(r.all())
		return "an invariant broke after all nodes were restarted"
	}
	r.enter(history.Again)
	r.drive(newFinal(workload.FinalReads(keeper.UsedKeys(), r.Plan.Spec.Nodes, simModes)))
	if r.world.Breach() != nil {
		return "an invariant broke at the end"
	}
	return ""
}

// drive lets the workers do what a generator has, until it has no more.
func (r *simRun) drive(g workload.Generator) {
	r.book.gen = g
	r.hurried = false
	r.load()
	end := r.world.Now() + finalTime + 10*time.Second
	for r.working() && r.world.Now() < end {
		if !r.until(min(end, r.world.Now()+settleMin/10)) {
			return
		}
	}
	r.rest()
}

func (r *simRun) working() bool {
	for _, w := range r.workers {
		if !w.idle {
			return true
		}
	}
	return false
}

// load lets every worker begin.
func (r *simRun) load() {
	r.loading = true
	for _, w := range r.workers {
		if w.idle && !w.waking {
			w.rest(simThink * time.Duration(w.number+1))
		}
		w.idle = false
	}
}

// killAll kills every node at once and starts all again.
func (r *simRun) killAll() {
	var all []nodes.Effect
	for _, id := range r.all() {
		all = append(all, nodes.Effect{Kind: nodes.Down, Node: id})
	}
	ctx := context.Background()
	if _, err := r.world.Apply(ctx, "restart-all", all); err != nil {
		r.storm.trouble = append(r.storm.trouble, err.Error())
	}
	r.until(r.world.Now() + 10*time.Millisecond)
	if _, err := r.world.Revert(ctx, "restart-all"); err != nil {
		r.storm.trouble = append(r.storm.trouble, err.Error())
	}
	r.until(r.world.Now() + settleMin)
}

// restartAll starts what still waits to be started after its crash point.
func (r *simRun) restartAll() {
	for _, id := range r.all() {
		if _, waits := r.revive[id]; waits {
			delete(r.revive, id)
			r.world.Restart(id)
		}
	}
}
