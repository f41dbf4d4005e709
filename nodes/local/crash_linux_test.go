package local

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// patience bounds every wait of these tests; it is no measurement.
const patience = 20 * time.Second

// processesOf lists the processes that carry the mark of a run.
func processesOf(t *testing.T, run string) (out []int) {
	t.Helper()
	names, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(proc(pid, "environ"))
		if err == nil && slices.Contains(strings.Split(string(env), "\x00"), runMark+"="+run) && identity(pid) != "" {
			out = append(out, pid)
		}
	}
	return out
}

// namespacesOf names the namespaces of processes, other than our own.
func namespacesOf(pids []int) map[string]bool {
	own, _ := os.Readlink("/proc/self/ns/net")
	out := map[string]bool{}
	for _, pid := range pids {
		if ns, err := os.Readlink(proc(pid, "ns/net")); err == nil && ns != own {
			out[ns] = true
		}
	}
	return out
}

// alive counts which of the namespaces some process of the machine is in.
func alive(t *testing.T, namespaces map[string]bool) (out []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if ns, err := os.Readlink(l); err == nil && namespaces[ns] {
			out = append(out, ns)
		}
	}
	return out
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func eachNetwork(t *testing.T, do func(t *testing.T, network string)) {
	t.Run(Namespaces, func(t *testing.T) {
		needNamespaces(t)
		do(t, Namespaces)
	})
	t.Run(Relay, func(t *testing.T) { do(t, Relay) })
}

// A harness that is killed in the middle of faults leaves no process and no namespace.
func TestHarnessKilled(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, network string) {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "harness", dir, network)
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "launched\n" {
			t.Fatalf("the harness says %q, %v", line, err)
		}
		pids := processesOf(t, dir)
		namespaces := namespacesOf(pids)
		if want := 5; len(pids) < want { // agents, and nodes but the one that is down; a hub
			t.Fatalf("%d processes of the run, want at least %d", len(pids), want)
		}
		if want := 4; network == Namespaces && len(namespaces) != want { // hosts and the hub
			t.Fatalf("namespaces %v, want %d", namespaces, want)
		}
		for _, l := range leftovers(t) {
			if l.Run == dir {
				t.Errorf("%v is taken for left over while its harness lives", l)
			}
		}
		began := time.Now()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		until(t, "no process of the run is left", func() bool { return len(processesOf(t, dir)) == 0 })
		until(t, "no namespace of the run is left", func() bool { return len(alive(t, namespaces)) == 0 })
		t.Logf("%d processes gone after %s", len(pids), time.Since(began).Round(time.Millisecond))
	})
}

func leftovers(t *testing.T) []Leftover {
	t.Helper()
	l, err := Leftovers()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A cluster that is closed leaves no process and no namespace, and one whose
// launch fails half way does not either.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, network string) {
		for name, s := range map[string]nodes.System{"closed": nodestest.Talker{}, "failed": unstartable{}} {
			dir := t.TempDir()
			c, err := New("").Launch(t.Context(), s, nodestest.ProviderOptions(dir, network))
			if name == "failed" {
				if err == nil {
					t.Error("a program that is not there was started")
				}
			} else if err != nil {
				t.Fatal(err)
			}
			namespaces := namespacesOf(processesOf(t, dir))
			if c != nil {
				if err := c.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if left := processesOf(t, dir); len(left) > 0 {
				t.Errorf("%s: processes %v are left", name, left)
			}
			if left := alive(t, namespaces); len(left) > 0 {
				t.Errorf("%s: namespaces %v are left", name, left)
			}
		}
	})
}

type unstartable struct{ nodestest.Talker }

func (unstartable) Exec(nodes.Member, []nodes.Member, string, nodes.Options) nodes.Exec {
	return nodes.Exec{Path: "/there/is/no/such/program", Ready: nodes.ClientPort}
}

// Agents that are killed take their nodes along; all come back, brought to what
// is wanted, and the gap is told of what the agents held: relays hold their links
// up meanwhile.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, network string) {
		p, o := New(""), nodestest.ProviderOptions(t.TempDir(), network)
		c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := c.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		able := p.Probe(t.Context(), o)
		nodestest.Survive(t, c, able, func(t *testing.T) {
			before := processesOf(t, o.Dir)
			killed := agentsOf(t, before)
			for _, pid := range killed {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			nodestest.AgentLost(t, c)
			until(t, "as many processes as before", func() bool {
				now := processesOf(t, o.Dir)
				return len(now) == len(before) && !slices.ContainsFunc(killed, func(pid int) bool { return slices.Contains(now, pid) })
			})
		}, func(name string) bool { return network == Namespaces || name == "kill" || name == "pause" })
		nodestest.Overlaps(t, c, able, false)
	})
}

// agentsOf finds the agents of three nodes.
func agentsOf(t *testing.T, pids []int) (out []int) {
	t.Helper()
	for _, pid := range pids {
		b, err := os.ReadFile(proc(pid, "cmdline"))
		if err != nil {
			t.Fatal(err)
		}
		if words := strings.Split(string(b), "\x00"); len(words) > 1 && words[1] == "agent" {
			out = append(out, pid)
		}
	}
	if len(out) != 3 {
		t.Fatalf("agents %v among %v", out, pids)
	}
	return out
}

// What carries the marks of a run whose harness is gone is found and killed.
func TestClean(t *testing.T) {
	dir := t.TempDir()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatalf("no program to run: %v", err)
	}
	start := func(harness string) *exec.Cmd {
		cmd := exec.Command("sleep", "600")
		cmd.Env = []string{runMark + "=" + dir, harnessMark + "=" + harness}
		if err := cmd.Start(); err != nil {
			t.Fatalf("no program to run: %v", err)
		}
		return cmd
	}
	orphan := start(strconv.Itoa(gone.Process.Pid) + "@1")
	owned := start(identity(os.Getpid()))
	defer func() {
		owned.Process.Kill()
		owned.Wait()
	}()
	found, err := Leftovers()
	if err != nil || !slices.ContainsFunc(found, func(l Leftover) bool { return l.PID == orphan.Process.Pid && l.Run == dir }) {
		t.Fatalf("process %d is not among %v, %v", orphan.Process.Pid, found, err)
	}
	go orphan.Wait() // as a first process does
	cleaned, err := Clean(t.Context())
	if err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(cleaned, func(l Leftover) bool { return l.PID == orphan.Process.Pid }) || identity(orphan.Process.Pid) != "" {
		t.Errorf("process %d is not gone: %v", orphan.Process.Pid, cleaned)
	}
	if identity(owned.Process.Pid) == "" {
		t.Error("a process of a living harness was killed")
	}
}

// writeProgram writes a file that is to be run. No child may be forked meanwhile:
// it would hold the file open for writing, and then it could not be run.
func writeProgram(name string, b []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(name, b, 0o755)
}

// All of it works for a plain user, too, whose files stay the user's.
func TestPlainUser(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	if os.Geteuid() != 0 {
		if required("root") {
			t.Fatal("these tests do not run as root")
		}
		t.Skip("only root can become somebody else; as a plain user the other tests prove it")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "plain.test")
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.Chmod(filepath.Dir(dir), 0o755), writeProgram(program, b), os.Chown(dir, nobody, nobody))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.v", "-test.run", "TestPlainLaunch|TestHarnessKilled|TestAgentKilled|TestNamespaces/(dial|close)")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		if required("namespaces") {
			t.Fatalf("%s", out)
		}
		t.Skipf("%s", out)
	}
	for _, want := range []string{"--- PASS: TestHarnessKilled/namespaces", "--- PASS: TestNamespaces/close"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// The files of a run belong to who runs it.
func TestPlainLaunch(t *testing.T) {
	needNamespaces(t)
	dir := t.TempDir()
	c, err := New("").Launch(t.Context(), nodestest.Talker{}, nodestest.ProviderOptions(dir, Namespaces))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			t.Errorf("%s belongs to user %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
