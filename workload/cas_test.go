package workload

import (
	"fmt"
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

// Some swaps ask for what must not happen: they expect the beginning of what was
// seen, or a text that begins like it, that the key is absent though it is not, or
// a value though it is; or they bring what is there already.
func TestSwapsThatMustNotHappen(t *testing.T) {
	for name, c := range map[string]struct {
		seen Value
		want map[string]int
	}{
		"17": {Num(17), map[string]int{"17,new": 10 * (swapsOf - 3), "1,new": 5, "171,new": 5, "null,new": 10, "1,17": 5, "171,17": 5}},
		// A number that is new, too, was never there.
		"absent": {Value{}, map[string]int{"null,new": 10 * (swapsOf - 1), "new,new": 10}},
	} {
		l, k := newLoad(Options{}, rand.New(rand.NewPCG(1, 1)), cas), &key{seen: c.seen}
		got := map[string]int{}
		for range 10 * swapsOf {
			l.value += 1000 - 1000%swapsOf // so that new values are like no others
			text := string(swapOrWrite(l, k, history.CAS))
			got[strings.ReplaceAll(strings.Trim(text, "[]"), fmt.Sprint(l.value), "new")]++
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("seen %s: swaps %v, want %v", name, got, c.want)
		}
	}
	if short, long := near(5, 0), near(math.MaxInt64, 1); short != 51 || long <= 0 {
		t.Errorf("the neighbours of 5 and of the greatest number are %d and %d", short, long)
	}
}

// Deletes are rare, are observed, and the next swap begins from absence.
func TestDeletes(t *testing.T) {
	w := newWorld(t, CAS(), Options{Workers: 24, Nodes: 5}, 3, perfect)
	w.run(20_000)
	if d, swaps := w.count["delete"], w.count["cas"]; d < swaps/12 || d > swaps/4 {
		t.Errorf("%d deletes beside %d swaps", d, swaps)
	}
	k := &key{seen: Num(3), m: &cas}
	k.learn(&worker{f: history.Delete}, history.Event{Type: history.Ok, Value: null})
	if k.seen.Kind != Absent {
		t.Errorf("after a delete %s is expected", k.seen)
	}
}
