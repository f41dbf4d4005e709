package main

import (
	"fmt"
	"os"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/nodes"
)

func newBenchCommand() *cobra.Command {
	b := campaign.Bench{Knobs: campaign.DefaultSpec().Knobs}
	var which []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure writes and reads a second of a cluster without faults",
		Long: `bench starts a cluster of real processes with real fdatasync and drives closed-loop
clients against it, spread over all nodes: writes, then linearizable reads.`,
		Example: "  chaos bench\n  chaos bench --system raft --clients 1,64 --window 5s",
		Args:    noArgs,
	}
	d := c.Flags()
	d.StringSliceVar(&which, "system", []string{"raft", "paxos", "paxos-classic"}, "what to measure")
	d.IntVar(&b.Nodes, "nodes", 5, "how many nodes")
	d.IntSliceVar(&b.Clients, "clients", []int{1, 16, 64, 256}, "numbers of clients")
	d.DurationVar(&b.Window, "window", 3*time.Second, "how long each measurement lasts")
	d.StringVar(&b.Network, "network", "", "namespaces or relay")
	d.BoolVar(&asJSON, "json", false, "print one JSON document")
	c.RunE = func(c *cobra.Command, _ []string) error {
		all, err := benchAll(c, b, which)
		if err != nil {
			return err
		}
		if asJSON {
			return encode(c.OutOrStdout(), all)
		}
		t := tablewriter.NewTable(c.OutOrStdout())
		t.Header("system", "clients", "f", "per second", "recorded", "p50", "p99", "errors")
		for _, m := range all {
			t.Append(m.System, m.Clients, m.F, fmt.Sprintf("%.0f", m.Rate), fmt.Sprintf("%.0f", m.Recorded), m.P50.Round(time.Microsecond), m.P99.Round(time.Microsecond), m.Errors)
		}
		return t.Render()
	}
	return c
}

func benchAll(c *cobra.Command, b campaign.Bench, which []string) (all []campaign.Measured, err error) {
	screen := newScreen(c.ErrOrStderr(), false)
	b.Log = func(s string) { screen.line("%s", s) }
	if err := b.Check(); err != nil {
		return nil, usageError{err}
	}
	place := where{provider: "local"}
	if b.Provider, err = place.find(); err != nil {
		return nil, err
	}
	var chosen []nodes.System
	for _, name := range which {
		s, err := pick("system", name, systems())
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, s)
	}
	for _, b.System = range chosen {
		if b.Folder, err = os.MkdirTemp("", "chaos-bench-"); err != nil {
			return nil, err
		}
		lines, err := b.Run(c.Context())
		os.RemoveAll(b.Folder)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.System.Name(), err)
		}
		all = append(all, lines...)
	}
	return all, nil
}
