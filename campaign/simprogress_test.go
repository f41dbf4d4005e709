package campaign

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"chaos/history"
)

// Who watches a simulated run is told of each phase, and in the storm how much of
// it is over. That changes nothing.
func TestSimulatedProgress(t *testing.T) {
	plan := swarm(t, "raft", 1, 2*time.Second)
	var phases []string
	watched := Simulated{Plan: plan, System: simSystems["raft"], Progress: func(p Progress) {
		if !p.Simulated || p.Phase == history.Storm && p.Elapsed+p.Left != 2*time.Second || p.Phase != history.Storm && p.Left != 0 {
			t.Errorf("shown %+v", p)
		}
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
	}}
	out, err := watched.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(phases, allPhases) {
		t.Errorf("shown are the phases %v, want %v", phases, allPhases)
	}
	if alone := simulated(t, simSystems["raft"], plan); !bytes.Equal(alone.Encode(), out.Encode()) {
		t.Error("whoever watches changes the history")
	}
}
