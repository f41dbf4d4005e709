package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"chaos/nodes"
)

// The labels of everything that a run makes. What lacks labelRun is never
// removed by anything here.
const (
	labelRun     = "chaos.run"     // the run's folder, for people
	labelOwner   = "chaos.owner"   // the harness
	labelProject = "chaos.project" // one name for all of it
	labelHost    = "chaos.host"    // containers: the node's name
	labelHolds   = "chaos.holds"   // a lock: the containers of others that the run uses
	labelFolder  = "chaos.folder"  // a lock: the run's folder in each of them
)

const (
	startWait   = 2 * time.Minute       // from the first thing that a run makes to a container that runs
	makeWait    = 30 * time.Second      // for the engine to make one thing
	removeWait  = 20 * time.Second      // for everything of a run to be gone
	removeTries = 40                    // to remove a network that the engine still believes in use
	removePause = 50 * time.Millisecond // between two of them
	subnetTries = 16                    // free networks that turn out to be taken
	firstHost   = 10                    // n1 is .11
	pidsMax     = 4096                  // processes and threads of one host
)

// A set is everything that one run made in an engine.
type set struct {
	e       *engine
	project string
	labels  map[string]string
	network string // ID
	image   string // ID
	prefix  netip.Prefix
	joined  map[nodes.ID]string // the containers whose networks the hosts share
	hosts   []*box
}

// nameSet names what is to be made, and makes nothing.
func (p *Provider) nameSet(ctx context.Context, e *engine, image, run string) (*set, error) {
	s := &set{e: e, project: p.config.Project, image: image, labels: map[string]string{labelRun: run, labelOwner: self().String()}}
	if s.project == "" {
		s.project = "chaos-" + fresh()
	}
	s.labels[labelProject] = s.project
	return s, s.vacant(ctx)
}

// newSet is nameSet with a network.
func (p *Provider) newSet(ctx context.Context, e *engine, image, run string) (*set, error) {
	s, err := p.nameSet(ctx, e, image, run)
	if err != nil {
		return nil, err
	}
	if p.config.Subnet != "" {
		if s.prefix, err = parseSubnet(p.config.Subnet); err != nil {
			return nil, err
		}
		err = s.makeNetwork(ctx)
	} else {
		err = s.findNetwork(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// vacant refuses a project's name that is taken.
func (s *set) vacant(ctx context.Context) error {
	taken, err := s.e.things(ctx, labelProject+"="+s.project)
	if err != nil {
		return err
	}
	if len(taken) > 0 {
		if dead := orphans(taken); len(dead) > 0 {
			return fmt.Errorf("docker: a run that died left the project %s, %v the first: chaos clean --provider docker removes it", s.project, dead[0])
		}
		return fmt.Errorf("docker: the project %s is in use already by the run %s: wait for its end, or choose another --project", s.project, taken[0].Run)
	}
	// An engine may take one name for two networks.
	same, err := s.e.NetworkList(ctx, client.NetworkListOptions{Filters: client.Filters{}.Add("name", s.project)})
	if err != nil {
		return fmt.Errorf("docker: listing networks: %w", err)
	}
	for _, n := range same.Items {
		if n.Name == s.project {
			return fmt.Errorf("docker: there is a network %s already, which is not ours: choose another --project", s.project)
		}
	}
	return nil
}

// fresh is a short name that nothing else has.
func fresh() string {
	var b [4]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// parseSubnet reads --subnet.
func parseSubnet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Bits() != 24 || p.Masked() != p || !p.Addr().IsPrivate() {
		return p, fmt.Errorf("docker: --subnet %q is not a private IPv4 network of 24 bits, like 10.77.3.0/24", s)
	}
	return p, nil
}

// errTaken is what an engine says of a network that overlaps with another one.
const errTaken = "overlaps"

// makeNetwork makes a network that leads nowhere else.
func (s *set) makeNetwork(ctx context.Context) error {
	ctx, cancel := unbroken(ctx)
	defer cancel()
	r, err := s.e.NetworkCreate(ctx, s.project, client.NetworkCreateOptions{
		Driver: "bridge", Internal: true, Labels: s.labels,
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: s.prefix, Gateway: s.prefix.Addr().Next()}}},
	})
	switch {
	case err == nil:
		s.network = r.ID
		return nil
	case strings.Contains(err.Error(), errTaken):
		return fmt.Errorf("docker: the subnet %s is taken (%w): choose another with --subnet, or see docker network ls; chaos clean --provider docker removes what dead runs left",
			s.prefix, err)
	}
	return fmt.Errorf("docker: making the network %s: %w", s.project, err)
}

// findNetwork tries networks by chance until one is free.
func (s *set) findNetwork(ctx context.Context) (err error) {
	for range subnetTries {
		s.prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + mrand.IntN(100)), byte(mrand.IntN(256)), 0}), 24)
		if s.e.at.local() && usedHere(s.prefix) {
			err = fmt.Errorf("docker: the subnet %s is in use on this machine", s.prefix)
			continue
		}
		if err = s.makeNetwork(ctx); err == nil || !strings.Contains(err.Error(), errTaken) {
			return err
		}
	}
	return err
}

// usedHere tells whether a network of this machine overlaps, which an engine
// here would not notice.
func usedHere(p netip.Prefix) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if other, err := netip.ParsePrefix(a.String()); err == nil && other.Masked().Overlaps(p) {
			return true
		}
	}
	return false
}

// addr is the address of one node's host.
func (s *set) addr(id nodes.ID) netip.Addr {
	b := s.prefix.Addr().As4()
	b[3] = byte(firstHost + int(id))
	return netip.AddrFrom4(b)
}

// members are the nodes on the set's network.
func (s *set) members(n int) []nodes.Member {
	out := make([]nodes.Member, n)
	for i := range out {
		id := nodes.ID(i + 1)
		out[i] = nodes.Member{ID: id, Host: s.addr(id).String(), Peer: peerPort, Client: clientPort, Status: statusPort}
	}
	return out
}

// unbroken bounds a request that makes something, and lets it come to its end
// where ctx does not: what an engine makes for somebody who has gone is there
// only after he has tidied up.
func unbroken(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), makeWait)
}

// create makes the container of every member, side by side.
func (s *set) create(ctx context.Context, members []nodes.Member) error {
	errs := make([]error, len(members))
	s.hosts = make([]*box, len(members))
	var work sync.WaitGroup
	for i, m := range members {
		work.Go(func() { s.hosts[i], errs[i] = s.makeHost(ctx, m) })
	}
	work.Wait()
	return errors.Join(errs...)
}

// dropped is what engines give a container beside NET_RAW, which doubled packets
// need, and what no host of ours has a use for.
var dropped = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
	"NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}

// makeHost makes one container: a root that can't be written, a volume, one capability.
func (s *set) makeHost(ctx context.Context, m nodes.Member) (*box, error) {
	name := s.project + "-" + m.ID.String()
	labels := maps.Clone(s.labels)
	labels[labelHost] = m.ID.String()
	limit := int64(pidsMax)
	mode, hostname, net := s.place(m)
	ctx, cancel := unbroken(ctx)
	defer cancel()
	r, err := s.e.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name:   name,
		Config: agentConfig(s.image, hostname, labels),
		HostConfig: &container.HostConfig{
			NetworkMode: mode,
			CapDrop:     dropped, CapAdd: []string{"NET_ADMIN"},
			SecurityOpt:    []string{"no-new-privileges"},
			ReadonlyRootfs: true,
			LogConfig:      container.LogConfig{Type: "none"}, // the stream is for us alone, and not text
			Resources:      container.Resources{PidsLimit: &limit},
			Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: name, Target: dataDir,
				VolumeOptions: &mount.VolumeOptions{NoCopy: true, Labels: s.labels}}},
		},
		NetworkingConfig: net,
	})
	if err != nil {
		return nil, fmt.Errorf("docker: making the container %s: %w", name, err)
	}
	return &box{e: s.e, id: r.ID, name: name, node: m.ID, dir: dataDir}, nil
}

// place is where a host stands: at its address on the set's network, or in the
// network of another container, which then gives the name as well.
func (s *set) place(m nodes.Member) (mode container.NetworkMode, hostname string, net *network.NetworkingConfig) {
	if joined := s.joined[m.ID]; joined != "" {
		return container.NetworkMode("container:" + joined), "", nil
	}
	return container.NetworkMode(s.network), m.ID.String(), &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		s.network: {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: s.addr(m.ID)}},
	}}
}

// agentConfig is a container whose first process is an agent behind a door,
// which ends when the stream to it does.
func agentConfig(image, hostname string, labels map[string]string) *container.Config {
	return &container.Config{
		Image: image, Hostname: hostname, Labels: labels, WorkingDir: "/",
		Entrypoint: []string{programPath}, Cmd: []string{"agent", "--door"},
		OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}
}

// remove takes everything of the set away, and verifies it.
func (s *set) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWait)
	defer cancel()
	left, err := s.e.things(ctx, labelProject+"="+s.project)
	if err != nil {
		return err
	}
	return s.e.removeAll(ctx, slices.DeleteFunc(left, func(l Leftover) bool {
		return l.owner.String() != s.labels[labelOwner] || l.Run != s.labels[labelRun] // another harness took the same name
	}))
}
