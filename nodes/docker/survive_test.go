package docker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// testLease is short: what only a lease heals is healed soon.
const testLease = 2 * time.Second

// patience bounds every wait of these tests; it is no measurement.
const patience = time.Minute

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// testEngine is the engine, to look behind the provider's back.
func testEngine(t *testing.T) *engine {
	t.Helper()
	e, err := connect(context.Background()) // a test's own context has ended when it cleans up
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// ofRun lists what the engine has of a run.
func ofRun(t *testing.T, e *engine, run string) []Leftover {
	t.Helper()
	all, err := e.things(context.Background(), labelRun+"="+run)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// boxOf finds a node's container.
func boxOf(t *testing.T, e *engine, run, node string) *box {
	t.Helper()
	for _, l := range ofRun(t, e, run) {
		if l.kindIs(kindContainer) && strings.HasSuffix(l.Name, "-"+node) {
			return &box{e: e, id: l.id, name: l.Name, log: func(string) {}}
		}
	}
	t.Fatalf("the run %s has no container of %s", run, node)
	return nil
}

func kinds(things []Leftover) (out []string) {
	for _, l := range things {
		out = append(out, l.Kind)
	}
	slices.Sort(out)
	return out
}

// launch makes a small cluster whose nodes all serve.
func launch(t *testing.T, p *Provider) (c nodes.Cluster, dir string) {
	t.Helper()
	dir = t.TempDir()
	o := nodestest.ProviderOptions(dir, "")
	o.Lease = testLease
	c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if left := ofRun(t, testEngine(t), dir); len(left) > 0 {
			t.Errorf("left after Close: %v", left)
		}
	})
	for _, m := range c.Members() {
		serve(t, c, m)
	}
	return c, dir
}

func proven(t *testing.T, what string, ev nodes.Evidence, err error) {
	t.Helper()
	if err != nil || !ev.Proven() {
		t.Fatalf("%s: %v %v", what, err, ev.Failures())
	}
}

// inside runs these tests in another role in a container, and returns what it says.
func inside(t *testing.T, b *box, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := b.e.exec(ctx, b.id, append([]string{programPath}, args...), b.log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := io.ReadAll(s)
	if err != nil || s.last() != "" {
		t.Fatalf("%v: %v %s", args, err, s.last())
	}
	return string(out)
}

// A harness that is killed in the middle of a fault, its whole process group with
// it, leaves hosts that end by themselves, a frozen one too: the watchdog is in no
// group of its. What it made is found and removed, and while it lived it was not.
func TestHarnessKilled(t *testing.T) {
	t.Parallel()
	p := needEngine(t)
	if _, err := BuildImage(t.Context(), testImage, p.program, nil); err != nil {
		t.Fatal(err)
	}
	for _, effect := range []nodes.EffectKind{nodes.Down, nodes.Frozen, nodes.Cut, nodes.Delayed, nodes.Lossy, nodes.MachineFrozen} {
		t.Run(string(effect), func(t *testing.T) {
			t.Parallel()
			e, dir := testEngine(t), t.TempDir()
			cmd := startHarness(t, p, dir, effect)
			if effect == nodes.MachineFrozen {
				if s, err := boxOf(t, e, dir, "n1").state(t.Context()); err != nil || !s.Paused {
					t.Fatalf("%+v %v", s, err)
				}
			}
			if left := deadOf(t, dir); len(left) > 0 {
				t.Errorf("taken for left over while its harness lives: %v", left)
			}
			began := time.Now()
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			until(t, "every host has ended", func() bool {
				return !slices.ContainsFunc(ofRun(t, e, dir), func(l Leftover) bool {
					return l.state == container.StateRunning || l.state == container.StatePaused
				})
			})
			t.Logf("every host has ended after %s", time.Since(began).Round(time.Millisecond))
			want := []string{"container", "container", "container", "network", "volume", "volume", "volume"}
			left := deadOf(t, dir)
			if got := kinds(left); !slices.Equal(got, want) {
				t.Fatalf("left: %v, want %v", got, want)
			}
			if _, err := Clean(t.Context(), Config{Project: left[0].project}, false); err != nil {
				t.Error(err)
			}
			if left := ofRun(t, e, dir); len(left) > 0 {
				t.Errorf("still there: %v", left)
			}
		})
	}
}

// startHarness runs a harness, the first of a process group, that has applied effects, like cut+frozen.
func startHarness(t *testing.T, p *Provider, dir string, effects nodes.EffectKind, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "harness", dir, p.program, testImage, string(effects))
	cmd.Stderr, cmd.Env = os.Stderr, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() { // else it was looked that nothing is left
			e := testEngine(t)
			if err := e.removeAll(context.Background(), ofRun(t, e, dir)); err != nil {
				t.Error(err)
			}
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "launched\n" {
		t.Fatalf("the harness says %q, %v", line, err)
	}
	return cmd
}

// A harness whose watchdog is killed with it leaves a container frozen. Nothing
// but cleaning ends that.
func TestWatchdogKilledToo(t *testing.T) {
	t.Parallel()
	p := needEngine(t)
	e, dir := testEngine(t), t.TempDir()
	cmd := startHarness(t, p, dir, nodes.MachineFrozen)
	dogs := childrenOf(t, cmd.Process.Pid)
	if len(dogs) != 1 {
		if required("docker") {
			t.Fatalf("not one watchdog: %v", dogs)
		}
		t.Skipf("the watchdog can't be told from here: %v", dogs)
	}
	if err := errors.Join(syscall.Kill(dogs[0], syscall.SIGKILL), cmd.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	b := boxOf(t, e, dir, "n1")
	until(t, "the other hosts have ended", func() bool {
		return !slices.ContainsFunc(ofRun(t, e, dir), func(l Leftover) bool { return l.state == container.StateRunning })
	})
	if s, err := b.state(t.Context()); err != nil || !s.Paused {
		t.Errorf("not frozen any more: %+v %v", s, err)
	}
	left := deadOf(t, dir)
	if len(left) == 0 {
		t.Fatal("nothing is taken for left over")
	}
	if _, err := Clean(t.Context(), Config{Project: left[0].project}, false); err != nil {
		t.Error(err)
	}
	if left := ofRun(t, e, dir); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}

// childrenOf lists the processes that a process has started and that live.
func childrenOf(t *testing.T, parent int) (out []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) && fields[0] != "Z" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			out = append(out, pid)
		}
	}
	return out
}

// deadOf is what Clean would remove of a run.
func deadOf(t *testing.T, run string) []Leftover {
	t.Helper()
	left, err := Clean(t.Context(), Config{}, true)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(left, func(l Leftover) bool { return l.Run != run })
}

// A container that somebody kills under a partition, its agent with it, comes
// back into the partition, on its volume and address, and the gap is told.
func TestRestartedUnderPartition(t *testing.T) {
	t.Parallel()
	c, dir := launch(t, needEngine(t))
	e := testEngine(t)
	cut := []nodes.Effect{{Kind: nodes.Cut, From: 1, To: 2}, {Kind: nodes.Cut, From: 2, To: 1}}
	ev, err := c.Apply(t.Context(), "cut", cut)
	proven(t, "cut", ev, err)
	b := boxOf(t, e, dir, "n2")
	before, err := b.state(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.ContainerKill(t.Context(), b.id, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	// On a busy machine its silence may be noticed before its end is.
	for i := range c.Incidents() {
		if i.Node != 2 || i.Kind != "agent-lost" && i.Kind != "lapse" {
			t.Errorf("told: %+v", i)
		}
		if i.Kind == "agent-lost" {
			break
		}
	}
	until(t, "the link is cut again", func() bool {
		ev, err = c.Verify(t.Context(), "cut")
		return err == nil && !slices.ContainsFunc(ev.Proofs, func(p nodes.Proof) bool { return !p.Holds })
	})
	if len(ev.Gaps) == 0 {
		t.Error("the container was gone, and no gap is told")
	}
	after, err := b.state(t.Context())
	if err != nil || after.StartedAt == before.StartedAt {
		t.Errorf("it was not started again: %v %v", after, err)
	}
	ev, err = c.Revert(t.Context(), "cut")
	proven(t, "heal", ev, err)
	serve(t, c, c.Members()[1])
}

// A host has the rights that it needs and no other, and its network leads nowhere.
func TestRights(t *testing.T) {
	t.Parallel()
	_, dir := launch(t, needEngine(t))
	e := testEngine(t)
	const want = "CapBnd: 0000000000003000\nNoNewPrivs: 1\n" // NET_ADMIN and NET_RAW
	if got := inside(t, boxOf(t, e, dir, "n1"), "rights"); got != want {
		t.Errorf("a host has %q, want %q", got, want)
	}
	for _, l := range ofRun(t, e, dir) {
		if l.kindIs(kindNetwork) {
			if r, err := e.NetworkInspect(t.Context(), l.id, client.NetworkInspectOptions{}); err != nil || !r.Network.Internal {
				t.Errorf("%v is not internal: %v", l, err)
			}
		}
	}
}

// Faults of a machine, its node and its links overlap, and end in either order.
func TestOverlap(t *testing.T) {
	t.Parallel()
	c, _ := launch(t, needEngine(t))
	all := map[string][]nodes.Effect{
		"cut":    {{Kind: nodes.Cut, From: 1, To: 2}},
		"kill":   {{Kind: nodes.Down, Node: 2}},
		"down":   {{Kind: nodes.MachineDown, Node: 2}},
		"frozen": {{Kind: nodes.MachineFrozen, Node: 2}},
		"pause":  {{Kind: nodes.Frozen, Node: 2}},
		"slow":   {{Kind: nodes.Delayed, From: 1, To: 2, Delay: 20 * time.Millisecond}},
		"lossy":  {{Kind: nodes.Lossy, From: 1, To: 2, PerMille: 300}},
	}
	for _, order := range [][]string{
		{"cut", "down", "-cut", "-down"}, {"cut", "down", "-down", "-cut"},
		{"down", "cut", "-down", "-cut"}, {"frozen", "cut", "-frozen", "-cut"}, {"cut", "frozen", "-cut", "-frozen"},
		{"pause", "kill", "-pause", "-kill"}, {"kill", "pause", "-pause", "-kill"}, {"pause", "cut", "-pause", "-cut"},
		{"cut", "pause", "-cut", "-pause"}, {"slow", "lossy", "-slow", "-lossy"}, {"slow", "lossy", "-lossy", "-slow"},
		{"cut", "slow", "-cut", "-slow"}, {"slow", "kill", "-kill", "-slow"},
		{"kill", "down", "-down", "-kill"}, {"frozen", "down", "-frozen", "-down"}, {"down", "frozen", "-down", "-frozen"},
	} {
		for _, step := range order {
			name, revert := strings.CutPrefix(step, "-")
			var ev nodes.Evidence
			var err error
			if revert {
				ev, err = c.Revert(t.Context(), name)
			} else {
				ev, err = c.Apply(t.Context(), name, all[name])
			}
			proven(t, strings.Join(order, " ")+": "+step, ev, err)
		}
		for _, m := range c.Members() {
			serve(t, c, m)
		}
	}
}
