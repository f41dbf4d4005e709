package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func groupGone(pid int) string {
	return fmt.Sprintf("no process in /proc is of group %d", pid)
}

// group reads from /proc every living process of a group, with the states of
// all its threads. Zombies are not alive, but what looks like one while only its
// first thread has ended is.
func group(pgid int) []member { return groupIn("/proc", pgid) }

func groupIn(proc string, pgid int) (out []member) {
	names, err := os.ReadDir(proc)
	if err != nil {
		return unknownGroup(pgid)
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		_, of, ok := readStat(filepath.Join(proc, name.Name(), "stat"))
		if !ok || of != pgid {
			continue
		}
		if states := threadStates(filepath.Join(proc, name.Name(), "task")); states != "" {
			out = append(out, member{pid, states})
		}
	}
	slices.SortFunc(out, func(a, b member) int { return a.pid - b.pid })
	return out
}

// readStat reads the state and the process group from a stat file. The name in
// the second field may itself hold parentheses, so the last one counts.
func readStat(path string) (state byte, pgid int, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 3 {
		return 0, 0, false
	}
	pgid, err = strconv.Atoi(string(fields[2]))
	return fields[0][0], pgid, err == nil
}

func threadStates(dir string) string {
	names, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	var states []byte
	for _, name := range names {
		if state, _, ok := readStat(filepath.Join(dir, name.Name(), "stat")); ok && state != 'Z' && state != 'X' {
			states = append(states, state)
		}
	}
	return string(states)
}
