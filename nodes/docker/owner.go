package docker

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// An owner is a harness, as the labels of what it made tell: the machine, the
// process there, and when that started, so that a number that is used again is
// not taken for it.
type owner struct{ machine, process string }

// self is this process.
func self() owner { return owner{thisMachine(), process(os.Getpid())} }

func (o owner) String() string { return o.machine + "/" + o.process }

func parseOwner(s string) owner {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return owner{}
	}
	return owner{s[:i], s[i+1:]}
}

// here tells whether the owner is, or was, a process that this one could see.
func (o owner) here() bool { return o.machine == thisMachine() }

// lives tells of an owner that is here whether it still runs.
func (o owner) lives() bool {
	number, _, _ := strings.Cut(o.process, "@")
	pid, err := strconv.Atoi(number)
	return err == nil && pid > 0 && process(pid) == o.process
}

// thisMachine names this machine since it started, and the process namespace where
// there are such: a process number means nothing elsewhere.
func thisMachine() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "unnamed"
	}
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		name += "/" + strings.TrimSpace(string(boot))
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil {
		name += "/" + ns
	}
	return name
}

// process is a process's number and start, "" for one that has ended. Where
// the system does not tell the start it is the number alone.
func process(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		if _, no := os.Stat("/proc/self/stat"); no == nil || syscall.Kill(pid, 0) == syscall.ESRCH {
			return ""
		}
		return strconv.Itoa(pid)
	}
	// The name in the second field may itself hold parentheses and spaces.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	const state, started = 0, 19 // proc(5): fields 3 and 22
	if len(fields) <= started || fields[state] == "Z" || fields[state] == "X" {
		return ""
	}
	return fmt.Sprintf("%d@%s", pid, fields[started])
}
