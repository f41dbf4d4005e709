package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/nodes"
	"chaos/results"
)

func newDoctorCommand() *cobra.Command {
	w, asked := where{}, venueFlags{nodes: campaign.DefaultSpec().Nodes}
	c := &cobra.Command{
		Use:     "doctor",
		Short:   "Say what this machine can do, and what is missing",
		Example: "  chaos doctor\n  chaos doctor --system etcd --network namespaces\n  chaos doctor --provider docker\n  chaos doctor --provider ssh --hosts hosts.yaml",
		Long: `doctor tries, on this machine or on the provider's hosts, what a run needs:
making hosts, hurting links, writing run folders; with --system also what that
system needs. Flags that a run would refuse, it refuses in the same words.
Without --nodes it looks at all hosts of the hosts file, however many there are.

Exit status: 0 all is there, 2 something is missing, 64 wrong usage.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return diagnose(c, w, asked) },
	}
	c.Flags().StringVar(&w.provider, "provider", "local", "where nodes would run: local, docker, ssh, sim")
	c.Flags().StringVar(&asked.system, "system", "", "what would be tested, as for chaos run")
	c.Flags().StringVar(&asked.network, "network", "", "local: namespaces or relay (default: namespaces where they work)")
	c.Flags().IntVar(&asked.nodes, "nodes", asked.nodes, "how many nodes there would be")
	w.register(c.Flags())
	return c
}

// doctorIndent is how far the rest of a long line stands in.
const doctorIndent = 4

// venueFlags say what would run; the system is "" where it does not matter.
type venueFlags struct {
	system, network string
	nodes           int
}

func diagnose(c *cobra.Command, w where, asked venueFlags) error {
	v, err := w.choose(c.Flags(), cmp.Or(asked.system, campaign.DefaultSpec().System), nodes.Options{Network: asked.network, Nodes: asked.nodes})
	if err != nil {
		return err
	}
	if asked.system != "" || c.Flags().Changed("nodes") { // else it looks at as many hosts as there are
		if err := v.enough(); err != nil {
			return err
		}
	}
	findings, err := w.diagnose(c.Context(), asked.network)
	if err == nil && c.Context().Err() != nil {
		err = errors.New("interrupted before everything was looked at")
	}
	if err != nil {
		return err
	}
	if asked.system != "" {
		if err = v.probe(c.Context()); err == nil {
			err = v.suits(c.Context())
		} else if v.abilities.Err != nil {
			err = errors.New("not looked for, because nothing can run there")
		}
		findings = append(findings, finding{"system " + asked.system, "ok", err})
	}
	findings = append(findings, finding{"run folders", "ok", roomFor(runsRoot)})
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
		return exitError(results.ExitHarness)
	}
	return nil
}

// writable tries to make a file in the folder, or in the nearest one above it
// that exists, and tells why it can't: asking leaves nothing behind.
func writable(folder string) error {
	for {
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) || folder == "." {
			break
		}
		folder = filepath.Dir(folder)
	}
	f, err := os.CreateTemp(folder, ".doctor-")
	if why := new(fs.PathError); errors.As(err, &why) {
		return why.Err // its path is no file that anybody knows
	}
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}
