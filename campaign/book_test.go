package campaign

import (
	"math/rand/v2"
	"testing"
	"time"

	"chaos/history"
	"chaos/workload"
)

// A lookout is a generator that keeps what it was shown.
type lookout struct {
	seen []history.Event
	wait time.Duration
	done bool
}

func (l *lookout) Next(time.Duration, int, int) (workload.Op, time.Duration, bool) {
	return workload.Op{F: history.Write, Key: "k", Value: []byte("1"), Node: 1}, l.wait, !l.done
}
func (l *lookout) Observe(e history.Event) { l.seen = append(l.seen, e) }

// The book gives every event its place, over blocks of any number, shows each
// to the generator, and counts how operations ended.
func TestBook(t *testing.T) {
	g := &lookout{}
	b := book{gen: g}
	w := &identity{number: 2, workers: 4, process: 6, session: 9, sequence: 4}
	name := func(node int) string { return "n" + string(rune('1'+node)) }
	ends := []history.Type{history.Ok, history.Fail, history.Info}
	count := map[history.Type]int{}
	r := rand.New(rand.NewPCG(1, 1))
	now := time.Duration(0)
	for range blockEvents + 10 {
		now += time.Millisecond
		_, e, wait, ok := b.next(now, w, name)
		if !ok || wait != 0 || e.Process != 6 || e.Session != 9 || e.Sequence != 5 || e.Node != "n2" || e.Time != now {
			t.Fatalf("invocation %+v, wait %s, %t", e, wait, ok)
		}
		e.Type = ends[r.IntN(3)]
		count[e.Type]++
		b.complete(e, now+1)
	}
	all := b.all()
	if len(all) != 2*(blockEvents+10) || len(g.seen) != len(all) || b.count != len(all) {
		t.Fatalf("%d events, of which the generator saw %d", len(all), len(g.seen))
	}
	for i, e := range all {
		if e.Index != i || g.seen[i].Index != i {
			t.Fatalf("event %d has index %d", i, e.Index)
		}
	}
	if b.ok != count[history.Ok] || b.fail != count[history.Fail] || b.info != count[history.Info] || b.lastOk == 0 {
		t.Errorf("counted %d ok, %d fail, %d info, want %v", b.ok, b.fail, b.info, count)
	}
	before := b.count
	g.wait = time.Second
	if _, _, wait, ok := b.next(now, w, name); !ok || wait != time.Second || b.count != before {
		t.Error("an operation that must wait was written down")
	}
	g.wait, g.done = 0, true
	if _, _, _, ok := b.next(now, w, name); ok || b.count != before {
		t.Error("an operation that does not exist was written down")
	}
}
