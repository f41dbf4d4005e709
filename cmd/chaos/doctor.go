package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newDoctorCommand() *cobra.Command {
	w := where{}
	c := &cobra.Command{
		Use:     "doctor",
		Short:   "Say what this machine can do, and what is missing",
		Example: "  chaos doctor\n  chaos doctor --provider docker\n  chaos doctor --provider ssh --hosts hosts.yaml",
		Long: `doctor tries, on this machine or on the provider's hosts, what a run needs: making
hosts, hurting links, writing run folders. Exit status 2 if something is missing.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return diagnose(c, w) },
	}
	c.Flags().StringVar(&w.provider, "provider", "local", "where nodes would run: local, docker, ssh, sim")
	w.register(c.Flags())
	return c
}

func diagnose(c *cobra.Command, w where) error {
	if _, err := w.find(); err != nil {
		return err
	}
	if err := w.check(c.Flags()); err != nil {
		return err
	}
	findings, err := w.diagnose(c.Context())
	if err != nil {
		return err
	}
	findings = append(findings, finding{"run folders", "ok", writable(runsRoot)})
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "machine\t%s/%s, %d cores\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	missing := 0
	for _, f := range findings {
		word := f.note
		if f.err != nil {
			word = "MISSING: " + f.err.Error()
			missing++
		}
		fmt.Fprintf(t, "%s\t%s\n", f.name, word)
	}
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
