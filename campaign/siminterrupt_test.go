package campaign

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/linearizability"
	"chaos/nodes/consensus"
	"chaos/nodes/sim"
	"chaos/raft"
	"chaos/results"
)

// cutAt is a run whose context ends at a moment of simulated time.
func cutAt(t *testing.T, plan Plan, at time.Duration) (Simulated, context.Context) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return Simulated{Plan: plan, System: simSystems[plan.Spec.System], Trace: func(e sim.Traced) {
		if e.At >= at {
			cancel()
		}
	}}, ctx
}

// simulatedRun is a run of an hour in which nodes are killed.
func simulatedRun(t *testing.T) Plan {
	t.Helper()
	spec := DefaultSpec()
	spec.Provider, spec.Network, spec.Duration, spec.Rate, spec.Faults = "sim", "", Duration(time.Hour), 200, []string{"kill"}
	plan, err := Draw(spec, 5)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// An interrupt ends the storm of a simulated run at the moment that it has
// reached; all that follows a storm follows, and is judged.
func TestInterruptedSimulation(t *testing.T) {
	plan := simulatedRun(t)
	once := func() Simulation {
		s, ctx := cutAt(t, plan, 7*time.Second)
		out, err := s.Run(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := once()
	if !out.Cut || !strings.HasPrefix(out.Interrupted, "interrupted after 6.") && !strings.HasPrefix(out.Interrupted, "interrupted after 7.") {
		t.Errorf("cut %t, interrupted %q; want about 7s", out.Cut, out.Interrupted)
	}
	if out.Time > 2*time.Minute {
		t.Errorf("it went on for %s", out.Time)
	}
	if got := phasesOf(t, out.History); !slices.Equal(got, allPhases) {
		t.Errorf("phases %v, want %v", got, allPhases)
	}
	if again := once(); !bytes.Equal(again.Encode(), out.Encode()) {
		t.Error("interrupted at the same moment it has another history")
	}
	found, verdict, err := out.Judge(t.Context(), plan)
	if err != nil || found != nil || verdict.Outcome != linearizability.Unknown || !strings.HasPrefix(verdict.Reason, out.Interrupted+"; until then: all ") {
		t.Errorf("%v, %s: %s, %v", found, verdict.Outcome, verdict.Reason, err)
	}
}

// The interrupt ends the storm, and not the judging of what there is: verdict and
// record say what became of the run.
func TestInterruptedSimulationIsJudged(t *testing.T) {
	s, ctx := cutAt(t, simulatedRun(t), 7*time.Second)
	summary, err := s.Execute(ctx, t.TempDir(), time.Now(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Exit != results.ExitUnknown || !strings.HasPrefix(summary.Interrupted, "interrupted after ") || !summary.Stopped() ||
		!strings.HasPrefix(summary.Verdict.Reason, summary.Interrupted+"; until then: all ") || len(summary.Harness) > 0 {
		t.Errorf("exit %d, interrupted %q, harness %q: %s", summary.Exit, summary.Interrupted, summary.Harness, summary.Verdict.Reason)
	}
}

// A batch that is interrupted counts no seed that it has seen the half of.
func TestInterruptedBatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	system := raftWith(func(c consensus.Core[raft.Message, raft.Record]) consensus.Core[raft.Message, raft.Record] {
		if seen == 2 { // and the third has begun
			cancel()
		}
		return c
	})
	b := Batch{System: system, First: 1, Seeds: 50, Duration: time.Second, Jobs: 1, Progress: func(tally Tally) { seen = tally.Seeds }}
	whole, err := b.Run(ctx)
	if err != nil || whole.Seeds != 2 {
		t.Errorf("%d seeds of 2, %v", whole.Seeds, err)
	}
	plan := swarm(t, "raft", 1, time.Second)
	s, ended := cutAt(t, plan, 0)
	out, err := s.Run(ended)
	if err != nil || !out.Cut || !halfway(ended, out, nil) || !halfway(context.Background(), out, &Violation{}) {
		t.Errorf("a seed that was cut short counts: %t, %v", out.Cut, err)
	}
	out.Cut = false
	if !halfway(ended, out, nil) || halfway(ended, out, &Violation{}) || halfway(context.Background(), out, nil) {
		t.Error("a whole seed counts unless its judging was cut short and saw nothing")
	}
}
