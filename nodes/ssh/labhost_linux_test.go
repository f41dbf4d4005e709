package ssh

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideVariable says that the tests have a network namespace of their own, and
// names the folder for the machines' files.
const insideVariable = "CHAOS_SSH_LAB"

// labMain is what the test binary does beside testing: being a machine, being a
// harness, and moving the tests into a network namespace that nothing leaves.
// Everything there ends with the tests, however they end.
func labMain(role string) {
	switch role {
	case "lab-host":
		exit(labHost())
	case "harness":
		exit(harness(os.Args[2], os.Args[3:]))
	}
	if os.Geteuid() != 0 || os.Getenv(insideVariable) != "" || role == "help" {
		return
	}
	dir, err := os.MkdirTemp("", "chaos-ssh-lab-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // users of the machines look there
	}
	if err != nil {
		exit(err)
	}
	runtime.LockOSThread() // the death signal of the child follows this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	os.RemoveAll(dir)
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		os.Exit(max(ended.ExitCode(), 1))
	case errors.Is(err, syscall.EPERM):
		return // the tests that need one say so
	}
	exit(err)
}

// A labSpec is what makes one machine differ from another.
type labSpec struct {
	Name string
	Addr string // with the length of its prefix: "10.84.0.3/24"
	Dir  string // with sshd_config and etc/; host-wide mounts go below
}

// labLink is the machine's network device.
const labLink = "eth0"

// labHost is the first process of a machine: its own processes, network, name,
// temporary folders, users, and an SSH server.
func labHost() error {
	var spec labSpec
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &spec)
	}
	if err == nil {
		err = errors.Join(spec.mounts(), spec.network())
	}
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(spec.Dir, "sshd.log"))
	if err != nil {
		return err
	}
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return err
	}
	if _, err := syscall.ForkExec(sshd, []string{sshd, "-D", "-e", "-f", filepath.Join(spec.Dir, "sshd_config")}, &syscall.ProcAttr{
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
	}); err != nil {
		return err
	}
	go func() { // what a first process is for
		for {
			if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}()
	for until := time.Now().Add(labPatience); ; time.Sleep(2 * time.Millisecond) {
		c, err := net.Dial("tcp", strings.Split(spec.Addr, "/")[0]+":22")
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(until) {
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, in)
	return err
}

func (s labSpec) mounts() error {
	tmpfs := func(at, options string, flags uintptr) error {
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		return unix.Mount("tmpfs", at, "tmpfs", flags, options)
	}
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		tmpfs("/run", "mode=755", 0), tmpfs("/var/tmp", "mode=1777", 0),
		tmpfs(filepath.Join(s.Dir, "small"), "size=1m,mode=1777", 0),
		tmpfs(filepath.Join(s.Dir, "noexec"), "mode=1777", unix.MS_NOEXEC),
		os.Mkdir("/run/sshd", 0o755), unix.Sethostname([]byte(s.Name)),
	)
	if err != nil {
		return err
	}
	files, err := os.ReadDir(filepath.Join(s.Dir, "etc"))
	for _, f := range files {
		if _, e := os.Stat("/etc/" + f.Name()); e == nil {
			err = errors.Join(err, unix.Mount(filepath.Join(s.Dir, "etc", f.Name()), "/etc/"+f.Name(), "", unix.MS_BIND, ""))
		}
	}
	return err
}

// network waits for the machine's device and gives it its address.
func (s labSpec) network() error {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	var link netlink.Link
	var err error
	for until := time.Now().Add(labPatience); ; time.Sleep(time.Millisecond) {
		if link, err = netlink.LinkByName(labLink); err == nil || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(s.Addr)
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
}
