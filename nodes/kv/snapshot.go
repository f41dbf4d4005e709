package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// snapshotFormat is the version that a snapshot begins with.
const snapshotFormat = 1

// snapshotCountMax bounds the keys that a snapshot may name.
const snapshotCountMax = 1 << 30

var errSnapshot = errors.New("kv: not a snapshot: cut short, damaged or of another version")

// Snapshot writes everything that the machine knows: applied index, hash chain,
// data and sessions. Equal machines write equal bytes. Its time is linear in
// its size, but for the sorting of the keys.
func (m *Machine) Snapshot() []byte {
	b := make([]byte, 0, m.snapshotSize())
	b = append(b, snapshotFormat)
	b = binary.LittleEndian.AppendUint64(b, m.applied)
	b = binary.LittleEndian.AppendUint64(b, m.hash)
	b = binary.AppendUvarint(b, uint64(len(m.data)))
	for _, key := range slices.Sorted(maps.Keys(m.data)) {
		b = appendBytes(b, key)
		b = appendValue(b, m.data[key].value)
	}
	b = binary.AppendUvarint(b, uint64(len(m.sessions.at)))
	for i := m.sessions.slots[0].next; i != 0; i = m.sessions.slots[i].next {
		s := &m.sessions.slots[i]
		b = binary.LittleEndian.AppendUint64(b, s.id)
		b = binary.AppendUvarint(b, s.sequence)
		b = append(b, flag(s.read))
		b = AppendResult(b, s.result)
	}
	return b
}

// snapshotSize is about how many bytes a snapshot takes; it spares copies.
func (m *Machine) snapshotSize() int {
	size := 64 + 32*len(m.sessions.at)
	for key, it := range m.data {
		size += len(key) + len(it.value.Text) + it.size + 16
	}
	return size
}

// Restore makes the machine the one that wrote the snapshot b. Where b is not a
// whole snapshot it is an error and the machine stays as it was. Nothing of b is
// kept, and memory grows only with what is really in b.
func (m *Machine) Restore(b []byte) error {
	if len(b) == 0 || b[0] != snapshotFormat {
		return errSnapshot
	}
	r := reader{rest: b[1:]}
	n := NewMachine()
	n.applied, n.hash = r.fixed64(), r.fixed64()
	if err := n.restoreData(&r); err != nil {
		return err
	}
	if err := n.restoreSessions(&r); err != nil {
		return err
	}
	if !r.done() {
		return errSnapshot
	}
	*m = *n
	return nil
}

func (m *Machine) restoreData(r *reader) error {
	last := ""
	for n := r.count(snapshotCountMax); n > 0; n-- {
		key := string(r.bytes(KeyMax))
		it := &item{value: r.value().clone()}
		if r.bad || it.value.Kind == Absent {
			return errSnapshot
		}
		if key <= last {
			return fmt.Errorf("%w: key %q stands after %q", errSnapshot, key, last)
		}
		for _, e := range it.value.List {
			it.size += encodedLen(len(e))
		}
		m.data[key], last = it, key
	}
	return nil
}

func (m *Machine) restoreSessions(r *reader) error {
	for n := r.count(SessionsMax); n > 0; n-- {
		id, sequence, read := r.fixed64(), r.uvarint(), r.uint8()
		result := r.result()
		if r.bad || read > 1 || sequence == 0 || id == 0 {
			return errSnapshot
		}
		if _, twice := m.sessions.at[id]; twice {
			return fmt.Errorf("%w: session %d stands twice", errSnapshot, id)
		}
		s := m.sessions.open(id)
		s.sequence, s.read = sequence, read == 1
		result.Value = result.Value.clone()
		s.result = result
	}
	return nil
}

// clone copies a value away from the bytes that it was read from.
func (v Value) clone() Value {
	if v.Kind == Text {
		v.Text = append([]byte{}, v.Text...)
	}
	for i, e := range v.List {
		v.List[i] = append([]byte{}, e...)
	}
	return v
}
