//go:build !linux

package ssh

import (
	"errors"
	"strconv"
	"syscall"
	"time"
)

// A process is one of a run. Only Linux hosts have some.
type process struct {
	run   string
	agent bool
	state byte
}

func (p process) String() string { return p.run }

var errNoHost = errors.New("ssh: only Linux can be a host; other systems can be the controller")

func ourProcesses() ([]process, error)         { return nil, errNoHost }
func endProcesses(string, time.Duration) error { return errNoHost }
func liveRuns() []string                       { return nil }
func otherAgents() []string                    { return nil }
func kernel() string                           { return "?" }
func isNotOurs(error) bool                     { return false }

// identity is a process's number while it lives.
func identity(pid int) string {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return ""
	}
	return strconv.Itoa(pid)
}
