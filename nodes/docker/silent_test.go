package docker

import (
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"chaos/nodes"
)

// A farEngine is the engine as another machine would have it: behind a TCP
// address, by a wire that can fall silent without an end.
type farEngine struct {
	l      net.Listener
	socket string

	gate sync.RWMutex // held by who writes; hush holds it alone
	mu   sync.Mutex
	all  []net.Conn
	work sync.WaitGroup
}

func farAway(t *testing.T, e *engine) *farEngine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &farEngine{l: l, socket: strings.TrimPrefix(e.at.host, "unix://")}
	f.work.Go(f.accept)
	return f
}

func (f *farEngine) accept() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		u, err := net.Dial("unix", f.socket)
		if err != nil {
			c.Close()
			continue
		}
		f.mu.Lock()
		f.all = append(f.all, c, u)
		f.mu.Unlock()
		f.work.Go(func() { f.carry(u.(*net.UnixConn), c) })
		f.work.Go(func() { f.carry(c.(*net.TCPConn), u) })
	}
}

// carry copies one way, as long as the wire is not silent.
func (f *farEngine) carry(to interface {
	io.Writer
	CloseWrite() error
}, from io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		f.gate.RLock()
		if n > 0 {
			_, wrong := to.Write(b[:n])
			err = joined(err, wrong)
		}
		if err != nil {
			to.CloseWrite()
		}
		f.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

func joined(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// close ends a silent wire, too.
func (f *farEngine) close() {
	f.l.Close()
	f.mu.Lock()
	for _, c := range f.all {
		c.Close()
	}
	f.mu.Unlock()
	f.gate.Unlock()
	f.work.Wait()
}

// nodesIn counts the nodes that live in a container.
func nodesIn(t *testing.T, e *engine, id string) (n int) {
	t.Helper()
	for _, command := range processesIn(t, e, id) {
		if command == programPath {
			n++
		}
	}
	return n
}

// An engine is used over TCP as well as next door. Where the wire falls silent
// without an end, hosts heal and stop their nodes when their leases run out, and
// end, their containers with them, when nobody came for another one. Cleaning
// removes what is left.
func TestSilentStream(t *testing.T) {
	t.Parallel() // it mostly waits
	p := needEngine(t)
	e, dir := testEngine(t), t.TempDir()
	if !e.at.local() {
		unreachable(t, "the engine is far away already")
	}
	f := farAway(t, e)
	cmd := startHarness(t, p, dir, nodes.Cut, "DOCKER_HOST=tcp://"+f.l.Addr().String())
	var boxes []*box
	for _, node := range []string{"n1", "n2", "n3"} {
		boxes = append(boxes, boxOf(t, e, dir, node))
	}
	for _, b := range boxes {
		if n := nodesIn(t, e, b.id); n != 1 {
			t.Fatalf("%s has %d nodes before", b.name, n)
		}
	}
	f.gate.Lock()
	defer f.close()
	hushed := time.Now()
	for _, b := range boxes {
		until(t, b.name+" has stopped its node", func() bool {
			s, err := b.state(t.Context())
			return err == nil && (!s.Running || nodesIn(t, e, b.id) == 0)
		})
	}
	t.Logf("every node was stopped %s after the silence began, with a lease of %s", time.Since(hushed).Round(time.Millisecond), testLease)
	cmd.Process.Kill()
	cmd.Wait()
	for _, b := range boxes {
		until(t, b.name+" has ended", func() bool {
			s, err := b.state(t.Context())
			return err == nil && !s.Running
		})
	}
	t.Logf("every container has ended after %s", time.Since(hushed).Round(time.Millisecond))
	left := deadOf(t, dir)
	if !slices.Contains(kinds(left), kindContainer) {
		t.Fatalf("left: %v", left)
	}
	if _, err := Clean(t.Context(), Config{Project: left[0].project}, false); err != nil {
		t.Error(err)
	}
	if left := ofRun(t, e, dir); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}

// reachTries connections in a row must come about before a link counts as healed.
const reachTries = 5

// Where harness and agents are killed together, in the middle of a fault, the
// nodes die with their agents and the kernel alone heals the links, within the
// lease. It shows in containers of others, whose network goes on.
func TestEverythingDies(t *testing.T) {
	t.Parallel()
	p := needEngine(t)
	if e := testEngine(t); !e.at.local() || os.Geteuid() != 0 {
		unreachable(t, "processes in containers are out of reach from here")
	}
	const cut, weather = nodes.Cut + "+" + nodes.Frozen, nodes.Delayed + "+" + nodes.Lossy + "+" + nodes.Down
	for _, effects := range []nodes.EffectKind{cut, weather} {
		t.Run(string(effects), func(t *testing.T) {
			t.Parallel()
			project, ids := aProject(t, p, "NET_ADMIN")
			e, dir := testEngine(t), t.TempDir()
			cmd := startHarness(t, p, dir, effects, "CHAOS_TEST_PROJECT="+project)
			theirs := &box{e: e, id: ids[1], log: func(string) {}}
			first := boxAddress(t, e, ids[0])
			reached := func() bool { return inside(t, theirs, "reach", first) == "reached\n" }
			if effects == cut && reached() {
				t.Error("n1 is reached although its link is cut")
			}
			killAll(t, e, cmd.Process, ids)
			killed := time.Now()
			cmd.Wait()
			for _, id := range ids {
				until(t, "only they are left", func() bool { return len(processesIn(t, e, id)) == 1 })
			}
			if effects == cut {
				until(t, "n1 is reached again", reached)
			}
			t.Logf("healed %s after all had died, with a lease of %s", time.Since(killed).Round(time.Millisecond), testLease)
			for range reachTries {
				if !reached() {
					t.Error("n1 is not reached")
				}
			}
			if files := inside(t, theirs, "list", dataDir); files == "" {
				t.Error("the run has left no files to clean")
			}
			if rules := inside(t, theirs, "rules"); !slices.Contains(strings.Split(rules, "\n"), "ours") {
				t.Errorf("an agent that was killed has left no table to clean: %s", rules)
			}
			left, err := Clean(t.Context(), Config{Project: project}, false)
			if err != nil || !slices.Equal(kinds(left), []string{kindFiles, kindFiles, kindFiles, kindVolume}) {
				t.Errorf("cleaned: %v %v", left, err)
			}
			if files := inside(t, theirs, "list", dataDir); files != "" {
				t.Errorf("after cleaning there is %s", files)
			}
			if rules := inside(t, theirs, "rules"); slices.Contains(strings.Split(rules, "\n"), "ours") {
				t.Errorf("after cleaning there is a table of ours: %s", rules)
			}
			for _, id := range ids {
				if s, err := (&box{e: e, id: id}).state(t.Context()); err != nil || s.Status != container.StateRunning {
					t.Errorf("theirs: %+v %v", s, err)
				}
			}
		})
	}
}

// killAll kills agents and their harness, which can't bring one back meanwhile.
// Whom to kill is known before: agents that nobody kills soon end by themselves.
func killAll(t *testing.T, e *engine, harness *os.Process, ids []string) {
	t.Helper()
	var agents []int
	for _, id := range ids {
		for pid, command := range processesIn(t, e, id) {
			if strings.Contains(command, " agent ") {
				agents = append(agents, pid)
			}
		}
	}
	if err := harness.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, pid := range agents {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := harness.Kill(); err != nil {
		t.Fatal(err)
	}
}

// boxAddress is where a container of others answers.
func boxAddress(t *testing.T, e *engine, id string) string {
	t.Helper()
	_, m, err := e.take(t.Context(), 1, id)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(m.Host, waitPort)
}

// unreachable ends a test that needs the engine on this machine, and root.
func unreachable(t *testing.T, why string) {
	t.Helper()
	if required("docker") {
		t.Fatal(why)
	}
	t.Skip(why)
}
