package paxos

import (
	"encoding/binary"
	"errors"
	"fmt"

	"chaos/nodes/consensus"
)

// Codec turns messages and records into bytes and back. It implements
// consensus.Codec.
//
// A message is its kind, a mask of the fields that are not zero, and those
// fields in the order of the struct; a record is its kind and all its fields.
// Numbers are unsigned varints, byte strings and lists have their length
// before them. Nothing may follow.
type Codec struct{}

// The bits of a message's mask, one a field in the order of the struct.
const (
	hasBallot = 1 << iota
	hasSlot
	hasEnd
	hasMark
	hasTag
	hasIndex
	hasOffset
	hasTotal
	hasCommands
	hasProposals
	hasVoters
	hasData
	hasNothingElse
)

var errShort = errors.New("paxos: the encoding ends too early")

// AppendMessage appends m's encoding to b.
func (Codec) AppendMessage(b []byte, m Message) []byte {
	numbers := m.numbers()
	mask := uint64(0)
	for i, n := range numbers {
		if *n != 0 {
			mask |= hasSlot << i
		}
	}
	set := func(bit uint64, present bool) {
		if present {
			mask |= bit
		}
	}
	set(hasBallot, !m.Ballot.IsZero())
	set(hasCommands, len(m.Commands) > 0)
	set(hasProposals, len(m.Proposals) > 0)
	set(hasVoters, len(m.Voters) > 0)
	set(hasData, len(m.Data) > 0)
	b = binary.AppendUvarint(append(b, byte(m.Kind)), mask)
	if mask&hasBallot != 0 {
		b = appendBallot(b, m.Ballot)
	}
	for _, n := range numbers {
		if *n != 0 {
			b = binary.AppendUvarint(b, *n)
		}
	}
	return m.appendLists(b)
}

// numbers are the plain numbers of m in the order of the mask.
func (m *Message) numbers() [7]*uint64 {
	return [7]*uint64{&m.Slot, &m.End, &m.Mark, &m.Tag, &m.Index, &m.Offset, &m.Total}
}

// appendLists appends what has a length of its own.
func (m *Message) appendLists(b []byte) []byte {
	if len(m.Commands) > 0 {
		b = appendCommands(b, m.Commands)
	}
	if len(m.Proposals) > 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Proposals)))
		for i := range m.Proposals {
			p := &m.Proposals[i]
			b = appendCommands(appendBallot(binary.AppendUvarint(b, p.Slot), p.Ballot), p.Commands)
		}
	}
	if len(m.Voters) > 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Voters)))
		for _, id := range m.Voters {
			b = binary.AppendUvarint(b, uint64(id))
		}
	}
	if len(m.Data) > 0 {
		b = appendBytes(b, m.Data)
	}
	return b
}

// Message decodes what AppendMessage made.
func (Codec) Message(b []byte) (Message, error) {
	d := decoder{b: b}
	m := Message{Kind: Kind(d.byte())}
	mask := d.number()
	if d.err == nil && (m.Kind == 0 || m.Kind >= kinds || mask >= hasNothingElse) {
		return Message{}, fmt.Errorf("paxos: no message has kind %d and mask %#x", m.Kind, mask)
	}
	if mask&hasBallot != 0 {
		m.Ballot = d.ballot()
	}
	for i, n := range m.numbers() {
		if mask&(hasSlot<<i) != 0 {
			*n = d.number()
		}
	}
	if mask&hasCommands != 0 {
		m.Commands = d.commands()
	}
	if mask&hasProposals != 0 {
		m.Proposals = d.proposals()
	}
	if mask&hasVoters != 0 {
		m.Voters = make([]consensus.ID, 0, d.length(1))
		for range cap(m.Voters) {
			m.Voters = append(m.Voters, d.id())
		}
	}
	if mask&hasData != 0 {
		m.Data = d.bytes()
	}
	return m, d.end()
}

// AppendRecord appends r's encoding to b.
func (Codec) AppendRecord(b []byte, r Record) []byte {
	b = appendBallot(append(b, byte(r.Kind)), r.Ballot)
	return appendCommands(binary.AppendUvarint(b, r.Slot), r.Commands)
}

// Record decodes what AppendRecord made.
func (Codec) Record(b []byte) (Record, error) {
	d := decoder{b: b}
	r := Record{Kind: RecordKind(d.byte()), Ballot: d.ballot(), Slot: d.number(), Commands: d.commands()}
	if d.err == nil && (r.Kind == 0 || r.Kind >= recordKinds) {
		return Record{}, fmt.Errorf("paxos: no record has kind %d", r.Kind)
	}
	return r, d.end()
}

func appendBallot(b []byte, ballot Ballot) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, ballot.Round), uint64(ballot.Node))
}

func appendBytes(b, data []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

func appendCommands(b []byte, commands []consensus.Command) []byte {
	b = binary.AppendUvarint(b, uint64(len(commands)))
	for i := range commands {
		b = binary.AppendUvarint(b, uint64(commands[i].Origin))
		b = binary.AppendUvarint(b, commands[i].Serial)
		b = appendBytes(b, commands[i].Data)
	}
	return b
}

// The fewest bytes that a command and a proposal take; with them a length is
// checked against what is left before anything is allocated.
const (
	commandBytesMin  = 3
	proposalBytesMin = 4
)

// A decoder reads from the front of b. After the first error it reads zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

// end is the error so far, or one if bytes are left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		return fmt.Errorf("paxos: %d bytes follow the encoding", len(d.b))
	}
	return d.err
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail(errShort)
		return 0
	}
	first := d.b[0]
	d.b = d.b[1:]
	return first
}

func (d *decoder) number() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 { // most numbers are small
		return uint64(d.byte())
	}
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[size:]
	return n
}

// length reads how many elements follow, each of which takes at least bytes.
func (d *decoder) length(bytes int) int {
	n := d.number()
	if n > uint64(len(d.b)/bytes) {
		d.fail(errShort)
		return 0
	}
	return int(n)
}

func (d *decoder) id() consensus.ID {
	n := d.number()
	if n > 1<<16-1 {
		d.fail(fmt.Errorf("paxos: %d is not a node", n))
		return 0
	}
	return consensus.ID(n)
}

func (d *decoder) ballot() Ballot { return Ballot{Round: d.number(), Node: d.id()} }

func (d *decoder) bytes() []byte {
	n := d.length(1)
	if n == 0 {
		return nil
	}
	data := append([]byte(nil), d.b[:n]...)
	d.b = d.b[n:]
	return data
}

func (d *decoder) commands() []consensus.Command {
	n := d.length(commandBytesMin)
	if n == 0 {
		return nil
	}
	commands := make([]consensus.Command, n)
	for i := range commands {
		commands[i] = consensus.Command{Origin: d.id(), Serial: d.number(), Data: d.bytes()}
	}
	return commands
}

func (d *decoder) proposals() []Proposal {
	n := d.length(proposalBytesMin)
	if n == 0 {
		return nil
	}
	proposals := make([]Proposal, n)
	for i := range proposals {
		proposals[i] = Proposal{Slot: d.number(), Ballot: d.ballot(), Commands: d.commands()}
	}
	return proposals
}
