package workload

import (
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"chaos/history"
)

func TestCASModel(t *testing.T) {
	steps(t, CAS().Model, []stepCase{
		{"1", "cas", "[1,2]", "ok", `{"swapped":true,"saw":1}`, "2"},
		{"1", "cas", "[1,2]", "ok", `{"swapped":true}`, "2"},
		{"1", "cas", "[1,2]", "ok", `{"swapped":true,"saw":3}`, ""},
		{"3", "cas", "[1,2]", "ok", `{"swapped":true,"saw":1}`, ""},
		{"null", "cas", "[null,2]", "ok", `{"swapped":true,"saw":null}`, "2"},
		{"null", "cas", "[1,2]", "ok", `{"swapped":true,"saw":1}`, ""},
		{"3", "cas", "[1,2]", "ok", `{"swapped":false,"saw":3}`, "3"},
		{"3", "cas", "[1,2]", "ok", `{"swapped":false,"saw":4}`, ""},
		{"1", "cas", "[1,2]", "ok", `{"swapped":false,"saw":1}`, ""},
		{"null", "cas", "[1,2]", "ok", `{"swapped":false,"saw":null}`, "absent"},
		{"3", "cas", "[1,2]", "ok", `{"swapped":false}`, "3"},
		{"1", "cas", "[1,2]", "ok", `{"swapped":false}`, ""},
		{"1", "cas", "[1,2]", "info", "", "2"},
		{"3", "cas", "[1,2]", "info", "", "3"},
		{"3", "write", "4", "ok", "4", "4"},
		{"3", "read", "null", "ok", "4", ""},
	})
}

// Swaps expect what was last seen, so most of them succeed when few race.
func TestSwapsOftenSucceed(t *testing.T) {
	w := newWorld(t, CAS(), Options{Workers: 24, Nodes: 5}, 3, perfect)
	w.run(20_000)
	swaps, swapped := w.count["cas"], w.swapped
	if swaps < 1000 || swapped*2 < swaps {
		t.Errorf("%d of %d swaps succeeded", swapped, swaps)
	}
	if swapped == swaps {
		t.Error("no swap ever failed")
	}
}

// Some swaps expect the beginning of what was seen, or a text that begins like
// it: a store that compares only as far as one of them goes is caught.
func TestSwapsExpectNeighbours(t *testing.T) {
	l, k := newLoad(Options{}, rand.New(rand.NewPCG(1, 1)), cas), &key{seen: Num(17)}
	expected := map[string]int{}
	for range 10 * nearOneIn {
		from, _, _ := strings.Cut(strings.TrimPrefix(string(swapOrWrite(l, k, history.CAS)), "["), ",")
		expected[from]++
	}
	if want := map[string]int{"17": 10 * (nearOneIn - 1), "1": 5, "171": 5}; !maps.Equal(expected, want) {
		t.Errorf("of values seen as 17 swaps expected %v, not %v", expected, want)
	}
	if short, long := near(5, 0), near(math.MaxInt64, 1); short != 51 || long <= 0 {
		t.Errorf("the neighbours of 5 and of the greatest number are %d and %d", short, long)
	}
}
