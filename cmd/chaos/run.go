package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/replica"
	"chaos/nodes/sim"
	"chaos/results"
)

const runsRoot = "results/runs"

// runFlags are the flags of chaos run.
type runFlags struct {
	spec         campaign.Spec
	where        where
	duration     time.Duration
	lease        time.Duration
	seed         uint64
	plan         string
	out          string
	checkTimeout time.Duration
	json, quiet  bool
}

func newRunCommand() *cobra.Command {
	f := runFlags{spec: campaign.DefaultSpec()}
	c := &cobra.Command{
		Use:   "run",
		Short: "Start a cluster, hurt it under load, judge what the clients saw",
		Long: `run draws a plan from the seed, writes it down, starts a real cluster, carries
the plan out, and judges the recorded history.

Exit status: 0 valid, 1 invalid, 2 harness failure, 3 unknown, 64 wrong usage.`,
		Example: `  chaos run
  chaos run --system paxos --nodes 3 --duration 20s --faults kill,partition-ring
  chaos run --workload append --concurrency 48 --seed 42
  chaos run --plan latest
  chaos run --network relay --json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.register(c)
	return c
}

func (f *runFlags) register(c *cobra.Command) {
	s, d := &f.spec, c.Flags()
	d.StringVar(&s.System, "system", s.System, "what to test: raft, paxos, paxos-classic, etcd, etcd-serializable")
	d.StringVar(&s.Provider, "provider", s.Provider, "where it runs: local, docker, ssh, or sim, in virtual time")
	f.where.register(d)
	d.StringVar(&s.Network, "network", s.Network, "local: namespaces or relay (default: namespaces where they work)")
	d.IntVar(&s.Nodes, "nodes", s.Nodes, "how many nodes")
	d.DurationVar(&f.duration, "duration", time.Duration(s.Duration), "how long the storm lasts")
	d.StringSliceVar(&s.Faults, "faults", s.Faults, "faults to inject and prove; all, weather, or none")
	d.StringVar(&s.Workload, "workload", s.Workload, "what clients do: register, cas, append, set, counter, mixed")
	d.IntVar(&s.Concurrency, "concurrency", s.Concurrency, "sequential clients")
	d.IntVar(&s.Rate, "rate", s.Rate, "operations a second over all clients; 0: as fast as answers come")
	d.IntVar(&s.Keys, "keys", s.Keys, "keys in use at once; 0: one for each group of clients")
	d.IntVar(&s.KeyOps, "key-ops", s.KeyOps, "operations on a key before another takes its place; 0: the workload's own")
	d.StringToIntVar(&s.Mix, "mix", nil, "weight of each function: read=3,write=1")
	d.IntVar(&s.Knobs.SnapshotEntries, "snapshot-entries", 0, "entries between snapshots; 0: drawn")
	d.StringVar(&s.Knobs.CrashAt, "crash-at", "", `a node kills itself once, at a crash point: n2:after-sync:40`)
	d.DurationVar(&f.lease, "lease", time.Duration(s.Lease), "how long a fault lives when the harness is gone")
	d.Uint64Var(&f.seed, "seed", 0, "decides the plan; 0 draws a fresh one and prints it")
	d.StringVar(&f.plan, "plan", "", "carry out this plan.json, or that of a run's folder, instead of drawing one")
	d.StringVar(&f.out, "out", runsRoot, "folder of run folders")
	d.DurationVar(&f.checkTimeout, "check-timeout", time.Minute, "how long checking may take; past it the verdict is unknown")
	d.BoolVar(&f.json, "json", false, "print the result as one JSON document")
	d.BoolVar(&f.quiet, "quiet", false, "print only the verdict")
	completions(c)
}

// completions lets a shell complete the values that come from lists.
func completions(c *cobra.Command) {
	fixed := func(flag string, values func() []string) {
		c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return values(), cobra.ShellCompDirectiveNoFileComp
		})
	}
	fixed("system", func() []string { return names(systems()) })
	fixed("provider", func() []string { return names(providerNames) })
	fixed("faults", func() []string { return names(nemesis.All()) })
	fixed("network", func() []string { return []string{"namespaces", "relay"} })
}

func names[T named](list []T) (out []string) {
	for _, v := range list {
		out = append(out, v.Name())
	}
	return out
}

func (f *runFlags) run(c *cobra.Command) error {
	plan, err := f.decide(c)
	if err != nil {
		return usageError{err}
	}
	live, err := f.prepare(c, plan)
	if err != nil {
		return err
	}
	screen := newScreen(c.ErrOrStderr(), f.quiet || f.json)
	screen.line("seed %d", plan.Seed)
	live.Progress = screen.progress
	execute := live.Execute
	if live.Plan.Spec.Provider == (sim.Provider{}).Name() {
		system, err := pick("system", plan.Spec.System, simulated())
		if err != nil {
			return err
		}
		execute = campaign.Simulated{Plan: live.Plan, System: system, Progress: screen.progress}.Execute
	}
	s, err := execute(c.Context(), f.out, time.Now(), f.checkTimeout)
	screen.done()
	if err != nil {
		if s.Run != "" {
			err = fmt.Errorf("%w\nno verdict; what there is stands in %s (seed %d)", err, filepath.Join(f.out, s.Run), plan.Seed)
		}
		return err
	}
	if err := f.print(c, s); err != nil {
		return err
	}
	if s.Exit != results.ExitValid {
		return exitError(s.Exit)
	}
	return nil
}

// decide draws the plan, or reads it. A plan fixes all that it holds.
func (f *runFlags) decide(c *cobra.Command) (campaign.Plan, error) {
	f.spec.Duration, f.spec.Lease = campaign.Duration(f.duration), campaign.Duration(f.lease)
	if len(f.spec.Faults) > 1 && slices.Contains(f.spec.Faults, "none") {
		return campaign.Plan{}, errors.New("--faults: none stands alone")
	}
	if f.checkTimeout <= 0 {
		return campaign.Plan{}, fmt.Errorf("--check-timeout is %s; it must be more than 0", f.checkTimeout)
	}
	expanded, err := nemesis.Parse(strings.Join(f.spec.Faults, ","))
	if err != nil {
		return campaign.Plan{}, fmt.Errorf("--faults: %w", err)
	}
	f.spec.Faults = names(expanded)
	if !c.Flags().Changed("faults") {
		f.leaveOut(c)
	}
	if f.spec.Knobs.CrashAt != "" {
		if err := checkCrashAt(f.spec.Knobs.CrashAt, f.spec.Nodes); err != nil {
			return campaign.Plan{}, err
		}
	}
	if f.plan != "" {
		p, err := readPlan(f.out, f.plan)
		if err != nil {
			return p, err
		}
		return p, f.contradictions(c, p)
	}
	seed := f.seed
	if seed == 0 {
		seed = freshSeed()
	}
	return campaign.Draw(f.spec, seed)
}

// readPlan reads a plan by what people call it: a path, or latest or the name of a
// run's folder below root.
func readPlan(root, name string) (campaign.Plan, error) {
	if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
		if folder, err := findRun(root, name); err == nil {
			name = folder
		}
	}
	return campaign.ReadPlan(name)
}

// leaveOut takes those default faults away that so few nodes can't suffer, and says so.
func (f *runFlags) leaveOut(c *cobra.Command) {
	var kept []string
	if f.spec.Nodes < 1 {
		return // which is refused as such
	}
	for _, name := range f.spec.Faults {
		fault, err := nemesis.Find(name)
		if err == nil {
			err = nemesis.Fits(fault, f.spec.Nodes)
		}
		if err == nil {
			kept = append(kept, name)
		} else if !f.quiet {
			fmt.Fprintf(c.ErrOrStderr(), "note: %v: left out\n", err)
		}
	}
	f.spec.Faults = kept
}

// checkCrashAt reads "n2:after-sync:40".
func checkCrashAt(at string, nodes int) error {
	name, point, _ := strings.Cut(at, ":")
	if id, err := consensus.ParseID(name); err != nil || id < 1 || int(id) > nodes {
		return fmt.Errorf("--crash-at %q: it begins with a node, n1 to n%d", at, nodes)
	}
	if _, err := replica.CrashAt(point, nil); err != nil {
		return fmt.Errorf("--crash-at %q: %w", at, err)
	}
	return nil
}

// freshSeed is short enough to be typed.
func freshSeed() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return 1 + binary.LittleEndian.Uint64(b[:])%999_999_999
}

// contradictions finds flags that were given and say otherwise than the plan.
func (f *runFlags) contradictions(c *cobra.Command, p campaign.Plan) error {
	s, q := f.spec, p.Spec
	held := []struct {
		flag string
		same bool
		held any
	}{
		{"system", s.System == q.System, q.System}, {"nodes", s.Nodes == q.Nodes, q.Nodes}, {"duration", s.Duration == q.Duration, time.Duration(q.Duration)},
		{"faults", slices.Equal(s.Faults, q.Faults), strings.Join(q.Faults, ",")}, {"workload", s.Workload == q.Workload, q.Workload},
		{"concurrency", s.Concurrency == q.Concurrency, q.Concurrency}, {"rate", s.Rate == q.Rate, q.Rate},
		{"keys", s.Keys == q.Keys, q.Keys}, {"key-ops", s.KeyOps == q.KeyOps, q.KeyOps}, {"mix", fmt.Sprint(s.Mix) == fmt.Sprint(q.Mix), q.Mix},
		{"snapshot-entries", s.Knobs.SnapshotEntries == q.Knobs.SnapshotEntries, q.Knobs.SnapshotEntries},
		{"crash-at", s.Knobs.CrashAt == q.Knobs.CrashAt, q.Knobs.CrashAt}, {"lease", s.Lease == q.Lease, time.Duration(q.Lease)},
		{"seed", f.seed == p.Seed, p.Seed},
	}
	var errs []error
	for _, h := range held {
		if c.Flags().Changed(h.flag) && !h.same {
			errs = append(errs, fmt.Errorf("--%s contradicts the plan, which says %v: leave the flag out, or draw a new plan", h.flag, h.held))
		}
	}
	return errors.Join(errs...)
}

// prepare finds system and provider, and refuses early what can't be done here.
func (f *runFlags) prepare(c *cobra.Command, plan campaign.Plan) (live campaign.Live, err error) {
	// Where a plan is carried out is not part of what it fixes.
	if c.Flags().Changed("provider") {
		plan.Spec.Provider = f.spec.Provider
	}
	if c.Flags().Changed("network") {
		plan.Spec.Network = f.spec.Network
	}
	if f.where.provider = plan.Spec.Provider; f.where.provider != "local" {
		plan.Spec.Network = "" // a provider with one way to hurt links chooses it
	}
	v, err := f.where.choose(c.Flags(), plan.Spec.System,
		nodes.Options{Network: plan.Spec.Network, Nodes: plan.Spec.Nodes, Knobs: plan.Spec.Knobs.Nodes()})
	if err != nil {
		return live, err
	}
	faults, err := plan.Needs()
	if err != nil {
		return live, usageError{err}
	}
	if place := map[string]string{"docker": "the engine", "ssh": "the hosts"}[v.provider]; place != "" && !f.quiet {
		fmt.Fprintf(c.ErrOrStderr(), "looking at %s\n", place)
	}
	refused := v.probe(c.Context(), faults...)
	if !f.quiet { // it may be what explains a refusal
		v.note()
	}
	if refused == nil {
		refused = v.suits(c.Context())
	}
	if refused != nil && c.Context().Err() != nil {
		refused = errEarly
	}
	if refused == nil {
		refused = roomFor(f.out)
	}
	return campaign.Live{Plan: plan, System: v.system, Provider: v.made, Network: v.abilities.Network}, refused
}

// roomFor refuses a folder of run folders into which nothing can be written.
func roomFor(out string) error {
	if err := writable(out); err != nil {
		return fmt.Errorf("nothing can be written below %s: %w; remedy: --out names another folder for runs", out, err)
	}
	return nil
}

// print shows the result, and where its folder is.
func (f *runFlags) print(c *cobra.Command, s results.Summary) error {
	if err := f.show(c, s); err != nil || f.json || f.quiet {
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "\nrun    %s\nreport %s\nseed   %d\n", filepath.Join(f.out, s.Run),
		filepath.Join(f.out, s.Run, results.ReportFile), s.Seed)
	return err
}

// encode is for commands that print JSON.
func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
