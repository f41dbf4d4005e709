// Package nodestest holds conformance kits: one suite for every implementation
// of an interface of the nodes.
package nodestest

import (
	"bytes"
	"errors"
	"fmt"
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
