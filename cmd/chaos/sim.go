package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/linearizability"
	"chaos/nodes/sim"
	"chaos/results"
)

// Bounds of simulating.
const (
	simDuration  = 10 * time.Second // of a seed's storm, simulated
	simSeeds     = 1000
	simGCPercent = 1000      // memory is cheap beside a collection every few seeds,
	simHeap      = 64 << 20  // bytes: up to this for each simulated minute under way,
	batchHeap    = 128 << 20 // bytes: and this for what a batch remembers; then it is collected more often
	simShowEvery = 500 * time.Millisecond
)

// simFlags are the flags of chaos sim.
type simFlags struct {
	system    string
	seed      uint64
	seeds     int
	until     time.Duration
	jobs      int
	keepGoing bool
	explore   bool
	duration  time.Duration
	plan      string
	trace     string
	shrink    bool
	out       string
	json      bool
}

func newSimCommand() *cobra.Command {
	var f simFlags
	c := &cobra.Command{
		Use:   "sim",
		Short: "Simulate clusters in virtual time: one seed, or thousands a minute",
		Long: `sim runs our own nodes in virtual time, with a network, clocks and disks that
are made up. Each seed draws a whole configuration: nodes, time-outs, faults,
load, network, disk. Equal seeds make equal histories, byte for byte, on every
machine.

With --seed alone it simulates that seed and says all about it; with --seeds it
simulates many, and stops at the first that breaks a promise.

Exit status of one seed or plan: 0 valid, 1 invalid, 3 unknown. About every
third seed is unknown: too little went on in a window of a fault that it drew,
or the fault could not be brought about.

Exit status of a batch: 0 no violation, 1 a violation, 3 not enough was seen (no
seed was valid, the batch was interrupted, or 10,000 seeds never reached a
moment of the protocol). Of both, 2 is a harness failure and 64 wrong usage.`,
		Example: `  chaos sim --system raft --seeds 1000
  chaos sim --system raft --seed 42
  chaos sim --system raft --seed 42 --trace /tmp/trace
  chaos sim --system paxos --seed 42 --shrink
  chaos sim --system paxos-classic --seeds 100000 --jobs 2 --until 5m`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	d := c.Flags()
	d.StringVar(&f.system, "system", "raft", "what to simulate: raft, paxos, paxos-classic")
	d.Uint64Var(&f.seed, "seed", 1, "the seed, or the first of many")
	d.IntVar(&f.seeds, "seeds", simSeeds, "how many seeds, from --seed on")
	d.DurationVar(&f.until, "until", 0, "stop after so much real time; 0: when the seeds are used up")
	d.IntVar(&f.jobs, "jobs", runtime.NumCPU(), "seeds under way at once")
	d.BoolVar(&f.keepGoing, "keep-going", false, "go on after a violation")
	d.BoolVar(&f.explore, "explore", true, "change seeds that reached something new, and try those first")
	d.DurationVar(&f.duration, "duration", simDuration, "simulated length of each storm")
	d.StringVar(&f.plan, "plan", "", "simulate this plan.json instead of a seed's own")
	d.StringVar(&f.trace, "trace", "", "write what happened to FILE.txt and FILE.html")
	d.BoolVar(&f.shrink, "shrink", false, "make the failing seed's plan as small as it still fails")
	d.StringVar(&f.out, "out", "", "one seed: leave a run's folder below this one, as chaos run does")
	d.BoolVar(&f.json, "json", false, "print the result as one JSON document")
	c.RegisterFlagCompletionFunc("system", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return names(simulated()), cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

func (f *simFlags) run(c *cobra.Command) error {
	system, err := pick("system", f.system, simulated())
	if err != nil {
		return err
	}
	if err := f.check(c); err != nil {
		return usageError{err}
	}
	debug.SetGCPercent(simGCPercent)
	if f.single(c) {
		return f.one(c, system)
	}
	return f.many(c, system)
}

// single tells whether the flags speak of one simulation.
func (f *simFlags) single(c *cobra.Command) bool {
	return f.plan != "" || c.Flags().Changed("seed") && !c.Flags().Changed("seeds") && f.until == 0
}

func (f *simFlags) check(c *cobra.Command) error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(f.seeds < 1, "--seeds is %d; it must be at least 1", f.seeds)
	wrong(f.jobs < 1 || f.jobs > 1024, "--jobs is %d; it must be from 1 to 1024", f.jobs)
	wrong(f.duration < campaign.DurationMin || f.duration > time.Hour, "--duration is %s; it must be from %s to 1h", f.duration, campaign.DurationMin)
	wrong(f.until < 0, "--until is %s; it can't be below 0", f.until)
	wrong(f.seed == 0, "--seed is 0; seeds begin with 1")
	one := f.single(c)
	wrong(!one && f.trace != "", "--trace is for one seed: give --seed and leave --seeds and --until out")
	wrong(!one && f.shrink, "--shrink is for one seed: give --seed and leave --seeds and --until out")
	wrong(!one && f.out != "", "--out is for one seed: give --seed and leave --seeds and --until out")
	wrong(c.Flags().Changed("trace") && f.trace == "", "--trace is empty; it takes the name that FILE.txt and FILE.html begin with")
	wrong(f.plan != "" && c.Flags().Changed("seed"), "--seed contradicts --plan, which holds its own")
	return errors.Join(errs...)
}

// many simulates a batch.
func (f *simFlags) many(c *cobra.Command, system sim.System) error {
	ctx := c.Context()
	if f.until > 0 {
		bounded, cancel := context.WithTimeout(ctx, f.until)
		defer cancel()
		ctx = bounded
	}
	if !f.json {
		fmt.Fprintf(c.ErrOrStderr(), "%s, seeds from %d on\n", system.Name(), f.seed)
	}
	debug.SetMemoryLimit(batchHeap + simHeap*int64(f.jobs)*max(1, int64(f.duration/time.Minute)))
	screen := newScreen(c.ErrOrStderr(), f.json)
	var shown time.Time
	began := time.Now()
	b := campaign.Batch{System: system, First: f.seed, Seeds: f.seeds, Duration: f.duration, Jobs: f.jobs, KeepGoing: f.keepGoing, Explore: f.explore && f.seeds > 1}
	b.Progress = func(t campaign.Tally) {
		if time.Since(shown) >= simShowEvery {
			shown = time.Now()
			screen.status("seeds", fmt.Sprintf("%d of %d seeds · %.0f/s · %s simulated · %d states · %d violations", t.Seeds, f.seeds,
				float64(t.Seeds)/time.Since(began).Seconds(), simulatedTime(t.Simulated), t.States, len(t.Violations)))
		}
	}
	t, err := b.Run(ctx)
	screen.done()
	if err != nil {
		return err
	}
	interrupted := c.Context().Err() != nil
	t.Outcome = batchOutcome(t, interrupted)
	if f.json {
		err = encode(c.OutOrStdout(), t)
	} else {
		err = f.tell(c.OutOrStdout(), t, time.Since(began))
	}
	if err != nil {
		return err
	}
	if interrupted && len(t.Violations) == 0 && t.Seeds > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "interrupted after %d of %d seeds: what the others would have shown is unknown\n", t.Seeds, f.seeds)
	}
	return graded(t.Outcome)
}

// batchExit is the exit status of a batch.
func batchExit(t campaign.Tally, interrupted bool) int {
	return results.Status(batchOutcome(t, interrupted))
}

// batchOutcome is what a batch came to: a violation counts, whatever else
// happened; what was never reached, or not tried, is unknown, and so are seeds of
// which none could have shown every kind of violation.
func batchOutcome(t campaign.Tally, interrupted bool) linearizability.Outcome {
	switch {
	case len(t.Violations) > 0:
		return linearizability.Invalid
	case len(t.Missed()) > 0, t.Unknown >= t.Seeds, interrupted:
		return linearizability.Unknown
	}
	return linearizability.Valid
}

// graded ends the process with the status of an outcome.
func graded(o linearizability.Outcome) error {
	if o == linearizability.Valid {
		return nil
	}
	return exitError(results.Status(o))
}

// simulatedTime writes seconds as hours and minutes.
func simulatedTime(seconds float64) string {
	return (time.Duration(seconds) * time.Second).String()
}

// tell writes what a batch came to.
func (f *simFlags) tell(w io.Writer, t campaign.Tally, took time.Duration) error {
	for _, m := range t.Moments {
		fmt.Fprintf(w, "%10d  %s\n", m.Seen, m.Name)
	}
	if took = took.Round(time.Millisecond); took > time.Minute {
		took = took.Round(time.Second)
	}
	fmt.Fprintf(w, "%s of %s in %s, %.1f CPU s: %.0f seeds a CPU minute,\n", results.Counted(t.Seeds, "seed"), t.System, took, t.CPU, float64(t.Seeds)/t.CPU*60)
	fmt.Fprintf(w, "%.2f million events a CPU s, %s simulated, %d operations,\n%d commands applied, %d distinct states\n",
		float64(t.Events)/t.CPU/1e6, simulatedTime(t.Simulated), t.Operations, t.Applied, t.States)
	if t.Changed > 0 {
		fmt.Fprintf(w, "changed ones among the seeds: %d; --explore=false leaves them out\n", t.Changed)
	}
	if t.Unknown > 0 {
		fmt.Fprintf(w, "%s could not have shown every kind of violation:\n", results.Counted(t.Unknown, "seed"))
		fmt.Fprintln(w, "  too little was going on in a window, or a fault could not be brought about")
	}
	for _, v := range t.Violations {
		fmt.Fprintf(w, "\n%s\n  chaos sim --system %s --seed %d%s\n", v, t.System, v.Seed, f.again())
	}
	seeds := results.Counted(t.Seeds, "seed")
	for _, m := range t.Missed() {
		fmt.Fprintf(w, "\nnever reached in %s: %s\n", seeds, m)
	}
	verdict := "no violation in " + seeds
	if t.Unknown >= t.Seeds {
		verdict += ", of which not one could be judged valid: unknown"
	}
	if n := len(t.Violations); n > 0 {
		verdict = fmt.Sprintf("%d of %s broke a promise", n, seeds)
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

// again are the flags that a seed needs to be the same simulation.
func (f *simFlags) again() string {
	if f.duration != simDuration {
		return " --duration " + f.duration.String()
	}
	return ""
}
