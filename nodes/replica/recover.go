package replica

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"chaos/nodes/consensus"
)

// Recovered is what a journal held when it was opened.
type Recovered struct {
	Snapshot    *consensus.Snapshot // the newest valid one; nil if there is none
	Records     [][]byte            // in order; they stay valid
	Incarnation uint64              // counts the starts, this one included; durable
	Notes       []string            // what was cut off or passed over, for people
}

// OpenJournal reads a node's journal back, or makes a new one, counts the start,
// and returns both. What it answers is durable.
//
// # What power loss can leave, and what is damage
//
// A batch is written only after the batch before it was synced, and a segment,
// a snapshot or a count gets its name only after it was synced. So power loss
// can harm the last batch of the last segment and nothing else. A batch that
// can't be read is cut off, and noted, if all of this is true:
//
//   - no whole batch with its own or a higher sequence number stands behind it,
//     in its segment or in a later one;
//   - it is not the batch that a restart wrote before the segment had its name;
//   - it shows zeros where it was not written to its end: its last byte is zero,
//     or one of the 512-byte sectors that it touches holds nothing of it.
//
// Anything else is a [Damage], which names file and offset. One case can't be
// told apart: damage to the very last batch, where its records themselves hold
// a sector of zeros or where the damage put zeros there. It is cut off.
func OpenJournal(disk Disk, o JournalOptions) (*Journal, Recovered, error) {
	j := &Journal{disk: disk, options: o, next: 1}
	if len(o.Cluster) > clusterMax {
		return nil, Recovered{}, fmt.Errorf("replica: the cluster's name has %d bytes; at most %d are allowed", len(o.Cluster), clusterMax)
	}
	if o.SegmentBytes == 0 {
		j.options.SegmentBytes = DefaultSegmentBytes
	}
	j.options.SegmentBytes = min(max(j.options.SegmentBytes, segmentBytesMin), segmentBytesMax)
	r := Recovered{}
	if err := j.open(&r); err != nil {
		j.Close()
		return nil, Recovered{}, err
	}
	return j, r, nil
}

func (j *Journal) open(r *Recovered) error {
	names, err := j.tidy()
	if err != nil {
		return err
	}
	count, err := j.readCount()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(names, isSegment) {
		if count > 0 {
			return &Damage{"the journal", missing, fmt.Sprintf("the node started %d times", count)}
		}
		err = j.Restart(0, nil)
	} else {
		err = j.load(names, r)
	}
	if err != nil {
		return err
	}
	if r.Snapshot, err = j.loadSnapshot(names, r); err != nil {
		return err
	}
	r.Incarnation = count + 1
	return j.writeWhole(countFile, j.frame(countMagic, strconv.AppendUint(nil, r.Incarnation, 10)))
}

// tidy removes files without meaning, and names the others.
func (j *Journal) tidy() ([]string, error) {
	names, err := j.disk.List()
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, name := range names {
		if !strings.HasPrefix(name, freshPrefix) {
			kept = append(kept, name)
		} else if err := j.disk.Remove(name); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// A segment is one file of the journal as it was read back.
type segment struct {
	name   string
	data   []byte
	header segmentHeader
	seed   uint32 // of its batches' checksums
}

// load reads the segments from the newest restart on.
func (j *Journal) load(names []string, r *Recovered) error {
	segments, err := j.readSegments(names)
	if err != nil {
		return err
	}
	j.next, j.oldest = segments[0].header.first, segments[0].header.number
	j.bytes = 0
	for i, s := range segments {
		last := i == len(segments)-1
		got, err := scan(s, j.next, last)
		if err != nil {
			return err
		}
		r.Records = append(r.Records, got.records...)
		j.next = got.next
		j.bytes += got.end - headerSize
		if last {
			return j.resume(s, got, r)
		}
	}
	return nil
}

// readSegments reads from the newest restart on, in order, and leaves the ones
// before it to be removed.
func (j *Journal) readSegments(names []string) ([]segment, error) {
	var found []segment
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		if !isSegment(name) {
			continue
		}
		if len(found) > 0 && found[len(found)-1].header.restart {
			j.garbage = append(j.garbage, name)
			continue
		}
		if len(found) == segmentsMax {
			return nil, fmt.Errorf("replica: more than %d segments since the last restart of the journal", segmentsMax)
		}
		s, err := j.readSegment(name)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && found[len(found)-1].header.number != s.header.number+1 {
			return nil, &Damage{found[len(found)-1].name, 0, "the segment before it is missing"}
		}
		found = append(found, s)
	}
	if first := found[len(found)-1]; !first.header.restart {
		return nil, &Damage{first.name, 0, "the segments before it are missing"}
	}
	slices.Reverse(found)
	return found, nil
}

func (j *Journal) readSegment(name string) (segment, error) {
	data, err := readAll(j.disk, name)
	if err != nil {
		return segment{}, err
	}
	h, err := decodeHeader(data)
	if err != nil {
		return segment{}, &Damage{name, 0, err.Error()}
	}
	if err := j.mine(name, h.cluster, h.node); err != nil {
		return segment{}, err
	}
	if segmentName(h.number) != name {
		return segment{}, &Damage{name, 0, fmt.Sprintf("its header says that it is segment %d", h.number)}
	}
	if int64(len(data)) < h.size {
		return segment{}, &Damage{name, int64(len(data)), fmt.Sprintf("it ends here; it was made %d bytes long", h.size)}
	}
	return segment{name, data[:h.size], h, seedOf(data[:headerSize])}, nil
}

// mine refuses what belongs to another node or cluster.
func (j *Journal) mine(name, cluster string, node consensus.ID) error {
	if cluster != j.options.Cluster || node != j.options.Node {
		return fmt.Errorf("replica: %s belongs to node %s of cluster %q, not to node %s of cluster %q",
			name, node, cluster, j.options.Node, j.options.Cluster)
	}
	return nil
}

// A scanned segment: its records, where they end, and what comes next.
type scanned struct {
	records [][]byte
	end     int64
	next    uint64
	torn    string // why the bytes from end on must be cut off; "" if all are zeros
}

// scan reads the batches of a segment; the first one must have the sequence
// number next. Only the last segment may have a torn end.
func scan(s segment, next uint64, last bool) (scanned, error) {
	out := scanned{end: headerSize, next: next}
	seed := s.seed
	damage := func(reason string, args ...any) (scanned, error) {
		return scanned{}, &Damage{s.name, out.end, fmt.Sprintf(reason, args...)}
	}
	if s.header.first != next {
		out.end = 0
		return damage("it should begin with batch %d and begins with batch %d: batches are missing", next, s.header.first)
	}
	for whole := uint32(0); ; whole++ {
		rest := s.data[out.end:]
		if h, records, ok := decodeBatch(rest, seed); ok && h.sequence == out.next {
			out.records = append(out.records, records...)
			out.end += h.size()
			out.next++
			continue
		}
		if whole < s.header.whole {
			return damage("the batch that restarted the journal can't be read")
		}
		if allZero(rest) {
			return out, nil
		}
		if at := laterBatch(rest, seed, out.next); at >= 0 {
			return damage("batch %d can't be read, and a later one stands at offset %d", out.next, out.end+at)
		}
		if !last {
			return damage("batch %d can't be read, and a later segment exists", out.next)
		}
		return tornOrDamaged(s, out, seed)
	}
}

// tornOrDamaged decides what the unreadable batch at out.end is.
func tornOrDamaged(s segment, out scanned, seed uint32) (scanned, error) {
	to := min(out.end+batchHeader, s.header.size)
	h, ok := decodeHead(s.data[out.end:], seed)
	if ok {
		to = out.end + h.size()
	}
	if to > s.header.size || (ok && h.sequence != out.next) || !unwritten(s.data, out.end, to) {
		return scanned{}, &Damage{s.name, out.end, fmt.Sprintf("batch %d can't be read, though it was written to its end", out.next)}
	}
	out.torn = fmt.Sprintf("%s: batch %d at offset %d was not written to its end; it was cut off", s.name, out.next, out.end)
	return out, nil
}

// resume goes on writing where the last segment ends. What was read may be in
// the system's memory only, if the process before this one was killed between
// write and sync: it is synced before anybody acts on it.
func (j *Journal) resume(s segment, got scanned, r *Recovered) error {
	f, err := j.disk.Open(s.name, false)
	if err != nil {
		return err
	}
	j.file, j.header, j.seed, j.end = f, s.header, s.seed, got.end
	if got.torn != "" {
		r.Notes = append(r.Notes, got.torn)
		to := int64(len(s.data))
		for to > got.end && s.data[to-1] == 0 {
			to--
		}
		if _, err := f.WriteAt(make([]byte, to-got.end), got.end); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return j.disk.SyncDir()
}

// readAll reads a file whole; a missing one is fs.ErrNotExist.
func readAll(d Disk, name string) ([]byte, error) {
	f, err := d.Open(name, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > segmentBytesMax {
		return nil, fmt.Errorf("replica: %s has %d bytes; at most %d are read", name, size, segmentBytesMax)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, err
	}
	return b, nil
}

// readCount is how often the node has started; 0 if never.
func (j *Journal) readCount() (uint64, error) {
	b, err := readAll(j.disk, countFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	body, err := j.unframe(countFile, countMagic, b)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(body), 10, 64)
	if err != nil {
		return 0, &Damage{countFile, 0, "it holds no number"}
	}
	return n, nil
}
