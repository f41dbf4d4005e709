package agent_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"chaos/nodes/agent"
	"chaos/nodes/nodestest"
)

// childRole is the variable that makes this test binary an agent or a node.
const childRole = "CHAOS_AGENT_TEST_ROLE"

func TestMain(m *testing.M) {
	nodestest.TalkerMain()
	switch os.Getenv(childRole) {
	case "agent", "door":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		serve := agent.Serve
		if os.Getenv(childRole) == "door" {
			serve = agent.ServeDoor
		}
		err := serve(ctx, agent.Standard(), agent.ServeOptions{Seed: 1})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "node":
		nodeMain()
		os.Exit(0)
	}
	os.Exit(nodestest.Run(m))
}

// required tells whether the person who runs the tests insists on a need.
func required(need string) bool {
	return strings.Contains(os.Getenv("CHAOS_REQUIRE"), need)
}
