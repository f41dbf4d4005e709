package docker

import (
	"context"
	"errors"
	"net/netip"

	"github.com/moby/moby/api/types/container"

	"chaos/nodes"
)

// anySubnet is for members that are only thought of.
var anySubnet = netip.MustParsePrefix("10.77.0.0/24")

// Refuse says why a cluster of the system could not be launched, as far as it can
// be told before: a subnet or a name that is taken, containers that are not there,
// a program that the image does not hold. It leaves nothing in the engine but the
// image. Launch looks again.
func (p *Provider) Refuse(ctx context.Context, s nodes.System, o nodes.Options) (err error) {
	if len(p.config.Agents) > 0 {
		return nil // who listens there, Probe has asked
	}
	e, err := connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	var hosts []container.Summary
	if p.config.Project != "" {
		if hosts, err = p.fitting(ctx, e, o); err != nil {
			return err
		}
	}
	if len(hosts) > 0 { // what they lack beside it, taking them tells
		return p.lacks(withNames(hosts[0].Labels[labelWith]), s, o)
	}
	image, err := p.image(ctx, e, nil)
	if err != nil {
		return err
	}
	if err := p.lacks(image.With, s, o); err != nil {
		return err
	}
	return p.room(ctx, e, image.ID, o)
}

// lacks says what an image with those programs beside ours holds no program for.
func (p *Provider) lacks(with []string, s nodes.System, o nodes.Options) error {
	program, err := p.path()
	if err != nil {
		return err
	}
	members := (&set{prefix: anySubnet}).members(o.Nodes)
	return p.holds(with, adapt(program, with)(s.Exec(members[0], members, dataDir, o)))
}

// room tries whether there is a place for the hosts.
func (p *Provider) room(ctx context.Context, e *engine, image string, o nodes.Options) error {
	if len(p.config.Sidecars) > 0 {
		_, _, err := p.beside(ctx, e, image, o)
		return err
	}
	if p.config.Subnet == "" {
		_, err := p.nameSet(ctx, e, image, o.Dir)
		return err
	}
	s, err := p.newSet(ctx, e, image, "a trial")
	if err != nil {
		return err
	}
	return s.remove(ctx)
}
