package hunt

import (
	"context"
	"time"
)

// A Try is one search for a defect, or for nothing in the sound build, in one system.
type Try struct {
	Defect  string  `json:"defect"` // or Sound
	System  string  `json:"system"`
	Key     string  `json:"key"` // of the build
	Number  int     `json:"try"` // from 1
	Found   bool    `json:"found"`
	By      string  `json:"by,omitempty"`      // which invariant or checker saw it
	Detail  string  `json:"detail,omitempty"`  // what it said
	Seed    uint64  `json:"seed,omitempty"`    // that showed it
	Seeds   uint64  `json:"seeds"`             // looked at, that one included
	Seconds float64 `json:"seconds"`           // of CPU in simulation, else of the clock
	Accused string  `json:"accused,omitempty"` // what the sound build shows at that seed too: then nothing was found
}

// A Runner looks for a violation of one build.
type Runner interface {
	// In is where it looks: sim or local.
	In() string
	// Settings tell tries apart that can't be compared.
	Settings() string
	// Expects tells whether it can be expected to see the defect.
	Expects(d Defect) bool
	// Try looks once. The numbers of tries tell their seeds apart. An error is
	// a failure of the harness, or ctx's.
	Try(ctx context.Context, program, system string, number int) (Try, error)
	// Control runs a seed that showed something with the sound build. It returns
	// what that one shows, "" if it is silent as it must be.
	Control(ctx context.Context, program, system string, seed uint64) (string, error)
	// Again are the arguments of chaos that show a find again.
	Again(system string, seed uint64) []string
}

// seconds is a duration as figures show it.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
