package agent

import (
	"errors"
	"os/exec"
	"runtime"
)

// A spawner forks from one goroutine that keeps its thread: on Linux the
// parent-death signal of a child follows the thread that forked it, so a thread
// that the runtime retires would take the node along.
type spawner struct {
	work chan spawnJob
	done chan struct{}
}

type spawnJob struct {
	cmd *exec.Cmd
	err chan error
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan spawnJob), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case j := <-s.work:
			j.err <- j.cmd.Start()
		case <-s.done:
			return
		}
	}
}

func (s *spawner) start(cmd *exec.Cmd) error {
	j := spawnJob{cmd, make(chan error, 1)}
	select {
	case s.work <- j:
		return <-j.err
	case <-s.done:
		return errors.New("agent: it has ended")
	}
}

// close may be called twice, by the one goroutine that owns the node.
func (s *spawner) close() {
	select {
	case <-s.done:
	default:
		close(s.done)
	}
}
