package paxos

import (
	"fmt"

	"chaos/nodes/consensus"
)

// A Kind says what a [Message] is.
type Kind uint8

// The kinds of messages. They are sent: never renumber them. The fields that
// each one uses stand beside it; the others are zero.
const (
	Prepare    Kind = 1  // phase 1a: Ballot; Slot, the first slot it asks about
	Promise    Kind = 2  // phase 1b: Ballot; Slot as asked; Proposals accepted from there; End, where to ask on, or 0; Mark; Classic: Tag, 1 if the sender has commands
	Accept     Kind = 3  // phase 2a: Ballot, Slot, Commands; Mark, the proposer's; Classic: Index, the number of who goes next, or 0
	Accepted   Kind = 4  // phase 2b: Ballot, Slot; Classic: Tag as in Promise
	Refuse     Kind = 5  // to phase 1a, 2a or a heartbeat: Ballot, the higher one that was promised; Slot; Classic: Tag as in Promise
	Learn      Kind = 6  // phase 3 and heartbeat: Ballot, Mark; Slot, a slot chosen in Ballot, or 0; Tag, a read round to confirm, or 0; Classic: Tag as in Promise, Index as in Accept
	Confirmed  Kind = 7  // to Learn with a Tag: Ballot, Tag: nothing above Ballot is promised
	Probe      Kind = 8  // may I take over? Tag; Mark
	Grant      Kind = 9  // to Probe: Tag; Ballot, the promised one
	CatchUp    Kind = 10 // a learner asks for decided slots from Slot on
	Decisions  Kind = 11 // decided Proposals; Mark
	Fetch      Kind = 12 // a learner asks for the checkpoint that covers Slot, from byte Offset on
	Chunk      Kind = 13 // Data at byte Offset of the checkpoint's Total; Slot, Index and Voters of it
	Forward    Kind = 14 // Commands for the distinguished proposer
	ReadAsk    Kind = 15 // a read for the distinguished proposer: Tag
	ReadAnswer Kind = 16 // to ReadAsk: Tag, Index
	SlotAsk    Kind = 17 // classic quorum read: Tag
	SlotAnswer Kind = 18 // to SlotAsk: Tag; Slot, the highest accepted or decided; Mark
	TakeOver   Kind = 19 // the distinguished proposer asks its successor to run phase 1: Ballot
	kinds           = 20
)

var kindNames = [kinds]string{"", "prepare", "promise", "accept", "accepted", "refuse", "learn", "confirmed",
	"probe", "grant", "catch-up", "decisions", "fetch", "chunk", "forward", "read-ask", "read-answer",
	"slot-ask", "slot-answer", "take-over"}

// String is the name of k.
func (k Kind) String() string {
	if k == 0 || k >= kinds {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// A Proposal is a value for a slot under a ballot. The value is a batch of
// commands; the empty batch is the no-op.
type Proposal struct {
	Slot     uint64
	Ballot   Ballot
	Commands []consensus.Command
}

// A Message is what one node sends to another. See [Kind] for the fields that
// each kind uses.
type Message struct {
	Kind          Kind
	Ballot        Ballot
	Slot          uint64 // 1 is the first slot
	End           uint64 // a slot
	Mark          uint64 // every slot up to Mark is decided, the sender knows
	Tag           uint64 // ties an answer to its question
	Index         uint64 // counts commands, not slots
	Offset, Total uint64 // bytes
	Commands      []consensus.Command
	Proposals     []Proposal
	Voters        []consensus.ID
	Data          []byte
}

// numberMax bounds rounds, slots and indices in messages, so that arithmetic
// with them can't overflow. No real cluster comes near it.
const numberMax = 1 << 60

// wellFormed tells whether m could have been sent by a sound node from.
func (m *Message) wellFormed(from consensus.ID) bool {
	if m.Kind == 0 || m.Kind >= kinds || m.Ballot.Round > numberMax {
		return false
	}
	if max(m.Slot, m.End, m.Mark, m.Index, m.Offset, m.Total) > numberMax {
		return false
	}
	for i := range m.Proposals {
		p := &m.Proposals[i]
		if p.Slot == 0 || p.Slot > numberMax || p.Ballot.Round > numberMax {
			return false
		}
	}
	switch m.Kind {
	case Prepare, Accept:
		return m.Slot > 0 && m.Ballot.Node == from && m.Ballot.Round > 0
	case Learn, TakeOver:
		return m.Ballot.Node == from && m.Ballot.Round > 0
	case CatchUp, Fetch, Chunk:
		return m.Slot > 0
	}
	return true
}

// A RecordKind says what a [Record] is.
type RecordKind uint8

// The kinds of records. They are journaled: never renumber them.
const (
	RecordPromised RecordKind = 1 // Ballot is promised: nothing below it will be accepted
	RecordAccepted RecordKind = 2 // the acceptor accepted Commands for Slot in Ballot
	RecordLearned  RecordKind = 3 // Slot is decided, with Commands
	RecordMark     RecordKind = 4 // every slot up to Slot is decided, with what the journal holds for it
	RecordLife     RecordKind = 5 // Slot counts the incarnations of this node that asked for a read
	RecordRounds   RecordKind = 6 // this node may have used ballots of rounds up to Slot
	recordKinds               = 7
)

// A Record is one line of an acceptor's or learner's journal.
type Record struct {
	Kind     RecordKind
	Ballot   Ballot
	Slot     uint64
	Commands []consensus.Command
}

// sameValue tells whether two batches hold the same commands in the same order.
// A command is known by its Origin and Serial.
func sameValue(a, b []consensus.Command) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Origin != b[i].Origin || a[i].Serial != b[i].Serial {
			return false
		}
	}
	return true
}

// commandOverhead is what a command costs in a message beside its data, bytes.
const commandOverhead = 16

// size is about how many bytes commands take in a message.
func size(commands []consensus.Command) int {
	n := 0
	for i := range commands {
		n += commandOverhead + len(commands[i].Data)
	}
	return n
}
