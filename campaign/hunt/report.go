package hunt

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"chaos/results"
)

// A Report is what a hunt found.
type Report struct {
	In          string    `json:"in"`
	Settings    string    `json:"settings"`
	Tries       int       `json:"tries"`
	Lines       []Line    `json:"lines"` // defects in the order of the catalogue, then the sound builds
	NotHunted   []Skipped `json:"not_hunted,omitempty"`
	Needs       []Skipped `json:"needs,omitempty"`     // what live runs that show the missed ones take
	Failures    []string  `json:"failures,omitempty"`  // of the harness
	CutShort    []string  `json:"cut_short,omitempty"` // tries that the machine was too busy for
	Interrupted bool      `json:"interrupted,omitempty"`
}

// A Line sums up all tries of one build in one system. Medians and percentiles
// are over all of its tries, one that found nothing counting as endless; absent
// if that is what they are.
type Line struct {
	Defect  string   `json:"defect"` // or Sound
	System  string   `json:"system"`
	Tries   int      `json:"tries"`             // finished
	Lacking int      `json:"lacking,omitempty"` // tries that were asked for and not finished
	Found   int      `json:"found"`
	By      []string `json:"by,omitempty"` // the most frequent first
	Median  *float64 `json:"median_seconds,omitempty"`
	P90     *float64 `json:"p90_seconds,omitempty"`
	Seeds   uint64   `json:"seeds"`             // looked at in all tries
	Seconds float64  `json:"seconds"`           // spent in all tries
	Seed    uint64   `json:"seed,omitempty"`    // that showed it soonest
	Again   []string `json:"again,omitempty"`   // arguments of chaos that show it again
	Details []string `json:"details,omitempty"` // what the sound build is accused of
}

// A Skipped is a defect that was not hunted or not found, and why.
type Skipped struct {
	Defect string `json:"defect"`
	Why    string `json:"why"`
}

// report sums up the tries of jobs, those that the state knew included.
func (h Hunt) report(all []job, b *book) Report {
	r := Report{In: h.Runner.In(), Settings: h.Runner.Settings(), Tries: h.Tries, Lines: []Line{}, Failures: b.failures, CutShort: b.short}
	slices.Sort(r.Failures)
	slices.Sort(r.CutShort)
	for _, d := range h.Defects {
		if !h.Runner.Expects(d) {
			r.NotHunted = append(r.NotHunted, Skipped{d.Name, d.Hidden})
		}
	}
	missed := map[string]bool{}
	for i := 0; i < len(all); i += h.Tries {
		var tries []Try
		for _, j := range all[i : i+h.Tries] {
			if t, ok := h.State.Find(j.try); ok {
				tries = append(tries, t)
			} else if at := slices.IndexFunc(b.tries, j.try.same); at >= 0 {
				tries = append(tries, b.tries[at])
			}
		}
		l := h.line(all[i].try, tries)
		missed[l.Defect] = missed[l.Defect] || l.Word() == missedWord
		r.Lines = append(r.Lines, l)
	}
	for _, d := range h.Defects {
		if missed[d.Name] && r.In == "local" && d.Needs != "" {
			r.Needs = append(r.Needs, Skipped{d.Name, d.Needs})
		}
	}
	return r
}

func (h Hunt) line(of Try, tries []Try) Line {
	l := Line{Defect: of.Defect, System: of.System, Tries: len(tries), Lacking: max(0, h.Tries-len(tries))}
	var to []float64 // to detection
	by := map[string]int{}
	soonest := math.Inf(1)
	for _, t := range tries {
		l.Seeds += t.Seeds
		l.Seconds += t.Seconds
		if t.Accused != "" {
			l.Details = append(l.Details, fmt.Sprintf("seed %d: %s", t.Seed, t.Accused))
		}
		if !t.Found {
			to = append(to, math.Inf(1))
			continue
		}
		l.Found++
		to = append(to, t.Seconds)
		if by[t.By]++; by[t.By] == 1 {
			l.By = append(l.By, t.By)
		}
		if t.Seconds < soonest {
			soonest, l.Seed = t.Seconds, t.Seed
		}
		if t.Defect == Sound {
			l.Details = append(l.Details, fmt.Sprintf("seed %d: %s: %s", t.Seed, t.By, t.Detail))
		}
	}
	slices.SortFunc(l.By, func(a, b string) int {
		if by[a] != by[b] {
			return by[b] - by[a]
		}
		return strings.Compare(a, b)
	})
	l.Median, l.P90 = percentile(to, 50), percentile(to, 90)
	if l.Found > 0 {
		l.Again = h.Runner.Again(l.System, l.Seed)
	}
	return l
}

// percentile is the least value that p of a hundred do not exceed; nil where
// there is none, or none that ends.
func percentile(values []float64, p int) *float64 {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	v := values[(len(values)*p+99)/100-1]
	if math.IsInf(v, 1) {
		return nil
	}
	return &v
}

// sound tells whether the line is of a build without a defect.
func (l Line) sound() bool { return l.Defect == Sound }

// Word is what the line says in a word.
func (l Line) Word() string {
	switch {
	case len(l.Details) > 0:
		return "ACCUSED"
	case l.Found > 0:
		return "found"
	case l.Tries == 0:
		return "-"
	case l.Lacking > 0: // what those would have shown, nobody knows
		return "unfinished"
	case l.sound():
		return "silent"
	}
	return missedWord
}

const missedWord = "MISSED"

// Exit is the exit status: 1 where a defect was missed or the sound build
// accused, 2 where a try is not finished, else 0.
func (r Report) Exit() int {
	for _, l := range r.Lines {
		if w := l.Word(); w == "ACCUSED" || w == missedWord {
			return results.ExitInvalid
		}
	}
	if !r.Finished() {
		return results.ExitHarness
	}
	return results.ExitValid
}

// Finished tells whether every try came to its end.
func (r Report) Finished() bool {
	return len(r.Failures)+len(r.CutShort) == 0 && !r.Interrupted
}

// Verdict is the whole in a line.
func (r Report) Verdict() string {
	count := map[string]int{}
	for _, l := range r.Lines {
		if l.sound() {
			count["sound "+l.Word()]++
			continue
		}
		count["defects"]++
		count[l.Word()]++
	}
	s := fmt.Sprintf("%d of %d found", count["found"], count["defects"])
	if n := count[missedWord]; n > 0 {
		s += fmt.Sprintf(", %d missed", n)
	}
	if count["sound ACCUSED"]+count["ACCUSED"] > 0 {
		s += ", THE SOUND BUILD ACCUSED"
	} else if n := count["sound silent"]; n > 0 {
		s += ", the sound build silent in " + counted(n, "system", "systems")
	}
	if n := count["unfinished"] + count["sound unfinished"]; n > 0 {
		s += fmt.Sprintf(", %d unfinished", n)
	}
	if n := len(r.Failures); n > 0 {
		s += ", " + counted(n, "try", "tries") + " failed"
	}
	if n := len(r.CutShort); n > 0 {
		s += ", " + counted(n, "try", "tries") + " cut short"
	}
	if n := len(r.NotHunted); n > 0 {
		s += fmt.Sprintf(", %d not hunted", n)
	}
	if r.Interrupted {
		s += ", interrupted"
	}
	return s
}

// counted reads "1 try" or "2 tries".
func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
