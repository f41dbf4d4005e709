package nodes

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The defaults of [Knobs].
const (
	defaultTick            = 10 * time.Millisecond
	defaultHeartbeatTicks  = 3
	defaultElectionTicks   = 20
	defaultSnapshotEntries = 10_000
)

// observeTimeout bounds one Observe; observeMax bounds the answer, in bytes.
const (
	observeTimeout = time.Second
	observeMax     = 64 << 10
)

// WithDefaults puts the default in the place of every setting that is zero.
func (k Knobs) WithDefaults() Knobs {
	if k.Tick == 0 {
		k.Tick = defaultTick
	}
	if k.HeartbeatTicks == 0 {
		k.HeartbeatTicks = defaultHeartbeatTicks
	}
	if k.ElectionTicks == 0 {
		k.ElectionTicks = defaultElectionTicks
	}
	if k.SnapshotEntries == 0 {
		k.SnapshotEntries = defaultSnapshotEntries
	}
	return k
}

// OursNames names the systems of our own nodes, in the order help shows them.
func OursNames() []string { return []string{"raft", "paxos", "paxos-classic"} }

// ours is one of our own consensus cores under our own driver.
type ours struct{ name, program string }

// Ours is a system of our own nodes: one of [OursNames]. program is the path of
// the chaos binary, which is the node as well. It panics on another name.
func Ours(name, program string) System {
	if !slices.Contains(OursNames(), name) {
		panic(fmt.Sprintf("nodes: %q is none of our own systems %v", name, OursNames()))
	}
	return ours{name: name, program: program}
}

// Name is what --system calls it.
func (s ours) Name() string { return s.name }

// Modes are the ways to read: with a quorum asked for the commit index, or as
// an entry of the log.
func (s ours) Modes() []string { return []string{ModeIndex, ModeLog} }

// Exec starts self by `chaos node`. It listens on its own ports; all tells where
// self reaches each peer, itself among them.
func (s ours) Exec(self Member, all []Member, dir string, o Options) Exec {
	k := o.Knobs.WithDefaults()
	peers := make([]string, 0, len(all))
	for _, m := range all {
		peers = append(peers, m.ID.String()+"="+m.Addr(PeerPort))
	}
	args := []string{"node",
		"--system", s.name,
		"--id", self.ID.String(),
		"--cluster", o.Cluster,
		"--dir", dir,
		"--peers", strings.Join(peers, ","),
		"--client", self.Addr(ClientPort),
		"--status", self.Addr(StatusPort),
		"--tick", k.Tick.String(),
		"--heartbeat-ticks", strconv.Itoa(k.HeartbeatTicks),
		"--election-ticks", strconv.Itoa(k.ElectionTicks),
		"--snapshot-entries", strconv.Itoa(k.SnapshotEntries),
	}
	if id, at, ok := strings.Cut(k.CrashAt, ":"); ok && id == self.ID.String() {
		args = append(args, "--crash-at", at)
	}
	return Exec{Path: s.program, Args: args, Ready: ClientPort}
}

// Dial makes a client of one node; it connects when it is first used. The error is always nil.
func (s ours) Dial(_ context.Context, m Member, dial DialFunc, o Options) (Client, error) {
	kv := NewKVClient(o.Cluster, func(ctx context.Context) (net.Conn, error) { return dial(ctx, m, ClientPort) })
	return &oursClient{kv: kv, node: m.ID.String()}, nil
}

// Observe reads the node's status page, within a second. Another node's page is an error.
func (s ours) Observe(ctx context.Context, m Member, dial DialFunc) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	conn, err := dial(ctx, m, StatusPort)
	if err != nil {
		return Status{}, fmt.Errorf("nodes: %s: status: %w", m.ID, err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Status{}, fmt.Errorf("nodes: %s: status: %w", m.ID, err)
	}
	status, err := readStatus(conn, m.Addr(StatusPort))
	if err == nil && status.ID != m.ID {
		err = fmt.Errorf("the answer is of %s", status.ID)
	}
	if err != nil {
		return Status{}, fmt.Errorf("nodes: %s: status: %w", m.ID, err)
	}
	return status, nil
}

// readStatus makes one HTTP request on a connection that is not used again.
func readStatus(conn net.Conn, host string) (s Status, err error) {
	if _, err := io.WriteString(conn, "GET /status HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return s, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, observeMax)), nil)
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return s, fmt.Errorf("the node answers %s", answer.Status)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(body, &s)
}
