// Package nodes names what chaos works on: a System to test, a Provider of
// places for it to run, a Cluster of running nodes, and the Effects that hurt
// it. It holds the words and the pure bookkeeping; the packages below it act.
package nodes

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"chaos/history"
	"chaos/nodes/consensus"
)

// ID names one node; it is written n1, n2, ….
type ID = consensus.ID

// ParseID reads a node's name: "n3".
func ParseID(s string) (ID, error) { return consensus.ParseID(s) }

// Clients is the ID that stands for every client in an [Effect]'s From or To.
const Clients ID = 0

// A Port is one of the doors of a node.
type Port string

// The ports of a node.
const (
	PeerPort   Port = "peer"   // nodes among themselves
	ClientPort Port = "client" // clients
	StatusPort Port = "status" // people and the harness: JSON over HTTP
)

// A Member is one node as another one sees it. Under a relay the same node has
// a different address for each of its peers.
type Member struct {
	ID     ID
	Host   string // an IP address
	Peer   int
	Client int
	Status int
}

// Addr is the address of one port, for net.Dial.
func (m Member) Addr(p Port) string {
	port := map[Port]int{PeerPort: m.Peer, ClientPort: m.Client, StatusPort: m.Status}[p]
	return net.JoinHostPort(m.Host, itoa(port))
}

// Knobs are the settings of our own nodes that a plan fixes. Zero means the default.
type Knobs struct {
	Tick            time.Duration `json:"tick"`                       // one tick of the core; default 10ms
	HeartbeatTicks  int           `json:"heartbeat_ticks"`            // default 3
	ElectionTicks   int           `json:"election_ticks"`             // base of [base, 2*base); default 20
	SnapshotEntries int           `json:"snapshot_entries,omitempty"` // applied entries between snapshots; 0: the default, 10000
	CrashAt         string        `json:"crash_at,omitempty"`         // "n2:sync:40": n2 kills itself at its 40th passage of that crash point
}

// Crash takes CrashAt apart: the node, and "sync:40". Both are empty where
// nothing is armed.
func (k Knobs) Crash() (id ID, spec string, err error) {
	if k.CrashAt == "" {
		return 0, "", nil
	}
	name, spec, ok := strings.Cut(k.CrashAt, ":")
	if id, err = ParseID(name); err != nil || !ok {
		return 0, "", fmt.Errorf("nodes: %q is not of the form n2:sync:40", k.CrashAt)
	}
	return id, spec, nil
}

// An Exec is how to start one node.
type Exec struct {
	Path  string            // the program
	Args  []string          // without the program's name
	Env   []string          // added to a minimal environment
	Files map[string][]byte // written into the node's folder first; relative names
	Ready Port              // the port that accepts when the node has started
}

// A DialFunc opens a connection to one port of a node, as a client of the run.
type DialFunc func(ctx context.Context, m Member, p Port) (net.Conn, error)

// A System is something to test: how to start one node, and how to talk to it.
type System interface {
	// Name is what --system calls it.
	Name() string
	// Exec says how to start self. dir is the node's own folder; it outlives restarts.
	Exec(self Member, all []Member, dir string, o Options) Exec
	// Dial opens a client of one node. It does not need the node to be up.
	Dial(ctx context.Context, m Member, dial DialFunc, o Options) (Client, error)
	// Observe asks one node what it believes.
	Observe(ctx context.Context, m Member, dial DialFunc) (Status, error)
	// Modes are the read modes that it offers; the first is the default.
	Modes() []string
}

// A Client acts for processes, one operation at a time. It returns no error: a
// doubtful end is an Info event. It never retries and never follows a redirect.
// ctx bounds the wait for the answer.
type Client interface {
	Do(ctx context.Context, invoke history.Event) (completion history.Event)
	Close() error
}

// Status is what a node says of itself, and what the harness saw of it.
type Status struct {
	consensus.Status
	Hash        string `json:"hash"`        // hash chain over applied commands, at Applied
	Incarnation uint64 `json:"incarnation"` // counts the node's starts, from 1
}

// Options are what a cluster is launched with.
type Options struct {
	Nodes   int           // how many
	Dir     string        // the run's folder; node n3 gets nodes/n3 below it
	Cluster string        // a name drawn for this execution; nodes and clients refuse others
	Knobs   Knobs         //
	Lease   time.Duration // how long a fault lives when nobody renews it
	Network string        // local: "", namespaces, relay
	Log     func(string)  // one line for the person who watches; may be nil
}

// A Provider hosts clusters: as local processes, in Docker, over SSH, in simulation.
type Provider interface {
	Name() string
	// Probe says what can be done here with those options, and for the rest why
	// not and the remedy.
	Probe(ctx context.Context, o Options) Abilities
	// Launch makes the hosts and starts every node on them. It returns when
	// all processes run; it does not wait until they serve.
	Launch(ctx context.Context, s System, o Options) (Cluster, error)
}

// A Cluster is a running set of nodes.
//
// What is wrong with it is data: each injection holds a set of Effects, and what
// holds on a node or link is the sum over all live injections ([Wanted]). So
// overlapping faults never undo each other, and a host that comes back is
// brought to what is wanted. Each call waits for nothing but its own effect and
// returns evidence of it.
type Cluster interface {
	Members() []Member
	// Dial connects as a client of the run does; ctx bounds it.
	Dial(ctx context.Context, m Member, p Port) (net.Conn, error)
	// Apply adds the effects under the injection's name, and proves that they hold.
	Apply(ctx context.Context, injection string, effects []Effect) (Evidence, error)
	// Verify proves again that the injection's effects hold, and held since Apply.
	Verify(ctx context.Context, injection string) (Evidence, error)
	// Revert takes the injection away, and proves that what no other injection wants is gone.
	Revert(ctx context.Context, injection string) (Evidence, error)
	// Incidents delivers what happened that nobody asked for. It is closed by Close.
	Incidents() <-chan Incident
	// Close reverts everything, stops every node, fetches what belongs into
	// the run's folder, and leaves nothing behind.
	Close(ctx context.Context) error
}

// An Incident is something that happened to a node or a host unasked.
type Incident struct {
	Node   ID     `json:"node"`
	Kind   string `json:"kind"` // "exit", "agent-lost", "lapse"
	Detail string `json:"detail"`
	Panic  bool   `json:"panic,omitempty"` // exit: the node's log ends in a panic
}

// Abilities is what a provider can do on this machine: for each kind of effect
// nil, or an error that says why not and the remedy. A kind that is missing can't be done.
type Abilities struct {
	Network string // how links are hurt: "namespaces", "relay", …
	Note    string // one line for people, when the choice needs saying
	Err     error  // why nothing can run here at all, and the remedy; nil where something can
	Effects map[EffectKind]error
}
