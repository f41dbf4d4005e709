package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"chaos/nodes"
)

const (
	killWait = 5 * time.Second // until a killed group must be gone
	stopWait = 2 * time.Second // until a stopped or continued group must show it
	pumpWait = time.Second     // for the last output of a process that ended
	maxExits = 64              // incidents that wait to be reported
	firstGap = 50 * time.Microsecond
	lastGap  = 2 * time.Millisecond // the most between two looks at a process
)

// A node is the one process group that an agent is responsible for. All its
// methods belong to the agent's loop.
type node struct {
	id     nodes.ID
	log    func(string)
	spawn  *spawner
	dir    string
	exec   *nodes.Exec
	proc   *process // the last one started; nil before
	frozen bool     // wanted, to notice when it lapses
	starts int
	exits  chan nodes.Incident
}

// A process is one start of the node. Its group has the same number.
type process struct {
	cmd   *exec.Cmd
	pid   int
	out   *pump
	done  chan struct{} // closed when it was waited for
	end   string        // how; readable after done
	asked chan struct{} // closed before we kill it, so that its end is no incident
	gone  atomic.Bool   // its group was seen empty: the number may be anybody's by now
}

func newNode(id nodes.ID, log func(string)) *node {
	return &node{id: id, log: log, spawn: newSpawner(), exits: make(chan nodes.Incident, maxExits)}
}

func (n *node) prepare(e *nodes.Exec, dir string) error {
	if e == nil || e.Path == "" || dir == "" {
		return errors.New("agent: an exec request needs a program and a folder")
	}
	n.exec, n.dir = e, dir
	return nil
}

// bring makes the node what state asks for, and proves it. A node that does not
// run although it is not Down is started only where start says so: an exit that
// nobody asked for is not ours to paper over.
func (n *node) bring(state nodes.NodeState, start bool) ([]nodes.Proof, error) {
	var err error
	switch {
	case state.Down:
		n.frozen = false
		err = n.kill()
	case start && !n.runs():
		err = n.start()
	}
	if err == nil && !state.Down && n.runs() {
		err = n.freeze(state.Frozen)
	}
	return n.prove(state), err
}

func (n *node) runs() bool { return n.pid() != 0 }

// pid is the number of the running process, 0 if there is none.
func (n *node) pid() int {
	if n.proc == nil || n.proc.gone.Load() {
		return 0
	}
	select {
	case <-n.proc.done:
		return 0
	default:
		return n.proc.pid
	}
}

func (n *node) start() error {
	if n.exec == nil {
		return errors.New("agent: nobody said yet how to start the node")
	}
	if err := writeFiles(n.dir, n.exec.Files); err != nil {
		return err
	}
	out, err := openPump(filepath.Join(n.dir, "log.txt"))
	if err != nil {
		return fmt.Errorf("agent: opening the node's log: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		out.close()
		return fmt.Errorf("agent: making the node's output: %w", err)
	}
	cmd := exec.Command(n.exec.Path, n.exec.Args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = n.dir, environment(n.dir, n.exec.Env), childAttributes()
	cmd.Stdout, cmd.Stderr = w, w
	err = n.spawn.start(cmd)
	w.Close()
	if err != nil {
		r.Close()
		out.close()
		return fmt.Errorf("agent: starting %s: %w", n.id, err)
	}
	n.starts++
	n.proc = &process{cmd: cmd, pid: cmd.Process.Pid, out: out, done: make(chan struct{}), asked: make(chan struct{})}
	go n.wait(n.proc, r)
	return nil
}

// wait reaps one process, and reports its end if nobody asked for it.
func (n *node) wait(p *process, r *os.File) {
	pumped := make(chan struct{})
	go func() { p.out.run(r); close(pumped) }()
	err := p.cmd.Wait()
	p.end = "exit status 0"
	if err != nil {
		p.end = err.Error()
	}
	p.look()
	close(p.done)
	select {
	case <-pumped:
	case <-time.After(pumpWait): // a grandchild holds the pipe
	}
	r.Close()
	<-pumped
	lines, panicked := p.out.last()
	p.out.close()
	select {
	case <-p.asked:
	default:
		detail := fmt.Sprintf("process %d ended: %s\n%s", p.pid, p.end, strings.Join(lines, "\n"))
		select {
		case n.exits <- nodes.Incident{Node: n.id, Kind: "exit", Detail: detail, Panic: panicked}:
		default:
			n.log("too many exits to report: " + detail)
		}
	}
}

// look notes whether the system knows nothing of the group any more, not even a
// zombie. On a busy machine that shows long before who waits for a process is
// told: the kernel tidies up /proc first.
func (p *process) look() {
	if errors.Is(syscall.Kill(-p.pid, 0), syscall.ESRCH) {
		p.gone.Store(true)
	}
}

// how says how the process ended, as far as that is known.
func (p *process) how() string {
	select {
	case <-p.done:
		return p.end
	default:
		return "gone, its exit status is not known yet"
	}
}

// kill ends the whole group and waits until no process of it is left.
func (n *node) kill() error {
	if n.proc == nil || n.proc.gone.Load() {
		return nil
	}
	select {
	case <-n.proc.asked:
	default:
		close(n.proc.asked)
	}
	if err := signalGroup(n.proc.pid, syscall.SIGKILL); err != nil {
		return err
	}
	poll(killWait, func() bool {
		n.proc.look()
		return !n.runs() && len(group(n.proc.pid)) == 0
	})
	if left := group(n.proc.pid); n.runs() || len(left) > 0 {
		return fmt.Errorf("agent: group %d still lives %s after SIGKILL: %v", n.proc.pid, killWait, left)
	}
	n.proc.gone.Store(true)
	return nil
}

// freeze stops the group, or lets it go on, and waits until it shows.
func (n *node) freeze(stop bool) error {
	n.frozen = stop
	signal := syscall.SIGCONT
	if stop {
		signal = syscall.SIGSTOP
	}
	if err := signalGroup(n.proc.pid, signal); err != nil {
		return err
	}
	poll(stopWait, func() bool { return !n.runs() || allStopped(group(n.proc.pid)) == stop })
	return nil
}

// prove reads from the system whether the node is what state says.
func (n *node) prove(s nodes.NodeState) []nodes.Proof {
	if s.Down {
		return []nodes.Proof{n.proveDown()}
	}
	return []nodes.Proof{n.proveUp(), n.proveFrozen(s.Frozen)}
}

func (n *node) proveDown() nodes.Proof {
	p := nodes.Proof{What: n.id.String() + " down"}
	if n.proc == nil {
		p.Holds, p.How = true, "no process was started"
		return p
	}
	left := group(n.proc.pid)
	p.Holds = !n.runs() && len(left) == 0
	if !p.Holds {
		p.How = fmt.Sprintf("group %d still has %v", n.proc.pid, left)
		return p
	}
	p.How = fmt.Sprintf("process %d ended (%s), %s", n.proc.pid, n.proc.how(), groupGone(n.proc.pid))
	return p
}

func (n *node) proveUp() nodes.Proof {
	p := nodes.Proof{What: n.id.String() + " runs", How: "no process was started"}
	if n.proc == nil {
		return p
	}
	members := group(n.proc.pid)
	p.Holds = n.runs() && slices.ContainsFunc(members, func(m member) bool { return m.pid == n.proc.pid })
	p.How = fmt.Sprintf("start %d, %v", n.starts, members)
	if !n.runs() {
		p.How = fmt.Sprintf("process %d has ended: %s", n.proc.pid, n.proc.how())
	}
	return p
}

func (n *node) proveFrozen(want bool) nodes.Proof {
	p := nodes.Proof{What: n.id.String() + " not frozen", How: "no process runs"}
	if want {
		p.What = n.id.String() + " frozen"
	}
	if n.proc == nil || !n.runs() {
		return p
	}
	members := group(n.proc.pid)
	p.Holds = len(members) > 0 && allStopped(members) == want
	p.How = fmt.Sprint(members)
	return p
}

// lapsed tells in words if a frozen node runs: somebody else has woken it.
func (n *node) lapsed() string {
	if !n.frozen || !n.runs() {
		return ""
	}
	members := group(n.proc.pid)
	if allStopped(members) {
		return ""
	}
	what := fmt.Sprintf("%s was awake though it should be frozen: %v", n.id, members)
	if err := n.freeze(true); err != nil {
		what += "; " + err.Error()
	}
	return what
}

func (n *node) close() error {
	err := n.kill()
	n.spawn.close()
	return err
}

// A member is one process of a group, as the system shows it. State has one
// letter for each thread: "TTTT".
type member struct {
	pid   int
	state string
}

func (m member) String() string { return fmt.Sprintf("process %d: %s", m.pid, m.state) }

// unknownGroup stands for a group that can't be looked at: it proves neither that
// nothing is left of it nor that it is frozen.
func unknownGroup(pgid int) []member { return []member{{pgid, "?"}} }

func allStopped(members []member) bool {
	for _, m := range members {
		if strings.Trim(m.state, "T") != "" {
			return false
		}
	}
	return len(members) > 0
}

// poll looks until ok or until d has passed, ever more slowly.
func poll(d time.Duration, ok func() bool) bool {
	for gap, until := firstGap, time.Now().Add(d); ; gap = min(2*gap, lastGap) {
		if ok() {
			return true
		}
		if time.Now().After(until) {
			return false
		}
		time.Sleep(gap)
	}
}

// signalGroup signals a whole group; that it is gone already is no error.
func signalGroup(pid int, s syscall.Signal) error {
	err := syscall.Kill(-pid, s)
	if err != nil && !errors.Is(err, syscall.ESRCH) && !(errors.Is(err, syscall.EPERM) && len(group(pid)) == 0) {
		return fmt.Errorf("agent: sending %s to group %d: %w", s, pid, err)
	}
	return nil
}

// environment is small and the same everywhere, so that a run does not depend
// on who started it.
func environment(dir string, add []string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + dir, "LANG=C", "TZ=UTC",
	}, add...)
}

func writeFiles(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("agent: making the node's folder: %w", err)
	}
	for name, content := range files {
		path, err := localFile(dir, name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("agent: making a folder of the node: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("agent: writing a file of the node: %w", err)
		}
	}
	return nil
}
