package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCleanCommand() *cobra.Command {
	var dry bool
	w := where{}
	c := &cobra.Command{
		Use:   "clean",
		Short: "Remove what a dead run left, and verify that it is gone",
		Long: `clean finds what runs left whose harness is gone, removes it, and verifies it:
processes on this machine, containers, volumes and networks of an engine, or agents,
firewall tables and folders on hosts. A live run is never touched.`,
		Example: "  chaos clean --dry-run\n  chaos clean\n  chaos clean --provider docker\n  chaos clean --provider ssh --hosts hosts.yaml",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := w.find(); err != nil {
				return err
			}
			if err := w.check(c.Flags()); err != nil {
				return err
			}
			word := "removed"
			if dry {
				word = "would remove"
			}
			found, err := w.clean(c.Context(), dry)
			for _, l := range found {
				fmt.Fprintf(c.OutOrStdout(), "%s %v\n", word, l)
			}
			if err == nil && len(found) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "nothing is left of any run")
			}
			return err
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	c.Flags().StringVar(&w.provider, "provider", "local", "whose leftovers: local, docker, ssh, sim")
	w.register(c.Flags())
	return c
}
