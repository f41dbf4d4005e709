package ssh_test

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
	"chaos/nodes/nodestest"
	"chaos/nodes/ssh"
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
		if strings.Contains(os.Getenv("CHAOS_REQUIRE"), "ssh") {
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

// A provider hosts clusters as a provider has to.
func TestProvider(t *testing.T) {
	nodestest.Provider(t, ssh.LabProvider(t, 3), "")
}

// long skips what takes minutes, unless somebody asks for it.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("CHAOS_LONG") == "" {
		t.Skip("it takes minutes; CHAOS_LONG=1 asks for it")
	}
}

// The command is the node that it says it is.
func TestCommandAsNode(t *testing.T) {
	long(t)
	p := ssh.LabProvider(t, 3)
	path := program(t)
	nodestest.System(t, func(t *testing.T) nodestest.Running {
		s := nodes.Ours("raft", path)
		o := nodestest.ProviderOptions(t.TempDir(), "")
		c, err := p.Launch(t.Context(), s, o)
		if err != nil {
			t.Fatal(err)
		}
		return nodestest.Running{System: s, Cluster: c, Options: o}
	})
}

// Every fault hurts as it says, and is healed.
func TestFaults(t *testing.T) {
	p := ssh.LabProvider(t, 5)
	nodestest.Faults(t, func(t *testing.T) (nodes.Cluster, nodes.Abilities) {
		o := nodestest.FaultOptions(t.TempDir(), "")
		c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
		if err != nil {
			t.Fatal(err)
		}
		return c, p.Probe(t.Context(), o)
	}, nemesis.All())
}

// The command does on hosts what it does locally: a whole run is valid, the hosts
// are found well before, and bare after clean.
func TestCommand(t *testing.T) {
	long(t)
	hosts, home := ssh.LabFiles(t, 5)
	path := program(t)
	chaos := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), buildWait)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, append(args, "--provider", "ssh", "--hosts", hosts)...)
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "HOME="+home, "SSH_AUTH_SOCK=", "NO_COLOR=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("chaos %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	t.Log(chaos("doctor"))
	for _, system := range nodes.OursNames() {
		t.Log(chaos("run", "--system", system, "--duration", "20s", "--seed", "4"))
	}
	t.Log(chaos("clean"))
	if left := chaos("clean"); !strings.Contains(left, "nothing is left") {
		t.Error(left)
	}
}
