package ssh_test

import (
	"bytes"
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
	t.Parallel()
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
	t.Parallel()
	nodestest.EachFaults(t, func(t *testing.T, faults []nemesis.Fault) {
		p := ssh.LabProvider(t, 5)
		nodestest.Faults(t, func(t *testing.T) (nodes.Cluster, nodes.Abilities) {
			o := nodestest.FaultOptions(t.TempDir(), "")
			c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
			if err != nil {
				t.Fatal(err)
			}
			return c, p.Probe(t.Context(), o)
		}, faults)
	})
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

// What is wrong is said by the command once, with a remedy, and its status tells
// what was asked for wrongly from what is wrong with a host.
func TestCommandRefuses(t *testing.T) {
	long(t)
	path, dir := program(t), t.TempDir()
	for name, test := range map[string]struct {
		more string // of the hosts' settings
		user string // not root
		text string // instead of the hosts file
		code int
		want string
	}{
		"no rights":    {more: "sudo: true", user: "plain", code: 2, want: "NOPASSWD"},
		"no key":       {more: "key: /there/is/none", code: 2, want: "\nremedy for h1, h2, h3: name the right file"},
		"wrong port":   {more: "port: 23", code: 2, want: "remedy: check address"},
		"a mistake":    {text: "hosts:\n- name: h1\n  adress: h1\n", code: 64, want: `hosts.yaml:3: unknown field "adress"`},
		"no such host": {text: "hosts:\n- name: nowhere\n  address: nowhere.invalid\n- name: n2\n- name: n3\n", code: 2, want: "remedy: check address"},
	} {
		t.Run(name, func(t *testing.T) {
			hosts, home := ssh.LabFiles(t, 3, test.more)
			if test.text != "" {
				hosts = filepath.Join(t.TempDir(), "hosts.yaml")
				if err := os.WriteFile(hosts, []byte(test.text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if test.user != "" {
				b, err := os.ReadFile(hosts)
				if err == nil {
					err = os.WriteFile(hosts, bytes.Replace(b, []byte("user: root"), []byte("user: "+test.user), 1), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), path, "run", "--provider", "ssh", "--hosts", hosts, "--nodes", "3", "--duration", "5s")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+home, "SSH_AUTH_SOCK=", "NO_COLOR=1")
			out, _ := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != test.code {
				t.Errorf("exit status %d, want %d", got, test.code)
			}
			if n := strings.Count(string(out), test.want); n == 0 || n > 3 { // at most once for each host
				t.Errorf("%d times %q in\n%s", n, test.want, out)
			}
		})
	}
}
