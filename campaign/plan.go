// Package campaign plans a run, carries it out, and has it judged. A plan is
// data: it is drawn from a spec and a seed, and written down before anything
// starts.
package campaign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/sim"
	"chaos/results"
	"chaos/workload"
)

// PlanVersion is the plan format that this program writes and reads.
const PlanVersion = 1

// Bounds of what a spec may ask for.
const (
	NodesMax       = 9
	ConcurrencyMax = 1024
	DurationMin    = time.Second
	DurationMax    = 24 * time.Hour
	leaseMax       = 10 * time.Minute
	planBytesMax   = 16 << 20
)

// A Spec is what a person asks for; a Plan is drawn from it.
type Spec struct {
	System      string         `json:"system"`
	Provider    string         `json:"provider"`
	Network     string         `json:"network,omitempty"` // local: namespaces or relay; empty: the best that works
	Nodes       int            `json:"nodes"`
	Duration    Duration       `json:"duration"` // of the storm
	Faults      []string       `json:"faults"`   // fault names; each is required to be proven
	Workload    string         `json:"workload"`
	Concurrency int            `json:"concurrency"` // sequential clients
	Rate        int            `json:"rate"`        // operations a second over all clients; 0: as fast as answers come
	Keys        int            `json:"keys,omitempty"`
	KeyOps      int            `json:"key_ops,omitempty"`
	Mix         map[string]int `json:"mix,omitempty"` // weight of each function
	Knobs       Knobs          `json:"knobs"`
	Lease       Duration       `json:"lease"`         // how long a fault lives when nobody renews it
	Sim         *sim.Settings  `json:"sim,omitempty"` // what a simulated world is like; other providers pass it over
}

// Knobs are the nodes' settings as a plan writes them.
type Knobs struct {
	Tick            Duration `json:"tick"`
	HeartbeatTicks  int      `json:"heartbeat_ticks"`
	ElectionTicks   int      `json:"election_ticks"`
	SnapshotEntries int      `json:"snapshot_entries"`
	CrashAt         string   `json:"crash_at,omitempty"`
}

// Nodes gives the knobs in the words of package nodes.
func (k Knobs) Nodes() nodes.Knobs {
	return nodes.Knobs{Tick: time.Duration(k.Tick), HeartbeatTicks: k.HeartbeatTicks,
		ElectionTicks: k.ElectionTicks, SnapshotEntries: k.SnapshotEntries, CrashAt: k.CrashAt}
}

// Election is the base of the election time-out; the longest is twice that.
func (k Knobs) Election() time.Duration {
	return time.Duration(k.Tick) * time.Duration(k.ElectionTicks)
}

// A Plan is a run decided before its start: spec, seed and schedule.
type Plan struct {
	Version  int              `json:"plan"`
	Seed     uint64           `json:"seed"`
	Spec     Spec             `json:"spec"`
	Schedule nemesis.Schedule `json:"schedule"`
}

// DefaultSpec is the run that `chaos run` makes without flags.
func DefaultSpec() Spec {
	return Spec{
		System: "raft", Provider: "local", Nodes: 5, Duration: Duration(25 * time.Second),
		Faults: []string{"kill", "pause", "partition", "slow"}, Workload: "mixed", Concurrency: 24,
		Knobs: Knobs{Tick: Duration(10 * time.Millisecond), HeartbeatTicks: 3, ElectionTicks: 20},
		Lease: Duration(15 * time.Second),
	}
}

// The independent streams of chance that one seed feeds.
const (
	scheduleStream = 1
	workloadStream = 2
	knobStream     = 3
)

func stream(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }

// snapshotsOften is the distance of snapshots in the half of the runs that has many.
const snapshotsOften = 40

// Draw makes a plan. Equal specs and seeds make equal plans, on every machine.
func Draw(s Spec, seed uint64) (Plan, error) {
	if err := s.Check(); err != nil {
		return Plan{}, err
	}
	faults, err := parseFaults(s.Faults)
	if err != nil {
		return Plan{}, err
	}
	knobs := stream(seed, knobStream)
	if often := knobs.IntN(2) == 1; s.Knobs.SnapshotEntries == 0 && often {
		s.Knobs.SnapshotEntries = snapshotsOften
	}
	o := nemesis.Options{Duration: time.Duration(s.Duration), Faults: faults, Nodes: s.Nodes,
		Election: 2 * s.Knobs.Election(), Recipes: true, Background: slices.Contains(s.Faults, nemesis.Slow{}.Name())}
	p := Plan{Version: PlanVersion, Seed: seed, Spec: s, Schedule: nemesis.Draw(stream(seed, scheduleStream), o)}
	return p, nil
}

func parseFaults(names []string) ([]nemesis.Fault, error) {
	var out []nemesis.Fault
	for _, n := range names {
		f, err := nemesis.Find(n)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// Check tells what is wrong with a spec, naming the flag.
func (s Spec) Check() error {
	w, err := workload.Find(s.Workload)
	if err != nil {
		return fmt.Errorf("--workload: %w", err)
	}
	if err := w.CheckMix(s.Mix); err != nil {
		return fmt.Errorf("--mix: %w", err)
	}
	faults, err := parseFaults(s.Faults)
	if err != nil {
		return fmt.Errorf("--faults: %w", err)
	}
	for _, f := range faults {
		if err := nemesis.Fits(f, s.Nodes); err != nil && s.Nodes > 0 {
			return fmt.Errorf("--faults: %w: leave it out, or raise --nodes", err)
		}
	}
	d := time.Duration(s.Duration)
	var world error
	if s.Sim != nil {
		world = s.Sim.Check()
	}
	return errors.Join(world,
		between("--nodes", s.Nodes, 1, NodesMax),
		between("--concurrency", s.Concurrency, 1, ConcurrencyMax),
		between("--rate", s.Rate, 0, 1_000_000),
		between("--keys", s.Keys, 0, 10_000),
		between("--key-ops", s.KeyOps, 0, 1_000_000),
		between("--duration", d, DurationMin, DurationMax),
		between("--lease", time.Duration(s.Lease), time.Second, leaseMax),
		between("--snapshot-entries", s.Knobs.SnapshotEntries, 0, 1_000_000_000),
		between("tick (ms)", int(time.Duration(s.Knobs.Tick)/time.Millisecond), 1, 10_000),
		between("heartbeat ticks", s.Knobs.HeartbeatTicks, 1, 1_000),
		between("election ticks", s.Knobs.ElectionTicks, 2, 10_000))
}

func between[T int | time.Duration](name string, v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("%s is %v; it must be from %v to %v", name, v, low, high)
	}
	return nil
}

// ReadPlan reads a plan file, or the plan of a golden scenario or of a run's folder,
// and checks all of it.
func ReadPlan(name string) (Plan, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, results.PlanFile)
	}
	f, err := os.Open(name)
	if err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, planBytesMax+1))
	if err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	if len(b) > planBytesMax {
		return Plan{}, fmt.Errorf("plan %s: larger than %d bytes", name, planBytesMax)
	}
	p, err := ParsePlan(b)
	if bytes.HasPrefix(b, []byte("#")) {
		var s Scenario
		s, err = ParseScenario(b)
		p = s.Plan
	}
	if err != nil {
		return Plan{}, fmt.Errorf("plan %s: %w", name, err)
	}
	return p, nil
}

// ParsePlan reads what [Plan.Encode] wrote, or a person edited.
func ParsePlan(b []byte) (Plan, error) {
	var v struct {
		Version *int `json:"plan"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Plan{}, describe(b, err)
	}
	if v.Version == nil {
		return Plan{}, errors.New(`this is not a plan: it has no "plan" version`)
	}
	if *v.Version != PlanVersion {
		return Plan{}, fmt.Errorf("it is of plan version %d; this program reads version %d", *v.Version, PlanVersion)
	}
	var p Plan
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Plan{}, describe(b, err)
	}
	if err := p.Spec.Check(); err != nil {
		return Plan{}, err
	}
	return p, nemesis.Validate(p.Schedule, members(p.Spec.Nodes))
}

func members(n int) (out []nodes.ID) {
	for i := range n {
		out = append(out, nodes.ID(i+1))
	}
	return out
}

// Needs lists the faults that the plan asks for or injects: where one can't be
// brought about, the plan can't be carried out. None is skipped in silence.
func (p Plan) Needs() ([]nemesis.Fault, error) {
	names := slices.Clone(p.Spec.Faults)
	for _, step := range p.Schedule {
		if step.Action == nemesis.Inject && !slices.Contains(names, step.Fault) {
			names = append(names, step.Fault)
		}
	}
	return parseFaults(names)
}

// Refuse tells why the plan can't be carried out with those abilities, with the
// remedy; nil when it can.
func (p Plan) Refuse(a nodes.Abilities) error {
	faults, err := p.Needs()
	if err != nil {
		return err
	}
	for _, f := range faults {
		if err := nemesis.Unable(f, a); err != nil {
			return err
		}
	}
	return nil
}

// describe adds the line to an error of encoding/json.
func describe(b []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: %w", line(b, syntax.Offset), err)
	case errors.As(err, &kind):
		return fmt.Errorf("line %d: %s can't hold a %s", line(b, kind.Offset), kind.Field, kind.Value)
	}
	return err
}

func line(b []byte, offset int64) int {
	return 1 + bytes.Count(b[:min(int(offset), len(b))], []byte("\n"))
}

// Encode writes a plan as people read and edit it.
func (p Plan) Encode() []byte {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("campaign: a plan that can't be written: %v", err))
	}
	return append(b, '\n')
}
