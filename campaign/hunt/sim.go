package hunt

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"chaos/results"
)

// simSeeds is how far apart the tries' first seeds are, and the most of one try.
const simSeeds = 1_000_000

// Bounds of a search.
const (
	planBound = 10 * time.Minute // how long one plan may take
	simGrace  = time.Minute      // how long a simulation may outlive its bound before it is called stuck
	simUsed   = 0.95             // of the budget: what is left then is not worth another start
	// simPatience is how many budgets a try may take by the clock: so many that a
	// machine with eight times as much to do as it has cores, which gives each an
	// eighth of one, still comes to the end. A try that gets less is cut short.
	simPatience = 16
)

// A cutShort is the error of a try that showed nothing before the clock ended
// it: it says as little of the sound build as of a defect.
type cutShort string

func (e cutShort) Error() string {
	return fmt.Sprintf("cut short %s: the machine is too busy", string(e))
}

// Sim looks in simulation: seed after seed until the first violation, which must
// then show itself again each time.
type Sim struct {
	Base    uint64        // the first seed of the first try
	Budget  time.Duration // of one try, CPU time
	Confirm int           // how often a find is run again alone
}

// In implements Runner.
func (s Sim) In() string { return "sim" }

// Settings implements Runner.
func (s Sim) Settings() string {
	return fmt.Sprintf("budget %s, first seed %d, confirmed %d times", s.Budget, s.Base, s.Confirm)
}

// Expects implements Runner: nothing hides in simulation.
func (s Sim) Expects(Defect) bool { return true }

// Again implements Runner.
func (s Sim) Again(system string, seed uint64) []string {
	return []string{"sim", "--system", system, "--seed", strconv.FormatUint(seed, 10)}
}

// A simulated document is what chaos sim --json prints.
type simulated struct {
	Seeds      uint64      `json:"seeds"`
	CPU        float64     `json:"cpu_seconds"`
	Violations []violation `json:"violations"`
}

// A violation is what one seed showed. Equal ones are the same violation.
type violation struct {
	Seed   uint64 `json:"seed"`
	By     string `json:"by"`
	Node   string `json:"node"`
	Detail string `json:"detail"`
}

// Try implements Runner.
func (s Sim) Try(ctx context.Context, program, system string, number int) (Try, error) {
	doc, err := s.search(ctx, program, system, s.Base+uint64(number-1)*simSeeds)
	if err != nil {
		return Try{}, err
	}
	t := Try{Seeds: doc.Seeds, Seconds: doc.CPU}
	if len(doc.Violations) == 0 {
		return t, nil
	}
	v := doc.Violations[0]
	for i := range s.Confirm {
		again, err := s.alone(ctx, program, system, v.Seed)
		if err != nil {
			return Try{}, err
		}
		if len(again.Violations) == 0 || again.Violations[0] != v {
			return Try{}, fmt.Errorf("seed %d is not reproducible: it showed %+v, and run again (%d of %d) %+v", v.Seed, v, i+1, s.Confirm, again.Violations)
		}
	}
	t.Found, t.By, t.Detail, t.Seed = true, v.By, v.Detail, v.Seed
	return t, nil
}

// search simulates from a seed on until something is found or the budget of CPU
// time is used up. The simulator counts by the clock: on a busy machine, where
// that is less, it is sent on, though not for ever: then the try is cut short.
func (s Sim) search(ctx context.Context, program, system string, first uint64) (all simulated, err error) {
	for begun := time.Now(); ; {
		left := s.Budget - time.Duration(all.CPU*float64(time.Second))
		doc, err := s.run(ctx, program, system, first+all.Seeds, simSeeds-all.Seeds, left)
		if err != nil {
			return all, err
		}
		all.Seeds, all.CPU, all.Violations = all.Seeds+doc.Seeds, all.CPU+doc.CPU, doc.Violations
		switch used := all.CPU > simUsed*s.Budget.Seconds(); {
		case len(doc.Violations) > 0 || used || all.Seeds >= simSeeds:
			return all, nil
		case time.Since(begun) > simPatience*s.Budget:
			return all, cutShort(fmt.Sprintf("after %.1f of %g CPU s", all.CPU, s.Budget.Seconds()))
		}
	}
}

// alone simulates one seed, to its end or not at all.
func (s Sim) alone(ctx context.Context, program, system string, seed uint64) (simulated, error) {
	bound := max(simPatience*s.Budget, simGrace)
	begun := time.Now()
	doc, err := s.run(ctx, program, system, seed, 1, bound)
	if err == nil && len(doc.Violations) == 0 && (doc.Seeds == 0 || time.Since(begun) > bound) {
		err = cutShort(fmt.Sprintf("as seed %d alone did not end within %s", seed, bound))
	}
	return doc, err
}

// Control implements Runner.
func (s Sim) Control(ctx context.Context, program, system string, seed uint64) (string, error) {
	doc, err := s.alone(ctx, program, system, seed)
	return doc.shown(), err
}

// shown is the first violation in words, "" if there is none.
func (d simulated) shown() string {
	if len(d.Violations) == 0 {
		return ""
	}
	return fmt.Sprintf("by %s: %s", d.Violations[0].By, d.Violations[0].Detail)
}

// run simulates up to count seeds from first on. That a batch saw too little of
// something (unknown) is no violation.
func (s Sim) run(ctx context.Context, program, system string, first, count uint64, until time.Duration) (simulated, error) {
	return ask(ctx, until+simGrace, program, "sim", "--system", system, "--seed", strconv.FormatUint(first, 10), "--seeds", strconv.FormatUint(count, 10),
		"--until", until.String(), "--jobs", "1", "--json")
}

// Plan runs a plan once, and returns what it shows, "" if that is nothing.
func (s Sim) Plan(ctx context.Context, program, file string) (string, error) {
	doc, err := ask(ctx, planBound, program, "sim", "--plan", file, "--json")
	return doc.shown(), err
}

// ask runs a simulator that must end within bound, and reads what it prints.
func ask(ctx context.Context, bound time.Duration, program string, args ...string) (doc simulated, err error) {
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	e, err := spawn(bounded, program, args...)
	switch {
	case ctx.Err() != nil:
		return doc, ctx.Err()
	case err != nil:
		return doc, err
	case bounded.Err() != nil:
		return doc, fmt.Errorf("chaos %v: it did not end within %s", args, bound)
	case !slices.Contains([]int{results.ExitValid, results.ExitInvalid, results.ExitUnknown}, e.status):
		return doc, e.failure(fmt.Sprintf("chaos %v", args))
	}
	if err := json.Unmarshal(e.out, &doc); err != nil {
		return doc, fmt.Errorf("what chaos %v printed can't be read: %w\n%s", args, err, clipped(e.out))
	}
	if (len(doc.Violations) > 0) != (e.status == results.ExitInvalid) {
		return doc, e.failure(fmt.Sprintf("chaos %v names %d violations", args, len(doc.Violations)))
	}
	return doc, nil
}
