package agent

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"

	"chaos/nodes"
)

// An agent whose firewall does not obey any more takes its node along all the same.
func TestHealEndsTheNodeAnyway(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the kernel says no")
	conn, err := nftables.New(nftables.WithTestDial(func([]netlink.Message) ([]netlink.Message, error) { return nil, broken }))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{node: newNode(1, func(string) {}), wall: &wall{conn: conn, table: &nftables.Table{Name: TableOf("broken")}}}
	err = errors.Join(s.node.prepare(&nodes.Exec{Path: sleep, Args: []string{"60"}}, t.TempDir()), s.node.start())
	if err != nil {
		t.Fatal(err)
	}
	pid := s.node.pid()
	t.Cleanup(func() { s.node.close() })
	if err := s.heal(); !errors.Is(err, broken) {
		t.Errorf("healing with a broken firewall: %v", err)
	}
	if left := group(pid); len(left) > 0 {
		t.Errorf("the node lives on: %+v", left)
	}
}

// A process that the system knows nothing of any more is down, however long the
// kernel takes to tell who waits for it.
func TestKillWaitsForNoFormality(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sleep, "0")
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	n := newNode(1, func(string) {})
	defer n.spawn.close()
	n.proc = &process{pid: cmd.Process.Pid, done: make(chan struct{}), asked: make(chan struct{})}
	proofs, err := n.bring(nodes.NodeState{Down: true}, false)
	if err != nil || !proofs[0].Holds {
		t.Errorf("%+v, %v", proofs, err)
	}
}

// freshNamespace brings the test's thread into a network namespace of its own.
func freshNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	old, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		if strings.Contains(os.Getenv("CHAOS_REQUIRE"), "root") {
			t.Fatalf("a network namespace can't be made here: %v", err)
		}
		t.Skipf("a network namespace can't be made here (%v); it needs root", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(netns.Set(old), old.Close(), ns.Close()); err != nil {
			t.Error(err)
		}
	})
}

// An element that runs out after a beat has looked is a lapse as any other.
func TestLapseWithinABeatIsTold(t *testing.T) {
	freshNamespace(t)
	view := []nodes.Member{{ID: 1, Host: "10.0.0.1"}, {ID: 2, Host: "10.0.0.2"}}
	w, err := openWall(Hello{Run: "beat", Lease: time.Hour, Self: view[1], View: view, Probe: defaultProbes}, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	link := nodes.Link{From: 1, To: 2}
	if lapsed, err := w.set([]linkWant{{link, nodes.LinkState{Cut: true}}}); err != nil || len(lapsed) > 0 {
		t.Fatal(lapsed, err)
	}
	s := w.flows[0].sets[0]
	s.addrs = append(s.addrs, s.addrs[0]) // to renew it twice is to find it gone the second time
	for _, want := range [][]nodes.Link{{link}, nil} {
		if lapsed, err := w.renew(); err != nil || !slices.Equal(lapsed, want) {
			t.Errorf("lapsed: %v, want %v: %v", lapsed, want, err)
		}
	}
}
