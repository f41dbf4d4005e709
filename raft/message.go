package raft

import (
	"fmt"

	"chaos/nodes/consensus"
)

// A Kind says what a [Message] is. The numbers are sent: never renumber them.
type Kind uint8

// The kinds of messages.
const (
	Append       Kind = 1  // AppendEntries; without entries a heartbeat (paper 5.3)
	AppendAck    Kind = 2  // its answer
	Commit       Kind = 3  // the commit index alone; never answered
	PreVote      Kind = 4  // would you vote for me in Term? (thesis 9.6)
	PreVoteReply Kind = 5  //
	Vote         Kind = 6  // RequestVote (paper 5.2)
	VoteReply    Kind = 7  //
	Chunk        Kind = 8  // a part of a snapshot, InstallSnapshot (paper 7)
	ChunkAck     Kind = 9  // how much of it has arrived
	TimeoutNow   Kind = 10 // stand for election at once (thesis 3.10)
	Propose      Kind = 11 // a command forwarded to the leader: Entries[0].Command
	Read         Kind = 12 // a batch of reads asked of the leader (thesis 6.4)
	ReadAnswer   Kind = 13 //
)

var kindNames = [...]string{Append: "append", AppendAck: "append-ack", Commit: "commit", PreVote: "pre-vote",
	PreVoteReply: "pre-vote-reply", Vote: "vote", VoteReply: "vote-reply", Chunk: "chunk", ChunkAck: "chunk-ack",
	TimeoutNow: "timeout-now", Propose: "propose", Read: "read", ReadAnswer: "read-answer"}

// String is the kind's name: append, vote, ….
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// A Message is what one core tells another. Each kind uses some of the fields;
// the others are zero.
type Message struct {
	Kind    Kind
	Reject  bool                    // replies: no
	Force   bool                    // Vote: a transfer of leadership, so a heard leader does not count
	Term    uint64                  // the sender's term; PreVote and its grant: the term stood for
	Index   uint64                  // Append: of the entry before; AppendAck: the match, or the Index refused; votes: the last entry; Chunk: the snapshot's; ReadAnswer: the read index
	LogTerm uint64                  // the term at Index; AppendAck: of the conflicting entry, 0 if there is none
	Hint    uint64                  // AppendAck: where to try next, the first index of term LogTerm
	Commit  uint64                  // the leader's commit index
	Round   uint64                  // Append: the latest round of reads; its ack echoes it
	Key     uint64                  // Read: names the batch; ReadAnswer echoes it
	Entries []consensus.Entry       // Append, Propose; shared with the log, never written
	Offset  uint64                  // Chunk: bytes before Data; ChunkAck: Offset of the chunk answered
	Total   uint64                  // Chunk: bytes of the snapshot; ChunkAck: bytes that have arrived
	Voters  consensus.Configuration // Chunk: of the snapshot
	Data    []byte                  // Chunk: at most chunkBytes
}

// String writes the fields that the kind uses, on one line, for people and tests.
func (m Message) String() string { return m.Describe(plain) }

// Describe is String with commands in the words of somebody who can read them.
func (m Message) Describe(command func(data []byte) string) string {
	s := fmt.Sprintf("%s term=%d", m.Kind, m.Term)
	verdict := "yes"
	if m.Reject {
		verdict = "no"
	}
	switch m.Kind {
	case Append:
		s += fmt.Sprintf(" prev=%d@%d commit=%d", m.Index, m.LogTerm, m.Commit)
		for _, e := range m.Entries {
			s += " " + entryText(e, command)
		}
		if m.Round > 0 {
			s += fmt.Sprintf(" round=%d", m.Round)
		}
	case AppendAck:
		s += m.describeAck()
	case Commit:
		s += fmt.Sprintf(" commit=%d", m.Commit)
	case PreVote, Vote:
		s += fmt.Sprintf(" last=%d@%d", m.Index, m.LogTerm)
		if m.Force {
			s += " force"
		}
	case PreVoteReply, VoteReply:
		s += " " + verdict
	case Chunk:
		s += fmt.Sprintf(" snapshot=%d@%d bytes=%d+%d of %d", m.Index, m.LogTerm, m.Offset, len(m.Data), m.Total)
	case ChunkAck:
		s += fmt.Sprintf(" snapshot=%d@%d offset=%d have=%d", m.Index, m.LogTerm, m.Offset, m.Total)
	case Propose:
		for _, e := range m.Entries {
			s += " " + entryText(e, command)
		}
	case ReadAnswer:
		s += fmt.Sprintf(" %s index=%d commit=%d", verdict, m.Index, m.Commit)
	}
	return s
}

func (m Message) describeAck() (s string) {
	switch {
	case !m.Reject:
		s = fmt.Sprintf(" match=%d", m.Index)
	case m.Hint == 0:
		s = " stale term"
	default:
		s = fmt.Sprintf(" no match at %d, try %d", m.Index, m.Hint)
		if m.LogTerm > 0 {
			s += fmt.Sprintf(", the first of term %d", m.LogTerm)
		}
	}
	if m.Round > 0 {
		s += fmt.Sprintf(" round=%d", m.Round)
	}
	return s
}

// plain writes a command as it is if it is a text, else quoted.
func plain(data []byte) string {
	if fmt.Sprintf("%q", data) == `"`+string(data)+`"` {
		return fmt.Sprintf("%.40s", data)
	}
	return fmt.Sprintf("%.40q", data)
}

func describeEntry(e consensus.Entry) string { return entryText(e, plain) }

func entryText(e consensus.Entry, command func(data []byte) string) string {
	switch e.Kind {
	case consensus.Normal:
		return fmt.Sprintf("%d@%d:%s", e.Index, e.Term, command(e.Command.Data))
	case consensus.Noop:
		return fmt.Sprintf("%d@%d:-", e.Index, e.Term)
	}
	return fmt.Sprintf("%d@%d:kind(%d)", e.Index, e.Term, e.Kind)
}

// A RecordKind says what a [Record] is. The numbers are journaled: never renumber them.
type RecordKind uint8

// The kinds of records.
const (
	Hard  RecordKind = 1 // Term and Vote: currentTerm and votedFor of the paper's figure 2
	Entry RecordKind = 2 // Entry; every earlier record of its index or a higher one is void
	Base  RecordKind = 3 // the log starts behind Index, whose entry has Term; every earlier entry is void
)

// A Record is one piece of a core's durable state, as its journal holds it.
type Record struct {
	Kind  RecordKind
	Term  uint64          // Hard, Base
	Vote  consensus.ID    // Hard
	Index uint64          // Base
	Entry consensus.Entry // Entry
}

// The bounds of what a message may claim.
const (
	maxNumber     = 1 << 62 // terms and indices; more is malformed, and what we add to one can't overflow
	votersMax     = 1 << 10 // voters of a snapshot
	entriesMax    = 1 << 20 // entries of one append
	snapshotMax   = 1 << 30 // bytes of a snapshot that is received
	chunkBytes    = 64 << 10
	chunkBytesMin = 64
)

// wellFormed tells whether the numbers of a message from outside can be true
// at all; what follows may rely on it.
func (m *Message) wellFormed() bool {
	for _, n := range [...]uint64{m.Term, m.Index, m.LogTerm, m.Hint, m.Commit, m.Round, m.Offset, m.Total} {
		if n > maxNumber {
			return false
		}
	}
	if m.Term == 0 && m.Kind != PreVoteReply {
		return false
	}
	switch m.Kind {
	case Append:
		return m.entriesWellFormed()
	case Chunk:
		return m.chunkWellFormed()
	case Propose:
		return len(m.Entries) == 1 && m.Entries[0].Kind == consensus.Normal
	case PreVote, Vote:
		return m.LogTerm < m.Term && (m.Index == 0) == (m.LogTerm == 0)
	}
	return m.Kind > 0 && int(m.Kind) < len(kindNames)
}

// entriesWellFormed wants indices without a gap and terms that never fall.
func (m *Message) entriesWellFormed() bool {
	if len(m.Entries) > entriesMax || m.LogTerm > m.Term || (m.Index == 0) != (m.LogTerm == 0) {
		return false
	}
	term := max(m.LogTerm, 1)
	for i, e := range m.Entries {
		if e.Index != m.Index+uint64(i)+1 || e.Term < term || e.Term > m.Term || e.Kind > consensus.Noop {
			return false
		}
		term = e.Term
	}
	return true
}

func (m *Message) chunkWellFormed() bool {
	if m.Index == 0 || m.LogTerm == 0 || m.LogTerm > m.Term || len(m.Data) > chunkBytes ||
		m.Total > snapshotMax || m.Offset+uint64(len(m.Data)) > m.Total {
		return false
	}
	return votersWellFormed(m.Voters.Voters)
}

func votersWellFormed(voters []consensus.ID) bool {
	for i, id := range voters {
		if id == 0 || (i > 0 && id <= voters[i-1]) {
			return false
		}
	}
	return len(voters) > 0 && len(voters) <= votersMax
}
