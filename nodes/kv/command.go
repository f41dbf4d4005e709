// Package kv is what our own nodes replicate: a store of texts and lists under
// string keys, with client sessions so that a command that was sent twice is
// applied once. It decides what a command does, how commands, results and
// snapshots are written as bytes, what client and node say to each other, and
// how certain a client may be of an end. It does no I/O and has no clock.
package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The bounds of one command, in bytes.
const (
	KeyMax   = 1 << 10   // of a key; it has at least one byte
	ValueMax = 64 << 10  // of a text or of an element of a list
	ListMax  = 512 << 10 // of a whole list as a reply carries it
)

// An Op says what a command does. The numbers are in journals: never renumber them.
type Op uint8

// The operations. Put, CAS and Append carry a Value, CAS an Old one as well.
const (
	Get    Op = 0
	Put    Op = 1
	CAS    Op = 2
	Delete Op = 3
	Add    Op = 4
	Append Op = 5
)

var opNames = [...]string{Get: "get", Put: "put", CAS: "cas", Delete: "delete", Add: "add", Append: "append"}

// String is the operation's name.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// A Command is one operation of one client.
//
// Session and Sequence make it unique: a session's first command has Sequence 1,
// and no command has a Sequence that its session used before. Sending the same
// command again under the same numbers is safe.
type Command struct {
	Session   uint64 // drawn at random by the client, not 0
	Sequence  uint64 // from 1
	Op        Op
	Key       string
	Value     []byte // of Put, CAS and Append
	Old       []byte // of CAS: swap only where the key holds this text
	OldAbsent bool   // of CAS: swap only where the key holds nothing
	Delta     int64  // of Add
}

// commandFormat is the version that a command's encoding begins with.
const commandFormat = 1

var errCommand = errors.New("kv: not a command: cut short, too long or of another version")

// AppendCommand returns b grown by the encoding of c.
func AppendCommand(b []byte, c Command) []byte {
	b = append(b, commandFormat, byte(c.Op), flag(c.OldAbsent))
	b = binary.LittleEndian.AppendUint64(b, c.Session)
	b = binary.AppendUvarint(b, c.Sequence)
	b = appendBytes(b, c.Key)
	switch c.Op {
	case Put, Append:
		b = appendBytes(b, c.Value)
	case CAS:
		b = appendBytes(b, c.Value)
		if !c.OldAbsent {
			b = appendBytes(b, c.Old)
		}
	case Add:
		b = binary.AppendVarint(b, c.Delta)
	}
	return b
}

// DecodeCommand reads what [AppendCommand] wrote, all of b. Value and Old alias b.
// Anything else, and a command past the bounds, is an error.
func DecodeCommand(b []byte) (Command, error) {
	v, err := view(b)
	if err != nil {
		return Command{}, err
	}
	v.Key = string(v.key)
	return v.Command, nil
}

// Identify reads of an encoded command what makes it unique, and what it does.
func Identify(b []byte) (op Op, session, sequence uint64, err error) {
	v, err := view(b)
	return v.Op, v.Session, v.Sequence, err
}

// A viewed command has its key as bytes, so that looking it up costs no copy.
type viewed struct {
	Command
	key []byte
}

func view(b []byte) (v viewed, err error) {
	if len(b) < 3 || b[0] != commandFormat || b[1] > byte(Append) || b[2] > 1 {
		return v, errCommand
	}
	r := reader{rest: b[3:]}
	v.Op, v.OldAbsent = Op(b[1]), b[2] == 1
	v.Session, v.Sequence = r.fixed64(), r.uvarint()
	v.key = r.bytes(KeyMax)
	switch v.Op {
	case Put, Append:
		v.Value = r.bytes(ValueMax)
	case CAS:
		v.Value = r.bytes(ValueMax)
		if !v.OldAbsent {
			v.Old = r.bytes(ValueMax)
		}
	case Add:
		v.Delta = r.varint()
	}
	if !r.done() || len(v.key) == 0 || (v.OldAbsent && v.Op != CAS) {
		return viewed{}, errCommand
	}
	return v, nil
}

// Check tells why c can't be a command of any log: nil, or what is out of bounds.
func (c Command) Check() error {
	switch {
	case c.Op > Append:
		return fmt.Errorf("kv: %s is no operation", c.Op)
	case len(c.Key) == 0 || len(c.Key) > KeyMax:
		return fmt.Errorf("kv: a key has 1 to %d bytes, not %d", KeyMax, len(c.Key))
	case len(c.Value) > ValueMax || len(c.Old) > ValueMax:
		return fmt.Errorf("kv: a value has at most %d bytes, not %d", ValueMax, max(len(c.Value), len(c.Old)))
	case c.OldAbsent && c.Op != CAS:
		return fmt.Errorf("kv: %s expects no old value", c.Op)
	}
	return nil
}
