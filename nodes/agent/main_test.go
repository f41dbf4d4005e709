package agent_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"chaos/nodes/agent"
	"chaos/nodes/nodestest"
)

// childRole is the variable that makes this test binary an agent or a node.
const childRole = "CHAOS_AGENT_TEST_ROLE"

func TestMain(m *testing.M) {
	nodestest.TalkerMain()
	switch os.Getenv(childRole) {
	case "agent":
		err := agent.Serve(context.Background(), standard{os.Stdin, os.Stdout}, agent.ServeOptions{Seed: 1})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "node":
		nodeMain()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type standard struct {
	io.ReadCloser
	out io.WriteCloser
}

func (s standard) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s standard) Close() error                { s.ReadCloser.Close(); return s.out.Close() }

// required tells whether the person who runs the tests insists on a need.
func required(need string) bool {
	return strings.Contains(os.Getenv("CHAOS_REQUIRE"), need)
}
