package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"chaos/nodes"
)

// Every process of a run carries its folder and its harness in the environment.
const (
	runMark     = "CHAOS_RUN"     // the run's folder
	harnessMark = "CHAOS_HARNESS" // process ID and start of the harness that owns it
)

const (
	cleanWait = 5 * time.Second // for killed processes to be gone
	cleanGap  = 10 * time.Millisecond
)

// marks are the environment of a run's processes.
func marks(run string) []string {
	return []string{runMark + "=" + run, harnessMark + "=" + identity(os.Getpid())}
}

// marked adds the marks to a node's environment, which is otherwise empty of ours.
func marked(run string) func(nodes.Exec) nodes.Exec {
	return func(e nodes.Exec) nodes.Exec {
		e.Env = append(append([]string(nil), e.Env...), marks(run)...)
		return e
	}
}

// A Leftover is a process of a run whose harness is gone.
type Leftover struct {
	PID     int
	Run     string // the run's folder; "" where it can't be read
	Command string

	identity string
}

// String names it for people.
func (l Leftover) String() string {
	return fmt.Sprintf("process %d of %s: %s", l.PID, l.Run, l.Command)
}

// Clean kills what [Leftovers] finds, and returns what it killed. It is an
// error if any of it still lives some seconds later. A namespace needs no
// cleaning: it ends with its last process.
func Clean(ctx context.Context) ([]Leftover, error) {
	found, err := Leftovers()
	for _, l := range found {
		if identity(l.PID) == l.identity { // else the number has a new owner
			if e := syscall.Kill(l.PID, syscall.SIGKILL); e != nil && e != syscall.ESRCH {
				err = errors.Join(err, fmt.Errorf("local: killing %v: %w", l, e))
			}
		}
	}
	until := time.Now().Add(cleanWait)
	for _, l := range found {
		for identity(l.PID) == l.identity {
			if ctx.Err() != nil || time.Now().After(until) {
				err = errors.Join(err, fmt.Errorf("local: still alive: %v", l))
				break
			}
			time.Sleep(cleanGap)
		}
	}
	return found, err
}
