package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"chaos/campaign/hunt"
)

// newHuntReplay makes chaos hunt replay, which shows a find again.
func newHuntReplay(f *huntFlags) *cobra.Command {
	var in, system string
	var seed uint64
	c := &cobra.Command{
		Use:   "replay NAME [-- FLAG...]",
		Short: "Build a defect and run one seed of it, to see what was found",
		Long: `replay builds a defect (or "sound") and runs one seed of it: in simulation with
"chaos sim", else with "chaos run --provider local". What stands behind -- is
handed on to it. The exit status is that of the run.`,
		Example: `  chaos hunt replay commit-by-count --system raft --seed 42
  chaos hunt replay commit-by-count --system raft --seed 42 -- --trace`,
		Args: func(c *cobra.Command, args []string) error {
			if at := c.ArgsLenAtDash(); at >= 0 {
				args = args[:at]
			}
			return oneDefect(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			return f.replay(c, in, system, seed, args[0], args[1:])
		},
	}
	c.Flags().StringVar(&in, "in", "sim", "where: sim or local (real processes)")
	c.Flags().StringVar(&system, "system", "", "raft, paxos or paxos-classic (default: the defect's first)")
	c.Flags().Uint64Var(&seed, "seed", 1, "the seed that showed it")
	c.Flags().StringVar(&f.builds, "builds", "", "folder in which builds are kept (default: the user's cache)")
	return c
}

func (f *huntFlags) replay(c *cobra.Command, in, system string, seed uint64, name string, more []string) error {
	runners := map[string]hunt.Runner{"sim": hunt.Sim{}, "local": hunt.Local{}}
	if runners[in] == nil {
		return usageError{fmt.Errorf("--in %q: %s", in, meant(in, []string{"sim", "local"}))}
	}
	source, defects, err := hunt.Load(f.source)
	if err != nil {
		return usageError{err}
	}
	d := hunt.Defect{Systems: hunt.Systems}
	if name != hunt.Sound {
		if d, err = findDefect("replay", defects, name); err != nil {
			return usageError{err}
		}
	}
	if system == "" {
		system = d.Systems[0]
	}
	if !slices.Contains(d.Systems, system) {
		return usageError{fmt.Errorf("--system %q: %s is in %s", system, name, strings.Join(d.Systems, ", "))}
	}
	builder, err := f.builder(source)
	if err != nil {
		return err
	}
	program, err := builder.Build(c.Context(), d)
	if err != nil {
		return err
	}
	status, err := hunt.Execute(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), program, append(runners[in].Again(system, seed), more...)...)
	if err == nil && status != 0 {
		err = exitError(status)
	}
	return err
}
