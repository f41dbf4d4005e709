package docker

import (
	"testing"

	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// Every fault hurts as it says, and is healed.
func TestFaults(t *testing.T) {
	t.Parallel() // it mostly waits
	p := needEngine(t)
	nodestest.EachFaults(t, func(t *testing.T, faults []nemesis.Fault) {
		nodestest.Faults(t, func(t *testing.T) (nodes.Cluster, nodes.Abilities) {
			o := nodestest.FaultOptions(t.TempDir(), "")
			c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
			if err != nil {
				t.Fatal(err)
			}
			return c, p.Probe(t.Context(), o)
		}, faults)
	})
}
