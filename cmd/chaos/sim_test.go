package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"chaos/campaign"
	"chaos/nodes/sim"
	"chaos/results"
)

// readTally reads what chaos sim --json printed, and nothing else.
func readTally(ts *testscript.TestScript, name string) (t campaign.Tally) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(name)))
	d.DisallowUnknownFields()
	ts.Check(d.Decode(&t))
	if d.More() {
		ts.Fatalf("%s holds more than one document", name)
	}
	if t.CPU <= 0 || t.Simulated <= 0 || t.Events == 0 || t.Operations == 0 || t.Applied == 0 || t.States == 0 || len(t.Moments) < 10 || t.Violations == nil {
		ts.Fatalf("figures are missing: %+v", t)
	}
	return t
}

// tally wants fields of what chaos sim --json printed to be so: tally stdout system=raft seeds=1.
func tally(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tally FILE NAME=VALUE...")
	}
	t := readTally(ts, args[0])
	is := map[string]string{"system": t.System, "first": fmt.Sprint(t.First), "seeds": fmt.Sprint(t.Seeds), "changed": fmt.Sprint(t.Changed), "outcome": t.Outcome.String(), "unknown": fmt.Sprint(t.Unknown),
		"violations": fmt.Sprint(len(t.Violations))}
	for _, a := range args[1:] {
		name, want, _ := strings.Cut(a, "=")
		if got, known := is[name]; !known || got != want {
			ts.Fatalf("%s is %q, want %q", name, got, want)
		}
	}
}

// same wants two batches to have come to the same, the time that they took aside.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: same FILE FILE")
	}
	a, b := readTally(ts, args[0]), readTally(ts, args[1])
	a.CPU, b.CPU = 0, 0
	a.Simulated, b.Simulated = float64(int64(a.Simulated*1e3+0.5)), float64(int64(b.Simulated*1e3+0.5)) // sums of floats depend on their order
	if !reflect.DeepEqual(a, b) {
		ts.Fatalf("%+v\n%+v", a, b)
	}
}

// A batch that broke a promise exits as that, whatever else happened; one that was
// interrupted, tried nothing, judged nothing or never reached a moment shows nothing.
func TestBatchExit(t *testing.T) {
	seen, missed := campaign.Tally{Seeds: campaign.MomentSeeds}, campaign.Tally{Seeds: campaign.MomentSeeds}
	seen.Moments = []sim.Moment{{Name: "a", Seen: 1}}
	missed.Moments = append(seen.Moments, sim.Moment{Name: "b"})
	broken := missed
	broken.Violations = []campaign.Violation{{Seed: 1}}
	few := missed
	few.Seeds = 1
	mixed, blind := seen, seen
	mixed.Unknown, blind.Unknown = seen.Seeds-1, seen.Seeds
	for name, c := range map[string]struct {
		tally       campaign.Tally
		interrupted bool
		want        int
	}{
		"all was seen":                {seen, false, results.ExitValid},
		"interrupted":                 {seen, true, results.ExitUnknown},
		"a moment was never reached":  {missed, false, results.ExitUnknown},
		"too few seeds to reach all":  {few, false, results.ExitValid},
		"nothing was tried":           {campaign.Tally{}, false, results.ExitUnknown},
		"one of them was valid":       {mixed, false, results.ExitValid},
		"not one of them was valid":   {blind, false, results.ExitUnknown},
		"broken":                      {broken, false, results.ExitInvalid},
		"broken, and interrupted":     {broken, true, results.ExitInvalid},
		"broken before the interrupt": {campaign.Tally{Seeds: 1, Violations: broken.Violations}, true, results.ExitInvalid},
	} {
		if got := batchExit(c.tally, c.interrupted); got != c.want {
			t.Errorf("%s: exit status %d, want %d", name, got, c.want)
		}
	}
}

// An interrupt ends a single seed of an hour where it stands, and what there is
// is judged, shown and left in a folder.
func TestInterruptedSeed(t *testing.T) {
	inside, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ctx := &countdown{inside, interrupt, 500}
	root := t.TempDir()
	var out, words bytes.Buffer
	c := newSimCommand()
	c.SetArgs([]string{"--seed", "7", "--duration", "1h", "--out", root})
	c.SetOut(&out)
	c.SetErr(&words)
	c.SilenceUsage, c.SilenceErrors = true, true
	if err := c.ExecuteContext(ctx); !errors.Is(err, exitError(results.ExitUnknown)) {
		t.Errorf("it ends with %v", err)
	}
	if !strings.Contains(out.String(), "\nUNKNOWN: interrupted after ") || strings.Contains(out.String(), "after 0s") || strings.Contains(out.String(), "undecided") {
		t.Errorf("it says %s", out.String())
	}
	if ctx.left > 0 {
		t.Errorf("the storm ended before it was interrupted")
	}
	s, err := results.ReadSummary(filepath.Join(root, results.LatestLink))
	if err != nil || !s.Stopped() || s.Exit != results.ExitUnknown {
		t.Errorf("it leaves %+v, %v", s, err)
	}
}

// A countdown is a context that ends when it was asked so often whether it has.
type countdown struct {
	context.Context
	end  func()
	left int
}

// Err implements context.Context.
func (c *countdown) Err() error {
	if c.left--; c.left <= 0 {
		c.end()
	}
	return c.Context.Err()
}
