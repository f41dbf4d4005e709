package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

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

// doctorIndent is how far the rest of a long line stands in.
const doctorIndent = 4

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
	findings = append([]finding{{"machine", fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), nil}}, findings...)
	column := 0
	for _, f := range findings {
		column = max(column, len(f.name)+2)
	}
	out, missing := c.OutOrStdout(), 0
	for _, f := range findings {
		word := f.note
		if f.err != nil {
			word = "MISSING: " + f.err.Error()
			missing++
		}
		head := fmt.Sprintf("%-*s", column, f.name)
		if _, err := fmt.Fprintln(out, forPeople(out, head, word, doctorIndent)); err != nil {
			return err
		}
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
