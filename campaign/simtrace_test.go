package campaign

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"chaos/nodes/sim"
)

// A trace is text: every line of it can be printed, and the commands of raft,
// which its messages carry, are put into words.
func TestTraceIsText(t *testing.T) {
	commands := 0
	for _, name := range simNames {
		for seed := range uint64(8) {
			s := Simulated{Plan: swarm(t, name, seed+1, time.Second), System: simSystems[name], Trace: func(e sim.Traced) {
				line := e.String()
				if !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
					t.Errorf("%s, seed %d: %q", name, seed+1, line)
				}
				if strings.Contains(line, ":append(") || strings.Contains(line, ":put(") || strings.Contains(line, ":cas(") {
					commands++
				}
			}}
			if _, err := s.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				return
			}
		}
	}
	if commands < 100 {
		t.Errorf("only %d lines tell of commands", commands)
	}
}
