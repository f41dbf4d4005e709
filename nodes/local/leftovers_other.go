//go:build !linux

package local

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// psWait is for ps to list processes.
const psWait = 5 * time.Second

// Leftovers finds the processes of runs whose harness is gone.
func Leftovers() ([]Leftover, error) {
	ps, err := listProcesses()
	if err != nil {
		return nil, err
	}
	return orphans(ps), nil
}

// identity is a process's number while it lives.
func identity(pid int) string {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return ""
	}
	return strconv.Itoa(pid)
}

// listProcesses runs ps.
func listProcesses() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), psWait)
	defer cancel()
	b, err := exec.CommandContext(ctx, "ps", "-axww", "-o", "pid=,ppid=,command=").Output()
	if err != nil {
		return "", fmt.Errorf("local: listing processes: %w", err)
	}
	return string(b), nil
}
