package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/nodes"
	"chaos/results"
)

func newBenchCommand() *cobra.Command {
	b := campaign.Bench{Knobs: campaign.DefaultSpec().Knobs}
	var which []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure writes and reads a second of a cluster without faults",
		Long: `bench starts a cluster of real processes with real fdatasync and drives
closed-loop clients against it, spread over all nodes: writes, then linearizable
reads. "recorded" is the rate with a history on disk, as in a run.

Exit status: 0 measured, 2 harness failure, 64 wrong usage.`,
		Example: "  chaos bench\n  chaos bench --system raft --clients 1,64 --window 5s",
		Args:    noArgs,
	}
	d := c.Flags()
	d.StringSliceVar(&which, "system", []string{"raft", "paxos", "paxos-classic"}, "what to measure")
	d.IntVar(&b.Nodes, "nodes", 5, "how many nodes")
	d.IntSliceVar(&b.Clients, "clients", []int{1, 16, 64, 256}, "numbers of clients")
	d.DurationVar(&b.Window, "window", 3*time.Second, "how long each measurement lasts")
	d.StringVar(&b.Network, "network", "", "namespaces or relay (default: namespaces where they work)")
	d.BoolVar(&asJSON, "json", false, "print one JSON document")
	c.RunE = func(c *cobra.Command, _ []string) error {
		all, err := benchAll(c, b, which)
		if err != nil {
			return err
		}
		if asJSON {
			return encode(c.OutOrStdout(), all)
		}
		return benchTable(c.OutOrStdout(), all)
	}
	return c
}

// benchTable writes a line for each measurement, at most 80 columns wide.
func benchTable(w io.Writer, all []campaign.Measured) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "system\tclients\tf\tok/s\trecorded\tp50\tp99\terrors")
	for _, m := range all {
		fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%.0f\t%s\t%s\t%d\n", m.System, m.Clients, m.F, m.Rate, m.Recorded, results.Short(m.P50), results.Short(m.P99), m.Errors)
	}
	return t.Flush()
}

func benchAll(c *cobra.Command, b campaign.Bench, which []string) (all []campaign.Measured, err error) {
	screen := newScreen(c.ErrOrStderr(), false)
	b.Log = func(s string) { screen.line("%s", s) }
	if err := b.Check(); err != nil {
		return nil, usageError{err}
	}
	chosen, err := benchVenues(c, b, which)
	if err != nil {
		return nil, err
	}
	for _, v := range chosen {
		b.System, b.Provider, b.Network = v.system, v.made, v.abilities.Network
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

// benchVenues finds every system that is to be measured, and refuses what can't be
// before any is.
func benchVenues(c *cobra.Command, b campaign.Bench, which []string) (out []venue, err error) {
	if len(which) == 0 {
		return nil, usageError{errors.New("--system names no system to measure")}
	}
	for _, name := range which {
		v, err := where{provider: "local"}.choose(c.Flags(), name, nodes.Options{Network: b.Network, Nodes: b.Nodes, Knobs: b.Knobs.Nodes()})
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	for i := range out {
		if err = out[i].probe(c.Context()); err == nil {
			err = out[i].suits(c.Context())
		}
		if err != nil {
			return nil, err
		}
	}
	out[0].note() // the place is the same for all
	return out, nil
}
