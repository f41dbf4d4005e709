package nodes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The read modes of etcd, as histories name them.
const (
	ModeLinearizable = "linearizable" // a quorum confirms an index, then the member reads its own state
	ModeSerializable = "serializable" // the member reads its own state, however old that is
)

// What etcd accepts of the timings that [Knobs] ask for.
const (
	etcdBeats       = 5                // heartbeats that an election time-out must hold at least
	etcdBeatMin     = time.Millisecond // its unit of time
	etcdElectionMax = 50 * time.Second
	etcdQuota       = 8 << 30 // bytes of a member's store; a history is full long before
)

// etcdProgram is what a host calls etcd: its PATH says where that is.
const etcdProgram = "etcd"

// An etcd is etcd of version 3.4 or later, as its own binary.
type etcd struct {
	name    string
	program string
	modes   []string
	names   *etcdNames
}

// Etcd is etcd, read by linearizable reads alone. program is the path of its
// binary on the nodes' hosts; "" is what the PATH there calls etcd.
func Etcd(program string) System {
	return newEtcd("etcd", program, ModeLinearizable)
}

// EtcdSerializable is etcd whose clients take serializable reads for
// linearizable ones, which they are not: it shows that stale reads are caught.
func EtcdSerializable(program string) System {
	return newEtcd("etcd-serializable", program, ModeLinearizable, ModeSerializable)
}

func newEtcd(name, program string, modes ...string) System {
	if program == "" {
		program = etcdProgram
	}
	return etcd{name: name, program: program, modes: modes, names: &etcdNames{}}
}

// Name is what --system calls it.
func (s etcd) Name() string { return s.name }

// Modes are the ways to read that an operation may draw.
func (s etcd) Modes() []string { return s.modes }

// EtcdVariable names the environment variable that holds the path of etcd's
// binary, where that is not what the PATH calls etcd.
const EtcdVariable = "CHAOS_ETCD"

// Refuse tells why etcd can't be tested with those options, on whatever machine,
// and the remedy. Its members know a cluster by the peer addresses that all of
// them were given, so each must see the same: behind relays each sees its own.
func (s etcd) Refuse(o Options) error {
	var errs []error
	if o.Nodes != 3 && o.Nodes != 5 {
		errs = append(errs, fmt.Errorf("etcd is tested with three or five members, as people run it; use --nodes 3 or --nodes 5, not %d", o.Nodes))
	}
	if o.Network == "relay" {
		errs = append(errs, errors.New("etcd's members must all see the same peer addresses, which a relay for each link can't give them; use --network namespaces, or another provider"))
	}
	if o.Knobs.CrashAt != "" {
		errs = append(errs, errors.New("etcd has no crash points; leave --crash-at out"))
	}
	return errors.Join(errs...)
}

// Missing tells what those hosts lack, and the remedy. Whether the program is there
// can be told only of hosts that have this machine's files: those in namespaces.
func (s etcd) Missing(o Options) error {
	if o.Network != "namespaces" {
		return nil
	}
	if _, err := exec.LookPath(s.program); err != nil {
		return fmt.Errorf("there is no etcd: %w; install it (apt-get install etcd-server), or name its binary in %s", err, EtcdVariable)
	}
	return nil
}

// Exec starts one member. It serves clients at its client port, and at its
// status port too, where no fault of clients hinders the look at its status.
func (s etcd) Exec(self Member, all []Member, dir string, o Options) Exec {
	peers := make([]string, 0, len(all))
	for _, m := range all {
		peers = append(peers, etcdName(o.Cluster, m.ID)+"="+etcdURL(m, PeerPort))
	}
	heartbeat, election := etcdTimings(o.Knobs.WithDefaults())
	args := []string{
		"--name", etcdName(o.Cluster, self.ID),
		"--data-dir", path.Join(dir, "data"),
		"--initial-cluster", strings.Join(peers, ","),
		"--initial-cluster-token", o.Cluster,
		"--initial-cluster-state", "new",
		"--listen-peer-urls", etcdURL(self, PeerPort),
		"--initial-advertise-peer-urls", etcdURL(self, PeerPort),
		"--listen-client-urls", etcdURL(self, ClientPort) + "," + etcdURL(self, StatusPort),
		"--advertise-client-urls", etcdURL(self, ClientPort),
		"--heartbeat-interval", milliseconds(heartbeat),
		"--election-timeout", milliseconds(election),
		"--snapshot-count", strconv.Itoa(o.Knobs.WithDefaults().SnapshotEntries),
		"--quota-backend-bytes", strconv.Itoa(etcdQuota),
		"--pre-vote",
		"--logger", "zap", "--log-outputs", "stderr",
	}
	// Versions up to 3.4 refuse to run on arm64 unless told so; elsewhere it says nothing.
	return Exec{Path: s.program, Args: args, Env: []string{"ETCD_UNSUPPORTED_ARCH=arm64"}, Ready: ClientPort}
}

// etcdTimings brings the timings of our own nodes within what etcd accepts.
func etcdTimings(k Knobs) (heartbeat, election time.Duration) {
	election = min(k.Tick*time.Duration(k.ElectionTicks), etcdElectionMax)
	heartbeat = max(etcdBeatMin, min(k.Tick*time.Duration(k.HeartbeatTicks), election/etcdBeats))
	return heartbeat, max(election, etcdBeats*heartbeat)
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10)
}

// etcdName is a member's name. It holds the cluster's, so that whoever asks a
// member for its name learns both.
func etcdName(cluster string, id ID) string { return cluster + "-" + id.String() }

func etcdURL(m Member, p Port) string { return "http://" + m.Addr(p) }

// Dial makes a client of one member; it connects when it is first used. The error is always nil.
func (s etcd) Dial(_ context.Context, m Member, dial DialFunc, o Options) (Client, error) {
	g := &gateway{
		host: m.Addr(ClientPort), name: etcdName(o.Cluster, m.ID),
		dial: func(ctx context.Context) (net.Conn, error) { return dial(ctx, m, ClientPort) },
	}
	return &etcdClient{gate: g, node: m.ID.String()}, nil
}

// Observe asks a member for its status, within a second. Another member's is an error.
func (s etcd) Observe(ctx context.Context, m Member, dial DialFunc) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	g := &gateway{
		host: m.Addr(StatusPort),
		dial: func(ctx context.Context) (net.Conn, error) { return dial(ctx, m, StatusPort) },
	}
	defer g.close()
	var a etcdStatus
	if end := g.call(ctx, "/v3/maintenance/status", etcdAlone, struct{}{}, &a); end != nil {
		return Status{}, fmt.Errorf("nodes: %s: status: %w", m.ID, end)
	}
	ids, err := s.names.of(ctx, g, a.Header.Cluster)
	if err == nil && ids[a.Header.Member] != m.ID {
		err = fmt.Errorf("the answer is of %s", ids[a.Header.Member])
	}
	if err != nil {
		return Status{}, fmt.Errorf("nodes: %s: status: %w", m.ID, err)
	}
	return a.status(ids), nil
}

// An etcdStatus is a member's answer of how it is.
type etcdStatus struct {
	Header  etcdHeader `json:"header"`
	Leader  uint64     `json:"leader,string"`
	Index   uint64     `json:"raftIndex,string"`        // committed
	Term    uint64     `json:"raftTerm,string"`         //
	Applied uint64     `json:"raftAppliedIndex,string"` //
}

// status says the same in our words. etcd tells no vote, no log and no hash.
func (a etcdStatus) status(ids map[uint64]ID) (s Status) {
	s.ID, s.Leader, s.Term = ids[a.Header.Member], ids[a.Leader], a.Term
	s.Commit, s.Applied, s.Last = a.Index, a.Applied, a.Index
	switch {
	case a.Leader == 0:
		s.Role = "candidate"
	case a.Leader == a.Header.Member:
		s.Role = "leader"
	default:
		s.Role = "follower"
	}
	return s
}

// etcdNames remembers which node a member of the cluster is that was asked last:
// its members never change.
type etcdNames struct {
	mu      sync.Mutex
	cluster uint64
	ids     map[uint64]ID
}

// of gives the nodes of the cluster's members, and asks for them where they are
// not known. The map is never changed.
func (n *etcdNames) of(ctx context.Context, g *gateway, cluster uint64) (map[uint64]ID, error) {
	n.mu.Lock()
	ids := n.ids
	if n.cluster != cluster {
		ids = nil
	}
	n.mu.Unlock()
	if ids != nil {
		return ids, nil
	}
	var list etcdMembers
	if end := g.call(ctx, etcdListPath, etcdAlone, struct{}{}, &list); end != nil {
		return nil, end
	}
	ids, err := list.ids()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cluster, n.ids = list.Header.Cluster, ids
	return ids, nil
}

// etcdListPath asks a member who belongs to its cluster, as it knows it itself.
const etcdListPath = "/v3/cluster/member/list"

// etcdMembers is who belongs to a cluster.
type etcdMembers struct {
	Header  etcdHeader `json:"header"`
	Members []struct {
		ID   uint64 `json:"ID,string"`
		Name string `json:"name"`
	} `json:"members"`
}

// ids tells which node each member is. One whose name is not known, or not one
// that Exec gave, is an error.
func (l etcdMembers) ids() (map[uint64]ID, error) {
	out := make(map[uint64]ID, len(l.Members))
	for _, m := range l.Members {
		id, err := ParseID(m.Name[strings.LastIndexByte(m.Name, '-')+1:])
		if err != nil {
			return nil, fmt.Errorf("member %x is called %.64q, which names no node", m.ID, m.Name)
		}
		out[m.ID] = id
	}
	return out, nil
}

// answerer is the name of the member that gave the list.
func (l etcdMembers) answerer() string {
	for _, m := range l.Members {
		if m.ID == l.Header.Member {
			return m.Name
		}
	}
	return ""
}
