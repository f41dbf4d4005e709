// Package workload says what clients do, and which model the answers must obey.
// A generator decides the next operation; it has no clock, no goroutine and no
// randomness but the one it was given.
package workload

import (
	"math/rand/v2"
	"time"

	"chaos/history"
)

// An Op is what one worker is to do next. The interpreter adds process, index
// and time, and records it.
type Op struct {
	F       string
	Key     string        // "workload/name"
	Value   []byte        // JSON, as history's functions define it
	Node    int           // the member to ask: an index into the cluster's members
	Mode    string        // read mode
	Timeout time.Duration // of the first send; where there are retries, it lasts until the next of them
	Retries []Retry       // further sends under the same session and sequence, in order
	Final   bool          // a final read: tried again until answered, within the phase's bound
}

// A Retry is a deliberate further send of the same operation.
type Retry struct {
	After   time.Duration // without an answer since the send before; or, Always, since that send
	Node    int
	Timeout time.Duration
	Always  bool // even when the operation is answered: a double
}

// A Generator decides what clients do next; deterministic in seed and calls.
// One owner calls it under the history's lock.
type Generator interface {
	// Next gives the worker its next operation, or, when wait is above 0, only
	// the time after which to ask again. ok is false when nothing is left to do.
	Next(now time.Duration, worker, process int) (op Op, wait time.Duration, ok bool)
	// Observe shows every event that was recorded.
	Observe(e history.Event)
}

// Options shape the load. Zero values mean the defaults of soundness: small
// groups of clients on rotating hot keys, readers pinned to every node.
type Options struct {
	Workers   int            // sequential clients; default 24
	Nodes     int            // members to spread over; default 1
	Modes     []string       // read modes to draw from
	GroupSize int            // clients that share a key; default 4
	KeyOps    int            // operations on a key before it is rotated; default 400; below 0: only by age
	KeyLife   time.Duration  // how long a key stays hot; default 4 s
	Keys      int            // keys hot at once; 0: one for each group
	Election  time.Duration  // the system's election time-out; write time-outs outlast a pause and this
	Pause     time.Duration  // the longest pause in the schedule
	Mix       map[string]int // weight of each function; nil: half reads, and the workload's own writes
}

// A Keeper is a generator that remembers which keys it used.
type Keeper interface {
	// UsedKeys lists them in order of first use; there are at most KeysMax.
	UsedKeys() []string
}

// A Workload is a way to use a system, and the model that it must obey.
type Workload struct {
	Name  string
	About string
	New   func(o Options, r *rand.Rand) Generator
	Model Model
	// Functions is what clients call, reads first.
	Functions []string
}

// A Model is a sequential specification of one key. States are immutable.
// It follows the shape of porcupine's model without importing it.
type Model struct {
	Name string
	// Init is the state of a key that nobody has touched: absent.
	Init State
	// Parse reads an operation once; an error means that the history is ill-formed.
	Parse func(op history.Operation) (Call, error)
	// Step tells whether the call is legal in the state, and the state after it.
	Step func(s State, c Call) (bool, State)
}

// A Kind is what a Value is.
type Kind uint8

// The kinds of values.
const (
	Absent Kind = iota
	Number
	List
)

// A Value is what a key holds.
type Value struct {
	Kind   Kind
	Number int64
	List   []int64 // never changed in place
}

// A State is what a model remembers of a key between calls.
type State = Value

// A Call is an operation in a model's terms.
type Call struct {
	F        string
	Arg      Value // write: the value; cas: to; add: the delta; append: the element
	From     Value // cas: the value expected
	Out      Value // read: what it saw; add: the new value; cas: what it saw
	Swapped  bool  // cas
	Known    bool  // completed ok; else it may have happened, and Out says nothing
	Revealed bool  // Out is known
}
