package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"chaos/nodes/consensus"
)

// A Codec is the compact binary form of messages and records. Numbers are
// uvarints, and a message has a mask that leaves out the zero ones.
type Codec struct{}

const (
	entryBytesMin = 6 // bytes of the shortest encoding of an entry
	flagReject    = 1
	flagForce     = 2
)

// ErrMalformed is wrapped by every error of a Codec.
var ErrMalformed = errors.New("raft: malformed bytes")

func (m *Message) numbers() [9]*uint64 {
	return [...]*uint64{&m.Term, &m.Index, &m.LogTerm, &m.Hint, &m.Commit, &m.Round, &m.Key, &m.Offset, &m.Total}
}

// AppendMessage returns b grown by m: kind, flags, mask, the numbers that are not
// zero, then entries, voters and data, each with its count.
func (Codec) AppendMessage(b []byte, m Message) []byte {
	var flags byte
	if m.Reject {
		flags |= flagReject
	}
	if m.Force {
		flags |= flagForce
	}
	b = append(b, byte(m.Kind), flags)
	var mask uint64
	for i, n := range m.numbers() {
		if *n != 0 {
			mask |= 1 << i
		}
	}
	b = binary.AppendUvarint(b, mask)
	for _, n := range m.numbers() {
		if *n != 0 {
			b = binary.AppendUvarint(b, *n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.Entries)))
	for _, e := range m.Entries {
		b = appendEntry(b, e)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Voters.Voters)))
	for _, v := range m.Voters.Voters {
		b = binary.AppendUvarint(b, uint64(v))
	}
	return appendBytes(b, m.Data)
}

// Message reads what AppendMessage wrote, all of it.
func (Codec) Message(b []byte) (Message, error) {
	r := decoder{b: slices.Clone(b)}
	var m Message
	m.Kind = Kind(r.byte())
	flags := r.byte()
	m.Reject, m.Force = flags&flagReject != 0, flags&flagForce != 0
	mask := r.uvarint()
	for i, n := range m.numbers() {
		if mask&(1<<i) != 0 {
			*n = r.uvarint()
		}
	}
	m.Entries = makeSlice[consensus.Entry](r.count(entryBytesMin))
	for i := range m.Entries {
		m.Entries[i] = r.entry()
	}
	m.Voters.Voters = makeSlice[consensus.ID](r.count(1))
	for i := range m.Voters.Voters {
		m.Voters.Voters[i] = r.id()
	}
	m.Data = r.bytes()
	if flags > flagReject|flagForce || mask >= 1<<len(m.numbers()) || m.Kind == 0 || int(m.Kind) >= len(kindNames) {
		r.fail("unknown kind, flag or field")
	}
	return m, r.end()
}

// AppendRecord returns b grown by r: kind, then the fields of that kind.
func (Codec) AppendRecord(b []byte, r Record) []byte {
	b = append(b, byte(r.Kind))
	switch r.Kind {
	case Hard:
		b = binary.AppendUvarint(b, r.Term)
		b = binary.AppendUvarint(b, uint64(r.Vote))
	case Base:
		b = binary.AppendUvarint(b, r.Index)
		b = binary.AppendUvarint(b, r.Term)
	case Entry:
		b = appendEntry(b, r.Entry)
	default:
		panic(fmt.Sprintf("raft: a record of unknown kind %d can't be encoded", r.Kind))
	}
	return b
}

// Record reads what AppendRecord wrote, all of it.
func (Codec) Record(b []byte) (Record, error) {
	r := decoder{b: slices.Clone(b)}
	rec := Record{Kind: RecordKind(r.byte())}
	switch rec.Kind {
	case Hard:
		rec.Term, rec.Vote = r.uvarint(), r.id()
	case Base:
		rec.Index, rec.Term = r.uvarint(), r.uvarint()
	case Entry:
		rec.Entry = r.entry()
	default:
		r.fail("unknown kind of record")
	}
	return rec, r.end()
}

func appendEntry(b []byte, e consensus.Entry) []byte {
	b = append(b, byte(e.Kind))
	b = binary.AppendUvarint(b, e.Index)
	b = binary.AppendUvarint(b, e.Term)
	b = binary.AppendUvarint(b, uint64(e.Command.Origin))
	b = binary.AppendUvarint(b, e.Command.Serial)
	return appendBytes(b, e.Command.Data)
}

func appendBytes(b, data []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

func makeSlice[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, n)
}

// A decoder takes bytes apart. Byte slices share b, which is a copy. After the
// first error everything reads as zero.
type decoder struct {
	b   []byte
	err error
}

func (r *decoder) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	r.b = nil
}

// end is the verdict on what was read.
func (r *decoder) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes behind the end")
	}
	return r.err
}

func (r *decoder) byte() byte {
	if len(r.b) == 0 {
		r.fail("it ends early")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *decoder) uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // most numbers are small
		return uint64(r.byte())
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("a number is cut off or too large")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *decoder) id() consensus.ID {
	v := r.uvarint()
	if v > 1<<16-1 {
		r.fail("a node's number is too large")
		return 0
	}
	return consensus.ID(v)
}

// count reads how many items of at least size bytes follow.
func (r *decoder) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.fail("it counts more than it holds")
		return 0
	}
	return int(n)
}

func (r *decoder) bytes() []byte {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *decoder) entry() consensus.Entry {
	return consensus.Entry{
		Kind: consensus.Kind(r.byte()), Index: r.uvarint(), Term: r.uvarint(),
		Command: consensus.Command{Origin: r.id(), Serial: r.uvarint(), Data: r.bytes()},
	}
}
