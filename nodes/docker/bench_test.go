package docker

import (
	"context"
	"slices"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// BenchmarkCluster reports medians, in milliseconds, of what a run of five
// nodes costs: launching until all serve, one dial, a partition, a kill and a
// pause with evidence and their heals, closing.
func BenchmarkCluster(b *testing.B) {
	p := needEngine(b)
	took := map[string][]time.Duration{}
	for b.Loop() {
		lap(b, p, took)
	}
	for what, d := range took {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2])/1e6, "ms-"+what)
	}
}

// lapRounds is how often each fault is injected and healed in one cluster.
const lapRounds = 10

func lap(b *testing.B, p *Provider, took map[string][]time.Duration) {
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
	o := nodestest.FaultOptions(b.TempDir(), "")
	timed("ready", func() (err error) {
		if c, err = p.Launch(ctx, nodestest.Talker{}, o); err != nil {
			return err
		}
		for _, m := range c.Members() {
			serve(b, c, m)
		}
		return nil
	})
	members := c.Members()
	var halves []nodes.Effect
	for _, m := range members[:2] {
		for _, n := range members[2:] {
			halves = append(halves, nodes.Effect{Kind: nodes.Cut, From: m.ID, To: n.ID},
				nodes.Effect{Kind: nodes.Cut, From: n.ID, To: m.ID})
		}
	}
	for range lapRounds {
		timed("dial", func() error {
			conn, err := c.Dial(ctx, members[0], nodes.ClientPort)
			if err == nil {
				conn.Close()
			}
			return err
		})
		for what, effects := range map[string][]nodes.Effect{"partition": halves,
			"kill": {{Kind: nodes.Down, Node: 1}}, "pause": {{Kind: nodes.Frozen, Node: 1}}} {
			timed(what, func() error { return proven(c.Apply(ctx, what, effects)) })
			timed(what+"-heal", func() error { return proven(c.Revert(ctx, what)) })
			serve(b, c, members[0])
		}
	}
	timed("close", func() error { return c.Close(ctx) })
}

// serve waits until a node takes clients.
func serve(t testing.TB, c nodes.Cluster, m nodes.Member) {
	t.Helper()
	for end := time.Now().Add(launchWait); ; time.Sleep(time.Millisecond) {
		conn, err := c.Dial(context.Background(), m, nodes.ClientPort)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
