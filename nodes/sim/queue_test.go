package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Events leave the queue by time, and those of one moment in the order in which
// they were thought of, however pushes and pops mix.
func TestQueueOrder(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var q queue
		var waiting []event // sorted: what the queue must hold
		now := int64(0)
		for n := range 2000 {
			if len(waiting) > 0 && r.IntN(5) < 2 {
				q.next()
				if got, want := q.pop(), waiting[0]; got != want {
					t.Fatalf("seed %d: popped %d/%d, want %d/%d", seed, got.at, got.seq, want.at, want.seq)
				}
				now, waiting = waiting[0].at, waiting[1:]
				continue
			}
			e := event{at: now + r.Int64N(40)<<(7*r.IntN(5)), seq: uint64(n), slot: int32(n)} // up to 10 s ahead
			q.push(e)
			at, _ := slices.BinarySearchFunc(waiting, e, func(a, b event) int {
				if a.before(&b) {
					return -1
				}
				return 1
			})
			waiting = slices.Insert(waiting, at, e)
		}
		for _, want := range waiting {
			q.next()
			if got := q.pop(); got != want {
				t.Fatalf("seed %d: popped %d/%d at the end, want %d/%d", seed, got.at, got.seq, want.at, want.seq)
			}
		}
		if q.next() != nil || q.parted != 0 {
			t.Fatalf("seed %d: events are left, %d of them for later", seed, q.parted)
		}
	}
}

// A slab gives back what was put under a number, uses places again, and keeps
// nothing of what was taken.
func TestSlab(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s slab[*int]
	held := map[int32]*int{}
	most := 0
	for n := range 5000 {
		if len(held) > 0 && r.IntN(2) == 0 {
			for slot, v := range held { // any one
				if got := s.take(slot); got != v {
					t.Fatalf("slot %d held %v, want %v", slot, got, v)
				}
				if s.items[slot] != nil {
					t.Fatalf("slot %d still holds what was taken", slot)
				}
				delete(held, slot)
				break
			}
			continue
		}
		slot := s.put(&n)
		if held[slot] != nil {
			t.Fatalf("slot %d was given out twice", slot)
		}
		held[slot] = &n
		most = max(most, len(held))
	}
	if len(s.items) != most {
		t.Errorf("the slab grew to %d places for at most %d values", len(s.items), most)
	}
}
