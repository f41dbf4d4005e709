// Command chaos hurts replicated systems while clients use them, records what
// every client saw, and judges the record.
package main

import (
	"os"

	"github.com/spf13/cobra"
)

func main() {
	root := &cobra.Command{Use: "chaos", SilenceUsage: true}
	root.AddCommand(newNodeCommand(), newKVCommand(), newAgentCommand(), newHubCommand())
	if root.Execute() != nil {
		os.Exit(64)
	}
}
