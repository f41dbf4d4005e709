package agent_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// init makes this a hollow process, if it is asked to: its first thread has ended
// and others have not. To who only looks at the process it is a zombie.
func init() { // here the first thread is surely the one that runs
	if os.Getenv(childRole) == "hollow" {
		go time.Sleep(time.Hour)
		unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
	}
}

// A family is a node with a child in its group, under an agent.
type family struct {
	t       *testing.T
	c       *agent.Controller
	reports chan agent.Report
	node    int
	child   int
}

func newFamily(t *testing.T, role string) *family {
	f := &family{t: t, reports: make(chan agent.Report, 10)}
	stream, _ := serve(t, agent.ServeOptions{})
	var err error
	h := hello()
	h.Lease = time.Hour // no beat mends what the test does
	f.c, err = agent.Connect(t.Context(), stream, h, func(r agent.Report) { f.reports <- r })
	must(t, err)
	file := filepath.Join(t.TempDir(), "child")
	e := sleeper()
	e.Env = append(e.Env, "CHILD="+file, "CHILD_ROLE="+role)
	must(t, f.c.Exec(t.Context(), e, t.TempDir()))
	_, err = f.c.Node(t.Context(), nodes.NodeState{}, true)
	must(t, err)
	s, err := f.c.Status(t.Context())
	must(t, err)
	f.node = s.Node
	f.until("it has a child", func() bool {
		b, _ := os.ReadFile(file)
		f.child, _ = strconv.Atoi(string(b))
		return f.child != 0
	})
	t.Cleanup(func() { syscall.Kill(f.child, syscall.SIGKILL) })
	return f
}

func (f *family) until(what string, ok func() bool) {
	f.t.Helper()
	for until := time.Now().Add(enoughTime); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			f.t.Fatalf("not within %s: %s", enoughTime, what)
		}
	}
}

// shows waits until every thread of a process is in that state, "" for gone.
func (f *family) shows(pid int, state string) {
	f.t.Helper()
	f.until(strconv.Itoa(pid)+" is "+state, func() bool {
		got := threadsOf(pid)
		return strings.Trim(got, state) == "" && (got == "") == (state == "")
	})
}

// threadsOf has a letter for every living thread of a process.
func threadsOf(pid int) (states string) {
	all, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*")
	for _, path := range all {
		if s := statOf(path + "/stat"); s != "" && s != "Z" && s != "X" {
			states += s
		}
	}
	return states
}

// brings asks for a state and says whether it is proven.
func (f *family) brings(s nodes.NodeState) bool {
	f.t.Helper()
	proofs, err := f.c.Node(f.t.Context(), s, false)
	must(f.t, err)
	return nodes.Evidence{Proofs: proofs}.Proven()
}

func (f *family) proves(s nodes.NodeState) bool {
	f.t.Helper()
	proofs, err := f.c.Prove(f.t.Context(), s)
	must(f.t, err)
	return nodes.Evidence{Proofs: proofs}.Proven()
}

var (
	asleep = nodes.NodeState{Frozen: true}
	awake  = nodes.NodeState{}
	down   = nodes.NodeState{Down: true}
)

// What is proven of a freeze is what the system shows, not what was asked for,
// and of every process of the group.
func TestFreezeIsOfAllThatRuns(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"node", "hollow"} {
		t.Run(role, func(t *testing.T) {
			f := newFamily(t, role)
			f.until("the family is frozen", func() bool { return f.brings(asleep) })
			if !f.proves(asleep) || f.proves(awake) {
				t.Fatal("the family is not proven to be frozen")
			}
			f.shows(f.child, "T")
			must(t, wake(f.child))
			f.until("the child is awake", func() bool { return threadsOf(f.child) != "" && !f.proves(asleep) })
			f.until("the family is awake", func() bool { return f.brings(awake) })
			if !f.proves(awake) || f.proves(asleep) {
				t.Fatal("the family is not proven to be awake")
			}
			must(t, stop(f.child))
			must(t, stop(f.node))
			f.shows(f.child, "T")
			f.shows(f.node, "T")
			if f.proves(awake) || !f.proves(asleep) {
				t.Error("somebody else has frozen the family, and it is proven to be awake")
			}
		})
	}
}

// A child that goes on without its node is seen, and ends with it.
func TestKillIsOfAllThatRuns(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"node", "hollow"} {
		t.Run(role, func(t *testing.T) {
			f := newFamily(t, role)
			must(t, syscall.Kill(f.node, syscall.SIGKILL))
			if r := await(t, "the node's exit", f.reports); r.Kind != "exit" {
				t.Errorf("told: %+v", r)
			}
			if threadsOf(f.child) == "" {
				t.Fatal("the child has not survived its parent")
			}
			if f.proves(down) {
				t.Error("the node is proven to be down while its child goes on")
			}
			if !f.brings(down) {
				t.Error("the child did not end with its group")
			}
			if left := threadsOf(f.child); left != "" {
				t.Errorf("the child goes on: %s", left)
			}
		})
	}
	f := newFamily(t, "node")
	if !f.brings(down) || !f.proves(down) || threadsOf(f.child) != "" || threadsOf(f.node) != "" {
		t.Errorf("node %s and child %s live on", threadsOf(f.node), threadsOf(f.child))
	}
}
