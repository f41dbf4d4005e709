//go:build !linux

package local

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
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

// orphans reads the output of ps: our hubs, agents and nodes that the first
// process of the system has taken over. It is what can be known without /proc.
func orphans(ps string) (out []Leftover) {
	for line := range strings.Lines(ps) {
		f := strings.Fields(line)
		if len(f) < 4 || f[1] != "1" {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		base := f[2][strings.LastIndexByte(f[2], '/')+1:]
		if err == nil && base == "chaos" && (f[3] == "hub" || f[3] == "agent" || f[3] == "node") {
			out = append(out, Leftover{PID: pid, Command: strings.Join(f[2:], " "), identity: strconv.Itoa(pid)})
		}
	}
	return out
}
