package nodestest

import (
	"flag"
	"runtime"
	"strconv"
	"testing"

	"chaos/nemesis"
)

// atOnce is how many parallel tests of a package run at once: they wait for
// clusters, leases and silence, and hardly for a core.
const atOnce = 4

// Run runs a package's tests, more of the parallel ones at once than there are
// cores. A -parallel on the command line counts for more.
func Run(m *testing.M) int {
	if err := flag.Set("test.parallel", strconv.Itoa(max(atOnce, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err) // the testing package has always had that flag
	}
	return m.Run()
}

// EachFaults runs a test for the weather and one for every other fault, side by
// side: each has a cluster of its own, and half of the time.
func EachFaults(t *testing.T, do func(t *testing.T, faults []nemesis.Fault)) {
	wet := map[string]bool{}
	for _, f := range nemesis.Weather() {
		wet[f.Name()] = true
	}
	var dry []nemesis.Fault
	for _, f := range nemesis.All() {
		if !wet[f.Name()] {
			dry = append(dry, f)
		}
	}
	for name, faults := range map[string][]nemesis.Fault{"weather": nemesis.Weather(), "others": dry} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			do(t, faults)
		})
	}
}
