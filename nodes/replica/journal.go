package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"chaos/nodes/consensus"
)

// Bounds of a journal.
const (
	// DefaultSegmentBytes is the size of a segment unless options say otherwise.
	DefaultSegmentBytes = 4 << 20
	// segmentBytesMin is the smallest size that makes sense.
	segmentBytesMin = 2 * headerSize
	// segmentBytesMax is the longest file that is read back.
	segmentBytesMax = 1 << 30
	// batchBytesMax is how many bytes of records one sync may carry; what is
	// more becomes a second batch with a sync of its own.
	batchBytesMax = 8 << 20
	// segmentsMax is how many segments may be needed at a restart.
	segmentsMax = 4096
)

const (
	segmentPrefix  = "journal-"
	freshPrefix    = "new-" // files that have no meaning yet; removed at the start
	snapshotPrefix = "snapshot-"
	countFile      = "incarnation"
)

// JournalOptions say whose journal it is.
type JournalOptions struct {
	Cluster      string // at most 255 bytes; a journal of another cluster is refused
	Node         consensus.ID
	SegmentBytes int64 // size of a segment; 0: DefaultSegmentBytes
}

// A Journal is a node's durable log: records in batches, one sync a batch. Its
// owner calls it serially; after an error it is of no more use.
//
// Add gathers records, Write puts the batch into the file, Sync makes it
// durable. A segment is preallocated and written in place. [Journal.Restart]
// begins anew behind a snapshot. What power loss can leave is described at
// [OpenJournal].
type Journal struct {
	disk    Disk
	options JournalOptions
	batch   batchBuilder
	file    File
	header  segmentHeader // of the segment that is written
	seed    uint32
	end     int64  // where the next batch goes
	next    uint64 // sequence number of the next batch
	oldest  uint64 // number of the segment that restarted the journal
	files   uint64 // counts names of fresh files
	spare   *freshFile
	busy    bool     // a chore is under way
	garbage []string // files that nobody needs any more
	bytes   int64    // written since the restart
	syncs   uint64
	dirty   bool // written and not yet synced
}

// A freshFile is preallocated, durable, and means nothing yet.
type freshFile struct {
	name string
	file File
	size int64
}

func segmentName(n uint64) string { return fmt.Sprintf("%s%016x", segmentPrefix, n) }

// Add gathers one record; encode grows the buffer that it is given.
func (j *Journal) Add(encode func(b []byte) []byte) { j.batch.add(encode) }

// Pending is how many bytes Add gathered since the last Write.
func (j *Journal) Pending() int {
	if j.batch.count == 0 {
		return 0
	}
	return len(j.batch.b)
}

// Full tells that a Write and Sync must come before another Add.
func (j *Journal) Full() bool { return j.Pending() >= batchBytesMax }

// Write puts what was gathered into the file, as one batch. It is not durable yet.
func (j *Journal) Write() error {
	if j.batch.count == 0 {
		return nil
	}
	if j.dirty {
		panic(fmt.Sprintf("replica: batch %d would be written before batch %d was synced", j.next, j.next-1))
	}
	if need := int64(len(j.batch.b)) + guardSize; j.end+need > j.header.size {
		if err := j.roll(need); err != nil {
			return err
		}
	}
	return j.write()
}

func (j *Journal) write() error {
	b := j.batch.seal(j.seed, j.next)
	if _, err := j.file.WriteAt(b, j.end); err != nil {
		return err
	}
	j.end += int64(len(b))
	j.bytes += int64(len(b))
	j.next++
	j.dirty = true
	return nil
}

// Sync makes everything durable that was written.
func (j *Journal) Sync() error {
	if !j.dirty {
		return nil
	}
	j.syncs++
	j.dirty = false
	return j.file.Sync()
}

// Bytes is how much was written since the last restart.
func (j *Journal) Bytes() int64 { return j.bytes }

// Syncs counts the syncs of batches since the journal was opened.
func (j *Journal) Syncs() uint64 { return j.syncs }

// Mark is the index of the snapshot behind which the journal begins.
func (j *Journal) Mark() uint64 { return j.header.mark }

// roll goes on in a new segment that holds need bytes of batches.
func (j *Journal) roll(need int64) error {
	h := j.header
	h.number, h.first, h.restart, h.whole = h.number+1, j.next, false, 0
	fresh, err := j.fresh(headerSize + need)
	if err != nil {
		return err
	}
	h.size = fresh.size
	head := h.encode()
	if _, err := fresh.file.WriteAt(head, 0); err != nil {
		return err
	}
	return j.adopt(fresh, h, seedOf(head), headerSize)
}

// adopt makes a fresh file, complete as it stands, the segment to write to.
func (j *Journal) adopt(fresh *freshFile, h segmentHeader, seed uint32, end int64) error {
	if err := fresh.file.Sync(); err != nil {
		return err
	}
	if err := j.disk.Rename(fresh.name, segmentName(h.number)); err != nil {
		return err
	}
	if err := j.disk.SyncDir(); err != nil {
		return err
	}
	if j.file != nil {
		if err := j.file.Close(); err != nil {
			return err
		}
	}
	j.file, j.header, j.seed, j.end = fresh.file, h, seed, end
	return nil
}

// Restart begins the journal anew behind the snapshot with index mark, which
// must be durable: a new segment that starts with records. All of it is durable
// before the new segment gets its name, and the old segments are garbage only
// after that; at a crash in between, the newest restart counts.
func (j *Journal) Restart(mark uint64, records []func(b []byte) []byte) error {
	var builder batchBuilder
	need := int64(headerSize + batchHeader + guardSize)
	h := segmentHeader{
		node: j.options.Node, cluster: j.options.Cluster, number: j.header.number + 1,
		first: j.next, restart: true, mark: mark, whole: 1,
	}
	for _, r := range records {
		builder.add(r)
	}
	if builder.count > 0 {
		need = headerSize + int64(len(builder.b)) + guardSize
	}
	if need > segmentBytesMax {
		return fmt.Errorf("replica: %d bytes must stay in the journal behind the snapshot at %d; at most %d fit", need, mark, segmentBytesMax)
	}
	fresh, err := j.fresh(need)
	if err != nil {
		return err
	}
	h.size = fresh.size
	head := h.encode()
	seed := seedOf(head)
	body := builder.seal(seed, h.first)
	if _, err := fresh.file.WriteAt(append(head, body...), 0); err != nil {
		return err
	}
	old := j.header.number
	if err := j.adopt(fresh, h, seed, int64(len(head)+len(body))); err != nil {
		return err
	}
	for n := j.oldest; j.oldest > 0 && n <= old; n++ {
		j.garbage = append(j.garbage, segmentName(n))
	}
	j.next, j.oldest, j.bytes, j.dirty = h.first+1, h.number, int64(len(body)), false
	return nil
}

// fresh takes the spare file, or makes one where there is none that is large enough.
func (j *Journal) fresh(need int64) (*freshFile, error) {
	if s := j.spare; s != nil && s.size >= need {
		j.spare = nil
		return s, nil
	}
	return makeFresh(j.disk, j.freshName(), max(j.options.SegmentBytes, need))
}

func (j *Journal) freshName() string {
	j.files++
	return fmt.Sprintf("%s%016x", freshPrefix, j.files)
}

func makeFresh(d Disk, name string, size int64) (*freshFile, error) {
	f, err := d.Open(name, true)
	if err != nil {
		return nil, err
	}
	if err := f.Preallocate(size); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return nil, err
	}
	return &freshFile{name: name, file: f, size: size}, nil
}

// Discard tells that nobody needs a file any more, and that its name is never
// used again; a chore removes it.
func (j *Journal) Discard(name string) { j.garbage = append(j.garbage, name) }

// Chore returns slow work that should be done soon, or nil: making the next
// segment ready, and removing old files. The work touches nothing of j, so that
// it may run beside the owner; then the owner calls finish.
func (j *Journal) Chore() (work func() error, finish func()) {
	want := j.spare == nil
	if j.busy || (!want && len(j.garbage) == 0) {
		return nil, nil
	}
	j.busy = true
	garbage, disk, name, size := j.garbage, j.disk, j.freshName(), j.options.SegmentBytes
	j.garbage = nil
	var made *freshFile
	work = func() (err error) {
		for _, g := range garbage {
			if err := disk.Remove(g); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if want {
			made, err = makeFresh(disk, name, size)
		}
		return err
	}
	return work, func() {
		j.busy = false
		if made != nil {
			j.spare = made
		}
	}
}

// Close closes the files. It does not sync: what was not synced was promised to nobody.
func (j *Journal) Close() error {
	if j.spare != nil {
		j.spare.file.Close()
	}
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

func isSegment(name string) bool { return strings.HasPrefix(name, segmentPrefix) }
