package local

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
	"chaos/nodes/nodestest"
)

// TestMain makes this test binary a hub, an agent, a node or a harness, too.
func TestMain(m *testing.M) {
	nodestest.TalkerMain()
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "hub":
		exit(Hub())
	case "agent":
		o := agent.ServeOptions{Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
		exit(agent.Serve(context.Background(), agent.Standard(), o))
	case "harness":
		exit(harness(os.Args[2], os.Args[3]))
	}
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

// launchWait is for a node to accept clients; it is no measurement.
const launchWait = 20 * time.Second

// harness launches a cluster, hurts it in every way, says so, and waits for its end.
func harness(dir, network string) error {
	p, o := New(""), nodestest.ProviderOptions(dir, network)
	c, err := p.Launch(context.Background(), nodestest.Talker{}, o)
	if err != nil {
		return err
	}
	for _, m := range c.Members() { // so that it is seen to work
		conn, err := c.Dial(context.Background(), m, nodes.ClientPort)
		for end := time.Now().Add(launchWait); err != nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
			conn, err = c.Dial(context.Background(), m, nodes.ClientPort)
		}
		if err != nil {
			return err
		}
		conn.Close()
	}
	for name, effects := range nodestest.Hurts(p.Probe(context.Background(), o)) {
		if ev, err := c.Apply(context.Background(), name, effects); err != nil || !ev.Proven() {
			return fmt.Errorf("%s: %v, %w", name, ev.Failures(), err)
		}
	}
	fmt.Println("launched")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
