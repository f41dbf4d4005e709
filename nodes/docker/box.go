package docker

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"chaos/nodes"
	"chaos/nodes/agent"
)

const (
	openWait = 30 * time.Second // for a container to start and its agent to greet; a busy machine takes ten
	endWait  = 20 * time.Second // for a container that was killed to be down
)

// A box is one container with an agent in it.
type box struct {
	e     *engine
	id    string
	name  string
	node  nodes.ID
	dir   string // the node's folder in it
	found bool   // it was there before us: our agent is started beside what runs in it
	ran   bool   // and ran
	guard *guard // undoes a freeze when we are gone
	log   func(string)

	mu    sync.Mutex
	fresh *stream // to a first process that was just started, and not greeted yet
	door  *agent.Door
}

// open gives the stream to a new agent.
func (b *box) open(ctx context.Context) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	b.shut()
	s, err := b.stream(ctx)
	if err != nil {
		return nil, err
	}
	d, err := agent.OpenDoor(ctx, s, "")
	if err != nil {
		if said := s.last(); said != "" {
			err = fmt.Errorf("%w; it said: %s", err, said)
		}
		return nil, fmt.Errorf("docker: %s: %w", b.name, err)
	}
	b.mu.Lock()
	b.door = d
	b.mu.Unlock()
	return d.Agent(ctx)
}

// stream is to an agent that nobody has greeted.
func (b *box) stream(ctx context.Context) (*stream, error) {
	if b.found {
		if err := b.running(ctx); err != nil {
			return nil, err
		}
		return b.e.exec(ctx, b.id, []string{programPath, "agent", "--door"}, b.log)
	}
	b.mu.Lock()
	s := b.fresh
	b.fresh = nil
	b.mu.Unlock()
	if s != nil {
		return s, nil
	}
	if err := b.kill(ctx); err != nil { // its agent is on the way out, or lost
		return nil, err
	}
	return b.start(ctx)
}

// running starts a container of somebody else that does not run.
func (b *box) running(ctx context.Context) error {
	state, err := b.state(ctx)
	if err != nil || state.Running {
		return err
	}
	if _, err := b.e.ContainerStart(ctx, b.id, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("docker: starting %s: %w", b.name, err)
	}
	return nil
}

// start starts the container, attached from its first word on.
func (b *box) start(ctx context.Context) (*stream, error) {
	s, err := b.e.attach(ctx, b.id, b.log)
	if err != nil {
		return nil, err
	}
	if _, err := b.e.ContainerStart(ctx, b.id, client.ContainerStartOptions{}); err != nil {
		s.Close()
		return nil, fmt.Errorf("docker: starting %s: %w", b.name, err)
	}
	return s, nil
}

// kill ends the container, if it runs, and waits until it is down.
func (b *box) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	state, err := b.state(ctx)
	if err != nil || !state.Running {
		return err
	}
	down := b.e.ContainerWait(ctx, b.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	if _, err := b.e.ContainerKill(ctx, b.id, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		if state, look := b.state(ctx); look != nil || state.Running {
			return fmt.Errorf("docker: killing %s: %w", b.name, err)
		}
	}
	select {
	case <-down.Result:
		return nil
	case err := <-down.Error:
		return fmt.Errorf("docker: waiting for the end of %s: %w", b.name, err)
	}
}

// state is what the engine says of the container.
func (b *box) state(ctx context.Context) (container.State, error) {
	r, err := b.e.ContainerInspect(ctx, b.id, client.ContainerInspectOptions{})
	if err != nil {
		return container.State{}, fmt.Errorf("docker: looking at %s: %w", b.name, err)
	}
	if r.Container.State == nil {
		return container.State{}, fmt.Errorf("docker: the engine does not tell the state of %s", b.name)
	}
	return *r.Container.State, nil
}

// shut closes the door, and with it the agent behind it.
func (b *box) shut() {
	b.mu.Lock()
	d := b.door // a fresh stream belongs to the next open
	b.door = nil
	b.mu.Unlock()
	if d != nil {
		d.Close()
	}
}

func (b *box) opened() *agent.Door {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.door
}

// dial connects from the host itself to a port of its node.
func (b *box) dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	d := b.opened()
	if d == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: tcpAddr(m, p), Err: syscall.EHOSTUNREACH}
	}
	return d.Dial(ctx, m, p)
}

func tcpAddr(m nodes.Member, p nodes.Port) net.Addr {
	a, err := net.ResolveTCPAddr("tcp", m.Addr(p))
	if err != nil {
		return nil
	}
	return a
}

// fetch brings the node's files into the run's folder: through the door, or
// where there is none any more, from the engine.
func (b *box) fetch(ctx context.Context, run string) error {
	into := filepath.Join(run, "nodes", b.node.String())
	if d := b.opened(); d != nil {
		if err := d.Fetch(ctx, b.dir, into); err == nil {
			return nil
		}
	}
	return b.copyOut(ctx, into)
}
