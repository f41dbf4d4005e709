// Package local runs a cluster as processes of this machine.
//
// On Linux every node lives on a host of its own: a network namespace with an
// address on a bridge that leads nowhere else. A child of ours, the hub, is the
// first process of a new process namespace, makes the hosts, starts an agent on
// each and hands out connected sockets; when it ends, everything ends with it.
// None of it needs root where user namespaces are allowed.
//
// Elsewhere, and where it is asked for, the nodes share 127.0.0.1 and every
// link between them is a relay (package relay) in the harness itself.
package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"chaos/nodes"
	"chaos/nodes/relay"
)

// The ways to hurt links, as [nodes.Options] names them.
const (
	Namespaces = "namespaces"
	Relay      = "relay"
)

// nodesMax is the largest cluster: hosts share one /24 network.
const nodesMax = 200

// A Provider runs clusters as local processes.
type Provider struct{ program string }

var _ nodes.Provider = (*Provider)(nil)

// New is a provider whose hubs and agents are started as "program hub" and
// "program agent". An empty program is this one.
func New(program string) *Provider { return &Provider{program: program} }

// Name is what --provider calls it.
func (p *Provider) Name() string { return "local" }

// Probe tries what this machine allows, once in the life of this process, and
// says what the network of o can do: one that was asked for, or the best one.
func (p *Provider) Probe(ctx context.Context, o nodes.Options) nodes.Abilities {
	if o.Network == Relay {
		return relayed("")
	}
	effects, err := p.tryNamespaces(ctx)
	switch {
	case err == nil && effects[nodes.Cut] != nil:
		err = effects[nodes.Cut]
	case err == nil:
		for _, k := range []nodes.EffectKind{nodes.Delayed, nodes.Limited} {
			if e := effects[k]; e != nil {
				effects[k] = fmt.Errorf("%w; or let links be relayed: --network %s", e, Relay)
			}
		}
		effects[nodes.Reset] = errReset
		return nodes.Abilities{Network: Namespaces, Effects: effects}
	}
	if ctx.Err() != nil {
		return nodes.Abilities{Err: ctx.Err()} // nothing is known
	}
	if o.Network == Namespaces {
		a := nodes.Abilities{Network: Namespaces, Effects: map[nodes.EffectKind]error{}}
		a.Err = fmt.Errorf("%w; or let links be relayed: --network %s", err, Relay)
		for k := range relayed("").Effects {
			a.Effects[k] = a.Err
		}
		a.Effects[nodes.Reset] = errReset
		return a
	}
	return relayed(fmt.Sprintf("links are relayed, since namespaces can't be used here: %v", err))
}

// errReset says why namespaces reset nothing.
var errReset = errors.New("connections are reset by relays alone: --network " + Relay)

// relayed is what agents and a relay can do, anywhere.
func relayed(note string) nodes.Abilities {
	effects := relay.Effects()
	effects[nodes.Down], effects[nodes.Frozen] = nil, nil
	return nodes.Abilities{Network: Relay, Note: note, Effects: effects}
}

// tries remembers for every program what trying namespaces with it gave.
var tries struct {
	sync.Mutex
	known map[string]try
}

type try struct {
	effects map[nodes.EffectKind]error
	err     error
}

func (p *Provider) tryNamespaces(ctx context.Context) (map[nodes.EffectKind]error, error) {
	tries.Lock()
	defer tries.Unlock()
	known, ok := tries.known[p.program]
	if !ok {
		known.effects, known.err = p.probeNamespaces(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err() // tells nothing of the machine
		}
		if tries.known == nil {
			tries.known = map[string]try{}
		}
		tries.known[p.program] = known
	}
	effects := map[nodes.EffectKind]error{}
	for k, e := range known.effects {
		effects[k] = e
	}
	return effects, known.err
}

// Launch makes a host for every node and starts the nodes.
func (p *Provider) Launch(ctx context.Context, s nodes.System, o nodes.Options) (nodes.Cluster, error) {
	if o.Nodes < 1 || o.Nodes > nodesMax {
		return nil, fmt.Errorf("local: %d nodes; this provider hosts 1 to %d", o.Nodes, nodesMax)
	}
	if o.Network != "" && o.Network != Namespaces && o.Network != Relay {
		return nil, fmt.Errorf("local: no network %q; there are %s and %s", o.Network, Namespaces, Relay)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("local: the run's folder: %w", err)
	}
	o.Dir = dir
	if err := os.MkdirAll(filepath.Join(dir, "nodes"), 0o755); err != nil {
		return nil, fmt.Errorf("local: the folder for nodes: %w", err)
	}
	network := o.Network
	if network == "" {
		a := p.Probe(ctx, o)
		if network = a.Network; a.Note != "" && o.Log != nil {
			o.Log(a.Note)
		}
	}
	if network == Relay {
		return p.launchRelayed(ctx, s, o)
	}
	return p.launchNamespaces(ctx, s, o)
}

// path is the program of hubs and agents.
func (p *Provider) path() (string, error) {
	if p.program != "" {
		return filepath.Abs(p.program)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("local: where is this program? %w", err)
	}
	return self, nil
}

// openLog opens the file that takes what hubs and agents print.
func openLog(o nodes.Options) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(o.Dir, "nodes", "agents.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("local: the log of the agents: %w", err)
	}
	return f, nil
}

func tcpAddr(host string, port int) *net.TCPAddr {
	return &net.TCPAddr{IP: net.ParseIP(host), Port: port}
}

func portOf(m nodes.Member, p nodes.Port) (int, error) {
	_, port, err := net.SplitHostPort(m.Addr(p))
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(port)
	if err != nil || n == 0 {
		return 0, errors.New("local: node " + m.ID.String() + " has no port " + string(p))
	}
	return n, nil
}
