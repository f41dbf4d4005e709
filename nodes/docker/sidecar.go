package docker

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/moby/client"

	"chaos/nodes"
)

// beside names containers of ours that share the networks of others: they need
// nothing of those but that they run. What they do to the links, everything in
// there suffers.
func (p *Provider) beside(ctx context.Context, e *engine, image string, o nodes.Options) (*set, []nodes.Member, error) {
	s, err := p.nameSet(ctx, e, image, o.Dir)
	if err != nil {
		return nil, nil, err
	}
	s.joined = map[nodes.ID]string{}
	var members []nodes.Member
	for i := range o.Nodes {
		id := nodes.ID(i + 1)
		name := p.config.Sidecars[id]
		if name == "" {
			return nil, nil, fmt.Errorf("docker: --sidecars has %d containers and none for %s, but the plan wants %d nodes: name one, or choose fewer --nodes",
				len(p.config.Sidecars), id, o.Nodes)
		}
		r, err := e.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		if absent(err) {
			return nil, nil, fmt.Errorf("docker: --sidecars: there is no container %s: docker ps shows those that run", name)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("docker: looking at the container %s: %w", name, err)
		}
		if c := r.Container; c.State == nil || !c.State.Running || c.State.Paused {
			return nil, nil, fmt.Errorf("docker: --sidecars: the container %s does not run: start it first", name)
		} else if h := c.HostConfig; h != nil && (h.NetworkMode.IsHost() || strings.HasPrefix(string(h.NetworkMode), "container:")) {
			return nil, nil, fmt.Errorf("docker: --sidecars: the container %s has no network of its own (%s), so more than it would be hurt", name, h.NetworkMode)
		}
		m := nodes.Member{ID: id, Peer: peerPort, Client: clientPort, Status: statusPort}
		if m.Host, err = addressOf(r.Container); err != nil {
			return nil, nil, fmt.Errorf("docker: --sidecars: the container %s: %w", name, err)
		}
		for other, joined := range s.joined {
			if joined == r.Container.ID {
				return nil, nil, fmt.Errorf("docker: --sidecars: the container %s is there for both %s and %s: one network can be the host of one node only", name, other, id)
			}
		}
		s.joined[id], members = r.Container.ID, append(members, m)
	}
	return s, members, nil
}
