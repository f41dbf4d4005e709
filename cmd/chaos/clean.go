package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// cleanWord says what became of a leftover.
func cleanWord(l fmt.Stringer, left []fmt.Stringer, dry bool) string {
	switch {
	case dry:
		return "would remove"
	case slices.ContainsFunc(left, func(o fmt.Stringer) bool { return o.String() == l.String() }):
		return "could not remove"
	}
	return "removed"
}

func newCleanCommand() *cobra.Command {
	var dry bool
	w := where{}
	c := &cobra.Command{
		Use:   "clean",
		Short: "Remove what a dead run left, and verify that it is gone",
		Long: `clean finds what runs left whose harness is gone, removes it, and verifies it:
processes on this machine, containers, volumes and networks of an engine, or
agents, firewall tables and folders on hosts. A live run is never touched.`,
		Example: "  chaos clean --dry-run\n  chaos clean\n  chaos clean --provider docker\n  chaos clean --provider ssh --hosts hosts.yaml",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := w.find(); err != nil {
				return err
			}
			if err := w.check(c.Flags()); err != nil {
				return err
			}
			found, err := w.clean(c.Context(), dry)
			var left []fmt.Stringer
			if err != nil && !dry { // only what is really gone was removed
				left, _ = w.clean(c.Context(), true)
			}
			for _, l := range found {
				fmt.Fprintf(c.OutOrStdout(), "%s %v\n", cleanWord(l, left, dry), l)
			}
			if err == nil && len(found) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "nothing is left of dead runs")
			}
			return err
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	c.Flags().StringVar(&w.provider, "provider", "local", "whose leftovers: local, docker, ssh, sim")
	w.register(c.Flags())
	return c
}
