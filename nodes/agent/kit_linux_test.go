package agent_test

import (
	"context"
	"testing"

	"chaos/nodes"
	"chaos/nodes/agent"
	"chaos/nodes/nodestest"
)

func TestEffects(t *testing.T) {
	t.Parallel()
	nodestest.Effects(t, func(t *testing.T) (nodes.Cluster, nodes.Abilities) {
		l := newLab(t, 3)
		f := l.fleet(lease, func(o *agent.FleetOptions) { o.System = nodestest.Talker{} })
		var able map[nodes.EffectKind]error
		l.in(l.hosts[1], func() { able = agent.Probe(context.Background()) })
		t.Log(able)
		return f, nodes.Abilities{Network: "namespaces", Effects: able}
	})
}

// TestOverlaps: every two faults on one node end in either order.
func TestOverlaps(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	nodestest.Overlaps(t, l.fleet(lease, nil), nodes.Abilities{}, true)
}
