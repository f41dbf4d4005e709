package nemesis

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"chaos/nodes"
)

// All lists every fault in the order in which help shows them. "partition"
// stands for all shapes; each shape can be asked for by its own name as well.
func All() []Fault {
	out := []Fault{Kill{}, Pause{}, Partition{}}
	for _, s := range shapes {
		out = append(out, s)
	}
	out = append(append(out, Slow{}), Weather()...)
	return append(out, Reset{}, MachineKill{}, MachinePause{}, Clock{}, DiskFails{}, Damage{})
}

// Find returns the fault of that name; the error names the nearest right one.
func Find(name string) (Fault, error) {
	var names []string
	for _, f := range All() {
		if f.Name() == name {
			return f, nil
		}
		names = append(names, f.Name())
	}
	return nil, fmt.Errorf("nemesis: there is no fault %q; did you mean %q? There are: %s",
		name, nearest(name, names), strings.Join(names, ", "))
}

// Parse reads a list like "kill,pause,partition". "all" is kill, pause,
// partition and slow; "weather" is what [Weather] lists; "none" is no fault.
// Doubles are dropped.
func Parse(list string) ([]Fault, error) {
	var out []Fault
	seen := map[string]bool{}
	for _, name := range strings.Split(list, ",") {
		fs, err := group(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		for _, f := range fs {
			if !seen[f.Name()] {
				seen[f.Name()] = true
				out = append(out, f)
			}
		}
	}
	return out, nil
}

func group(name string) ([]Fault, error) {
	switch name {
	case "all":
		return []Fault{Kill{}, Pause{}, Partition{}, Slow{}}, nil
	case "weather":
		return Weather(), nil
	case "none":
		return nil, nil
	case "":
		return nil, errors.New("nemesis: a name is missing in the list of faults; it reads like kill,pause,partition, or all, weather or none")
	}
	f, err := Find(name)
	return []Fault{f}, err
}

// Covers tells whether a step with that fault is what was asked for: "partition"
// covers every shape, any other name only itself.
func Covers(asked, fault string) bool {
	return asked == fault || asked == Partition{}.Name() && strings.HasPrefix(fault, asked+"-")
}

// Unable says why the fault can't be brought about with those abilities, and
// the remedy; nil when it can.
func Unable(f Fault, a nodes.Abilities) error {
	for _, k := range f.Kinds() {
		err, known := a.Effects[k]
		if !known {
			return fmt.Errorf("fault %s needs the effect %q, which this provider does not have", f.Name(), k)
		}
		if err != nil {
			return fmt.Errorf("fault %s: %w", f.Name(), err)
		}
	}
	return nil
}

// only refuses arguments that the fault does not know.
func (a Args) only(names ...string) error {
	for _, k := range sortedKeys(a) {
		if !slices.Contains(names, k) {
			if len(names) == 0 {
				return fmt.Errorf("args: %q is not known; this fault takes none", k)
			}
			return fmt.Errorf("args: %q is not known; there are %s", k, strings.Join(names, ", "))
		}
	}
	return nil
}

// duration reads one argument of 0 to max; missing is the given default.
func (a Args) duration(name string, missing, limit time.Duration) (time.Duration, error) {
	s, ok := a[name]
	if !ok {
		return missing, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("args: %s: %q is not a duration like 20ms", name, s)
	}
	if d < 0 || d > limit {
		return 0, fmt.Errorf("args: %s: %s is not between 0 and %s", name, d, limit)
	}
	return d, nil
}

// oneOf reads one argument that has few values; missing is "".
func (a Args) oneOf(name string, values ...string) (string, error) {
	s, ok := a[name]
	if ok && !slices.Contains(values, s) {
		return "", fmt.Errorf("args: %s: %q is not one of %s", name, s, strings.Join(values, ", "))
	}
	return s, nil
}

func sortedKeys(a Args) []string {
	keys := make([]string, 0, len(a))
	for k := range a {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
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
// Only the first letters count, so that garbage from outside costs little.
func distance(a, b string) int {
	const lettersMax = 64
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
