package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	guardWait  = 10 * time.Second       // for the watchdog to take an order, and to end
	thawWait   = 60 * time.Second       // that the watchdog tries to thaw, after our end
	thawPause  = 200 * time.Millisecond // between two tries
	frozenMax  = 256                    // containers that one watchdog watches
	watchOrder = "watch"
	forgetting = "forget"
	guardReady = "ready"
)

// A guard is our end of the watchdog: a process of its own that thaws frozen
// containers when we are gone, however we went. A frozen agent could not. It is
// started with the first freeze.
type guard struct {
	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// watch tells the watchdog of a container before that is frozen.
func (g *guard) watch(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil {
		if err := g.start(); err != nil {
			return err
		}
	}
	return g.order(watchOrder, id)
}

// forget tells that a container was thawed. That it can't be told is harmless.
func (g *guard) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd != nil {
		_ = g.order(forgetting, id)
	}
}

func (g *guard) start() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("docker: the watchdog: where is this program? %w", err)
	}
	cmd := exec.Command(self, "watchdog")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends our session must not end it
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("docker: the watchdog: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("docker: the watchdog: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("docker: starting the watchdog, without which nothing is frozen: %w", err)
	}
	g.cmd, g.in, g.out = cmd, in, bufio.NewReader(out)
	return nil
}

// order sends one line and waits for its answer.
func (g *guard) order(verb, id string) error {
	late := time.AfterFunc(guardWait, func() { g.cmd.Process.Kill() })
	defer late.Stop()
	if _, err := fmt.Fprintln(g.in, verb, id); err != nil {
		return fmt.Errorf("docker: the watchdog is gone, so nothing is frozen: %w", err)
	}
	line, err := g.out.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != guardReady {
		err = errors.New("that is no answer")
	}
	if err != nil {
		return fmt.Errorf("docker: the watchdog says %q, so nothing is frozen: %w", line, err)
	}
	return nil
}

// close ends the watchdog, which thaws what it still watches.
func (g *guard) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil {
		return nil
	}
	late := time.AfterFunc(guardWait, func() { g.cmd.Process.Kill() })
	defer late.Stop()
	err := g.in.Close()
	if ended := g.cmd.Wait(); ended != nil {
		err = errors.Join(err, fmt.Errorf("docker: the watchdog: %w", ended))
	}
	g.cmd = nil
	return err
}

// Watchdog is the life of a watchdog process: it takes orders until its input
// ends, then thaws every container that it was told of and that is still frozen.
// An error says what it could not thaw; `chaos clean --provider docker` can.
func Watchdog(ctx context.Context, in io.Reader, out io.Writer) error {
	e, err := connect(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	frozen := map[string]bool{}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		verb, id, _ := strings.Cut(lines.Text(), " ")
		answer := guardReady
		switch {
		case verb == watchOrder && len(frozen) < frozenMax:
			frozen[id] = true
		case verb == forgetting:
			delete(frozen, id)
		default: // whatever it is, what is frozen is not left so
			answer = "not understood, or too many"
		}
		if _, err := fmt.Fprintln(out, answer); err != nil {
			break // nobody is there any more
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), thawWait)
	defer cancel()
	for id := range frozen {
		err = errors.Join(err, e.thaw(ctx, id))
	}
	return err
}

// thaw lets a container go on, if it is there and frozen, and insists.
func (e *engine) thaw(ctx context.Context, id string) error {
	for {
		b := &box{e: e, id: id, name: id}
		state, err := b.state(ctx)
		if err == nil && !state.Paused || absent(err) {
			return nil
		}
		if err == nil {
			err = e.freeze(ctx, id, false)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("docker: container %s is still frozen: %w: chaos clean --provider docker thaws it", id, err)
		case <-time.After(thawPause):
		}
	}
}
