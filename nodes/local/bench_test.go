package local

import (
	"context"
	"slices"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// BenchmarkCluster reports medians, in milliseconds, of what a run of five
// nodes costs: launching, one dial, a partition and its heal with evidence, closing.
func BenchmarkCluster(b *testing.B) {
	for _, network := range []string{Namespaces, Relay} {
		b.Run(network, func(b *testing.B) {
			if a := New("").Probe(b.Context(), nodes.Options{Network: network}); a.Effects[nodes.Cut] != nil {
				b.Skip(a.Note)
			}
			took := map[string][]time.Duration{}
			for b.Loop() {
				lap(b, network, took)
			}
			for what, d := range took {
				slices.Sort(d)
				b.ReportMetric(float64(d[len(d)/2])/1e6, "ms-"+what)
			}
		})
	}
}

func lap(b *testing.B, network string, took map[string][]time.Duration) {
	var c nodes.Cluster
	timed := func(what string, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatalf("%s: %v", what, err)
		}
		took[what] = append(took[what], time.Since(began))
	}
	proven := func(ev nodes.Evidence, err error) error {
		if err == nil && !ev.Proven() {
			b.Fatal(ev.Failures())
		}
		return err
	}
	ctx := context.Background()
	o := nodestest.ProviderOptions(b.TempDir(), network)
	o.Nodes = 5
	timed("launch", func() (err error) {
		c, err = New("").Launch(ctx, nodestest.Talker{}, o)
		return err
	})
	members := c.Members()
	for up := false; !up; {
		conn, err := c.Dial(ctx, members[0], nodes.ClientPort)
		if up = err == nil; up {
			conn.Close()
		}
	}
	for range 20 {
		timed("dial", func() error {
			conn, err := c.Dial(ctx, members[0], nodes.ClientPort)
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	var halves []nodes.Effect
	for _, m := range members[:2] {
		for _, n := range members[2:] {
			halves = append(halves, nodes.Effect{Kind: nodes.Cut, From: m.ID, To: n.ID},
				nodes.Effect{Kind: nodes.Cut, From: n.ID, To: m.ID})
		}
	}
	timed("partition", func() error { return proven(c.Apply(ctx, "halves", halves)) })
	timed("heal", func() error { return proven(c.Revert(ctx, "halves")) })
	timed("close", func() error { return c.Close(ctx) })
}
