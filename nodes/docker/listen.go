package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

const (
	keyBytes    = 32                     // of chance in a run's key
	listenWait  = 30 * time.Second       // for an agent to listen, and to know the key
	listenPause = 100 * time.Millisecond // between two tries
	tryWait     = 3 * time.Second        // for one try
)

// errNoKey is for agents that would ask for a key that nobody has written.
var errNoKey = errors.New("docker: --agents needs --key-file: a file in a folder that the hosts have as well, where the key of the run is written")

// A listener is a host whose agent listens at an address.
type listener struct {
	addr string
	key  string

	mu   sync.Mutex
	door *agent.Door
}

// launchListening uses agents that listen on a network which this process is on,
// too: clients connect to the nodes directly.
func (p *Provider) launchListening(ctx context.Context, s nodes.System, o nodes.Options) (nodes.Cluster, error) {
	members, err := p.listening(o.Nodes)
	if err != nil {
		return nil, err
	}
	key, err := p.makeKey()
	if err != nil {
		return nil, err
	}
	dir := path.Join(dataDir, safeName(o.Cluster))
	hosts := make([]agent.Host, len(members))
	doors := make([]*listener, len(members))
	for i, m := range members {
		own, err := addressTowards(m.Host)
		if err != nil {
			return nil, err
		}
		l := &listener{addr: p.config.Agents[m.ID], key: key}
		doors[i] = l
		hosts[i] = agent.Host{
			Self: m, View: members, Dir: dir, Clients: []string{own}, Open: l.open,
			Adapt: func(e nodes.Exec) nodes.Exec { return listened(e) },
			Fetch: func(ctx context.Context) error {
				return l.fetch(ctx, dir, filepath.Join(o.Dir, "nodes", m.ID.String()))
			},
		}
	}
	var d net.Dialer
	return newFleet(ctx, agent.FleetOptions{
		System: s, Options: o, Hosts: hosts, ProbePort: probePort,
		Dial: func(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", m.Addr(p))
		},
		Stop: func(context.Context) error {
			for _, l := range doors {
				l.shut()
			}
			return nil
		},
	})
}

// listened finds our program in the image of the hosts, which is ours as well.
func listened(e nodes.Exec) nodes.Exec {
	if self, err := os.Executable(); err == nil && e.Path == self {
		e.Path = programPath
	}
	return e
}

// listening are the members behind the agents that were named.
func (p *Provider) listening(n int) ([]nodes.Member, error) {
	out := make([]nodes.Member, n)
	for i := range out {
		id := nodes.ID(i + 1)
		host, _, err := net.SplitHostPort(p.config.Agents[id])
		if err != nil {
			return nil, fmt.Errorf("docker: --agents has no address of %s, and the plan wants %d nodes: name it, as in %s=10.77.0.%d:7100", id, n, id, firstHost+int(id))
		}
		if net.ParseIP(host) == nil {
			return nil, fmt.Errorf("docker: --agents: %s is at %q, which is no IP address", id, host)
		}
		out[i] = nodes.Member{ID: id, Host: host, Peer: peerPort, Client: clientPort, Status: statusPort}
	}
	return out, nil
}

// makeKey writes a fresh key where the agents read it. It may be read by all who
// get at the file: only hosts and control of the run have that folder.
func (p *Provider) makeKey() (string, error) {
	if p.config.KeyFile == "" {
		return "", errNoKey
	}
	b := make([]byte, keyBytes)
	rand.Read(b)
	key := hex.EncodeToString(b)
	temporary := p.config.KeyFile + ".new"
	err := os.WriteFile(temporary, []byte(key+"\n"), 0o444)
	if err == nil {
		err = os.Rename(temporary, p.config.KeyFile)
	}
	if err != nil {
		return "", fmt.Errorf("docker: writing the key of the run: %w", err)
	}
	return key, nil
}

// addressTowards is the address that a connection from here to there comes from.
func addressTowards(host string) (string, error) {
	c, err := net.Dial("udp", net.JoinHostPort(host, "7")) // sends nothing
	if err != nil {
		return "", fmt.Errorf("docker: no way to %s from here: %w: run where the hosts' network is, as the compose file's control does", host, err)
	}
	defer c.Close()
	own, _, err := net.SplitHostPort(c.LocalAddr().String())
	return own, err
}

// open waits until the agent listens and knows the key.
func (l *listener) open(ctx context.Context) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, listenWait)
	defer cancel()
	l.shut()
	for {
		d, err := l.try(ctx)
		if err == nil {
			l.mu.Lock()
			l.door = d
			l.mu.Unlock()
			return d.Agent(ctx)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("docker: no agent at %s within %s: %w: is its host up, and does it read this run's key?", l.addr, listenWait, err)
		case <-time.After(listenPause):
		}
	}
}

func (l *listener) try(ctx context.Context) (*agent.Door, error) {
	ctx, cancel := context.WithTimeout(ctx, tryWait)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	return agent.OpenDoor(ctx, conn, l.key)
}

func (l *listener) fetch(ctx context.Context, from, into string) error {
	l.mu.Lock()
	d := l.door
	l.mu.Unlock()
	if d == nil {
		return errors.New("docker: its door is closed")
	}
	return d.Fetch(ctx, from, into)
}

func (l *listener) shut() {
	l.mu.Lock()
	d := l.door
	l.door = nil
	l.mu.Unlock()
	if d != nil {
		d.Close()
	}
}

// safeName makes a cluster's name fit for a folder's.
func safeName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			b[i] = '_'
		}
	}
	if len(b) == 0 {
		return "run"
	}
	return string(b[:min(len(b), 64)])
}
