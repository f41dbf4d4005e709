package main

import "github.com/spf13/cobra"

func newHubCommand() *cobra.Command { return &cobra.Command{Use: "hub"} }
