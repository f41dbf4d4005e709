//go:build !linux

package agent

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// psWait bounds one run of ps.
const psWait = 2 * time.Second

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func groupGone(pid int) string { return fmt.Sprintf("ps lists no process of group %d", pid) }

// group asks ps for every living process of a group. There is one letter for
// the whole process, not for each thread; zombies are not alive.
func group(pgid int) (out []member) {
	ctx, cancel := context.WithTimeout(context.Background(), psWait)
	defer cancel()
	b, err := exec.CommandContext(ctx, "ps", "-axo", "pid=,pgid=,stat=").Output()
	if err != nil {
		return unknownGroup(pgid)
	}
	for _, line := range bytes.Split(b, []byte{'\n'}) {
		f := bytes.Fields(line)
		if len(f) < 3 || string(f[1]) != strconv.Itoa(pgid) || f[2][0] == 'Z' {
			continue
		}
		pid, err := strconv.Atoi(string(f[0]))
		if err == nil {
			out = append(out, member{pid, string(f[2][:1])})
		}
	}
	slices.SortFunc(out, func(a, b member) int { return a.pid - b.pid })
	return out
}
