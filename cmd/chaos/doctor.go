package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/local"
)

func newDoctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		Short:   "Say what this machine can do, and what is missing",
		Example: "  chaos doctor",
		Long: `doctor tries, on this machine, what a run needs: making hosts, hurting links,
writing run folders. Exit status 2 if a default run can't be made here.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return diagnose(c) },
	}
}

func diagnose(c *cobra.Command) error {
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "machine\t%s/%s, %d cores\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	missing := 0
	report := func(name string, err error) {
		word := "ok"
		if err != nil {
			word = "MISSING: " + err.Error()
			missing++
		}
		fmt.Fprintf(t, "%s\t%s\n", name, word)
	}
	a := providers()[0].Probe(c.Context(), nodes.Options{})
	fmt.Fprintf(t, "network\t%s\n", a.Network)
	if a.Note != "" {
		fmt.Fprintf(t, "\t%s\n", a.Note)
	}
	for _, f := range nemesis.All() {
		report("fault "+f.Name(), nemesis.Unable(f, a))
	}
	report("run folders", writable(runsRoot))
	left, err := local.Leftovers()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d processes of dead runs are left; chaos clean removes them", len(left))
	}
	report("clean", err)
	if err := t.Flush(); err != nil {
		return err
	}
	if missing > 0 {
		return exitError(2)
	}
	return nil
}

// writable tries to make a file in the folder, or in the nearest one above it
// that exists: asking leaves nothing behind.
func writable(folder string) error {
	for {
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) || folder == "." {
			break
		}
		folder = filepath.Dir(folder)
	}
	f, err := os.CreateTemp(folder, ".doctor-")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}
