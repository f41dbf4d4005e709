package workload

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"chaos/history"
)

// all is made once, because judging asks for models often.
var all = All()

// All lists every workload in the order in which help shows them; the first is
// the default.
func All() []Workload { return []Workload{Mixed(), Register(), CAS(), Append(), Set(), Counter()} }

// Mixed is all workloads over disjoint keys: a group of clients goes from one
// to the next with every new key. A key's model is that of its own workload, see
// [ModelFor].
func Mixed() Workload {
	return Workload{
		Name:  "mixed",
		About: "all of the below over disjoint keys, each with its own model",
		New: func(o Options, r *rand.Rand) Generator {
			return newLoad(o, r, register, cas, appends, set, counter)
		},
		Model:     Universal,
		Functions: functions(register, cas, appends, set, counter),
	}
}

// functions lists what the manners do, reads first.
func functions(manners ...manner) []string {
	out := []string{history.Read}
	for _, m := range manners {
		for _, w := range m.writes {
			if !slices.Contains(out, w.f) {
				out = append(out, w.f)
			}
		}
	}
	return out
}

// CheckMix tells what is wrong with weights for the workload's functions: one
// that it does not have, one below 0, or none above 0 that changes a key.
func (w Workload) CheckMix(mix map[string]int) error {
	if len(mix) == 0 {
		return nil
	}
	writes := 0
	for _, f := range slices.Sorted(maps.Keys(mix)) {
		switch n := mix[f]; {
		case !slices.Contains(w.Functions, f):
			return fmt.Errorf("workload %s has no function %.40q; it has %s", w.Name, f, strings.Join(w.Functions, ", "))
		case n < 0:
			return fmt.Errorf("the weight of %s is %d; weights are 0 or more", f, n)
		case f != history.Read:
			writes += n
		}
	}
	if writes == 0 {
		return fmt.Errorf("nothing would be written, and reads alone can't be wrong; give one of %s a weight", strings.Join(w.Functions[1:], ", "))
	}
	return nil
}

// single is the workload of one manner alone.
func single(about string, m manner, model Model) Workload {
	return Workload{
		Name:  m.name,
		About: about,
		New:   func(o Options, r *rand.Rand) Generator { return newLoad(o, r, m) },
		Model: model, Functions: functions(m),
	}
}

// Find returns the workload of that name; the error names the nearest right one.
func Find(name string) (Workload, error) {
	var names []string
	for _, w := range all {
		if w.Name == name {
			return w, nil
		}
		names = append(names, w.Name)
	}
	return Workload{}, fmt.Errorf("workload: there is no workload %.40q; did you mean %q? There are: %s",
		name, nearest(name, names), strings.Join(names, ", "))
}

// nearest is the name with the fewest letters to change; the first of equals.
func nearest(name string, names []string) string {
	best, least := "", 1<<30
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	const lettersMax = 64 // what comes after them does not count
	a, b = a[:min(len(a), lettersMax)], b[:min(len(b), lettersMax)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
