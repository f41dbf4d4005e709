package local

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Leftovers finds the processes of runs whose harness is gone, by the marks in
// their environment. Those of other users can't be read, nor killed.
func Leftovers() ([]Leftover, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("local: listing processes: %w", err)
	}
	var out []Leftover
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if l, ok := leftover(pid); ok {
			out = append(out, l)
		}
	}
	return out, nil
}

func leftover(pid int) (Leftover, bool) {
	l := Leftover{PID: pid, identity: identity(pid)}
	env, err := os.ReadFile(proc(pid, "environ"))
	if err != nil {
		return l, false // it has ended, or belongs to somebody else
	}
	harness := ""
	for _, v := range strings.Split(string(env), "\x00") {
		if run, ok := strings.CutPrefix(v, runMark+"="); ok {
			l.Run = run
		}
		if h, ok := strings.CutPrefix(v, harnessMark+"="); ok {
			harness = h
		}
	}
	command, _ := os.ReadFile(proc(pid, "cmdline")) // for people: empty will do
	l.Command = strings.TrimSpace(string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
	owner, _, ok := strings.Cut(harness, "@")
	number, err := strconv.Atoi(owner)
	return l, ok && err == nil && l.identity != "" && identity(number) != harness
}

func proc(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// identity is a process's number and when it started, so that a number that is
// used again is not taken for it. It is "" for one that has ended.
func identity(pid int) string {
	b, err := os.ReadFile(proc(pid, "stat"))
	if err != nil {
		return ""
	}
	// The name in the second field may itself hold parentheses and spaces.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const state, started = 0, 19 // proc(5): fields 3 and 22
	if len(fields) <= started || fields[state][0] == 'Z' || fields[state][0] == 'X' {
		return ""
	}
	return fmt.Sprintf("%d@%s", pid, fields[started])
}
