package docker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"chaos/nodes"
	"chaos/nodes/agent"
)

const (
	freezeTries = 20                    // to freeze or thaw; engines are late to know what they did
	freezePause = 25 * time.Millisecond // between two of them
)

// A machine is a container as something to kill and to freeze as a whole, its
// agent included.
type machine struct{ *box }

var _ agent.Machine = machine{}

// Bring kills or freezes the container, or brings it back on the same volume
// and address, and proves it by what the engine shows.
func (m machine) Bring(ctx context.Context, s nodes.MachineState) ([]nodes.Proof, error) {
	err := m.bring(ctx, s)
	return m.Prove(ctx, s), err
}

func (m machine) bring(ctx context.Context, s nodes.MachineState) error {
	if s.Down {
		return m.kill(ctx)
	}
	state, err := m.state(ctx)
	if err != nil {
		return err
	}
	if !state.Running {
		if err := m.revive(ctx); err != nil {
			return err
		}
	}
	if s.Frozen {
		// First the one who thaws it when we are gone, whoever froze it.
		if err := m.guard.watch(m.id); err != nil {
			return err
		}
	}
	if s.Frozen == state.Paused {
		return nil
	}
	if err := m.e.freeze(ctx, m.id, s.Frozen); err != nil {
		return fmt.Errorf("docker: %s: %w", m.name, err)
	}
	if !s.Frozen {
		m.guard.forget(m.id)
	}
	return nil
}

// revive starts a container that is down. Its agent is greeted by who opens it next.
func (m machine) revive(ctx context.Context) error {
	if m.found {
		return m.running(ctx)
	}
	s, err := m.start(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.fresh = s
	m.mu.Unlock()
	return nil
}

// freeze freezes or thaws a container, and waits until the engine knows that it did.
func (e *engine) freeze(ctx context.Context, id string, frozen bool) (err error) {
	for range freezeTries {
		if frozen {
			_, err = e.ContainerPause(ctx, id, client.ContainerPauseOptions{})
		} else {
			_, err = e.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
		}
		r, look := e.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if look != nil {
			return look
		}
		if state := r.Container.State; state != nil && state.Paused == frozen {
			return nil
		}
		if err != nil && strings.Contains(err.Error(), "cgroup") {
			return fmt.Errorf("%w: a rootless engine on cgroup v1 can't freeze: use the fault pause, which freezes the node alone", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(freezePause):
		}
	}
	return fmt.Errorf("the engine does not make it frozen=%v: %w", frozen, err)
}

// Prove reads from the engine whether the container is what s says.
func (m machine) Prove(ctx context.Context, s nodes.MachineState) []nodes.Proof {
	state, err := m.state(ctx)
	how := describe(state)
	if err != nil {
		how = err.Error()
	}
	what := func(effect nodes.EffectKind, wanted bool) string {
		if wanted {
			return m.node.String() + " " + string(effect)
		}
		return m.node.String() + " not " + string(effect)
	}
	proofs := []nodes.Proof{{What: what(nodes.MachineDown, s.Down), Holds: err == nil && state.Running != s.Down, How: how}}
	if s.Down {
		return proofs
	}
	return append(proofs, nodes.Proof{What: what(nodes.MachineFrozen, s.Frozen), Holds: err == nil && state.Paused == s.Frozen, How: how})
}

func describe(s container.State) string {
	how := fmt.Sprintf("the engine says: %s", s.Status)
	if s.Running {
		return how + fmt.Sprintf(", process %d since %s", s.Pid, s.StartedAt)
	}
	return how + fmt.Sprintf(", exit code %d at %s", s.ExitCode, s.FinishedAt)
}
