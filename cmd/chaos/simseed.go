package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/linearizability"
	"chaos/nodes/sim"
	"chaos/results"
)

// simulating is all that a single simulation does, for the screen.
const simulating = "simulating"

// one simulates a single seed or plan, and says all about it.
func (f *simFlags) one(c *cobra.Command, system sim.System) error {
	plan, err := f.decide(c)
	if err != nil {
		return usageError{err}
	}
	if plan.Spec.System != system.Name() {
		if system, err = pick("system", plan.Spec.System, simulated()); err != nil {
			return err
		}
	}
	if f.out != "" {
		if err := roomFor(f.out); err != nil {
			return err
		}
	}
	start := campaign.CPUSeconds()
	run := campaign.Simulated{Plan: plan, System: system, Audit: f.out != ""}
	screen := newScreen(c.ErrOrStderr(), f.json)
	screen.patient(simulating)
	run.Progress = func(p campaign.Progress) { screen.status(simulating, screen.text(p)) }
	var trace *tracer
	if f.trace != "" {
		if trace, err = newTracer(f.trace, plan); err != nil {
			return err
		}
		run.Trace = trace.see
	}
	if !f.json {
		describe(c.OutOrStdout(), plan)
	}
	out, err := run.Run(c.Context())
	screen.done()
	if err != nil {
		return err
	}
	judging := context.WithoutCancel(c.Context()) // an interrupt ended the storm
	found, verdict, err := out.Judge(judging, plan)
	if err != nil {
		return err
	}
	if trace != nil {
		if found != nil {
			trace.accuse(out.History, verdict.Evidence, found.Detail)
		}
		if err := trace.finish(verdict.Outcome.String() + ": " + verdict.Reason); err != nil {
			return err
		}
	}
	if f.out != "" {
		s, err := run.Keep(judging, out, f.out, time.Now(), time.Minute)
		if err != nil {
			return err
		}
		defer fmt.Fprintf(c.ErrOrStderr(), "run    %s/%s\n", f.out, s.Run)
	}
	return f.conclude(c, plan, out, found, verdict, campaign.CPUSeconds()-start)
}

// decide finds the plan: a seed's own, or a file's.
func (f *simFlags) decide(c *cobra.Command) (campaign.Plan, error) {
	if f.plan == "" {
		return campaign.Swarm(f.system, f.seed, f.duration)
	}
	root := f.out
	if root == "" {
		root = runsRoot
	}
	p, err := readPlan(root, f.plan)
	if err == nil && c.Flags().Changed("system") && p.Spec.System != f.system {
		err = fmt.Errorf("--system contradicts the plan, which says %s", p.Spec.System)
	}
	p.Spec.Provider = sim.Provider{}.Name()
	return p, err
}

// describe writes the configuration that a seed drew.
func describe(w io.Writer, p campaign.Plan) {
	s := p.Spec
	rate := "as fast as answers come"
	if s.Rate > 0 {
		rate = results.Counted(s.Rate, "operation") + " a second"
	}
	fmt.Fprintf(w, "seed      %d\nsystem    %s, %s\nload      %s, %s, %s\n", p.Seed, s.System, results.Counted(s.Nodes, "node"), s.Workload,
		results.Counted(s.Concurrency, "client"), rate)
	say := func(head, text string) { fmt.Fprintln(w, forPeople(w, fmt.Sprintf("%-10s", head), text, 10)) }
	say("time-outs", fmt.Sprintf("tick %s, heartbeat %d ticks, election from %d ticks, snapshot every %d entries",
		time.Duration(s.Knobs.Tick), s.Knobs.HeartbeatTicks, s.Knobs.ElectionTicks, s.Knobs.Nodes().WithDefaults().SnapshotEntries))
	if s.Knobs.CrashAt != "" {
		say("crash", s.Knobs.CrashAt)
	}
	if s.Sim != nil {
		head := "world"
		for line := range strings.Lines(s.Sim.String()) {
			say(head, strings.TrimSuffix(line, "\n"))
			head = ""
		}
	}
	say("faults", cmp.Or(strings.Join(s.Faults, ", "), "none"))
	for _, st := range p.Schedule {
		fmt.Fprintf(w, "          %9s %-6s %-20s %s\n", st.At, st.Action, st.ID, st.Victims)
	}
}

// conclude prints what a single simulation came to, and grades it.
func (f *simFlags) conclude(c *cobra.Command, p campaign.Plan, out campaign.Simulation, found *campaign.Violation, v linearizability.Verdict, cpu float64) error {
	w := c.OutOrStdout()
	if f.json {
		t := campaign.Tally{System: p.Spec.System, First: p.Seed, Seeds: 1, Outcome: v.Outcome, CPU: cpu, Simulated: out.Time.Seconds(), Events: out.Events,
			Operations: len(out.History.Events) / 2, Applied: out.Applied, States: len(out.States), Moments: out.Moments, Violations: []campaign.Violation{}}
		if found != nil {
			t.Violations = append(t.Violations, *found)
		} else if v.Outcome == linearizability.Unknown {
			t.Unknown = 1
		}
		if err := encode(w, t); err != nil {
			return err
		}
	} else {
		say := func(head, text string) { fmt.Fprintln(w, forPeople(w, head, text, len(head)+2)) }
		fmt.Fprintln(w)
		say("", fmt.Sprintf("%s simulated, %d events, %d commands applied, history of %d events with hash %x", out.Time, out.Events, out.Applied,
			len(out.History.Events), sha256.Sum256(out.Encode())))
		if found != nil {
			say("", fmt.Sprintf("INVALID: %s", found))
		} else {
			say("", fmt.Sprintf("%s: %s", strings.ToUpper(v.Outcome.String()), v.Reason))
		}
		for _, line := range v.Story {
			say("  ", line)
		}
	}
	if found != nil && f.shrink {
		return f.shrinkPlan(c, p, *found)
	}
	return graded(v.Outcome)
}

// shrinkPlan makes a failing plan smaller, prints it as a golden scenario, and
// leaves it as a plan that chaos run accepts.
func (f *simFlags) shrinkPlan(c *cobra.Command, p campaign.Plan, found campaign.Violation) error {
	system, err := pick("system", p.Spec.System, simulated())
	if err != nil {
		return err
	}
	screen := newScreen(c.ErrOrStderr(), f.json)
	s := campaign.Shrinker{System: system, Progress: func(tries int, p campaign.Plan) {
		screen.status("shrinking", fmt.Sprintf("shrinking: %d simulations · %s", tries, p.Describe()))
	}}
	small, found, tries := s.Shrink(c.Context(), p, found)
	screen.done()
	scenario := campaign.Scenario{Breaks: found.By, Plan: small, About: []string{
		fmt.Sprintf("%s, shrunk from seed %d in %d simulations to %s.", system.Name(), p.Seed, tries, small.Describe()), found.Detail}}
	folder := f.out
	if folder == "" {
		folder = runsRoot
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	base := fmt.Sprintf("shrunk-%s-%d", system.Name(), p.Seed)
	if err := errors.Join(results.Write(folder, base+".json", small.Encode()), results.Write(folder, base+".txt", scenario.Encode())); err != nil {
		return err
	}
	if !f.json {
		fmt.Fprintf(c.OutOrStdout(), "\n%s\nscenario  %s\nplan      %s\n", scenario.Encode(), filepath.Join(folder, base+".txt"), filepath.Join(folder, base+".json"))
	}
	return exitError(results.ExitInvalid)
}
