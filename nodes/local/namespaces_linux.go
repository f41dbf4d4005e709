package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// The same ports on every host: nobody else lives there.
const (
	peerPort   = 7000
	clientPort = 7001
	statusPort = 7002
	probePort  = 7003
)

// Bounds of the harness's side of a hub.
const (
	setupWait = 20 * time.Second // for all hosts; measured: a twentieth of a second for five
	hubExit   = 2 * time.Second  // after its control socket closed, before it is killed
)

// remedies for a machine that forbids namespaces.
const remedies = "remedy: run as root, allow user namespaces " +
	"(sysctl kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1, user.max_user_namespaces=10000), " +
	"or in a container give it CAP_SYS_ADMIN and CAP_NET_ADMIN"

func (p *Provider) probeNamespaces(ctx context.Context) (map[nodes.EffectKind]error, error) {
	h, err := p.startHub(ctx, nodes.Options{})
	if err != nil {
		return nil, err
	}
	a, err := h.ask(ctx, request{Op: opSetup, Nodes: 1})
	if err == nil {
		a, err = h.ask(ctx, request{Op: opProbe})
	}
	if err := errors.Join(err, h.stop(ctx)); err != nil {
		return nil, fmt.Errorf("%w; %s", err, remedies)
	}
	effects := map[nodes.EffectKind]error{}
	for kind, why := range a.Effects {
		effects[kind] = nil
		if why != "" {
			effects[kind] = errors.New(why)
		}
	}
	return effects, nil
}

func (p *Provider) launchNamespaces(ctx context.Context, s nodes.System, o nodes.Options) (nodes.Cluster, error) {
	h, err := p.startHub(ctx, o)
	if err != nil {
		return nil, err
	}
	if _, err := h.ask(ctx, request{Op: opSetup, Nodes: o.Nodes}); err != nil {
		if ctx.Err() == nil { // an interruption has no remedy
			err = fmt.Errorf("%w; %s", err, remedies)
		}
		return nil, errors.Join(fmt.Errorf("local: making the hosts: %w", err), h.stop(ctx))
	}
	members := make([]nodes.Member, o.Nodes)
	for i := range members {
		members[i] = nodes.Member{
			ID: nodes.ID(i + 1), Host: fmt.Sprint(subnet, i+1),
			Peer: peerPort, Client: clientPort, Status: statusPort,
		}
	}
	hosts := make([]agent.Host, o.Nodes)
	for i, m := range members {
		open := func(ctx context.Context) (io.ReadWriteCloser, error) { return h.agent(ctx, i+1) }
		hosts[i] = agent.Host{Self: m, View: members, Clients: []string{clientsAddr}, Open: open, Adapt: marked(o.Dir)}
	}
	f, err := agent.NewFleet(ctx, agent.FleetOptions{
		System: s, Options: o, Hosts: hosts, ProbePort: probePort, Dial: h.dial, Stop: h.stop, StopEndsAll: true,
	})
	if err != nil {
		return nil, err // which has stopped the hub
	}
	return f, nil
}

// A controlledHub is the harness's side of a hub.
type controlledHub struct {
	control *net.UnixConn
	process *os.Process
	log     *os.File      // nil while probing
	exited  chan struct{} // closed when the process has ended
	lost    chan struct{} // closed when the control socket has

	writing sync.Mutex
	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan answered
}

// An answered request may have brought a descriptor.
type answered struct {
	response
	file *os.File
}

// startHub starts a hub in namespaces of its own. A run without a folder has
// nothing to log.
func (p *Provider) startHub(ctx context.Context, o nodes.Options) (*controlledHub, error) {
	program, err := p.path()
	if err != nil {
		return nil, err
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("local: the hub's control socket: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "harness")
	defer theirs.Close()
	c, err := stream(os.NewFile(uintptr(fds[0]), "hub"))
	if err != nil {
		return nil, err
	}
	h := &controlledHub{
		control: c.(*net.UnixConn), exited: make(chan struct{}), lost: make(chan struct{}),
		pending: map[uint64]chan answered{},
	}
	cmd := exec.Command(program, "hub")
	cmd.Env = append(os.Environ(), marks(o.Dir)...)
	cmd.ExtraFiles, cmd.SysProcAttr = []*os.File{theirs}, hubAttributes()
	if o.Dir != "" {
		if h.log, err = openLog(o); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		cmd.Stderr = h.log
	}
	if err := h.run(cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("local: no namespaces for a hub: %w; %s", err, remedies), c.Close(), h.closeLog())
	}
	go h.listen()
	return h, nil
}

// hubAttributes asks for the namespaces, with a user namespace only where the
// others need one: root's files stay root's without.
func hubAttributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true, // a Ctrl-C is for the harness alone
	}
	if uid := os.Geteuid(); uid != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// run starts the hub from a thread that stays until the hub has ended: the
// parent-death signal follows the thread that forked.
func (h *controlledHub) run(cmd *exec.Cmd) error {
	begun := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		h.process = cmd.Process
		begun <- err
		if err != nil {
			return
		}
		cmd.Wait() // how it ended, its log tells
		close(h.exited)
	}()
	return <-begun
}

// listen hands every answer to who asked, and closes what nobody waits for.
func (h *controlledHub) listen() {
	defer close(h.lost)
	buf := make([]byte, messageMax)
	for {
		var a answered
		var err error
		if a.file, err = receive(h.control, buf, &a.response); err != nil {
			return // the hub has ended, or its messages make no sense
		}
		h.mu.Lock()
		got := h.pending[a.ID]
		delete(h.pending, a.ID)
		if got != nil {
			got <- a
		}
		h.mu.Unlock()
		if got == nil && a.file != nil {
			a.file.Close()
		}
	}
}

// call asks the hub for something. Who gives up by ctx leaves nothing behind.
func (h *controlledHub) call(ctx context.Context, r request) (answered, error) {
	if err := ctx.Err(); err != nil {
		return answered{}, err
	}
	got := make(chan answered, 1)
	h.mu.Lock()
	h.last++
	r.ID = h.last
	h.pending[r.ID] = got
	h.mu.Unlock()
	if err := h.send(r); err != nil {
		h.forget(r.ID, got)
		return answered{}, fmt.Errorf("local: the hub is gone: %w", err)
	}
	select {
	case a := <-got:
		return a, nil
	case <-ctx.Done():
		h.forget(r.ID, got)
		h.send(request{ID: r.ID, Op: opCancel}) // an error says that there is no hub to tell
		return answered{}, ctx.Err()
	case <-h.lost:
		h.forget(r.ID, got)
		return answered{}, errors.New("local: the hub has ended")
	}
}

func (h *controlledHub) send(r request) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	return send(h.control, r, -1)
}

func (h *controlledHub) forget(id uint64, got chan answered) {
	h.mu.Lock()
	delete(h.pending, id)
	h.mu.Unlock()
	select {
	case a := <-got:
		if a.file != nil {
			a.file.Close()
		}
	default:
	}
}

// ask is call for answers without a descriptor, which come soon or never.
func (h *controlledHub) ask(ctx context.Context, r request) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, setupWait)
	defer cancel()
	a, err := h.call(ctx, r)
	if a.file != nil {
		a.file.Close()
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	return a.response, err
}

// handed makes a connection of an answer's descriptor.
func (a answered) handed() (net.Conn, error) {
	if a.file == nil {
		return nil, errors.New("local: the hub sent no connection")
	}
	return stream(a.file)
}

// agent starts a host's agent anew and returns the stream to it.
func (h *controlledHub) agent(ctx context.Context, host int) (io.ReadWriteCloser, error) {
	a, err := h.call(ctx, request{Op: opAgent, Host: host})
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return nil, err
	}
	return a.handed()
}

// dial lets the hub connect to a node, and fails as a connection made here would.
func (h *controlledHub) dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	port, err := portOf(m, p)
	if err != nil {
		return nil, err
	}
	r := request{Op: opDial, From: clientsAddr, Addr: m.Addr(p)}
	if p == nodes.StatusPort {
		r.From = watchAddr
	}
	if until, ok := ctx.Deadline(); ok {
		r.Timeout = max(time.Until(until), 1)
	}
	a, err := h.call(ctx, r)
	switch {
	case err != nil:
	case a.Timeout:
		err = context.DeadlineExceeded
	case a.Errno != 0:
		err = os.NewSyscallError("connect", a.Errno)
	case a.Error != "":
		err = errors.New(a.Error)
	default:
		return a.handed()
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: tcpAddr(m.Host, port), Err: err}
}

// stop ends the hub, and with it everything in its namespaces.
func (h *controlledHub) stop(ctx context.Context) error {
	err := h.control.Close()
	select {
	case <-h.exited:
	case <-ctx.Done():
	case <-time.After(hubExit):
	}
	h.process.Kill() // an error says that it has ended
	<-h.exited
	<-h.lost
	return errors.Join(err, h.closeLog())
}

func (h *controlledHub) closeLog() error {
	if h.log == nil {
		return nil
	}
	return h.log.Close()
}
