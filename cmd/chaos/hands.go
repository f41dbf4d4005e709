package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"chaos/nodes/docker"
	"chaos/nodes/ssh"
)

// newHostCommand is what a controller starts on a remote host, beside the agent.
func newHostCommand() *cobra.Command {
	return &cobra.Command{
		Use: "host", Short: "answer a controller's question on a remote host", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return ssh.Host(c.Context(), os.Stdin, os.Stdout) },
	}
}

// newWatchdogCommand thaws containers when the harness that froze them has gone.
func newWatchdogCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watchdog", Short: "thaw what a harness froze, when it is gone", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGINT) // it must outlive the harness
			return docker.Watchdog(c.Context(), os.Stdin, os.Stdout)
		},
	}
}
