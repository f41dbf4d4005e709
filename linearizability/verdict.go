// Package linearizability judges histories. A verdict has three values, and the
// worst of several wins; what could not be decided is never a pass.
package linearizability

import (
	"context"

	"chaos/history"
)

// An Outcome is a verdict's value. Higher is worse.
type Outcome uint8

// The outcomes.
const (
	Valid Outcome = iota
	Unknown
	Invalid
)

var outcomeNames = [...]string{"valid", "unknown", "invalid"}

// String is the word that people and files see.
func (o Outcome) String() string { return outcomeNames[o] }

// MarshalText lets JSON hold an Outcome as its word.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText wrote; any other word is Unknown.
func (o *Outcome) UnmarshalText(b []byte) error {
	*o = Unknown
	for i, n := range outcomeNames {
		if n == string(b) {
			*o = Outcome(i)
		}
	}
	return nil
}

// A Verdict is what a checker found.
type Verdict struct {
	Checker  string    `json:"checker"`
	Outcome  Outcome   `json:"outcome"`
	Reason   string    `json:"reason"`             // one sentence; of a valid verdict: what was checked
	Key      string    `json:"key,omitempty"`      // where, if it is about one key
	Story    []string  `json:"story,omitempty"`    // the tale in plain words, a line each
	Evidence []int     `json:"evidence,omitempty"` // indices of the events that show it
	Parts    []Verdict `json:"parts,omitempty"`    // the verdicts that this one merges
}

// A Checker judges a history; it has no side effects.
type Checker interface {
	Name() string
	Check(ctx context.Context, h history.History) Verdict
}
