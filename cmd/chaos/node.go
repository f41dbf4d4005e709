package main

import "github.com/spf13/cobra"

func newNodeCommand() *cobra.Command { return &cobra.Command{Use: "node"} }
