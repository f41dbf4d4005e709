package ssh

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

const (
	labPatience = 30 * time.Second      // bounds every wait; it is no measurement
	labLook     = 10 * time.Millisecond // for a lab that has come free
	labHosts    = 5
	labsMax     = 4          // at once, each of one test alone
	labNet      = "10.84.0." // of the first one, which tests that are not parallel have
	labSelf     = labNet + "254"
)

// A lab is a few machines of namespaces, each with an SSH server of its own, on
// one bridge with the tests.
type lab struct {
	number int
	user   string // the test that has it; "": nobody
	dir    string // of all its files
	home   string // of the person who tests: .ssh with key, known hosts, config
	hosts  []*labMachine
}

type labMachine struct {
	spec   labSpec
	addr   string
	device string     // its end on the bridge
	key    ssh.Signer // its host key
	pid    int        // of its first process, as the tests see it
	port   netlink.Link
	on     io.Closer // it ends when this is closed
}

// theLabs are made when they are needed, and used again and again.
var theLabs struct {
	sync.Mutex
	all []*lab
}

// needLab returns machines that are the test's, and its subtests', until its end.
// It waits while others have all of them.
func needLab(t testing.TB) *lab {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "machines of namespaces need root"
	} else if os.Getenv(insideVariable) == "" {
		why = "there are no network namespaces here"
	} else if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		why = "there is no SSH server here: apt-get install openssh-server"
	}
	for _, tool := range []string{"nft", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil && why == "" {
			why = "the tests look at machines with " + tool + ": apt-get install nftables util-linux"
		}
	}
	if why != "" {
		if required("ssh") {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	for {
		l, err := takeLab(t)
		if err != nil {
			t.Fatal(err)
		}
		if l != nil {
			return l
		}
		time.Sleep(labLook)
	}
}

// takeLab returns the test's lab, or a free one; nil: there is none.
func takeLab(t testing.TB) (*lab, error) {
	theLabs.Lock()
	defer theLabs.Unlock()
	var free *lab
	for _, l := range theLabs.all {
		if l.user != "" && strings.HasPrefix(t.Name()+"/", l.user+"/") {
			return l, nil
		}
		if l.user == "" && free == nil {
			free = l
		}
	}
	if free == nil && len(theLabs.all) < labsMax {
		var err error
		if free, err = newLab(len(theLabs.all) + 1); err != nil {
			return nil, err
		}
		theLabs.all = append(theLabs.all, free)
	}
	if free != nil {
		free.user = t.Name()
		t.Cleanup(func() {
			theLabs.Lock()
			defer theLabs.Unlock()
			free.user = ""
		})
	}
	return free, nil
}

func newLab(number int) (*lab, error) {
	dir := filepath.Join(os.Getenv(insideVariable), fmt.Sprint(number))
	l := &lab{number: number, dir: dir, home: filepath.Join(dir, "home")}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Join(l.home, ".ssh"), 0o700)); err != nil { // users of the machines look there
		return nil, err
	}
	key, err := newKey(filepath.Join(l.home, ".ssh", "id_ed25519"))
	if err != nil {
		return nil, err
	}
	bridge, err := l.bridge()
	if err != nil {
		return nil, err
	}
	var known strings.Builder
	for i := range labHosts {
		m, err := l.machine(i+1, key.PublicKey())
		if err != nil {
			return nil, err
		}
		l.hosts = append(l.hosts, m)
		fmt.Fprintln(&known, knownhosts.Line([]string{m.addr}, m.key.PublicKey()))
	}
	if err := os.WriteFile(filepath.Join(l.home, ".ssh", "known_hosts"), []byte(known.String()), 0o600); err != nil {
		return nil, err
	}
	errs := make([]error, len(l.hosts))
	var work sync.WaitGroup
	for i, m := range l.hosts {
		work.Go(func() { errs[i] = m.boot(bridge) })
	}
	work.Wait()
	return l, errors.Join(errs...)
}

func newKey(path string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

// net is how the addresses of all machines begin.
func (l *lab) net() string { return fmt.Sprintf("10.%d.0.", 83+l.number) }

func (l *lab) bridge() (*netlink.Bridge, error) {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	b := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	b.Name = fmt.Sprint("lab", l.number)
	addr, err := netlink.ParseAddr(l.net() + "254/24")
	if err != nil {
		return nil, err
	}
	return b, errors.Join(netlink.LinkSetUp(lo), netlink.LinkAdd(b), netlink.AddrAdd(b, addr), netlink.LinkSetUp(b))
}

const labConfig = `
ListenAddress %[1]s
HostKey %[2]s/host_key
AuthorizedKeysFile %[2]s/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
AllowTcpForwarding yes
%[3]s
Match User odd
  SetEnv PATH=%[2]s/odd:/usr/bin:/bin
`

// labSFTP is missing on the last machine.
const labSFTP = "Subsystem sftp internal-sftp"

// The users of every machine beside root: plain has no rights, sudoer has sudo,
// odd finds another uname, noisy has a shell that speaks.
const labPasswd = `root:x:0:0::/root:/bin/sh
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
plain:x:1001:1001::%[1]s/plain:/bin/sh
sudoer:x:1002:1002::%[1]s/sudoer:/bin/sh
odd:x:1003:1003::%[1]s/odd:/bin/sh
noisy:x:1004:1004::%[1]s/noisy:%[1]s/noisy/shell
`

const labGroup = "root:x:0:\nnogroup:x:65534:\nplain:x:1001:\nsudoer:x:1002:\nodd:x:1003:\nnoisy:x:1004:\n"

func (l *lab) machine(n int, user ssh.PublicKey) (*labMachine, error) {
	m := &labMachine{addr: fmt.Sprint(l.net(), n), device: fmt.Sprintf("lab%dh%d", l.number, n)}
	m.spec = labSpec{Name: fmt.Sprintf("h%d", n), Addr: m.addr + "/24", Dir: filepath.Join(l.dir, fmt.Sprintf("h%d", n))}
	sftp := labSFTP
	if n == labHosts {
		sftp = ""
	}
	var shadow strings.Builder
	for line := range strings.Lines(labPasswd) {
		fmt.Fprintf(&shadow, "%s:*:19000:0:99999:7:::\n", line[:strings.IndexByte(line, ':')])
	}
	write := func(err error, name, content string, mode os.FileMode) error {
		path := filepath.Join(m.spec.Dir, name)
		return errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode))
	}
	err := write(nil, "sshd_config", fmt.Sprintf(labConfig, m.addr, m.spec.Dir, sftp), 0o644)
	err = write(err, "authorized_keys", string(ssh.MarshalAuthorizedKey(user)), 0o644)
	err = write(err, "etc/passwd", fmt.Sprintf(labPasswd, m.spec.Dir), 0o644)
	err = write(err, "etc/shadow", shadow.String(), 0o600)
	err = write(err, "etc/group", labGroup, 0o644)
	err = write(err, "etc/sudoers", "root ALL=(ALL) ALL\nsudoer ALL=(root) NOPASSWD: ALL\n", 0o440)
	err = write(err, "odd/uname", "#!/bin/sh\ncase $1 in -m) echo sparc64;; *) echo Linux;; esac\n", 0o755)
	err = write(err, "noisy/shell", "#!/bin/sh\necho 'Welcome to h1, have a nice day'\nexec /bin/sh \"$@\"\n", 0o755)
	if err != nil {
		return nil, err
	}
	m.key, err = newKey(filepath.Join(m.spec.Dir, "host_key"))
	return m, err
}

// boot starts the machine and connects it to the bridge.
func (m *labMachine) boot(bridge *netlink.Bridge) error {
	spec, err := json.Marshal(m.spec)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0], "lab-host")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL, Setpgid: true,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	begun := make(chan error)
	go func() { // the death signal follows this thread, which stays
		runtime.LockOSThread()
		begun <- cmd.Start()
		select {}
	}()
	if err := <-begun; err != nil {
		return err
	}
	m.pid, m.on = cmd.Process.Pid, in
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: labLink, PeerNamespace: netlink.NsPid(m.pid)}
	veth.Name, veth.MasterIndex = m.device, bridge.Attrs().Index
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	m.port = veth
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	if _, err := in.Write(append(spec, '\n')); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		log, _ := os.ReadFile(filepath.Join(m.spec.Dir, "sshd.log"))
		return fmt.Errorf("%s says %q, %w; its server says %s", m.spec.Name, line, err, log)
	}
	return nil
}

// hostsFile writes a hosts file of count machines, with more lines for each.
func (l *lab) hostsFile(t testing.TB, count int, more ...string) string {
	t.Helper()
	b := &strings.Builder{}
	fmt.Fprintln(b, "defaults:\n  user: root")
	for _, line := range more {
		fmt.Fprintf(b, "  %s\n", line)
	}
	fmt.Fprintln(b, "hosts:")
	for _, m := range l.hosts[:count] {
		fmt.Fprintf(b, "  - name: %s\n    address: %s\n", m.spec.Name, m.addr)
	}
	path := filepath.Join(t.TempDir(), "hosts.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// provider is one for count machines.
func (l *lab) provider(t testing.TB, count int, more ...string) *Provider {
	t.Helper()
	return New("", Config{HostsFile: l.hostsFile(t, count, more...), Home: l.home})
}

// sh runs a shell script on a machine, with root's rights, and returns its output.
func (m *labMachine) sh(t testing.TB, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), labPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(m.pid), "-n", "-p", "-m", "-u", "sh", "-c", script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s: %v: %s", m.spec.Name, script, err, out)
	}
	return string(out)
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(labPatience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
