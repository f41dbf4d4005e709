package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is one of a run.
type process struct {
	pid     int
	run     string
	agent   bool
	state   byte
	command string
	id      string
}

func (p process) String() string { return fmt.Sprintf("process %d: %s", p.pid, short(p.command)) }

// ourProcesses lists the processes of runs on this host, as far as this user may
// look: by the mark in their environment, or among their arguments, where sudo
// shows it.
func ourProcesses() (out []process, err error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("ssh: listing processes: %w", err)
	}
	above := ancestors()
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil || slices.Contains(above, pid) {
			continue
		}
		if p, ok := ourProcess(pid); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

func ourProcess(pid int) (process, bool) {
	p := process{pid: pid, id: identity(pid)}
	if p.id == "" {
		return p, false
	}
	environ, _ := os.ReadFile(proc(pid, "environ")) // perhaps somebody else's
	command, _ := os.ReadFile(proc(pid, "cmdline"))
	for _, word := range bytes.Split(slices.Concat(environ, []byte{0}, command), []byte{0}) {
		key, value, _ := strings.Cut(string(word), "=")
		switch key {
		case runMark:
			p.run = value
		case agentMark:
			p.agent = true
		}
	}
	if stat, err := os.ReadFile(proc(pid, "stat")); err == nil {
		if fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]); len(fields) > 0 {
			p.state = fields[0][0]
		}
	}
	p.command = strings.TrimSpace(string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
	return p, tableOf(p.run) != ""
}

// ancestors are this process and those that started it.
func ancestors() (out []int) {
	for pid := os.Getpid(); pid > 1 && len(out) < 64; {
		out = append(out, pid)
		stat, err := os.ReadFile(proc(pid, "stat"))
		if err != nil {
			break
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 {
			break
		}
		if pid, err = strconv.Atoi(string(fields[1])); err != nil {
			break
		}
	}
	return out
}

func proc(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// identity is a process's number and when it started, so that a number that is
// used again is not taken for it. It is "" for one that has ended.
func identity(pid int) string {
	b, err := os.ReadFile(proc(pid, "stat"))
	if err != nil {
		return ""
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // the name before may hold anything
	const state, started = 0, 19                              // proc(5): fields 3 and 22
	if len(fields) <= started || fields[state][0] == 'Z' || fields[state][0] == 'X' {
		return ""
	}
	return fmt.Sprintf("%d@%s", pid, fields[started])
}

// endProcesses waits until no process of a run is left, and kills what is still
// there after patience.
func endProcesses(run string, patience time.Duration) error {
	began, killed := time.Now(), map[string]bool{}
	for {
		all, err := ourProcesses()
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(p process) bool { return p.run != run })
		if len(all) == 0 {
			return nil
		}
		late := time.Since(began)
		if late > patience+killWait {
			return fmt.Errorf("ssh: still alive %s after SIGKILL: %v", killWait, all)
		}
		for _, p := range all {
			if late >= patience && !killed[p.id] {
				killed[p.id] = true
				if err := p.kill(); err != nil {
					return err
				}
			}
		}
		time.Sleep(lookAgain)
	}
}

// kill looks again whose the number is, since all of a host's processes have been
// read meanwhile: one that has got it since is spared.
func (p process) kill() error {
	if identity(p.pid) != p.id {
		return nil
	}
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ssh: killing %v: %w; remedy: log in as the user whose run that was, or with sudo", p, err)
	}
	return nil
}

// liveRuns names the runs of which processes live on this host.
func liveRuns() (out []string) {
	all, err := ourProcesses()
	if err != nil {
		return nil
	}
	for _, p := range all {
		if !slices.Contains(out, p.run) {
			out = append(out, p.run)
		}
	}
	return out
}

// otherAgents lists agents in this network namespace that somebody started in
// another way than this package does.
func otherAgents() (out []string) {
	here, err := os.Readlink("/proc/self/ns/net")
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline") // a pattern without errors
	if err != nil {
		return nil
	}
	for _, name := range names {
		b, _ := os.ReadFile(name)
		words := strings.Split(string(b), "\x00")
		if len(words) < 2 || !strings.HasPrefix(filepath.Base(words[0]), "chaos") || words[1] != "agent" {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		there, _ := os.Readlink(proc(pid, "ns/net"))
		if _, ours := ourProcess(pid); !ours && there == here {
			out = append(out, fmt.Sprintf("process %d: %s", pid, short(strings.Join(words, " "))))
		}
	}
	return out
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func isNotOurs(err error) bool { return errors.Is(err, unix.EADDRNOTAVAIL) }
