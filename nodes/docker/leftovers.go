package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"chaos/nodes"
)

// The kinds of things that a run makes in an engine, in the order of removal.
const (
	kindContainer = "container"
	kindVolume    = "volume"
	kindNetwork   = "network"
	kindFrozen    = "frozen container" // somebody else's, which a run used: it is thawed, not removed
	kindFiles     = "files"            // a run's, in a container of somebody else
)

// A Leftover is a thing of a run whose harness is gone.
type Leftover struct {
	Kind string // container, volume, network, frozen container, files
	Name string
	Run  string // the run's folder

	id      string
	owner   owner
	project string
	state   container.ContainerState // of a container; of a lock from elsewhere, of what it holds
	made    time.Time                // by the engine's clock; zero where it does not tell
	young   bool                     // of a harness elsewhere, which may be about to start the first container
	holds   string                   // a lock's: the containers of others that the run used
	folder  string                   // a lock's: the run's folder in them
}

// harmless tells whether nothing of it runs or fills a disk: an empty network
// takes a subnet, and an engine that lost count of it keeps it until its restart.
func (l Leftover) harmless() bool { return l.Kind == kindNetwork }

// String names it for people.
func (l Leftover) String() string { return fmt.Sprintf("%s %s of %s", l.Kind, l.Name, l.Run) }

// Clean removes what runs left in the engine whose harness is gone, thaws what
// they left frozen, and verifies both; dry only finds. A live run is never
// touched: its harness is a process that runs here, or where that can't be seen
// from here, one of its containers still runs or the run may be just starting.
func Clean(ctx context.Context, c Config, dry bool) ([]Leftover, error) {
	e, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	all, err := e.things(ctx, labelRun)
	if err != nil {
		return nil, err
	}
	if c.Project != "" {
		all = slices.DeleteFunc(all, func(l Leftover) bool { return strings.TrimPrefix(l.project, lockPrefix) != c.Project })
	}
	dead := orphans(all)
	held, err := e.held(ctx, dead)
	if err != nil {
		return nil, err
	}
	if !dry {
		for _, h := range held { // first: a run's lock must outlive what it tells of
			err = errors.Join(err, e.free(ctx, h))
		}
		err = errors.Join(err, e.removeAll(ctx, dead))
	}
	return append(held, dead...), err
}

// free thaws a container of somebody else, or removes a run's files from it.
func (e *engine) free(ctx context.Context, l Leftover) error {
	if l.kindIs(kindFrozen) {
		return e.thaw(ctx, l.id)
	}
	b := &box{e: e, id: l.id, name: l.Name, dir: l.folder, found: true, ran: true, log: func(string) {}}
	return b.giveBack(ctx)
}

// orphans are the things whose run is dead.
func orphans(all []Leftover) (out []Leftover) {
	live := map[string]bool{}
	for _, l := range all {
		switch {
		case l.owner.here():
			live[l.project] = live[l.project] || l.owner.lives()
		case l.young, l.state == container.StateRunning:
			live[l.project] = true
		}
	}
	for _, l := range all {
		if !live[l.project] {
			out = append(out, l)
		}
	}
	return out
}

func (l Leftover) kindIs(kind string) bool { return l.Kind == kind }

// held finds what dead runs left in the containers of others that they used:
// that they are frozen, and in those that run the run's files.
func (e *engine) held(ctx context.Context, dead []Leftover) (out []Leftover, err error) {
	for _, l := range dead {
		for _, id := range l.containers() {
			r, look := e.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
			if absent(look) {
				continue
			}
			if look != nil {
				err = errors.Join(err, fmt.Errorf("docker: looking at container %s: %w", id, look))
				continue
			}
			name := strings.TrimPrefix(r.Container.Name, "/")
			s := r.Container.State
			if s != nil && s.Paused {
				out = append(out, Leftover{Kind: kindFrozen, Name: name, Run: l.Run, id: id})
			}
			if s != nil && s.Running && l.folder != "" {
				out = append(out, Leftover{Kind: kindFiles, Name: name + ":" + l.folder, Run: l.Run, id: id, folder: l.folder})
			}
		}
	}
	return out, err
}

// things lists everything that carries our label.
func (e *engine) things(ctx context.Context, label string) (out []Leftover, err error) {
	filter := client.Filters{}.Add("label", label)
	containers, err := e.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filter})
	if err != nil {
		return nil, fmt.Errorf("docker: listing containers: %w", err)
	}
	for _, c := range containers.Items {
		l := labelled(kindContainer, strings.TrimPrefix(strings.Join(c.Names, ","), "/"), c.ID, c.Labels)
		l.state = c.State
		if c.Created > 0 {
			l.made = time.Unix(c.Created, 0)
		}
		out = append(out, l)
	}
	volumes, err := e.VolumeList(ctx, client.VolumeListOptions{Filters: filter})
	if err != nil {
		return nil, fmt.Errorf("docker: listing volumes: %w", err)
	}
	for _, v := range volumes.Items {
		l := labelled(kindVolume, v.Name, v.Name, v.Labels)
		l.made, _ = time.Parse(time.RFC3339, v.CreatedAt) // not every engine tells
		if !l.owner.here() && slices.ContainsFunc(l.containers(), func(id string) bool { return e.agentIn(ctx, id) }) {
			l.state = container.StateRunning
		}
		out = append(out, l)
	}
	networks, err := e.NetworkList(ctx, client.NetworkListOptions{Filters: filter})
	if err != nil {
		return nil, fmt.Errorf("docker: listing networks: %w", err)
	}
	for _, n := range networks.Items {
		l := labelled(kindNetwork, n.Name, n.ID, n.Labels)
		l.made = n.Created
		out = append(out, l)
	}
	out = slices.DeleteFunc(out, func(l Leftover) bool { return l.Run == "" })
	return out, e.markYoung(ctx, out)
}

// markYoung marks what a harness elsewhere made so recently that none of its
// containers need run yet. The engine's clock has told when, so it tells how long ago.
func (e *engine) markYoung(ctx context.Context, all []Leftover) (err error) {
	var now time.Time
	for i, l := range all {
		if l.owner.here() || l.made.IsZero() {
			continue
		}
		if now.IsZero() {
			if now, err = e.now(ctx); err != nil {
				return err
			}
		}
		all[i].young = now.Sub(l.made) < startWait
	}
	return nil
}

// now is the time by the engine's clock; by ours where it does not tell.
func (e *engine) now(ctx context.Context) (time.Time, error) {
	info, err := e.info(ctx)
	if err != nil {
		return time.Time{}, err
	}
	now, err := time.Parse(time.RFC3339, info.SystemTime)
	if err != nil {
		return time.Now(), nil
	}
	return now, nil
}

func labelled(kind, name, id string, labels map[string]string) Leftover {
	return Leftover{Kind: kind, Name: name, Run: labels[labelRun], id: id, owner: parseOwner(labels[labelOwner]),
		project: labels[labelProject], holds: labels[labelHolds], folder: labels[labelFolder]}
}

// containers are those of others that a lock speaks of.
func (l Leftover) containers() []string {
	return strings.FieldsFunc(l.holds, func(r rune) bool { return r == ',' })
}

// agentIn tells whether an agent is at work in a container of somebody else: it
// outlives its harness by no more than its lease. What can't be told counts as
// one, so that no live run is touched.
func (e *engine) agentIn(ctx context.Context, id string) bool {
	r, err := e.ContainerTop(ctx, id, client.ContainerTopOptions{Arguments: []string{"-o", "pid,args"}})
	if err != nil {
		i, err := e.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		return !absent(err) && (err != nil || i.Container.State == nil || i.Container.State.Running)
	}
	return slices.ContainsFunc(r.Processes, func(p []string) bool { return strings.Contains(strings.Join(p, " "), " agent --door") })
}

// removeAll removes containers, then volumes, then networks, and looks again.
func (e *engine) removeAll(ctx context.Context, things []Leftover) error {
	var errs []error
	for _, kind := range []string{kindContainer, kindVolume, kindNetwork} {
		errs = append(errs, e.removeKind(ctx, slices.DeleteFunc(slices.Clone(things), func(l Leftover) bool { return l.Kind != kind })))
	}
	for _, project := range projectsOf(things) {
		left, err := e.things(ctx, labelProject+"="+project)
		for _, l := range left {
			if slices.ContainsFunc(things, func(was Leftover) bool { return was.Kind == l.Kind && was.id == l.id }) {
				err = errors.Join(err, fmt.Errorf("docker: still there: %v", l))
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func projectsOf(things []Leftover) (out []string) {
	for _, l := range things {
		if !slices.Contains(out, l.project) {
			out = append(out, l.project)
		}
	}
	return out
}

// removeKind removes things that don't need one another, side by side.
func (e *engine) removeKind(ctx context.Context, things []Leftover) error {
	errs := make([]error, len(things))
	var work sync.WaitGroup
	for i, l := range things {
		work.Go(func() {
			if err := e.removeOne(ctx, l); err != nil {
				errs[i] = fmt.Errorf("docker: removing %v: %w", l, err)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// removeOne insists: an engine may believe for a while that a thing is in use.
func (e *engine) removeOne(ctx context.Context, l Leftover) (err error) {
	for range removeTries {
		switch l.Kind {
		case kindContainer:
			_, err = e.ContainerRemove(ctx, l.id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		case kindVolume:
			_, err = e.VolumeRemove(ctx, l.id, client.VolumeRemoveOptions{})
		case kindNetwork:
			_, err = e.NetworkRemove(ctx, l.id, client.NetworkRemoveOptions{})
		}
		if absent(err) {
			return nil
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(removePause):
		}
	}
	if strings.Contains(err.Error(), "active endpoints") {
		err = fmt.Errorf("%w; remedy: where no container is attached, the engine lost count: restart it", err)
	}
	return err
}

// hostOf reads which node a container is a host for: our own label, or the
// service's name in a compose project.
func hostOf(labels map[string]string) (nodes.ID, bool) {
	for _, name := range []string{labels[labelHost], labels["com.docker.compose.service"]} {
		if id, err := nodes.ParseID(name); err == nil && name != "" {
			return id, true
		}
	}
	return 0, false
}
