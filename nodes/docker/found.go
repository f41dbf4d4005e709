package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// composeProject is the label by which compose names a project's containers.
const composeProject = "com.docker.compose.project"

// lockPrefix and a project's name make the name of its lock.
const lockPrefix = "chaos-lock-"

// forgetWait is for a host to remove the files of a run.
const forgetWait = 5 * time.Second

// found takes the hosts of a compose project: containers n1, n2, … with our
// program in them. nil without an error says that there are none.
func (p *Provider) found(ctx context.Context, e *engine, o nodes.Options) (*crew, error) {
	hosts, err := p.fitting(ctx, e, o)
	if err != nil || len(hosts) == 0 {
		return nil, err
	}
	c := &crew{with: withNames(hosts[0].Labels[labelWith])}
	for i, h := range hosts {
		id := nodes.ID(i + 1)
		b, m, err := e.take(ctx, id, h.ID)
		if err != nil {
			return nil, err
		}
		b.dir = path.Join(dataDir, safeName(o.Cluster))
		c.boxes, c.members = append(c.boxes, b), append(c.members, m)
	}
	lock, err := e.lock(ctx, p.config.Project, o.Dir, c.boxes)
	if err != nil {
		return nil, err
	}
	c.remove = func(ctx context.Context) error { return e.giveBack(ctx, c.boxes, lock) }
	return c, nil
}

// fitting lists the containers that would be hosts, in the order of their nodes;
// none is no error, and too few or those of another build are one.
func (p *Provider) fitting(ctx context.Context, e *engine, o nodes.Options) (out []container.Summary, err error) {
	list, err := e.ContainerList(ctx, client.ContainerListOptions{All: true,
		Filters: client.Filters{}.Add("label", composeProject+"="+p.config.Project)})
	if err != nil {
		return nil, fmt.Errorf("docker: looking for the project %s: %w", p.config.Project, err)
	}
	hosts := map[nodes.ID]container.Summary{}
	for _, c := range list.Items {
		if id, ok := hostOf(c.Labels); ok {
			hosts[id] = c
		}
	}
	if len(hosts) == 0 {
		return nil, nil
	}
	for i := range o.Nodes {
		h, ok := hosts[nodes.ID(i+1)]
		if !ok {
			return nil, fmt.Errorf("docker: the project %s has %d hosts and none is n%d, but the plan wants %d nodes: add it to the compose file, or choose fewer",
				p.config.Project, len(hosts), i+1, o.Nodes)
		}
		out = append(out, h)
	}
	ours, _, err := p.ours(ctx, e)
	if err != nil {
		return nil, err
	}
	for _, h := range out {
		// Without the label we can't know: who builds an image by hand need not have it.
		if build := h.Labels[labelBinary]; build != "" && build != ours.sum {
			return nil, fmt.Errorf("docker: the containers of the project %s run another build of chaos: make them anew, chaos image && docker-compose up -d n1 n2 n3 …",
				p.config.Project)
		}
	}
	return out, nil
}

// take looks at a container of somebody else that is to be a host.
func (e *engine) take(ctx context.Context, id nodes.ID, container string) (*box, nodes.Member, error) {
	m := nodes.Member{ID: id, Peer: peerPort, Client: clientPort, Status: statusPort}
	r, err := e.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	if err != nil {
		return nil, m, fmt.Errorf("docker: looking at the container of %s: %w", id, err)
	}
	in := r.Container
	b := &box{e: e, id: in.ID, name: strings.TrimPrefix(in.Name, "/"), node: id, found: true}
	b.ran = in.State != nil && in.State.Running
	if h := in.HostConfig; h == nil || !h.Privileged && !slices.ContainsFunc(h.CapAdd, func(c string) bool {
		return c == "ALL" || strings.TrimPrefix(c, "CAP_") == "NET_ADMIN"
	}) {
		return nil, m, fmt.Errorf("docker: the container %s lacks NET_ADMIN, without which no link can be hurt: give it cap_add: [NET_ADMIN]", b.name)
	}
	if err := b.running(ctx); err != nil {
		return nil, m, err
	}
	if r, err = e.ContainerInspect(ctx, in.ID, client.ContainerInspectOptions{}); err != nil {
		return nil, m, fmt.Errorf("docker: looking at the container of %s: %w", id, err)
	}
	if m.Host, err = addressOf(r.Container); err != nil {
		return nil, m, fmt.Errorf("docker: the container %s: %w", b.name, err)
	}
	return b, m, nil
}

// addressOf is a container's address on its only network, or the first by name.
func addressOf(c container.InspectResponse) (string, error) {
	if c.NetworkSettings != nil {
		for _, name := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
			if a := c.NetworkSettings.Networks[name].IPAddress; a.Is4() {
				return a.String(), nil
			}
		}
	}
	return "", errors.New("it has no IPv4 address on any network")
}

// lock makes sure that nobody else uses the hosts of a project, and keeps on
// record which they are: a volume with labels, which nothing is written to.
func (e *engine) lock(ctx context.Context, project, run string, boxes []*box) (Leftover, error) {
	var ids []string
	for _, b := range boxes {
		ids = append(ids, b.id)
	}
	name := lockPrefix + project
	labels := map[string]string{labelRun: run, labelOwner: self().String(), labelProject: name, labelHolds: strings.Join(ids, ","), labelFolder: boxes[0].dir}
	making, cancel := unbroken(ctx)
	defer cancel()
	r, err := e.VolumeCreate(making, client.VolumeCreateOptions{Name: name, Labels: labels})
	if err != nil {
		return Leftover{}, fmt.Errorf("docker: locking the project %s: %w", project, err)
	}
	got := labelled(kindVolume, name, name, r.Volume.Labels)
	if got.owner == self() && got.Run == run {
		return got, nil
	}
	if got.owner.here() && !got.owner.lives() {
		return got, fmt.Errorf("docker: a run that died (%s) still holds the project %s: chaos clean --provider docker heals and frees it", got.Run, project)
	}
	return got, fmt.Errorf("docker: the project %s is in use by the run %s: wait for its end, or choose another --project", project, got.Run)
}

// giveBack leaves the hosts of a project as they were found.
func (e *engine) giveBack(ctx context.Context, boxes []*box, lock Leftover) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWait)
	defer cancel()
	var errs []error
	for _, b := range boxes {
		errs = append(errs, b.giveBack(ctx))
	}
	return errors.Join(append(errs, e.removeOne(ctx, lock))...)
}

// Forget removes what a run left on the host that this process is on: its
// folder, and the table of an agent that was killed.
func Forget(folder string) error {
	return errors.Join(os.RemoveAll(folder), agent.DropTable(agent.TableOf(path.Base(folder))))
}

func (b *box) giveBack(ctx context.Context) error {
	if err := b.e.thaw(ctx, b.id); err != nil {
		return err
	}
	if err := b.running(ctx); err != nil {
		return err
	}
	s, err := b.e.exec(ctx, b.id, []string{programPath, "forget", b.dir}, b.log)
	if err != nil {
		return err
	}
	defer s.Close()
	late := time.AfterFunc(forgetWait, func() { s.Close() })
	defer late.Stop()
	for b := make([]byte, 1); ; {
		if _, err = s.Read(b); err != nil {
			break
		}
	}
	if said := s.last(); said != "" {
		return fmt.Errorf("docker: removing what the run left in %s: %s", b.name, said)
	}
	if b.ran {
		return nil
	}
	return b.kill(ctx)
}
