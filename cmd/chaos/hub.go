package main

import (
	"github.com/spf13/cobra"

	"chaos/nodes/local"
)

func newHubCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "hub",
		Short:  "be the first process of a local cluster: make its hosts and hand out connections",
		Hidden: true,
		Args:   cobra.NoArgs,
		Long: `A hub is started by the harness in namespaces of its own. It makes a network
namespace for every node, plugs them into a bridge that leads nowhere else,
starts an agent in each, and hands connected sockets to the harness. It ends
with the harness, and everything that it started ends with it.`,
		RunE: func(*cobra.Command, []string) error { return local.Hub() },
	}
}
