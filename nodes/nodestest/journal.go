// Package nodestest holds conformance kits: one suite for every implementation
// of an interface of the nodes.
package nodestest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"chaos/nodes/consensus"
	"chaos/nodes/replica"
)

var journalOptions = replica.JournalOptions{Cluster: "kit", Node: 2, SegmentBytes: 8 << 10}

// Journal checks that a journal on a disk keeps what it promised, cuts off a
// torn last batch, and refuses damage. open makes an empty disk.
func Journal(t *testing.T, open func(t *testing.T) replica.Disk) {
	t.Run("reopen", func(t *testing.T) { reopen(t, open(t)) })
	t.Run("restart", func(t *testing.T) { restart(t, open(t)) })
	t.Run("foreign", func(t *testing.T) { foreign(t, open(t)) })
	t.Run("torn", func(t *testing.T) { torn(t, open(t)) })
	t.Run("damage", func(t *testing.T) { damage(t, open) })
	t.Run("missing", func(t *testing.T) { missing(t, open) })
	t.Run("snapshot", func(t *testing.T) { snapshots(t, open(t)) })
	t.Run("grow", func(t *testing.T) { grow(t, open(t)) })
}

func mustOpen(t *testing.T, d replica.Disk) (*replica.Journal, replica.Recovered) {
	t.Helper()
	j, r, err := replica.OpenJournal(d, journalOptions)
	if err != nil {
		t.Fatal(err)
	}
	return j, r
}

// appendBatch makes one batch of records durable.
func appendBatch(j *replica.Journal, records ...string) error {
	for _, r := range records {
		j.Add(func(b []byte) []byte { return append(b, r...) })
	}
	if err := j.Write(); err != nil {
		return err
	}
	return j.Sync()
}

func mustAppend(t *testing.T, j *replica.Journal, records ...string) {
	t.Helper()
	if err := appendBatch(j, records...); err != nil {
		t.Fatal(err)
	}
}

func texts(r replica.Recovered) (out []string) {
	for _, b := range r.Records {
		out = append(out, string(b))
	}
	return out
}

func expect(t *testing.T, got replica.Recovered, want ...string) {
	t.Helper()
	if !slices.Equal(texts(got), want) {
		t.Fatalf("recovered %.200q, want %.200q", texts(got), want)
	}
}

// reopen: what was synced is there, in order, over several segments and starts.
func reopen(t *testing.T, d replica.Disk) {
	var want []string
	for start := range 4 {
		j, r := mustOpen(t, d)
		expect(t, r, want...)
		if r.Incarnation != uint64(start+1) || len(r.Notes) > 0 {
			t.Fatalf("start %d: incarnation %d, notes %q", start, r.Incarnation, r.Notes)
		}
		for i := range 20 {
			batch := []string{fmt.Sprintf("%d.%d", start, i), strings.Repeat("x", 40*i), ""}
			want = append(want, batch...)
			mustAppend(t, j, batch...)
			if work, finish := j.Chore(); work != nil && i%3 == 0 {
				if err := work(); err != nil {
					t.Fatal(err)
				}
				finish()
			}
		}
		j.Close()
	}
}

// restart: only the remaining records and what came later are there.
func restart(t *testing.T, d replica.Disk) {
	j, _ := mustOpen(t, d)
	for i := range 30 {
		mustAppend(t, j, strings.Repeat("old", 100), fmt.Sprint(i))
	}
	if err := j.WriteSnapshot(consensus.Snapshot{Index: 7, Term: 3, Data: []byte("state")}); err != nil {
		t.Fatal(err)
	}
	if err := j.Restart(7, []func([]byte) []byte{func(b []byte) []byte { return append(b, "kept"...) }}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "new")
	j.Close()
	j, r := mustOpen(t, d)
	expect(t, r, "kept", "new")
	if r.Snapshot == nil || r.Snapshot.Index != 7 || r.Snapshot.Term != 3 || string(r.Snapshot.Data) != "state" {
		t.Fatalf("recovered snapshot %+v", r.Snapshot)
	}
	for work, finish := j.Chore(); work != nil; work, finish = j.Chore() {
		if err := work(); err != nil {
			t.Fatal(err)
		}
		finish()
	}
	names, err := d.List()
	if err != nil || len(segments(names)) != 1 {
		t.Fatalf("after the restart and its chores the disk holds %q (%v), want one segment", names, err)
	}
	j.Close()
}

func segments(names []string) (out []string) {
	for _, n := range names {
		if strings.HasPrefix(n, "journal-") {
			out = append(out, n)
		}
	}
	return out
}

// foreign: another node's or cluster's journal is refused.
func foreign(t *testing.T, d replica.Disk) {
	j, _ := mustOpen(t, d)
	j.Close()
	for _, o := range []replica.JournalOptions{{Cluster: "other", Node: 2}, {Cluster: "kit", Node: 3}} {
		if _, _, err := replica.OpenJournal(d, o); err == nil || !strings.Contains(err.Error(), "belongs to node n2 of cluster \"kit\"") {
			t.Errorf("opened as %+v: %v", o, err)
		}
	}
}

// contents reads a file whole, to be changed and put back.
func contents(t *testing.T, d replica.Disk, name string) []byte {
	t.Helper()
	f, err := d.Open(name, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func overwrite(t *testing.T, d replica.Disk, name string, b []byte, off int64) {
	t.Helper()
	f, err := d.Open(name, false)
	if err == nil {
		_, err = f.WriteAt(b, off)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// used is where the bytes of a segment end that are not zero.
func used(b []byte) int { return len(bytes.TrimRight(b, "\x00")) }

// torn: a last batch that ends too early, at whichever byte, is cut off and
// noted, and the journal goes on.
func torn(t *testing.T, d replica.Disk) {
	j, _ := mustOpen(t, d)
	mustAppend(t, j, "first")
	name := "journal-0000000000000001"
	from := used(contents(t, d, name))
	mustAppend(t, j, "second", strings.Repeat("\x00", 700), "third")
	j.Close()
	whole := contents(t, d, name)
	to := used(whole)
	for cut := from; cut <= to; cut++ {
		b := slices.Clone(whole)
		clear(b[cut:])
		overwrite(t, d, name, b, 0)
		j, r := mustOpen(t, d)
		switch {
		case cut == to:
			expect(t, r, "first", "second", strings.Repeat("\x00", 700), "third")
			j.Close()
			continue
		case (cut > from) != (len(r.Notes) == 1):
			t.Fatalf("cut at %d of [%d, %d): notes %q", cut, from, to, r.Notes)
		}
		expect(t, r, "first")
		if cut%16 == 0 {
			mustAppend(t, j, "again")
			j.Close()
			j, r = mustOpen(t, d)
			expect(t, r, "first", "again")
		}
		j.Close()
	}
}

// damage: a flipped bit in any batch, or in a header, stops the start with an
// error that names the file and where its batch begins.
func damage(t *testing.T, open func(t *testing.T) replica.Disk) {
	d := open(t)
	j, _ := mustOpen(t, d)
	var begins []int
	name := "journal-0000000000000001"
	for i := range 5 {
		begins = append(begins, used(contents(t, d, name)))
		mustAppend(t, j, fmt.Sprintf("record %d", i), strings.Repeat("y", 150*i))
	}
	j.Close()
	whole := contents(t, d, name)
	end := used(whole)
	check := func(at int, offset int) {
		t.Helper()
		b := []byte{whole[at] ^ byte(1<<(at%8))}
		overwrite(t, d, name, b, int64(at))
		_, _, err := replica.OpenJournal(d, journalOptions)
		var damage *replica.Damage
		if !errors.As(err, &damage) || damage.File != name || damage.Offset != int64(offset) {
			t.Fatalf("bit flipped at %d: %v; want damage of %s at offset %d", at, err, name, offset)
		}
		overwrite(t, d, name, whole[at:at+1], int64(at))
	}
	for at := 0; at < 4096; at += 13 {
		check(at, 0)
	}
	for at := begins[0]; at < end; at++ {
		i := 0
		for i+1 < len(begins) && begins[i+1] <= at {
			i++
		}
		check(at, begins[i])
	}
	// Zeros over the end of any batch but the last look like a torn one: what
	// stands behind it tells.
	for i, next := range begins[1:] {
		overwrite(t, d, name, make([]byte, 20), int64(next-20))
		_, _, err := replica.OpenJournal(d, journalOptions)
		var damage *replica.Damage
		if !errors.As(err, &damage) || damage.Offset != int64(begins[i]) {
			t.Fatalf("batch %d ends in zeros and others follow: %v; want damage at offset %d", i, err, begins[i])
		}
		overwrite(t, d, name, whole[next-20:next], int64(next-20))
	}
	j, r := mustOpen(t, d)
	if len(r.Records) != 10 {
		t.Fatalf("with every bit put back %d records are read, want 10", len(r.Records))
	}
	j.Close()
}

// missing: a segment or journal that is gone is found out.
func missing(t *testing.T, open func(t *testing.T) replica.Disk) {
	for gone := range 3 {
		d := open(t)
		j, _ := mustOpen(t, d)
		for range 20 {
			mustAppend(t, j, strings.Repeat("z", 1000))
		}
		j.Close()
		names, err := d.List()
		if err != nil || len(segments(names)) < 3 {
			t.Fatalf("the disk holds %q (%v), want three segments", names, err)
		}
		if gone == 2 {
			for _, n := range segments(names) {
				err = errors.Join(err, d.Remove(n))
			}
		} else {
			err = d.Remove(segments(names)[gone])
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := replica.OpenJournal(d, journalOptions); err == nil {
			t.Errorf("case %d: a journal with files missing was opened", gone)
		}
	}
}

// snapshots: the newest valid one counts; one that the journal needs must be whole.
func snapshots(t *testing.T, d replica.Disk) {
	j, _ := mustOpen(t, d)
	for i, data := range []string{"five", "nine"} {
		s := consensus.Snapshot{Index: uint64(5 + 4*i), Term: 2, Voters: consensus.Configuration{Voters: []consensus.ID{1, 2}}, Data: []byte(data)}
		if err := j.WriteSnapshot(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Restart(5, nil); err != nil {
		t.Fatal(err)
	}
	j.Close()
	newest := "snapshot-0000000000000009"
	b := contents(t, d, newest)
	overwrite(t, d, newest, []byte{b[40] ^ 1}, 40)
	j, r := mustOpen(t, d)
	if r.Snapshot == nil || string(r.Snapshot.Data) != "five" || len(r.Notes) != 1 {
		t.Fatalf("with the newest damaged: snapshot %+v, notes %q", r.Snapshot, r.Notes)
	}
	j.Close()
	needed := "snapshot-0000000000000005"
	b = contents(t, d, needed)
	overwrite(t, d, needed, []byte{b[40] ^ 1}, 40)
	_, _, err := replica.OpenJournal(d, journalOptions)
	if err == nil || !strings.Contains(err.Error(), needed) {
		t.Fatalf("with the needed snapshot damaged: %v", err)
	}
}

// grow: a batch larger than a segment gets a larger one.
func grow(t *testing.T, d replica.Disk) {
	j, _ := mustOpen(t, d)
	big := strings.Repeat("big", 20000)
	mustAppend(t, j, "small")
	mustAppend(t, j, big)
	mustAppend(t, j, "after")
	j.Close()
	j, r := mustOpen(t, d)
	expect(t, r, "small", big, "after")
	j.Close()
}

// JournalPower lets the power go at every call of a disk in turn while a journal
// is opened, appended to, restarted behind snapshots and opened again. What was
// synced must be there, what was not may be, and nothing else. It needs a disk
// that can lose its power.
func JournalPower(t *testing.T, seeds int) {
	for seed := range seeds {
		calls := 0
		for at := 1; ; at++ {
			d := replica.NewMemDisk()
			d.CutAfter(at)
			w := &writer{random: rand.New(rand.NewPCG(uint64(seed), 1))}
			finished := w.work(d)
			r := rand.New(rand.NewPCG(uint64(seed), uint64(at)))
			survive(t, seed, at, w, d, r)
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
func survive(t *testing.T, seed, at int, w *writer, d *replica.MemDisk, r *rand.Rand) {
	t.Helper()
	for round := range 3 {
		d = d.Restored(r)
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
	restarts int // the last restart that was begun
	starts   uint64
}

func (w *writer) next() string {
	w.written++
	return fmt.Sprintf("%d %s", w.written, strings.Repeat("x", w.random.IntN(900)))
}

func (w *writer) settle() { w.durable = w.written }

// work does what a node does; false if the power went.
func (w *writer) work(d *replica.MemDisk) bool {
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
