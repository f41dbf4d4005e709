package ssh

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"chaos/nodes/agent"
	"chaos/nodes/nodestest"
)

// TestMain makes this test binary everything that a run needs: what a host is
// asked to start, a node, a harness, and the host itself.
func TestMain(m *testing.M) {
	nodestest.TalkerMain()
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "agent":
		o := agent.ServeOptions{Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
		exit(agent.ServeDoor(context.Background(), agent.Standard(), o))
	case "host":
		exit(Host(context.Background(), os.Stdin, os.Stdout))
	}
	os.Setenv("SSH_AUTH_SOCK", "") // whoever runs the tests may have an agent with keys
	labMain(role)
	os.Exit(nodestest.Run(m))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// required tells whether the person who runs the tests insists on a need.
func required(need string) bool {
	return strings.Contains(os.Getenv("CHAOS_REQUIRE"), need)
}
