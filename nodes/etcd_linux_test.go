package nodes_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"chaos/nodes"
	"chaos/nodes/agent"
	"chaos/nodes/local"
	"chaos/nodes/nodestest"
)

// TestMain makes this test binary the hub and the agents of a local cluster, too.
func TestMain(m *testing.M) {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "hub":
		leave(local.Hub())
	case "agent":
		o := agent.ServeOptions{Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
		leave(agent.Serve(context.Background(), agent.Standard(), o))
	}
	os.Exit(m.Run())
}

func leave(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// missing skips the test, or fails it where the person who runs it insists on the need.
func missing(t *testing.T, need, why string) {
	t.Helper()
	if strings.Contains(os.Getenv("CHAOS_REQUIRE"), need) {
		t.Fatal(why)
	}
	t.Skip(why)
}

// The real etcd is what histories take for granted. It does not count as lacking
// sessions: its client keeps them in etcd itself.
func TestEtcdSystem(t *testing.T) {
	program, err := exec.LookPath("etcd")
	if err != nil {
		missing(t, "etcd", fmt.Sprintf("there is no etcd: %v; remedy: apt-get install etcd-server", err))
	}
	if a := local.New("").Probe(t.Context(), nodes.Options{}); a.Network != local.Namespaces {
		missing(t, "namespaces", a.Note)
	}
	nodestest.System(t, func(t *testing.T) nodestest.Running {
		s := nodes.Etcd(program)
		o := nodestest.ProviderOptions(t.TempDir(), local.Namespaces)
		c, err := local.New("").Launch(t.Context(), s, o)
		if err != nil {
			t.Fatal(err)
		}
		return nodestest.Running{System: s, Cluster: c, Options: o}
	})
}
