package workload

import (
	"fmt"
	"math/rand/v2"
	"strings"
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
		Model: Universal,
	}
}

// single is the workload of one manner alone.
func single(about string, m manner, model Model) Workload {
	return Workload{
		Name:  m.name,
		About: about,
		New:   func(o Options, r *rand.Rand) Generator { return newLoad(o, r, m) },
		Model: model,
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
