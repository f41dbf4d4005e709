package linearizability

import (
	"context"
	"math/rand/v2"
	"testing"

	"chaos/history"
	"chaos/workload"
)

func forever() bool { return false }

// randomWorld draws a small world of one key with its own habits.
func randomWorld(seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 99))
	w := &world{r: r, keys: []string{[]string{"cas/k", "cas/k", "append/k", "counter/k"}[r.IntN(4)]},
		processes: 2 + r.IntN(3), operations: 3 + r.IntN(6), late: 0.2, info: 0.5 * r.Float64(), fail: 0.2 * r.Float64(),
		small: r.IntN(8) == 0, mute: r.IntN(3) == 0, noIndex: r.IntN(3) == 0}
	switch r.IntN(4) {
	case 0, 1:
		w.lie = 0.3
	case 2:
		w.stale = 0.5
	}
	return w
}

func oneKey(t *testing.T, h history.History) keyed {
	t.Helper()
	if err := history.Validate(h); err != nil {
		t.Fatal(err)
	}
	keys, err := group(h.Header, history.Operations(h), testOptions())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	return keys[0]
}

// TestAgreesWithBruteForce compares every step of the way to a verdict with
// the definition of linearizability, tried out.
func TestAgreesWithBruteForce(t *testing.T) {
	legal, illegal, witnessed, pruned := 0, 0, 0, 0
	for seed := range uint64(40_000) {
		k := oneKey(t, randomWorld(seed).run())
		want := brute(k.model, k.ops)
		short := prune(k.ops)
		if got := brute(k.model, short); got != want {
			t.Fatalf("seed %d: linearizable is %v, but %v once open operations were pruned\n%s", seed, want, got, dump(k.ops))
		}
		if witness(k.model, short) {
			witnessed++
			if !want {
				t.Fatalf("seed %d: a witness for what is not linearizable\n%s", seed, dump(k.ops))
			}
		}
		if got := decide(k.model, k.ops, forever); (got == Valid) != want || got == Unknown {
			t.Fatalf("seed %d: linearizable is %v, decided %v\n%s", seed, want, got, dump(k.ops))
		}
		pruned += len(k.ops) - len(short)
		if want {
			legal++
			continue
		}
		illegal++
		few := shrink(k.model, k.ops, forever)
		if len(few) == 0 || len(few) > len(k.ops) || brute(k.model, few) {
			t.Fatalf("seed %d: shrunk to operations that have an order:\n%s\nfrom\n%s", seed, dump(few), dump(k.ops))
		}
	}
	t.Logf("%d linearizable (%d by witness), %d not, %d operations pruned", legal, witnessed, illegal, pruned)
	if legal < 10_000 || illegal < 5_000 || witnessed < legal/2 || pruned < 3000 {
		t.Error("the worlds are too much alike to prove anything")
	}
}

// TestShrinkLeavesOutOnlyWhatItMay: from a linearizable history, no sound step
// of shrinking leads to an illegal one.
func TestShrinkLeavesOutOnlyWhatItMay(t *testing.T) {
	for seed := range uint64(10_000) {
		w := randomWorld(seed)
		k := oneKey(t, w.run())
		if !brute(k.model, k.ops) {
			continue
		}
		for name, l := range map[string]leave{"observers": observers, "unobserved": unobserved, "elements": elements} {
			for range 4 {
				mask := w.r.Uint64()
				part := l(k.ops, func(i int) bool { return mask>>i&1 == 1 })
				if part != nil && !brute(k.model, part) {
					t.Fatalf("seed %d: leaving out %s made a legal history illegal:\n%s\nfrom\n%s", seed, name, dump(part), dump(k.ops))
				}
			}
		}
		for _, o := range k.ops {
			if o.ret != never && !brute(k.model, beginning(k.ops, o.ret)) {
				t.Fatalf("seed %d: the beginning up to event %d is illegal\n%s", seed, o.ret, dump(k.ops))
			}
		}
	}
}

func dump(ops []operation) string {
	text := ""
	for _, o := range ops {
		text += describeOperation(o) + "\n"
	}
	return text
}

func TestCheckOfAnEmptyHistoryIsUnknown(t *testing.T) {
	if v := Check(context.Background(), history.History{}, testOptions()); v.Outcome != Unknown {
		t.Errorf("got %+v", v)
	}
}

// TestExplains: an order is a proof only if it holds each operation once,
// respects real time, and takes legal steps.
func TestExplains(t *testing.T) {
	m, _ := testModels("cas/k", "")
	write := func(v int64, invoke, ret int) operation {
		return operation{call: workload.Call{F: history.Write, Arg: num(v), Known: ret != never}, invoke: invoke, ret: ret}
	}
	read := func(v int64, invoke, ret int) operation {
		return operation{call: workload.Call{F: history.Read, Out: num(v), Known: true, Revealed: true}, invoke: invoke, ret: ret}
	}
	tests := []struct {
		name  string
		ops   []operation
		order []int
		want  bool
	}{
		{"in sequence", []operation{write(1, 0, 1), read(1, 2, 3)}, []int{0, 1}, true},
		{"concurrent, turned", []operation{read(1, 0, 3), write(1, 1, 2)}, []int{1, 0}, true},
		{"stale read placed in the past", []operation{write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)}, []int{0, 2, 1}, false},
		{"illegal step", []operation{write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)}, []int{0, 1, 2}, false},
		{"one left out", []operation{write(1, 0, 1), write(2, 2, 3)}, []int{0}, false},
		{"one twice", []operation{write(1, 0, 1), write(2, 2, 3)}, []int{0, 0}, false},
		{"open before it began", []operation{read(1, 0, 1), write(1, 2, never)}, []int{1, 0}, false},
		{"open in the middle", []operation{write(1, 0, never), read(1, 2, 3)}, []int{0, 1}, true},
	}
	for _, tt := range tests {
		if got := explains(m, tt.ops, tt.order); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}
