package ssh_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/campaign"
	"chaos/history"
	"chaos/nemesis"
	"chaos/nodes/ssh"
	"chaos/results"
)

// lateMost is how much later than planned a step may begin: one goroutine does
// them all, and a busy machine takes its time to prove the one before.
const lateMost = 3 * time.Second

// An outing is one plan carried out by the command.
type outing struct {
	where   string
	plan    campaign.Plan
	summary results.Summary
	rows    []string // of its table
	steps   []string // of the schedule as they were carried out, in order of the plan
	order   []string // in which they began, without those that wait for somebody to lead
	late    time.Duration
}

// One plan file, carried out on this machine, on hosts and in containers, gives
// the same steps, the same rows of the table, and a valid verdict on each.
func TestCommandEverywhere(t *testing.T) {
	long(t)
	hosts, home := ssh.LabFiles(t, 5)
	path, dir := program(t), t.TempDir()
	chaos := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), buildWait)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+home, "SSH_AUTH_SOCK=", "NO_COLOR=1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const image = "chaos-everywhere:test"
	more := [][]string{{"--provider", "ssh", "--hosts", hosts}}
	if out, err := chaos("doctor", "--provider", "docker", "--image", image); err == nil {
		more = append(more, []string{"--provider", "docker", "--image", image})
		t.Cleanup(func() {
			if out, err := exec.Command("docker", "image", "rm", image).CombinedOutput(); err != nil {
				t.Logf("the image %s stays: %v: %s", image, err, out)
			}
		})
	} else {
		t.Run("docker", func(t *testing.T) {
			if strings.Contains(os.Getenv("CHAOS_REQUIRE"), "docker") {
				t.Fatalf("no containers can be had here: %v\n%s", err, out)
			}
			t.Skipf("no containers can be had here: %v\n%s", err, out)
		})
	}
	for _, seed := range []string{"4", "104"} { // a busy machine can leave doubts, but not twice
		all := []outing{goOut(t, dir, chaos, "--seed", seed, "--duration", "10s", "--faults", "kill,pause,partition,slow,lossy")}
		plan := filepath.Join(dir, "results", "runs", all[0].summary.Run, results.PlanFile)
		for _, args := range more {
			all = append(all, goOut(t, dir, chaos, append(args, "--plan", plan)...))
		}
		doubt := slices.ContainsFunc(all, func(o outing) bool { return o.summary.Exit == results.ExitUnknown })
		compare(t, all, doubt)
		if !doubt {
			return
		}
	}
	t.Error("two plans left doubts")
}

// goOut carries out a run and reads what it left.
func goOut(t *testing.T, dir string, chaos func(...string) (string, error), args ...string) (o outing) {
	t.Helper()
	out, err := chaos(append([]string{"run"}, args...)...)
	t.Logf("chaos run %s: %v\n%s", strings.Join(args, " "), err, out)
	folder := filepath.Join(dir, "results", "runs", "latest")
	var loadErr error
	if o.summary, loadErr = results.ReadSummary(folder); loadErr != nil {
		t.Fatal(loadErr)
	}
	o.where = o.summary.Provider
	if o.plan, loadErr = campaign.ReadPlan(filepath.Join(folder, results.PlanFile)); loadErr != nil {
		t.Fatal(loadErr)
	}
	o.rows = rowsOf(out)
	o.carriedOut(t, filepath.Join(folder, results.HistoryFile))
	return o
}

// rowsOf are the names in the first column of a table.
func rowsOf(out string) (names []string) {
	for line := range strings.Lines(out) {
		if cells := strings.Split(line, "│"); len(cells) > 2 && strings.TrimSpace(cells[1]) != "" {
			names = append(names, strings.TrimSpace(cells[1]))
		}
	}
	return names
}

// carriedOut reads which steps a history tells of. Whom the rule of victims hit
// may depend on who led, so it is told by their number.
func (o *outing) carriedOut(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found, storm := map[string]string{}, time.Duration(-1)
	began := map[string]time.Duration{}
	all, err := history.ReadAll(f, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all.Events {
		if e.Process != history.Nemesis {
			continue
		}
		n, err := history.DecodeNote(e)
		if err != nil {
			t.Fatal(err)
		}
		if e.F == history.Phase && n.Phase == "storm" {
			storm = e.Time
		}
		if (e.F == history.Inject || e.F == history.Heal) && e.Type == history.Invoke {
			key := e.F + " " + n.ID
			if _, twice := found[key]; !twice { // the final heal tries again
				found[key] = fmt.Sprintf("%s: %s of %d, %v, recipe %q", key, n.Fault, len(n.Victims), n.Kinds, n.Recipe)
				began[key] = e.Time - storm
			}
		}
	}
	waits := map[string]bool{}
	for _, s := range o.plan.Schedule {
		waits[s.Recipe] = waits[s.Recipe] || s.After != nemesis.Now
	}
	for _, s := range o.plan.Schedule {
		key := string(s.Action) + " " + s.ID
		step, ok := found[key]
		if !ok {
			step = key + ": not carried out"
		}
		o.steps = append(o.steps, step)
		delete(found, key)
		if s.Recipe != "" && waits[s.Recipe] || !ok {
			continue // it waits for somebody to lead
		}
		if late := began[key] - s.At; late < 0 || late > lateMost {
			t.Errorf("%s: %s began at %s, planned for %s", o.where, key, began[key], s.At)
		} else {
			o.late = max(o.late, late)
		}
		o.order = append(o.order, key)
	}
	slices.SortStableFunc(o.order, func(a, b string) int { return int(began[a] - began[b]) })
	for _, extra := range found {
		t.Errorf("%s: nobody planned %s", o.where, extra)
	}
}

// compare wants every outing to be like the first.
func compare(t *testing.T, all []outing, doubt bool) {
	t.Helper()
	first := all[0]
	if len(first.rows) < 8 || len(first.steps) < 10 {
		t.Fatalf("too little to compare: rows %q, steps %q", first.rows, first.steps)
	}
	for _, o := range all {
		t.Logf("%-6s %s, steps at most %s late", o.where, o.summary.Word(), o.late.Round(time.Millisecond))
		if o.summary.Exit != results.ExitValid && !(doubt && o.summary.Exit == results.ExitUnknown) {
			t.Errorf("%s: exit status %d", o.where, o.summary.Exit)
		}
		if !slices.EqualFunc(first.plan.Schedule, o.plan.Schedule, sameStep) {
			t.Errorf("%s: another schedule:\n%+v\n%+v", o.where, first.plan.Schedule, o.plan.Schedule)
		}
		if !slices.Equal(first.rows, o.rows) {
			t.Errorf("%s: its table has the rows %q, not %q", o.where, o.rows, first.rows)
		}
		if first.summary.Seed != o.summary.Seed || first.summary.System != o.summary.System || first.summary.Nodes != o.summary.Nodes {
			t.Errorf("%s: %+v is not of the same plan", o.where, o.summary)
		}
		if !slices.Equal(first.order, o.order) {
			t.Errorf("%s: the order was %q, not %q", o.where, o.order, first.order)
		}
		for i, step := range first.steps {
			if i >= len(o.steps) || o.steps[i] != step {
				t.Errorf("%s: step %d is %q, not %q", o.where, i, o.steps[min(i, len(o.steps)-1)], step)
			}
		}
		if len(o.summary.Figures.Faults) != len(first.summary.Figures.Faults) {
			t.Errorf("%s: faults %+v, not %+v", o.where, o.summary.Figures.Faults, first.summary.Figures.Faults)
			continue
		}
		for i, f := range first.summary.Figures.Faults {
			if got := o.summary.Figures.Faults[i]; got.Fault != f.Fault || got.Injected != f.Injected {
				t.Errorf("%s: fault %+v, not %+v", o.where, got, f)
			}
		}
	}
}

// sameStep tells whether fault, rule of victims, draw, time and action are equal.
func sameStep(a, b nemesis.Step) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
