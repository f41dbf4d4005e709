package nodestest

import (
	"chaos/nodes/consensus"
	"chaos/nodes/replica"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// A PowerDisk is a disk that can lose its power.
type PowerDisk interface {
	replica.Disk
	// CutAfter makes the power go at the n-th call from now. That call may have
	// taken effect in part; it and all later ones answer replica.ErrPowerLost.
	CutAfter(n int)
}

// JournalPower lets the power go at every call of a disk in turn while a journal
// is opened, appended to, restarted behind snapshots and opened again. What was
// synced must be there, what was not may be, and nothing else. open makes an
// empty disk, and restored is what the next start finds of one without power.
func JournalPower[D PowerDisk](t *testing.T, seeds int, open func() D, restored func(D, *rand.Rand) D) {
	for seed := range seeds {
		calls := 0
		for at := 1; ; at++ {
			d := open()
			d.CutAfter(at)
			w := &writer{random: rand.New(rand.NewPCG(uint64(seed), 1))}
			finished := w.work(d)
			r := rand.New(rand.NewPCG(uint64(seed), uint64(at)))
			survive(t, seed, at, w, d, r, restored)
			if finished {
				calls = at
				break
			}
		}
		if calls < 50 {
			t.Fatalf("the work took %d calls of the disk; too few to mean something", calls)
		}
	}
}

// survive restarts up to three times, with the power going again during restarts.
func survive[D PowerDisk](t *testing.T, seed, at int, w *writer, d D, r *rand.Rand, restored func(D, *rand.Rand) D) {
	t.Helper()
	for round := range 3 {
		d = restored(d, r)
		if round < 2 {
			d.CutAfter(1 + r.IntN(30))
		}
		j, got, err := replica.OpenJournal(d, journalOptions)
		if errors.Is(err, replica.ErrPowerLost) {
			continue
		}
		if err != nil {
			t.Fatalf("seed %d, power lost at call %d: %v", seed, at, err)
		}
		w.check(t, fmt.Sprintf("seed %d, power lost at call %d", seed, at), got)
		w.accept(got)
		if appendBatch(j, w.next()) == nil {
			w.settle()
		}
		j.Close()
	}
}

// A writer is a journal's owner that knows what it was promised. Records are
// numbers that count up; the snapshot at n stands for all up to n.
type writer struct {
	random   *rand.Rand
	written  int // the last record handed over
	durable  int // the last record whose sync returned
	snapshot int // the last snapshot that is durable
	starts   uint64
}

func (w *writer) next() string {
	w.written++
	return fmt.Sprintf("%d %s", w.written, strings.Repeat("x", w.random.IntN(900)))
}

func (w *writer) settle() { w.durable = w.written }

// work does what a node does; false if the power went.
func (w *writer) work(d replica.Disk) bool {
	for range 2 {
		j, got, err := replica.OpenJournal(d, journalOptions)
		if err != nil {
			return false
		}
		w.starts = got.Incarnation
		for range 14 {
			if w.step(j) != nil {
				return false
			}
		}
		j.Close()
	}
	return true
}

func (w *writer) step(j *replica.Journal) error {
	switch w.random.IntN(6) {
	case 0:
		return w.compact(j)
	case 1:
		work, finish := j.Chore()
		if work == nil {
			return nil
		}
		err := work()
		finish()
		return err
	}
	batch := make([]string, 1+w.random.IntN(3))
	for i := range batch {
		batch[i] = w.next()
	}
	err := appendBatch(j, batch...)
	if err == nil {
		w.settle()
	}
	return err
}

// compact takes a snapshot of all but the last two records, and restarts behind it.
func (w *writer) compact(j *replica.Journal) error {
	index := w.written - 2
	if index <= w.snapshot {
		return nil
	}
	if err := j.WriteSnapshot(consensus.Snapshot{Index: uint64(index), Data: []byte(fmt.Sprint(index))}); err != nil {
		return err
	}
	w.snapshot = index
	var kept []func([]byte) []byte
	for n := index + 1; n <= w.written; n++ {
		kept = append(kept, func(b []byte) []byte { return fmt.Appendf(b, "%d kept", n) })
	}
	return j.Restart(uint64(index), kept)
}

// check compares what was recovered with what was promised.
func (w *writer) check(t *testing.T, when string, got replica.Recovered) {
	t.Helper()
	last := 0
	if got.Snapshot != nil {
		last = int(got.Snapshot.Index)
		if string(got.Snapshot.Data) != fmt.Sprint(last) {
			t.Fatalf("%s: snapshot %d holds %q", when, last, got.Snapshot.Data)
		}
	}
	if last < w.snapshot {
		t.Fatalf("%s: snapshot %d is back, %d was durable", when, last, w.snapshot)
	}
	expected := -1
	for _, b := range got.Records {
		var n int
		if _, err := fmt.Sscan(string(b), &n); err != nil {
			t.Fatalf("%s: recovered record %.40q", when, b)
		}
		if expected >= 0 && n != expected {
			t.Fatalf("%s: record %d follows record %d", when, n, expected-1)
		}
		expected, last = n+1, max(last, n)
	}
	if first := expected - len(got.Records); expected >= 0 && got.Snapshot != nil && first > int(got.Snapshot.Index)+1 {
		t.Fatalf("%s: records begin at %d behind the snapshot at %d", when, first, got.Snapshot.Index)
	}
	if last < w.durable || last > w.written {
		t.Fatalf("%s: the last record is %d; %d was durable and %d was written", when, last, w.durable, w.written)
	}
	if got.Incarnation <= w.starts {
		t.Fatalf("%s: incarnation %d after %d", when, got.Incarnation, w.starts)
	}
}

// accept goes on from what was recovered: it is durable now.
func (w *writer) accept(got replica.Recovered) {
	w.starts = got.Incarnation
	last := 0
	if got.Snapshot != nil {
		last = int(got.Snapshot.Index)
		w.snapshot = last
	}
	if n := len(got.Records); n > 0 {
		var at int
		fmt.Sscan(string(got.Records[n-1]), &at)
		last = max(last, at)
	}
	w.written, w.durable = last, last
}
