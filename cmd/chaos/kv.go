package main

import "github.com/spf13/cobra"

func newKVCommand() *cobra.Command { return &cobra.Command{Use: "kv"} }
