package agent_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// A lab is a bridge in a network namespace of its own, called the hub, and one
// namespace for each node.
type lab struct {
	t     *testing.T
	hub   netns.NsHandle
	hosts map[nodes.ID]netns.NsHandle
	dir   string

	mu     sync.Mutex
	agents map[nodes.ID]*exec.Cmd
}

const clientAddress = "10.77.0.254"

func address(id nodes.ID) string { return fmt.Sprintf("10.77.0.%d", id) }

func member(id nodes.ID) nodes.Member {
	return nodes.Member{ID: id, Host: address(id), Peer: 7001, Client: 7002, Status: 7003}
}

func newLab(t *testing.T, n int) *lab {
	t.Helper()
	if os.Getuid() != 0 && !required("root") {
		t.Skip("this test makes network namespaces, which needs root")
	}
	l := &lab{t: t, hosts: map[nodes.ID]netns.NsHandle{}, agents: map[nodes.ID]*exec.Cmd{}, dir: t.TempDir()}
	l.hub = newNamespace(t)
	l.in(l.hub, func() {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}}
		must(t, netlink.LinkAdd(bridge))
		must(t, netlink.LinkSetUp(bridge))
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
		a, err := netlink.ParseAddr(clientAddress + "/24")
		must(t, err)
		must(t, netlink.AddrAdd(bridge, a))
	})
	for id := nodes.ID(1); id <= nodes.ID(n); id++ {
		l.addHost(id)
	}
	return l
}

func (l *lab) addHost(id nodes.ID) {
	ns := newNamespace(l.t)
	l.hosts[id] = ns
	l.in(l.hub, func() {
		bridge, err := netlink.LinkByName("br")
		must(l.t, err)
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("v%d", id)}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
		must(l.t, netlink.LinkAdd(v))
		must(l.t, netlink.LinkSetMaster(v, bridge))
		must(l.t, netlink.LinkSetUp(v))
	})
	l.in(ns, func() {
		for _, name := range []string{"lo", "eth0"} {
			link, err := netlink.LinkByName(name)
			must(l.t, err)
			must(l.t, netlink.LinkSetUp(link))
		}
		eth, err := netlink.LinkByName("eth0")
		must(l.t, err)
		a, err := netlink.ParseAddr(address(id) + "/24")
		must(l.t, err)
		must(l.t, netlink.AddrAdd(eth, a))
	})
}

func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	must(t, err)
	defer old.Close()
	ns, err := netns.New()
	if err != nil {
		if required("root") {
			t.Fatalf("a network namespace can't be made here: %v", err)
		}
		t.Skipf("a network namespace can't be made here (%v); it needs root", err)
	}
	must(t, netns.Set(old))
	t.Cleanup(func() { ns.Close() })
	return ns
}

// in runs f on a thread inside a network namespace; sockets and processes made
// there stay there.
func (l *lab) in(ns netns.NsHandle, f func()) {
	l.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	must(l.t, err)
	defer old.Close()
	must(l.t, netns.Set(ns))
	defer func() { must(l.t, netns.Set(old)) }()
	f()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open starts an agent in a node's namespace.
func (l *lab) open(id nodes.ID) (io.ReadWriteCloser, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), childRole+"=agent")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.in(l.hosts[id], func() { err = cmd.Start() })
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.agents[id] = cmd
	return &pipes{ReadCloser: out, in: in, cmd: cmd}, nil
}

// pipes is an agent's stream; closing it waits for the agent's end.
type pipes struct {
	io.ReadCloser
	in  io.WriteCloser
	cmd *exec.Cmd
	one sync.Once
}

func (p *pipes) Write(b []byte) (int, error) { return p.in.Write(b) }

func (p *pipes) Close() error {
	p.in.Close()
	p.one.Do(func() { go p.cmd.Wait() })
	return nil
}

func (l *lab) agent(id nodes.ID) *exec.Cmd {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.agents[id]
}

func (l *lab) members() (out []nodes.Member) {
	for id := nodes.ID(1); id <= nodes.ID(len(l.hosts)); id++ {
		out = append(out, member(id))
	}
	return out
}

func (l *lab) dialFrom(ns netns.NsHandle, addr string, limit time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: limit}
	l.in(ns, func() { c, err = d.Dial("tcp", addr) })
	return c, err
}

// fleet starts a fleet of the lab's hosts; it is closed with the test.
func (l *lab) fleet(lease time.Duration, change func(*agent.FleetOptions)) *agent.Fleet {
	l.t.Helper()
	o := agent.FleetOptions{
		System:  testSystem{},
		Options: nodes.Options{Nodes: len(l.hosts), Dir: l.dir, Cluster: "lab", Lease: lease, Log: func(s string) { l.t.Log(s) }},
		Dial: func(ctx context.Context, m nodes.Member, p nodes.Port) (c net.Conn, err error) {
			l.in(l.hub, func() { c, err = new(net.Dialer).DialContext(ctx, "tcp", m.Addr(p)) })
			return c, err
		},
	}
	for _, m := range l.members() {
		o.Hosts = append(o.Hosts, agent.Host{
			Self: m, View: l.members(), Clients: []string{clientAddress},
			Dir:  filepath.Join(l.dir, m.ID.String()),
			Open: func(context.Context) (io.ReadWriteCloser, error) { return l.open(m.ID) },
		})
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	f, err := agent.NewFleet(ctx, o)
	must(l.t, err)
	l.t.Cleanup(func() {
		if err := f.Close(context.Background()); err != nil {
			l.t.Error(err)
		}
	})
	return f
}

// A wire is one established TCP connection between two namespaces.
type wire struct{ from, to net.Conn }

func (l *lab) wire(from, to nodes.ID) wire { return l.wireAt(from, to, address(to)) }

// wireAt connects to one address of several.
func (l *lab) wireAt(from, to nodes.ID, host string) wire {
	l.t.Helper()
	var listener net.Listener
	var err error
	l.in(l.hosts[to], func() { listener, err = net.Listen("tcp", net.JoinHostPort(host, "0")) })
	must(l.t, err)
	defer listener.Close()
	a, err := l.dialFrom(l.hosts[from], listener.Addr().String(), 5*time.Second)
	must(l.t, err)
	b, err := listener.Accept()
	must(l.t, err)
	l.t.Cleanup(func() { a.Close(); b.Close() })
	return wire{a, b}
}

// passes sends one byte and tells whether it arrives within limit.
func passes(t *testing.T, from, to net.Conn, limit time.Duration) bool {
	t.Helper()
	if _, err := from.Write([]byte{1}); err != nil {
		t.Fatalf("writing: %v", err)
	}
	return arrives(to, limit)
}

func arrives(to net.Conn, limit time.Duration) bool {
	to.SetReadDeadline(time.Now().Add(limit))
	n, err := to.Read(make([]byte, 1))
	return n == 1 && err == nil
}
