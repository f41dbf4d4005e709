package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// hostLogMax is how much the agents' own words may fill, bytes.
const hostLogMax = 8 << 20

// launchContainers makes the hosts, or takes those of the project, and starts the nodes.
func (p *Provider) launchContainers(ctx context.Context, s nodes.System, o nodes.Options) (nodes.Cluster, error) {
	log, err := openLog(o)
	if err != nil {
		return nil, err
	}
	e, err := connect(ctx)
	if err != nil {
		return nil, errors.Join(err, log.close())
	}
	c, err := p.crew(ctx, e, o)
	if err != nil {
		return nil, errors.Join(err, e.Close(), log.close())
	}
	program, err := p.path()
	if err == nil {
		err = p.holds(c.with, adapt(program, c.with)(s.Exec(c.members[0], c.members, dataDir, o)))
	}
	if err != nil {
		return nil, errors.Join(err, c.remove(ctx), e.Close(), log.close())
	}
	g := &guard{}
	hosts := make([]agent.Host, len(c.boxes))
	for i, b := range c.boxes {
		m := c.members[i]
		b.guard, b.log = g, func(line string) { log.line(m.ID.String() + ": " + line) }
		hosts[i] = agent.Host{
			Self: m, View: c.members, Dir: b.dir, Clients: []string{m.Host}, Open: b.open,
			Adapt: adapt(program, c.with),
			Fetch: func(ctx context.Context) error { return b.fetch(ctx, o.Dir) },
		}
		if len(p.config.Sidecars) == 0 { // else the machine is somebody else's
			hosts[i].Machine = machine{b}
		}
	}
	return newFleet(ctx, agent.FleetOptions{
		System: s, Options: o, Hosts: hosts, ProbePort: probePort, StopEndsAll: true, Dial: c.dial,
		Stop: func(ctx context.Context) error {
			for _, b := range c.boxes {
				b.shut()
			}
			return errors.Join(c.remove(ctx), g.close(), e.Close(), log.close())
		},
	})
}

// newFleet is agent.NewFleet for a cluster that may be nil.
func newFleet(ctx context.Context, o agent.FleetOptions) (nodes.Cluster, error) {
	f, err := agent.NewFleet(ctx, o)
	if err != nil {
		return nil, err // which has called Stop
	}
	return f, nil
}

// A crew is the containers of a run, made for it or found.
type crew struct {
	members []nodes.Member
	boxes   []*box
	with    []string // programs in their image beside ours
	remove  func(ctx context.Context) error
}

// crew makes the containers of a run; those of a project that are there already are taken.
func (p *Provider) crew(ctx context.Context, e *engine, o nodes.Options) (*crew, error) {
	if p.config.Project != "" {
		if c, err := p.found(ctx, e, o); c != nil || err != nil {
			return c, err
		}
	}
	c, err := p.made(ctx, e, o)
	if absent(err) { // another build of chaos has put its own image in the place of ours
		c, err = p.made(ctx, e, o)
	}
	return c, err
}

// made makes the containers of a run, on a network of their own or beside others.
func (p *Provider) made(ctx context.Context, e *engine, o nodes.Options) (*crew, error) {
	image, err := p.image(ctx, e, nil)
	if err != nil {
		return nil, err
	}
	if image.Built && o.Log != nil {
		o.Log(fmt.Sprintf("made the image %s, %d MB, from this program alone", image.Name, image.Size>>20))
	}
	c := &crew{with: image.With}
	var s *set
	if len(p.config.Sidecars) > 0 {
		s, c.members, err = p.beside(ctx, e, image.ID, o)
	} else if s, err = p.newSet(ctx, e, image.ID, o.Dir); err == nil {
		c.members = s.members(o.Nodes)
	}
	if err != nil {
		return nil, err
	}
	if err := s.create(ctx, c.members); err != nil {
		return nil, errors.Join(err, s.remove(ctx))
	}
	c.boxes, c.remove = s.hosts, s.remove
	return c, nil
}

func (c *crew) dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	i := slices.IndexFunc(c.boxes, func(b *box) bool { return b.node == m.ID })
	if i < 0 {
		return nil, fmt.Errorf("docker: there is no node %s", m.ID)
	}
	return c.boxes[i].dial(ctx, m, p)
}

// holds tells what an image with those programs beside ours lacks to start a node.
func (p *Provider) holds(with []string, e nodes.Exec) error {
	if e.Path == programPath || strings.HasPrefix(e.Path, "/bin/") && slices.Contains(with, filepath.Base(e.Path)) {
		return nil
	}
	name := filepath.Base(e.Path)
	return fmt.Errorf("docker: the image holds no %s: put a static one into it, %s --with /PATH/TO/%s", name, p.makeImage(), name)
}

// makeImage is the command that makes the image.
func (p *Provider) makeImage() string {
	if p.config.Image == DefaultImage {
		return "chaos image"
	}
	return "chaos image --image " + p.config.Image
}

// adapt finds a node's program in the image.
func adapt(program string, with []string) func(nodes.Exec) nodes.Exec {
	return func(e nodes.Exec) nodes.Exec {
		self, _ := os.Executable() // "" is nobody's program
		switch base := filepath.Base(e.Path); {
		case e.Path == program, e.Path == self:
			e.Path = programPath
		case slices.Contains(with, base):
			e.Path = "/bin/" + base
		}
		return e
	}
}

// A hostLog takes what the hosts' agents print.
type hostLog struct {
	mu   sync.Mutex
	file *os.File
	room int
}

func openLog(o nodes.Options) (*hostLog, error) {
	f, err := os.OpenFile(filepath.Join(o.Dir, "nodes", "agents.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("docker: the log of the agents: %w", err)
	}
	return &hostLog{file: f, room: hostLogMax}, nil
}

func (l *hostLog) line(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room -= len(text) + 1; l.room > 0 {
		io.WriteString(l.file, time.Now().UTC().Format("15:04:05.000 ")+text+"\n") // a full disk fails no run
	}
}

func (l *hostLog) close() error { return l.file.Close() }
