package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Kind is what a [Value] is.
type Kind uint8

// The kinds of values. The numbers are in snapshots: never renumber them.
const (
	Absent Kind = 0
	Text   Kind = 1
	List   Kind = 2
)

// A Value is what a key holds. Its bytes are never changed in place.
type Value struct {
	Kind Kind
	Text []byte   // of Text
	List [][]byte // of List
}

// A Status says what became of a command when it was applied.
type Status uint8

// The statuses. Only Done changed anything. The numbers are in snapshots and on
// the wire: never renumber them.
const (
	Done           Status = 0
	WrongType      Status = 1 // the key holds a value that the operation can't work on
	StaleSequence  Status = 2 // the session has gone on; this attempt did nothing, an earlier one may have
	UnknownSession Status = 3 // never opened, or evicted; this attempt did nothing, an earlier one may have
	BadCommand     Status = 4 // not a command
	TooLong        Status = 5 // the list would outgrow ListMax
)

var statusNames = [...]string{Done: "done", WrongType: "wrong type", StaleSequence: "stale sequence",
	UnknownSession: "unknown session", BadCommand: "bad command", TooLong: "too long"}

// String is the status in words.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// A Result is what a command gave.
type Result struct {
	Status  Status
	Value   Value  // Get: the value; CAS: what it saw; Add: the new number; Append: the new length, both as text
	Swapped bool   // CAS
	Index   uint64 // the log index that it was served at
}

var errResult = errors.New("kv: not a result: cut short or of an unknown kind")

// AppendResult returns b grown by the encoding of r.
func AppendResult(b []byte, r Result) []byte {
	b = append(b, byte(r.Status), flag(r.Swapped))
	b = binary.AppendUvarint(b, r.Index)
	return appendValue(b, r.Value)
}

// DecodeResult reads what [AppendResult] wrote, all of b. The value aliases b.
func DecodeResult(b []byte) (Result, error) {
	r := reader{rest: b}
	v := r.result()
	if !r.done() {
		return Result{}, errResult
	}
	return v, nil
}

func (r *reader) result() (v Result) {
	status, swapped := r.uint8(), r.uint8()
	if status > byte(TooLong) || swapped > 1 {
		r.fail()
	}
	v.Status, v.Swapped = Status(status), swapped == 1
	v.Index = r.uvarint()
	v.Value = r.value()
	return v
}

func appendValue(b []byte, v Value) []byte {
	b = append(b, byte(v.Kind))
	switch v.Kind {
	case Text:
		b = appendBytes(b, v.Text)
	case List:
		b = binary.AppendUvarint(b, uint64(len(v.List)))
		for _, e := range v.List {
			b = appendBytes(b, e)
		}
	}
	return b
}

// value reads a value. A list grows only with what is really there, so that a
// lying count allocates nothing.
func (r *reader) value() (v Value) {
	switch v.Kind = Kind(r.uint8()); v.Kind {
	case Absent:
	case Text:
		v.Text = r.bytes(ValueMax)
	case List:
		n := r.count(ListMax)
		if n > 0 {
			v.List = make([][]byte, 0, min(n, 64))
		}
		for ; n > 0 && !r.bad; n-- {
			v.List = append(v.List, r.bytes(ValueMax))
		}
	default:
		r.fail()
	}
	return v
}
