package hunt

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"chaos/linearizability"
	"chaos/results"
)

const (
	// localSeeds is how far apart the tries' first seeds are.
	localSeeds = 1000
	// storm is how long the storm of most runs lasts: short, since twice as many
	// schedules show more than schedules of twice the length.
	storm = "10s"
)

// kinds are the kinds of runs of which each try has one after the other: what a
// plain run hardly meets, another size, rougher links or a node that dies at a
// crash point show at once.
var kinds = [][]string{
	{},
	{"--nodes", "4", "--faults", "kill,pause,partition,lossy,duplicate"},
	{"--nodes", "3", "--faults", "kill,partition", "--snapshot-entries", "5", "--duration", "20s"},
	{"--faults", "kill,pause,partition,wan,reorder"},
	{"--nodes", "6", "--faults", "partition,swizzle,slow,kill"},
}

// kind is the kind of the run with that seed. The first run of a try is a plain one.
func kind(seed uint64) []string { return kinds[(seed-1)%localSeeds%uint64(len(kinds))] }

// Local looks on real processes: run after run, each with the next seed and of
// another kind, until one is invalid or the budget is spent.
type Local struct {
	Base   uint64        // the first seed of the first try
	Budget time.Duration // of one try
	Keep   string        // folder for the runs that found something, or failed; "": they are not kept
}

// In implements Runner.
func (l Local) In() string { return "local" }

// Settings implements Runner.
func (l Local) Settings() string {
	return fmt.Sprintf("budget %s, first seed %d, storms of %s, %d kinds of runs", l.Budget, l.Base, storm, len(kinds))
}

// Expects implements Runner.
func (l Local) Expects(d Defect) bool { return d.Live() }

// Again implements Runner.
func (l Local) Again(system string, seed uint64) []string {
	return append([]string{"run", "--provider", "local", "--duration", storm, "--seed", strconv.FormatUint(seed, 10), "--system", system}, kind(seed)...)
}

// Try implements Runner. A run that the end of the budget cuts short is healed,
// stopped and judged, and counts if it shows something.
func (l Local) Try(ctx context.Context, program, system string, number int) (Try, error) {
	bounded, cancel := context.WithTimeout(ctx, l.Budget)
	defer cancel()
	begun := time.Now()
	t := Try{}
	for bounded.Err() == nil {
		t.Seed = l.Base + uint64(number-1)*localSeeds + t.Seeds
		t.Seeds++
		found, err := l.run(bounded, program, system, t.Seed)
		t.Seconds = seconds(time.Since(begun))
		switch {
		case ctx.Err() != nil:
			return Try{}, ctx.Err()
		case err != nil:
			return Try{}, err
		case found.Outcome == linearizability.Invalid:
			t.Found, t.By, t.Detail = true, found.Checker, found.Reason
			return t, nil
		}
	}
	t.Seed = 0
	return t, nil
}

// Control implements Runner. Live runs of one seed share no interleaving: one of
// the sound build would prove nothing about another.
func (l Local) Control(context.Context, string, string, uint64) (string, error) { return "", nil }

// run carries out one run and returns its verdict, of a violation the part that
// says most.
func (l Local) run(ctx context.Context, program, system string, seed uint64) (v linearizability.Verdict, err error) {
	out, err := os.MkdirTemp(l.Keep, fmt.Sprintf("chaos-hunt-%s-%d-", system, seed))
	if err != nil {
		return v, err
	}
	defer func() {
		if v.Outcome != linearizability.Invalid && err == nil || l.Keep == "" {
			err = errors.Join(err, os.RemoveAll(out))
		}
	}()
	args := append(l.Again(system, seed), "--json", "--out", out)
	e, err := spawn(ctx, program, args...)
	switch {
	case err != nil && ctx.Err() != nil:
		return v, nil // the budget ended before the program had begun
	case err != nil:
		return v, err
	case e.status == results.ExitInvalid:
		var s results.Summary
		if err := json.Unmarshal(e.out, &s); err != nil {
			return v, fmt.Errorf("what chaos %v printed can't be read: %w\n%s", args, err, clipped(e.out))
		}
		return blame(s.Verdict), nil
	case e.status != results.ExitValid && e.status != results.ExitUnknown && ctx.Err() == nil:
		return v, trouble(e, args)
	}
	return v, nil
}

// trouble is why a run failed: what its summary says, else what it said at all.
func trouble(e ended, args []string) error {
	var s results.Summary
	if err := json.Unmarshal(e.out, &s); err != nil || len(s.Harness) == 0 {
		return e.failure(fmt.Sprintf("chaos %v", args))
	}
	return fmt.Errorf("chaos %v: exit status %d: %s", args, e.status, strings.Join(s.Harness, "; "))
}

// blame finds the part of an invalid verdict that no part of its own explains.
func blame(v linearizability.Verdict) linearizability.Verdict {
	for _, p := range v.Parts {
		if p.Outcome == linearizability.Invalid {
			p.Checker = cmp.Or(p.Checker, v.Checker)
			return blame(p)
		}
	}
	return v
}
