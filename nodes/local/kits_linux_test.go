package local_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/local"
	"chaos/nodes/nodestest"
)

// buildWait bounds the making of the real program.
const buildWait = 5 * time.Minute

// root is the top of the tree, seen from this package.
const root = "../.."

// program builds the command, which is the node of our own systems. It looks at
// every folder of the tree first: a test's result is kept only as long as
// nothing changes that it looked at, and it is the built command that is tested.
func program(t *testing.T) string {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "runs") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("go"); err != nil {
		if strings.Contains(os.Getenv("CHAOS_REQUIRE"), "namespaces") {
			t.Fatalf("the nodes can't be built: %v", err)
		}
		t.Skipf("the nodes can't be built: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), buildWait)
	defer cancel()
	path := filepath.Join(t.TempDir(), "chaos")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "chaos/cmd/chaos")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func needNamespaces(t *testing.T) {
	t.Helper()
	if a := local.New("").Probe(t.Context(), nodes.Options{}); a.Network != local.Namespaces {
		if strings.Contains(os.Getenv("CHAOS_REQUIRE"), "namespaces") {
			t.Fatal(a.Note)
		}
		t.Skip(a.Note)
	}
}

// Our own systems are what they say, over both networks.
func TestSystems(t *testing.T) {
	t.Parallel()
	path := program(t)
	for _, test := range []struct{ system, network string }{
		{"raft", local.Namespaces}, {"paxos", local.Namespaces}, {"paxos-classic", local.Namespaces}, {"raft", local.Relay},
	} {
		t.Run(test.system+"/"+test.network, func(t *testing.T) {
			if test.network == local.Namespaces {
				needNamespaces(t)
			}
			nodestest.System(t, func(t *testing.T) nodestest.Running {
				s := nodes.Ours(test.system, path)
				o := nodestest.ProviderOptions(t.TempDir(), test.network)
				c, err := local.New("").Launch(t.Context(), s, o)
				if err != nil {
					t.Fatal(err)
				}
				return nodestest.Running{System: s, Cluster: c, Options: o}
			})
		})
	}
}

// Every fault hurts as it says, and is healed, over both networks.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, network := range []string{local.Namespaces, local.Relay} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			if network == local.Namespaces {
				needNamespaces(t)
			}
			nodestest.EachFaults(t, func(t *testing.T, faults []nemesis.Fault) {
				nodestest.Faults(t, func(t *testing.T) (nodes.Cluster, nodes.Abilities) {
					o, p := nodestest.FaultOptions(t.TempDir(), network), local.New("")
					c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
					if err != nil {
						t.Fatal(err)
					}
					return c, p.Probe(t.Context(), o)
				}, faults)
			})
		})
	}
}
