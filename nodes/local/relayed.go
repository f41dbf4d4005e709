package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
	"chaos/nodes/relay"
)

// Ports of relayed nodes come in blocks below the ports that systems give out
// by themselves. Whoever holds the first port of a block owns the others, so
// that two runs never take each other's, nor those of a node that is down.
const (
	portFirst   = 20000
	portLast    = 32000
	portBlock   = 64
	portTries   = 64 // blocks looked at
	agentExit   = 2 * time.Second
	loopback    = "127.0.0.1"
	portsOfNode = 3
)

// A relayedRun is what lives beside the fleet of a relayed cluster.
type relayedRun struct {
	network *relay.Network
	claims  []net.Listener
	program string
	run     string
	log     *os.File

	mu     sync.Mutex
	agents []*exec.Cmd
	work   sync.WaitGroup // one waiter for each agent
}

func (p *Provider) launchRelayed(ctx context.Context, s nodes.System, o nodes.Options) (nodes.Cluster, error) {
	r, members, err := p.newRelayed(ctx, o)
	if err != nil {
		return nil, err
	}
	hosts := make([]agent.Host, len(members))
	for i, m := range members {
		view, err := r.view(m, members)
		if err != nil {
			return nil, errors.Join(err, r.stop(ctx))
		}
		hosts[i] = agent.Host{Self: m, View: view, Open: r.open, Adapt: marked(o.Dir)}
	}
	f, err := agent.NewFleet(ctx, agent.FleetOptions{
		System: s, Options: o, Hosts: hosts, Links: r.network, Dial: r.dial, Stop: r.stop,
	})
	if err != nil {
		return nil, err // which has stopped everything
	}
	return f, nil
}

func (p *Provider) newRelayed(ctx context.Context, o nodes.Options) (*relayedRun, []nodes.Member, error) {
	program, err := p.path()
	if err != nil {
		return nil, nil, err
	}
	r := &relayedRun{program: program, run: o.Dir}
	if r.log, err = openLog(o); err != nil {
		return nil, nil, err
	}
	if r.network, err = relay.New(ctx); err != nil {
		return nil, nil, errors.Join(err, r.log.Close())
	}
	ports, err := r.claim(portsOfNode * o.Nodes)
	if err != nil {
		return nil, nil, errors.Join(err, r.stop(ctx))
	}
	members := make([]nodes.Member, o.Nodes)
	for i := range members {
		q := ports[portsOfNode*i:]
		members[i] = nodes.Member{ID: nodes.ID(i + 1), Host: loopback, Peer: q[0], Client: q[1], Status: q[2]}
	}
	return r, members, nil
}

// claim finds ports that are free, and keeps them from other runs.
func (r *relayedRun) claim(count int) (ports []int, err error) {
	blocks := (portLast - portFirst) / portBlock
	start := rand.IntN(blocks)
	for try := range min(portTries, blocks) {
		first := portFirst + (start+try)%blocks*portBlock
		claim, listenErr := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(first)))
		if listenErr != nil {
			err = listenErr
			continue
		}
		r.claims = append(r.claims, claim)
		for port := first + 1; port < first+portBlock && len(ports) < count; port++ {
			if err = free(port); err == nil {
				ports = append(ports, port)
			}
		}
		if len(ports) == count {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("local: %d free ports between %d and %d were not found: %w", count, portFirst, portLast, err)
}

func free(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}

// view is the cluster as one node sees it: its peers behind relays.
func (r *relayedRun) view(self nodes.Member, all []nodes.Member) ([]nodes.Member, error) {
	view := make([]nodes.Member, len(all))
	for i, m := range all {
		if m.ID != self.ID {
			port, err := r.network.Open(self.ID, m.ID, m.Addr(nodes.PeerPort))
			if err != nil {
				return nil, err
			}
			m.Peer = port
		}
		view[i] = m
	}
	return view, nil
}

// dial connects to a node; clients pass the relay, the harness's own look at a
// node's status does not.
func (r *relayedRun) dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	if p != nodes.StatusPort {
		return r.network.Dial(ctx, nodes.Clients, m.ID, m.Addr(p))
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", m.Addr(p))
}

// open starts an agent beside the harness. It notices our end by the end of its
// stream, and then kills its node's whole group: a parent-death signal would
// end it before it can.
func (r *relayedRun) open(ctx context.Context) (io.ReadWriteCloser, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(r.program, "agent")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, r.log
	cmd.Env = append(os.Environ(), marks(r.run)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us alone
	err = cmd.Start()
	err = errors.Join(err, theirs.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("local: starting an agent: %w", err), ours.Close())
	}
	r.mu.Lock()
	r.agents = append(r.agents, cmd)
	r.mu.Unlock()
	r.work.Go(func() { cmd.Wait() }) // how it ended, its log tells
	return stream(ours)
}

// stop ends what the fleet has left: agents that did not obey, relays, claims.
func (r *relayedRun) stop(ctx context.Context) error {
	gone := make(chan struct{})
	go func() { r.work.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(agentExit):
	case <-ctx.Done():
	}
	r.mu.Lock()
	for _, cmd := range r.agents {
		cmd.Process.Kill() // an error says that it has ended
	}
	r.mu.Unlock()
	<-gone
	err := errors.Join(r.network.Close(), r.log.Close())
	for _, l := range r.claims {
		err = errors.Join(err, l.Close())
	}
	return err
}

// socketPair makes a stream with two ends, neither of which a child inherits unasked.
func socketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("local: a pair of sockets: %w", err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "agent"), os.NewFile(uintptr(fds[1]), "harness")
	// After NewFile, so that handing theirs on does not undo it: an agent whose
	// stream never blocks can close it while it reads.
	return ours, theirs, syscall.SetNonblock(fds[1], true)
}

// stream makes a connection of a socket, and takes the file over.
func stream(f *os.File) (net.Conn, error) {
	defer f.Close() // FileConn has its own copy
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("local: a socket as a stream: %w", err)
	}
	return c, nil
}
