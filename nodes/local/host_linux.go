package local

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The network of the hosts exists only inside the hub's namespaces.
const (
	subnet      = "10.83.0." // host 3 is 10.83.0.3
	prefix      = 24         // bits
	clientsAddr = subnet + "254"
	watchAddr   = subnet + "253" // the harness's own look at nodes: it is not a client, so no fault is meant for it
	bridgeName  = "chaos"
	linkName    = "eth0" // in every host
)

// setup makes the hub's own surroundings and then all hosts at once.
func (h *hub) setup(count int) error {
	if h.hosts != nil || count < 0 || count > nodesMax {
		return fmt.Errorf("local: the hub can't make %d hosts", count)
	}
	if err := ownProcesses(); err != nil {
		return err
	}
	bridge, err := makeBridge()
	if err != nil {
		return err
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("local: the hub's network namespace: %w", err)
	}
	defer home.Close()
	h.hosts = make([]*host, count)
	errs := make([]error, count)
	var all sync.WaitGroup
	for i := range h.hosts {
		h.hosts[i] = &host{number: i + 1, reaper: h.reaper, jobs: make(chan job)}
		all.Go(func() { errs[i] = h.hosts[i].make(bridge, int(home.Fd())) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// ownProcesses mounts a /proc that shows the hub's process namespace, where
// nobody outside sees it.
func ownProcesses() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("local: making mounts private: %w", err)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("proc", "/proc", "proc", flags, ""); err != nil {
		return fmt.Errorf("local: mounting /proc: %w", err)
	}
	return nil
}

func makeBridge() (*netlink.Bridge, error) {
	withoutIPv6()
	if err := up("lo"); err != nil {
		return nil, err
	}
	b := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	b.Name = bridgeName
	if err := netlink.LinkAdd(b); err != nil {
		return nil, fmt.Errorf("local: making a bridge: %w", err)
	}
	for _, addr := range []string{clientsAddr, watchAddr} {
		if err := address(b, addr); err != nil {
			return nil, err
		}
	}
	return b, up(bridgeName)
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("local: bringing %s up: %w", name, err)
	}
	return nil
}

func address(l netlink.Link, addr string) error {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(addr).To4(), Mask: net.CIDRMask(prefix, 32)}}
	if err := netlink.AddrAdd(l, a); err != nil {
		return fmt.Errorf("local: giving %s the address %s: %w", l.Attrs().Name, addr, err)
	}
	return nil
}

// withoutIPv6 keeps links that are made from now on in the thread's network
// namespace from looking for duplicates of addresses that nobody uses. A kernel
// without IPv6 has nothing to switch off.
func withoutIPv6() {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
}

// A host is one network namespace, and the thread that lives in it.
type host struct {
	number int
	reaper *reaper
	jobs   chan job

	pid   int           // of the agent; 0 before the first
	ended chan struct{} // closed when it has ended
}

type job struct{ done chan started }

type started struct {
	stream *os.File
	err    error
}

// make starts the host's thread, and returns when the host is there.
func (o *host) make(bridge *netlink.Bridge, home int) error {
	made := make(chan error)
	go o.live(bridge, home, made)
	if err := <-made; err != nil {
		return fmt.Errorf("local: host %d: %w", o.number, err)
	}
	return nil
}

// live keeps its thread for good: it is of no use to anybody else. The first
// thread of the process stays at home, since that is where others look to learn
// which namespaces the process is in.
func (o *host) live(bridge *netlink.Bridge, home int, made chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go o.live(bridge, home, made)
		select {}
	}
	err := o.enter(bridge, home)
	made <- err
	if err != nil {
		return
	}
	for j := range o.jobs {
		var s started
		s.stream, s.err = o.startHere()
		j.done <- s
	}
}

// enter moves the thread into a new network namespace and connects it.
func (o *host) enter(bridge *netlink.Bridge, home int) error {
	outside, err := netlink.NewHandle() // in the hub's namespace, where this thread still is
	if err != nil {
		return fmt.Errorf("a netlink socket: %w", err)
	}
	defer outside.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("a network namespace: %w", err)
	}
	withoutIPv6()
	peer := fmt.Sprintf("host%d", o.number)
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: peer, PeerNamespace: netlink.NsFd(home)}
	v.Name = linkName
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("a pair of links: %w", err)
	}
	if err := address(v, fmt.Sprint(subnet, o.number)); err != nil {
		return err
	}
	if err := errors.Join(up("lo"), up(linkName)); err != nil {
		return err
	}
	port, err := outside.LinkByName(peer)
	if err != nil {
		return fmt.Errorf("the hub's end of the link: %w", err)
	}
	if err := errors.Join(outside.LinkSetMaster(port, bridge), outside.LinkSetUp(port)); err != nil {
		return fmt.Errorf("plugging the link into the bridge: %w", err)
	}
	return nil
}

// start replaces the host's agent, and returns the stream to the new one.
func (o *host) start() (*os.File, error) {
	j := job{make(chan started)}
	o.jobs <- j
	s := <-j.done
	return s.stream, s.err
}

// startHere runs on the host's thread: a child is born where its parent lives.
func (o *host) startHere() (*os.File, error) {
	if err := o.end(); err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	fd := theirs.Fd()
	o.pid, o.ended, err = o.reaper.start("/proc/self/exe", []string{os.Args[0], "agent"}, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{fd, fd, os.Stderr.Fd()},
		Sys: &syscall.SysProcAttr{},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("local: starting the agent of host %d: %w", o.number, err), ours.Close())
	}
	return ours, nil
}

// end kills the last agent, if it still lives. Its node dies with it.
func (o *host) end() error {
	if o.pid == 0 {
		return nil
	}
	select {
	case <-o.ended:
		return nil
	default:
	}
	syscall.Kill(o.pid, syscall.SIGKILL) // an error says that it has ended
	select {
	case <-o.ended:
		return nil
	case <-time.After(agentDeath):
		return fmt.Errorf("local: agent %d of host %d still lives %s after SIGKILL", o.pid, o.number, agentDeath)
	}
}
