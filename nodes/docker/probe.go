package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// An abilities is what trying once gave.
type abilities struct {
	effects map[nodes.EffectKind]error
	err     error
}

// everything is what a machine with an engine can do.
var everything = []nodes.EffectKind{nodes.Down, nodes.Frozen, nodes.Cut, nodes.CutData, nodes.Delayed, nodes.Lossy, nodes.Duplicated,
	nodes.Reordered, nodes.Limited, nodes.MachineDown, nodes.MachineFrozen}

// InControl tells whether the control service of a compose project can have that
// effect: it can do what agents can, and has no engine.
func InControl(k nodes.EffectKind) bool {
	return slices.Contains(everything, k) && k != nodes.MachineDown && k != nodes.MachineFrozen
}

// errNoMachine says why machines can't be hurt where there is no engine to ask.
var errNoMachine = errors.New("containers are killed and frozen through the engine, which a control service does not have: run it from the host, chaos run --provider docker --project NAME")

// errNoFreezer says why containers can't be frozen.
var errNoFreezer = errors.New("docker: this engine has no control over cgroups, so it can't freeze a container: the fault pause freezes the node alone; " +
	"or use an engine with root, or a rootless one on cgroup v2")

// errNotOurs says why machines beside which a sidecar runs are not hurt.
var errNotOurs = errors.New("docker: the containers are somebody else's: only their links are hurt; without --sidecars machines can be, too")

// Probe tries, once, in a container of its own and without any network, what
// the nodes' containers would be able to do.
func (p *Provider) Probe(ctx context.Context, o nodes.Options) nodes.Abilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := nodes.Abilities{Network: Network, Effects: map[nodes.EffectKind]error{}}
	if p.tried == nil {
		t := &abilities{}
		if len(p.config.Agents) > 0 {
			t.effects, t.err = p.tryListening(ctx)
		} else {
			t.effects, t.err = p.tryContainer(ctx, o)
		}
		if ctx.Err() != nil { // tells nothing of the engine
			a.Err = fmt.Errorf("docker: %w", ctx.Err())
			return a
		}
		p.tried = t
	}
	if p.tried.err != nil {
		a.Err = p.tried.err
		for _, k := range everything {
			a.Effects[k] = p.tried.err
		}
		return a
	}
	for k, err := range p.tried.effects {
		a.Effects[k] = err
	}
	return a
}

// tryContainer starts one agent, asks it, and removes it.
func (p *Provider) tryContainer(ctx context.Context, o nodes.Options) (effects map[nodes.EffectKind]error, err error) {
	e, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	image, err := p.image(ctx, e, nil)
	if err != nil {
		return nil, err
	}
	s := &set{e: e, project: "chaos-try-" + fresh()}
	s.labels = map[string]string{labelRun: "a trial", labelOwner: self().String(), labelProject: s.project}
	making, cancel := unbroken(ctx)
	defer cancel()
	r, err := e.ContainerCreate(making, client.ContainerCreateOptions{
		Name: s.project, Config: agentConfig(image.ID, "try", s.labels),
		HostConfig: &container.HostConfig{
			NetworkMode: "none", CapDrop: dropped, CapAdd: []string{"NET_ADMIN"},
			SecurityOpt: []string{"no-new-privileges"}, ReadonlyRootfs: true, LogConfig: container.LogConfig{Type: "none"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("docker: making a container to try: %w", err)
	}
	defer func() { err = errors.Join(err, s.remove(ctx)) }()
	b := &box{e: e, id: r.ID, name: s.project, log: func(string) {}}
	defer b.shut()
	stream, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	c, err := agent.Connect(ctx, stream, agent.Hello{Run: "try", Lease: time.Minute, Self: nodes.Member{ID: 1}}, nil)
	if err != nil {
		return nil, fmt.Errorf("docker: greeting an agent: %w", err)
	}
	if effects, err = c.Effects(ctx); err != nil {
		return nil, fmt.Errorf("docker: asking an agent: %w", err)
	}
	effects[nodes.MachineDown], effects[nodes.MachineFrozen] = nil, e.canFreeze(ctx)
	if len(p.config.Sidecars) > 0 {
		effects[nodes.MachineDown], effects[nodes.MachineFrozen] = errNotOurs, errNotOurs
	}
	return effects, nil
}

// canFreeze says why the engine has no freezer.
func (e *engine) canFreeze(ctx context.Context) error {
	info, err := e.info(ctx)
	if err != nil {
		return err
	}
	if info.CgroupDriver == "none" {
		return errNoFreezer
	}
	return nil
}

// tryListening asks the first agent.
func (p *Provider) tryListening(ctx context.Context) (map[nodes.EffectKind]error, error) {
	members, err := p.listening(1)
	if err != nil {
		return nil, err
	}
	key, err := p.makeKey()
	if err != nil {
		return nil, err
	}
	l := &listener{addr: p.config.Agents[members[0].ID], key: key}
	defer l.shut()
	stream, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	c, err := agent.Connect(ctx, stream, agent.Hello{Run: "try", Lease: time.Minute, Self: nodes.Member{ID: 1}}, nil)
	if err != nil {
		return nil, fmt.Errorf("docker: greeting the agent at %s: %w", l.addr, err)
	}
	effects, err := c.Effects(ctx)
	if err != nil {
		return nil, fmt.Errorf("docker: asking the agent at %s: %w", l.addr, err)
	}
	effects[nodes.MachineDown], effects[nodes.MachineFrozen] = errNoMachine, errNoMachine
	return effects, c.Close(ctx)
}
