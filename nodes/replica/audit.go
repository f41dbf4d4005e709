package replica

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"chaos/nodes/consensus"
)

const (
	// auditEvery is the distance between applied indices whose hash is audited.
	auditEvery = 64
	// auditBytesMax is how long the audit may grow. From three quarters of it
	// on, hashes are left out; at the end, everything is.
	auditBytesMax = 64 << 20
)

// An auditLine is one line of the node's own record, in the JSON form that the
// judge reads: at each start, at each change of term, vote or role, and with
// the hash at every auditEvery-th applied index.
type auditLine struct {
	System      string `json:"system"`
	Node        string `json:"node"`
	Incarnation uint64 `json:"incarnation"`
	Start       bool   `json:"start,omitempty"`
	Term        uint64 `json:"term"`
	Vote        string `json:"vote"`
	Role        string `json:"role"`
	Applied     uint64 `json:"applied"`
	Hash        string `json:"hash,omitempty"`
}

// An auditor compares what the core says of itself with what it said last, and
// keeps lines until they may be written.
type auditor struct {
	to      io.Writer
	written int64
	line    auditLine // the last one
	vote    consensus.ID
	now     bytes.Buffer // lines that tell of nothing that must be durable first
	later   bytes.Buffer // lines from the first that does; all keep their order
}

func (a *auditor) start(s consensus.Status, applied uint64) {
	l := a.line
	l.Start, l.Term, l.Vote, l.Role, l.Applied = true, s.Term, s.Vote.String(), s.Role, applied
	a.put(&a.now, l)
	l.Start = false
	a.line, a.vote = l, s.Vote
}

// compare adds a line if term, vote or role changed.
func (a *auditor) compare(s consensus.Status, applied uint64) {
	if s.Term == a.line.Term && s.Vote == a.vote && s.Role == a.line.Role {
		return
	}
	promised := s.Term != a.line.Term || s.Vote != a.vote
	a.line.Term, a.line.Vote, a.line.Role, a.line.Applied, a.vote = s.Term, s.Vote.String(), s.Role, applied, s.Vote
	if promised || a.later.Len() > 0 {
		a.put(&a.later, a.line)
	} else {
		a.put(&a.now, a.line)
	}
}

// hash adds the line of an applied index.
func (a *auditor) hash(index uint64, hash string) {
	if a.written > auditBytesMax/4*3 {
		return
	}
	l := a.line
	l.Applied, l.Hash = index, hash
	a.put(&a.later, l)
}

func (a *auditor) put(b *bytes.Buffer, l auditLine) {
	if a.to == nil || a.written > auditBytesMax {
		return
	}
	line, err := json.Marshal(l)
	if err != nil {
		panic(fmt.Sprintf("replica: an audit line of numbers and names can't be encoded: %v", err))
	}
	a.written += int64(len(line)) + 1
	b.Write(line)
	b.WriteByte('\n')
}

// flush writes lines: all of them once what they tell is durable, else those
// that needed nothing to be.
func (a *auditor) flush(all bool) error {
	if a.to == nil {
		return nil
	}
	for _, b := range []*bytes.Buffer{&a.now, &a.later} {
		if b.Len() == 0 || (b == &a.later && !all) {
			continue
		}
		if _, err := a.to.Write(b.Bytes()); err != nil {
			return fmt.Errorf("replica: writing the audit: %w", err)
		}
		b.Reset()
	}
	return nil
}
