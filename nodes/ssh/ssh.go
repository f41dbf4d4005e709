// Package ssh runs a cluster on Linux hosts that are reached over SSH.
//
// On every host it needs a user that may log in with a key, and for faults of
// links the right to change the firewall: root, or sudo without a password. It
// brings the program there, starts one agent in one session, and carries
// everything over that session: the agent's lines, the clients' connections, the
// node's files. So hosts need no open port but SSH's, and when the connection
// ends the agent heals the host and stops the node.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// Firewall is how this provider hurts links, as [nodes.Options] names it.
const Firewall = "firewall"

// hostArch is the architecture that needs no other program than this one.
const hostArch = runtime.GOARCH

// A Provider runs clusters on the hosts of a hosts file.
type Provider struct {
	c        Config
	dialer   *dialer
	binaries *binaries

	saying sync.Mutex
	mu     sync.Mutex
	probed map[int]nodes.Abilities // by number of nodes
}

var _ nodes.Provider = (*Provider)(nil)

// New is a provider of the hosts that c names. On them program, which is this
// one where it is empty, is started as "program agent" and "program host".
func New(program string, c Config) *Provider {
	if program == "" {
		if self, err := os.Executable(); err == nil {
			program = self
		}
	}
	return &Provider{
		c: c, dialer: newDialer(c), binaries: &binaries{own: absolute(program)}, probed: map[int]nodes.Abilities{},
	}
}

// Name is what --provider calls it.
func (p *Provider) Name() string { return "ssh" }

// say tells the person who watches, one line at a time.
func (p *Provider) say(line string) {
	p.saying.Lock()
	defer p.saying.Unlock()
	if p.c.Log != nil {
		p.c.Log(line)
	}
}

// remotes reads the hosts file: the first count hosts, or where count is 0 all.
func (p *Provider) remotes(count int) ([]*remote, error) {
	entries, err := readHosts(p.c.HostsFile)
	if err != nil {
		return nil, err
	}
	if count > len(entries) {
		return nil, fmt.Errorf("ssh: %d nodes need as many hosts, and %s names %d; remedy: --nodes %d, or list more hosts", count, p.c.HostsFile, len(entries), len(entries))
	}
	if count > 0 {
		entries = entries[:count]
	}
	client, err := readClientConfig(p.c.Home)
	if err != nil {
		return nil, err
	}
	out := make([]*remote, len(entries))
	for i, e := range entries {
		way, err := client.way(e)
		if err != nil {
			return nil, err
		}
		out[i] = &remote{p: p, e: e, way: way, id: nodes.ID(i + 1)}
	}
	return out, nil
}

// each does the same on many hosts at once and returns all errors.
func each(rs []*remote, do func(*remote) error) error {
	errs := make([]error, len(rs))
	var work sync.WaitGroup
	for i, r := range rs {
		work.Go(func() { errs[i] = do(r) })
	}
	work.Wait()
	return together(rs, errs)
}

// Probe logs in to the hosts, once in the life of this Provider, and says what
// can be done on all of them.
func (p *Provider) Probe(ctx context.Context, o nodes.Options) nodes.Abilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.probed[o.Nodes]
	if !ok {
		var err error
		if a, err = p.probe(ctx, o.Nodes); err != nil {
			return unable(err)
		}
		p.probed[o.Nodes] = a
	}
	return a
}

// unable says of every kind of effect why it can't be brought about.
func unable(why error) nodes.Abilities {
	a := nodes.Abilities{Network: Firewall, Err: why, Effects: map[nodes.EffectKind]error{}}
	for _, k := range []nodes.EffectKind{
		nodes.Down, nodes.Frozen, nodes.Cut, nodes.CutData, nodes.Delayed, nodes.Lossy, nodes.Duplicated, nodes.Reordered, nodes.Limited,
	} {
		a.Effects[k] = why
	}
	return a
}

func (p *Provider) probe(ctx context.Context, count int) (a nodes.Abilities, err error) {
	rs, err := p.remotes(count)
	if err != nil {
		return a, err
	}
	answers := make([]answer, len(rs))
	err = each(rs, func(r *remote) (err error) {
		defer r.leave(ctx, false) // hangs up, since no run was begun
		answers[r.id-1], err = r.ask(ctx, request{Op: opLook})
		return err
	})
	if err == nil {
		_, err = membersOf(rs) // told here, before there is a run's folder
	}
	if err != nil {
		return a, err
	}
	a = nodes.Abilities{Network: Firewall, Effects: map[nodes.EffectKind]error{}}
	for i, r := range rs {
		for kind, why := range answers[i].Effects {
			if _, ok := a.Effects[kind]; !ok {
				a.Effects[kind] = nil
			}
			if why != "" && a.Effects[kind] == nil {
				a.Effects[kind] = fmt.Errorf("%s: %s%s", r.e.name, why, r.plainRemedy())
			}
		}
	}
	return a, nil
}

// plainRemedy says what a plain user lacks.
func (r *remote) plainRemedy() string {
	if _, err := r.facts.rights(r.e); err != nil {
		return "; " + err.Error()
	}
	return ""
}

// Launch starts a node on each of the first o.Nodes hosts.
func (p *Provider) Launch(ctx context.Context, s nodes.System, o nodes.Options) (nodes.Cluster, error) {
	if o.Nodes < 1 || o.Nodes > hostsMax {
		return nil, fmt.Errorf("ssh: %d nodes; this provider hosts 1 to %d", o.Nodes, hostsMax)
	}
	if o.Network != "" && o.Network != Firewall {
		return nil, fmt.Errorf("ssh: no network %q; there is %s", o.Network, Firewall)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rs, err := p.remotes(o.Nodes)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("ssh: the run's folder: %w", err)
	}
	o.Dir = dir
	if err := os.MkdirAll(filepath.Join(dir, "nodes"), 0o755); err != nil {
		return nil, fmt.Errorf("ssh: the folder for nodes: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "nodes", "agents.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("ssh: the log of the agents: %w", err)
	}
	l := &launch{p: p, o: o, system: s, remotes: rs, log: log, drawn: drawName()}
	f, err := l.start(ctx)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// A launch is one cluster's hosts.
type launch struct {
	p       *Provider
	o       nodes.Options
	system  nodes.System
	remotes []*remote
	log     io.WriteCloser
	drawn   string

	mu      sync.Mutex
	unsaved []nodes.ID // whose files could not be fetched
}

func (l *launch) start(ctx context.Context) (*agent.Fleet, error) {
	err := l.reach(ctx)
	if err == nil {
		l.tell()
	}
	var members []nodes.Member
	if err == nil {
		members, err = membersOf(l.remotes)
	}
	if err == nil {
		err = l.bringPrograms(ctx, members)
	}
	if err != nil {
		return nil, errors.Join(err, l.stop(context.WithoutCancel(ctx)))
	}
	hosts := make([]agent.Host, len(l.remotes))
	for i, r := range l.remotes {
		hosts[i] = agent.Host{
			Self: members[i], View: members, Dir: r.nodeDir(), Clients: []string{members[i].Host},
			Open: r.open, Adapt: r.adapt, Fetch: func(ctx context.Context) error { return l.fetch(ctx, r) },
		}
	}
	return agent.NewFleet(ctx, agent.FleetOptions{ // which stops the hosts where it fails
		System: l.system, Options: l.o, Hosts: hosts, ProbePort: l.probePort(),
		Dial: l.dial, Stop: l.stop, StopEndsAll: true,
	})
}

// reach logs in to all hosts.
func (l *launch) reach(ctx context.Context) error {
	return each(l.remotes, func(r *remote) error {
		r.log = &prefixed{prefix: r.e.name + ": ", to: l.log, mu: &l.mu}
		r.name = runName(word(l.o.Cluster), l.drawn, r.e.name)
		return r.connect(ctx)
	})
}

// tell says what reaching the hosts came to.
func (l *launch) tell() {
	if l.o.Log == nil {
		return
	}
	brought := 0
	for _, r := range l.remotes {
		if r.fresh {
			brought++
		}
	}
	l.o.Log(fmt.Sprintf("%d hosts reached, the program brought to %d", len(l.remotes), brought))
}

// membersOf are the nodes as they see each other and as the harness names them.
// It refuses addresses that a run could not live with.
func membersOf(rs []*remote) ([]nodes.Member, error) {
	if err := apart(rs); err != nil {
		return nil, err
	}
	var out []nodes.Member
	owners := map[netip.Addr]*remote{}
	for _, r := range rs {
		if twin := owners[r.inside]; twin != nil {
			return nil, fmt.Errorf("ssh: %s and %s both have the address %s for other nodes; remedy: inside: in the hosts file", twin.e.name, r.e.name, r.inside)
		}
		if r.inside.IsLoopback() && len(rs) > 1 {
			return nil, fmt.Errorf("ssh: %s: no other node reaches the address %s; remedy: inside: in the hosts file", r.e.name, r.inside)
		}
		owners[r.inside] = r
		out = append(out, nodes.Member{
			ID: r.id, Host: r.inside.String(), Peer: r.e.ports, Client: r.e.ports + 1, Status: r.e.ports + 2,
		})
	}
	for _, r := range rs {
		if !r.facts.from.IsValid() {
			return nil, fmt.Errorf("ssh: %s does not tell where our connection comes from (SSH_CONNECTION), so it can't be kept clear of partitions; remedy: an SSH server that sets it, like OpenSSH", r.e.name)
		}
		if node := owners[r.facts.from]; node != nil {
			return nil, fmt.Errorf("ssh: the connection to %s comes from %s, which is the address of the node %s (%s): a partition would cut the harness off its own hosts; remedy: run chaos on, and jump over, machines that are no nodes, or give the nodes other addresses by inside: in the hosts file",
				r.e.name, r.facts.from, node.id, node.e.name)
		}
	}
	if slices.ContainsFunc(rs, func(r *remote) bool { return r.e.ports != rs[0].e.ports }) {
		return nil, errors.New("ssh: the hosts file gives hosts different ports, but the probes of links need one for all; remedy: say ports in defaults")
	}
	return out, nil
}

// apart refuses hosts that share one network, whatever they are called: what
// happens to one node would happen to the other, and agents of one run would
// take each other's rules away.
func apart(rs []*remote) error {
	met := map[string]*remote{}
	for _, r := range rs {
		if twin := met[r.facts.network]; twin != nil && r.facts.network != "" {
			return fmt.Errorf("ssh: %s and %s are the same machine, with one network: it can be the host of one node only; remedy: name every machine once in the hosts file; containers and network namespaces with an SSH server each are hosts of their own",
				twin.e.name, r.e.name)
		}
		met[r.facts.network] = r
	}
	return nil
}

func (l *launch) probePort() int { return l.remotes[0].e.ports + portCount - 1 }

func (l *launch) bringPrograms(ctx context.Context, members []nodes.Member) error {
	return each(l.remotes, func(r *remote) error {
		return r.bring(ctx, l.system.Exec(members[r.id-1], members, r.nodeDir(), l.o).Path)
	})
}

func (l *launch) dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if m.ID < 1 || int(m.ID) > len(l.remotes) {
		return nil, fmt.Errorf("ssh: there is no node %s", m.ID)
	}
	return l.remotes[m.ID-1].dial(ctx, m, p)
}

func (l *launch) fetch(ctx context.Context, r *remote) error {
	err := r.fetch(ctx, filepath.Join(l.o.Dir, "nodes", r.id.String()))
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unsaved = append(l.unsaved, r.id)
		return fmt.Errorf("%w; the files stay on %s in %s until chaos clean --provider ssh", err, r.e.name, r.run)
	}
	return nil
}

// stop leaves every host as it was found, but for the program.
func (l *launch) stop(ctx context.Context) error {
	l.mu.Lock()
	unsaved := slices.Clone(l.unsaved)
	l.mu.Unlock()
	err := each(l.remotes, func(r *remote) error { return r.leave(ctx, slices.Contains(unsaved, r.id)) })
	return errors.Join(err, l.log.Close())
}

// prefixed writes lines of many hosts into one log.
type prefixed struct {
	prefix string
	to     io.Writer
	mu     *sync.Mutex
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintf(p.to, "%s%s", p.prefix, b); err != nil {
		return len(b), nil // a full disk must not end an agent's session
	}
	return len(b), nil
}

// word makes a cluster's name fit for the name of a table, as agents do.
func word(s string) string {
	b := []byte(s)
	for i, c := range b {
		if !isWord(string(rune(c))) {
			b[i] = '_'
		}
	}
	if len(b) == 0 {
		return "run"
	}
	return string(b[:min(len(b), 64)])
}
