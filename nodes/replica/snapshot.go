package replica

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"chaos/nodes/consensus"
)

// A whole file is written once and never changed: magic 8 · version 2 · node 2 ·
// cluster name 1+n · body · CRC32C of all before it 4.
const (
	snapshotMagic = "chaossnp"
	countMagic    = "chaoscnt"
	votersMax     = 1024
)

func snapshotName(index uint64) string { return fmt.Sprintf("%s%016x", snapshotPrefix, index) }

// frame puts a body into the form of a whole file.
func (j *Journal) frame(magic string, body []byte) []byte {
	b := make([]byte, 0, len(magic)+5+len(j.options.Cluster)+len(body)+4)
	b = append(b, magic...)
	b = le.AppendUint16(b, formatVersion)
	b = le.AppendUint16(b, uint16(j.options.Node))
	b = append(b, byte(len(j.options.Cluster)))
	b = append(b, j.options.Cluster...)
	b = append(b, body...)
	return le.AppendUint32(b, checksum(b))
}

// unframe takes the body out again.
func (j *Journal) unframe(name, magic string, b []byte) ([]byte, error) {
	head := len(magic) + 5
	if len(b) < head+4 || string(b[:len(magic)]) != magic {
		return nil, &Damage{name, 0, "it is not what its name says, or it is cut short"}
	}
	if v := le.Uint16(b[len(magic):]); v != formatVersion {
		return nil, &Damage{name, int64(len(magic)), fmt.Sprintf("format version %d; this program reads version %d", v, formatVersion)}
	}
	end := len(b) - 4
	if checksum(b[:end]) != le.Uint32(b[end:]) {
		return nil, &Damage{name, int64(end), "the checksum is wrong"}
	}
	n := int(b[head-1])
	if head+n > end {
		return nil, &Damage{name, int64(head), "the cluster's name is cut short"}
	}
	node := consensus.ID(le.Uint16(b[len(magic)+2:]))
	if err := j.mine(name, string(b[head:head+n]), node); err != nil {
		return nil, err
	}
	return b[head+n : end], nil
}

// writeWhole makes a file durable under its name: a fresh file, sync, rename,
// directory sync. It touches nothing of j that changes.
func (j *Journal) writeWhole(name string, b []byte) error {
	fresh := freshPrefix + name
	f, err := j.disk.Open(fresh, true)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = j.disk.Rename(fresh, name)
	}
	if err != nil {
		return err
	}
	return j.disk.SyncDir()
}

// WriteSnapshot makes a snapshot durable in a file of its own. It may run beside
// the owner's other calls, but not beside another WriteSnapshot.
func (j *Journal) WriteSnapshot(s consensus.Snapshot) error {
	b := make([]byte, 0, 24+2*len(s.Voters.Voters)+len(s.Data))
	b = le.AppendUint64(b, s.Index)
	b = le.AppendUint64(b, s.Term)
	b = le.AppendUint32(b, uint32(len(s.Voters.Voters)))
	for _, v := range s.Voters.Voters {
		b = le.AppendUint16(b, uint16(v))
	}
	b = append(b, s.Data...)
	if len(b) > segmentBytesMax-headerSize {
		return fmt.Errorf("replica: the snapshot at %d has %d bytes; at most %d can be read back", s.Index, len(b), segmentBytesMax-headerSize)
	}
	return j.writeWhole(snapshotName(s.Index), j.frame(snapshotMagic, b))
}

func (j *Journal) readSnapshot(name string) (*consensus.Snapshot, error) {
	b, err := readAll(j.disk, name)
	if err != nil {
		return nil, err
	}
	body, err := j.unframe(name, snapshotMagic, b)
	if err != nil {
		return nil, err
	}
	if len(body) < 20 || snapshotName(le.Uint64(body)) != name {
		return nil, &Damage{name, 0, "its index is not the one in its name"}
	}
	s := &consensus.Snapshot{Index: le.Uint64(body), Term: le.Uint64(body[8:])}
	n := int(le.Uint32(body[16:]))
	if body = body[20:]; n > votersMax || 2*n > len(body) {
		return nil, &Damage{name, 0, fmt.Sprintf("it claims %d voters", n)}
	}
	for i := range n {
		s.Voters.Voters = append(s.Voters.Voters, consensus.ID(le.Uint16(body[2*i:])))
	}
	s.Data = slices.Clone(body[2*n:])
	return s, nil
}

// loadSnapshot finds the newest valid snapshot. One that the journal does not
// begin behind of may be missing or bad; the one that it does may not.
func (j *Journal) loadSnapshot(names []string, r *Recovered) (*consensus.Snapshot, error) {
	var newest *consensus.Snapshot
	var stale []string
	var bad error
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		if !strings.HasPrefix(name, snapshotPrefix) {
			continue
		}
		if newest != nil {
			stale = append(stale, name)
			continue
		}
		s, err := j.readSnapshot(name)
		var damage *Damage
		switch {
		case err == nil:
			newest = s
		case errors.As(err, &damage):
			bad = err
			r.Notes = append(r.Notes, err.Error())
			stale = append(stale, name)
		default:
			return nil, err
		}
	}
	if j.Mark() > 0 && (newest == nil || newest.Index < j.Mark()) {
		return nil, errors.Join(bad, &Damage{snapshotName(j.Mark()), missing, "the journal begins behind it, and there is none so new"})
	}
	// At once, since a new snapshot may get the name of one of them.
	for _, name := range stale {
		if err := j.disk.Remove(name); err != nil {
			return nil, err
		}
	}
	return newest, nil
}
