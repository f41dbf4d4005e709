package workload

import (
	"testing"

	"chaos/history"
)

func TestSetModel(t *testing.T) {
	steps(t, Set().Model, []stepCase{
		{"null", "write", "7", "ok", "7", "7"},
		{"7", "read", "null", "ok", "7", "7"},
		{"7", "read", "null", "ok", "null", ""},
		{"null", "read", "null", "ok", "7", ""},
	})
}

func TestSetWritesEachKeyOnce(t *testing.T) {
	for _, answer := range []world{perfect, allInfo, func(n int) history.Type { return []history.Type{history.Ok, history.Info}[n%2] }} {
		w := newWorld(t, Set(), Options{Workers: 24, Nodes: 5}, 1, answer)
		w.run(20_000)
		for key, n := range w.writes {
			if n > 1 {
				t.Errorf("%s is written %d times", key, n)
			}
		}
	}
}

// A write that certainly failed leaves the key free for another value.
func TestSetWritesAgainAfterACertainFailure(t *testing.T) {
	w := newWorld(t, Set(), Options{Workers: 4, Nodes: 3}, 1, allFail)
	w.run(2000)
	again := 0
	for _, n := range w.writes {
		if n > 1 {
			again++
		}
	}
	if again == 0 {
		t.Error("no key was written again")
	}
}
