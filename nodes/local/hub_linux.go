package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// Bounds of a hub.
const (
	dialsMax    = 1024             // at once
	dialTimeout = 10 * time.Second // where the request has none, and the longest
	agentDeath  = 5 * time.Second  // for a killed agent to be gone
	probeWait   = 5 * time.Second  // for all that agents could do
)

// Hub is the life of "chaos hub": the first process in namespaces of its own.
// It obeys the control socket that it was started with and ends with that.
func Hub() error {
	syscall.CloseOnExec(controlFD)
	f := os.NewFile(controlFD, "control")
	c, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("local: a hub is started by chaos itself, with a control socket: %w", err)
	}
	f.Close()
	control, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("local: the hub's control socket is of another kind")
	}
	h := &hub{
		control: control, dials: map[uint64]context.CancelFunc{},
		reaper: &reaper{agents: map[int]chan struct{}{}},
	}
	go h.reaper.run()
	return h.serve()
}

// A hub owns the hosts. Each has a goroutine whose thread lives in the host's
// network namespace and starts the host's agents.
type hub struct {
	control *net.UnixConn
	writing sync.Mutex
	reaper  *reaper
	hosts   []*host

	mu    sync.Mutex
	dials map[uint64]context.CancelFunc
}

// serve obeys until the control socket ends: then the harness has ended, and
// so does everything else here.
func (h *hub) serve() error {
	buf := make([]byte, messageMax)
	for {
		var r request
		f, err := receive(h.control, buf, &r)
		if f != nil {
			f.Close() // nobody has reason to send us one
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("local: the hub's control socket: %w", err)
		}
		h.handle(r)
	}
}

// handle starts what is asked for. Nothing that may wait is done here.
func (h *hub) handle(r request) {
	switch r.Op {
	case opSetup:
		h.reply(response{ID: r.ID}.failed(h.setup(r.Nodes)), -1)
	case opProbe:
		h.reply(h.probe(r), -1)
	case opAgent:
		if r.Host < 1 || r.Host > len(h.hosts) {
			h.reply(response{ID: r.ID}.failed(fmt.Errorf("local: there is no host %d of %d", r.Host, len(h.hosts))), -1)
			return
		}
		go h.agent(r, h.hosts[r.Host-1])
	case opDial:
		ctx, err := h.begin(r)
		if err != nil {
			h.reply(response{ID: r.ID}.failed(err), -1)
			return
		}
		go h.dial(ctx, r)
	case opCancel:
		h.end(r.ID)
	default:
		h.reply(response{ID: r.ID}.failed(fmt.Errorf("local: unknown request %q", r.Op)), -1)
	}
}

// reply answers; if it can't, the harness is gone, which serve notices.
func (h *hub) reply(r response, fd int) {
	h.writing.Lock()
	defer h.writing.Unlock()
	if err := send(h.control, r, fd); err != nil {
		fmt.Fprintln(os.Stderr, "local: the hub could not answer:", err)
	}
}

func (h *hub) probe(r request) response {
	ctx, cancel := context.WithTimeout(context.Background(), probeWait)
	defer cancel()
	a := response{ID: r.ID, Effects: map[nodes.EffectKind]string{}}
	for kind, err := range agent.Probe(ctx) {
		a.Effects[kind] = ""
		if err != nil {
			a.Effects[kind] = err.Error()
		}
	}
	return a
}

// agent starts a host's agent and hands its stream over.
func (h *hub) agent(r request, host *host) {
	ours, err := host.start()
	if err != nil {
		h.reply(response{ID: r.ID}.failed(err), -1)
		return
	}
	defer ours.Close()
	h.reply(response{ID: r.ID}, int(ours.Fd()))
}

// begin notes a dial, so that it can be given up.
func (h *hub) begin(r request) (context.Context, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.dials) >= dialsMax {
		return nil, fmt.Errorf("local: %d dials are under way already", dialsMax)
	}
	if r.Timeout <= 0 || r.Timeout > dialTimeout {
		r.Timeout = dialTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	h.dials[r.ID] = cancel
	return ctx, nil
}

func (h *hub) end(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cancel := h.dials[id]; cancel != nil {
		cancel()
	}
	delete(h.dials, id)
}

// dial connects from one of the hub's own addresses and hands the socket over.
func (h *hub) dial(ctx context.Context, r request) {
	defer h.end(r.ID)
	d := net.Dialer{LocalAddr: tcpAddr(r.From, 0)}
	c, err := d.DialContext(ctx, "tcp4", r.Addr)
	if err != nil {
		h.reply(response{ID: r.ID}.failed(err), -1)
		return
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { h.reply(response{ID: r.ID}, int(fd)) })
	}
	if err != nil {
		h.reply(response{ID: r.ID}.failed(err), -1)
	}
}

// A reaper waits for every child of the hub: its agents, and the orphans that
// become children of a first process. Nobody else here waits for children.
type reaper struct {
	mu     sync.Mutex // held while a child is started, so that none ends unknown
	agents map[int]chan struct{}
}

func (r *reaper) run() {
	ended := make(chan os.Signal, 1) // one is enough: reap takes all there are
	signal.Notify(ended, syscall.SIGCHLD)
	for {
		r.reap()
		<-ended
	}
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		if done := r.agents[pid]; done != nil {
			close(done)
			delete(r.agents, pid)
		}
	}
}

// start runs a program on the calling thread; done closes when it has ended.
func (r *reaper) start(path string, argv []string, attr *syscall.ProcAttr) (pid int, done chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err = syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	done = make(chan struct{})
	r.agents[pid] = done
	return pid, done, nil
}
