package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"chaos/nodes/local"
)

func newCleanCommand() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "clean",
		Short: "Remove what a dead run left, and verify that it is gone",
		Long: `clean finds processes of runs whose harness is gone, kills them, and verifies it.
A live run is never touched. Namespaces and firewall rules end with their processes.`,
		Example: "  chaos clean --dry-run\n  chaos clean",
		Args:    noArgs,
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	c.RunE = func(c *cobra.Command, _ []string) error {
		find := func() ([]local.Leftover, error) { return local.Clean(c.Context()) }
		word := "removed"
		if dry {
			find, word = local.Leftovers, "would remove"
		}
		found, err := find()
		for _, l := range found {
			fmt.Fprintf(c.OutOrStdout(), "%s %v\n", word, l)
		}
		if err == nil && len(found) == 0 {
			fmt.Fprintln(c.OutOrStdout(), "nothing is left of any run")
		}
		return err
	}
	return c
}
