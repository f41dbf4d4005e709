// Package docker runs a cluster in containers, one for each node.
//
// From a host that can reach an engine it makes the containers itself: on a
// private network that leads nowhere else, with fixed addresses, a read-only
// root, a volume for the node's data, and one capability, NET_ADMIN. The first
// process of each is our agent, reached through the container's attach stream,
// which carries everything: commands, evidence, the clients' connections. So an
// engine on another machine, one without root and one in a virtual machine
// serve as well as one next door.
//
// Inside a compose project, where a control service runs the harness, the
// agents are reached over the private network with a key made for the run, and
// no engine is asked for anything.
package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/distribution/reference"

	"chaos/nodes"
)

// Network is how links are hurt here: inside the containers.
const Network = "containers"

// DefaultImage is the name of the image, where nobody asks for another.
const DefaultImage = "chaos:latest"

// nodesMax is the largest cluster: hosts share one /24 network, and the first
// addresses of it are the gateway's and the clients'.
const nodesMax = 200

// Ports that every host has: nobody else lives there.
const (
	peerPort   = 7000
	clientPort = 7001
	statusPort = 7002
	probePort  = 7003
)

// dataDir is the folder of a host that outlives it: its volume.
const dataDir = "/data"

// Config says which containers to use. Its zero value makes fresh ones.
type Config struct {
	// Image is the name of the image; "" is [DefaultImage].
	Image string
	// Project names what is made. Where containers n1, n2, … of a project of
	// that name are there already, they are used, and left as they were found.
	Project string
	// Subnet is an IPv4 network of 24 bits for the hosts, "10.77.3.0/24"; "" is
	// one that is free.
	Subnet string
	// Agents are the addresses of agents that listen, by node; with them no
	// engine is needed. KeyFile is where the key for this run is written, for
	// the agents to read.
	Agents  map[nodes.ID]string
	KeyFile string
	// Sidecars are containers that somebody else made, by node: only their links
	// are hurt, by a container of ours that shares their network.
	Sidecars map[nodes.ID]string
}

// A Provider runs clusters in containers.
type Provider struct {
	program string
	config  Config

	mu    sync.Mutex
	tried *abilities // what trying gave, once in the life of the provider
}

var _ nodes.Provider = (*Provider)(nil)

// New is a provider whose hosts run program, a static Linux binary of chaos.
// "" is the running binary.
func New(program string, c Config) *Provider {
	if c.Image == "" {
		c.Image = DefaultImage
	}
	if name, err := tagged(c.Image); err == nil { // else Check or the engine says so
		c.Image = name
	}
	return &Provider{program: program, config: c}
}

// Check finds what can't be meant so, before any engine is asked.
func (c Config) Check() error {
	var errs []error
	if _, err := tagged(c.Image); c.Image != "" && err != nil {
		errs = append(errs, err)
	}
	if _, err := parseSubnet(c.Subnet); c.Subnet != "" && err != nil {
		errs = append(errs, err)
	}
	if c.Project != "" && !projectName.MatchString(c.Project) {
		errs = append(errs, fmt.Errorf("docker: --project %q: it is made of letters, digits, _, . and -, and begins with a letter or a digit", c.Project))
	}
	if len(c.Agents) > 0 && c.KeyFile == "" {
		errs = append(errs, errNoKey)
	}
	return errors.Join(errs...)
}

// projectName is what engines take for the names of containers and networks.
var projectName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// tagged is an image's name with a tag: latest, where it has none.
func tagged(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("docker: --image %q: %w: name it like %s", image, err, DefaultImage)
	}
	if _, fixed := named.(reference.Digested); fixed {
		return "", fmt.Errorf("docker: --image %q: a checksum can't be chosen: name it like %s", image, DefaultImage)
	}
	return reference.FamiliarString(reference.TagNameOnly(named)), nil
}

// Name is what --provider calls it.
func (p *Provider) Name() string { return "docker" }

// path is the program that goes into the image.
func (p *Provider) path() (string, error) {
	if p.program != "" {
		return filepath.Abs(p.program)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("docker: where is this program? %w", err)
	}
	return self, nil
}

// Launch makes a host for every node, or takes those that are there, and starts the nodes.
func (p *Provider) Launch(ctx context.Context, s nodes.System, o nodes.Options) (nodes.Cluster, error) {
	if o.Nodes < 1 || o.Nodes > nodesMax {
		return nil, fmt.Errorf("docker: %d nodes; this provider hosts 1 to %d", o.Nodes, nodesMax)
	}
	if o.Network != "" && o.Network != Network {
		return nil, fmt.Errorf("docker: no network %q; there is only %s", o.Network, Network)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("docker: the run's folder: %w", err)
	}
	o.Dir = dir
	if err := os.MkdirAll(filepath.Join(dir, "nodes"), 0o755); err != nil {
		return nil, fmt.Errorf("docker: the folder for nodes: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	if len(p.config.Agents) > 0 {
		return p.launchListening(ctx, s, o)
	}
	return p.launchContainers(ctx, s, o)
}

// ParseAgents reads "n1=10.77.0.11:7100,n2=…".
func ParseAgents(list string) (map[nodes.ID]string, error) { return parseByNode("agents", list) }

// ParseSidecars reads "n1=CONTAINER,n2=…".
func ParseSidecars(list string) (map[nodes.ID]string, error) { return parseByNode("containers", list) }

func parseByNode(what, list string) (map[nodes.ID]string, error) {
	if list == "" {
		return nil, nil
	}
	out := map[nodes.ID]string{}
	for _, one := range strings.Split(list, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(one), "=")
		id, err := nodes.ParseID(name)
		if err != nil || !ok || value == "" {
			return nil, fmt.Errorf("docker: %q in the list of %s is not like n1=NAME", one, what)
		}
		if out[id] != "" {
			return nil, fmt.Errorf("docker: %s is twice in the list of %s", id, what)
		}
		out[id] = value
	}
	return out, nil
}
