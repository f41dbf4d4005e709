// Package history is the record of a run: what every client invoked and saw,
// and what was done to the cluster, in one order. It decides what a well-formed
// history is, and nothing else.
package history

import (
	"encoding/json"
	"fmt"
	"time"
)

// Nemesis is the process number of events that no client caused.
const Nemesis = -1

// A Type says what an event tells about its operation.
type Type uint8

// The types of events. Ok: it happened. Fail: it certainly did not, and never
// will. Info: perhaps, now or at any later time.
const (
	Invoke Type = iota
	Ok
	Fail
	Info
)

var typeNames = [...]string{Invoke: "invoke", Ok: "ok", Fail: "fail", Info: "info"}

// String is the name in files: invoke, ok, fail, info.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// MarshalText lets JSON hold a Type as its name.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Type) UnmarshalText(b []byte) error {
	for i, n := range typeNames {
		if n == string(b) {
			*t = Type(i)
			return nil
		}
	}
	return fmt.Errorf("history: %q is not an event type; they are invoke, ok, fail, info", b)
}

// The functions that clients call. Their values, as JSON:
//
//	read    invoke null             ok: null (absent), a number, or a list of numbers
//	write   invoke v                ok: v
//	cas     invoke [from,to]        ok: {"swapped":bool,"saw":v}; from and saw may be null (absent)
//	delete  invoke null             ok: null
//	add     invoke delta            ok: the new value
//	append  invoke element          ok: null, or the new length
const (
	Read   = "read"
	Write  = "write"
	CAS    = "cas"
	Delete = "delete"
	Add    = "add"
	Append = "append"
)

// An Event is one line: an invocation, its completion, or a nemesis action.
//
// The index is the only order that judging uses; times are for people and plots.
type Event struct {
	Index    int             `json:"index"`
	Time     time.Duration   `json:"time"` // since the run began, ns; monotonic, or virtual
	Process  int             `json:"process"`
	Type     Type            `json:"type"`
	F        string          `json:"f"`
	Key      string          `json:"key,omitempty"` // "workload/name", without the run's nonce
	Value    json.RawMessage `json:"value,omitempty"`
	Node     string          `json:"node,omitempty"`
	Mode     string          `json:"mode,omitempty"` // read mode: log, index; "" where there is one
	Session  uint64          `json:"session,omitempty"`
	Sequence uint64          `json:"sequence,omitempty"`
	Attempts int             `json:"attempts,omitempty"` // sends under the same session and sequence
	At       uint64          `json:"at,omitempty"`       // log index as the node claims it: proposes an order, proves nothing
	Error    string          `json:"error,omitempty"`
}

// An Operation is an invocation with its completion. Where no completion was
// recorded, Complete is an Info event whose Index is -1.
type Operation struct {
	Invoke   Event
	Complete Event
}

// Open tells whether the operation may still take effect after every recorded event.
func (o Operation) Open() bool { return o.Complete.Type == Info }

// A Header is the first line of a history file.
type Header struct {
	History  int    `json:"history"` // the format's version: Version
	System   string `json:"system,omitempty"`
	Provider string `json:"provider,omitempty"`
	Seed     uint64 `json:"seed,omitempty"`
	Nonce    string `json:"nonce,omitempty"`    // prefixes every key of this execution in the system under test
	Workload string `json:"workload,omitempty"` // the model of keys that name none
}

// Version is the history format that this program writes.
const Version = 1

// A History is a header and all events in order of index.
type History struct {
	Header Header
	Events []Event
	Torn   bool // the file ended within a line: its writer died, and what came after is lost
}
