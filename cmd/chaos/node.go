package main

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/replica"
	"chaos/paxos"
	"chaos/raft"
)

const (
	// stopTimeout bounds an orderly end; what is promised is durable anyway.
	stopTimeout = 2 * time.Second
	// nodeGCPercent spends memory, of which a node uses little, on fewer collections.
	nodeGCPercent = 400
	// nodeMemoryMax is where the collector becomes eager all the same, bytes.
	nodeMemoryMax = 512 << 20
	// nodeInflightMax is how many commands a core accepts before they are decided.
	nodeInflightMax = 4096
	// nodeBatchBytes is how many bytes of commands go into one message.
	nodeBatchBytes = 256 << 10
)

// nodeFlags are what `chaos node` is started with.
type nodeFlags struct {
	system, id, cluster, dir, peers, client, status, crashAt string
	tick                                                     time.Duration
	heartbeat, election, snapshot                            int
	segment                                                  int64
	parent                                                   int
}

func newNodeCommand() *cobra.Command {
	var f nodeFlags
	c := &cobra.Command{
		Use:   "node",
		Short: "Run one replica of our own: raft, paxos or paxos-classic",
		Long: `Run one replica until it is told to end (SIGTERM). Its journal, snapshots and
audit are in --dir, and a restart goes on from there. The harness starts nodes
by this command; by hand it serves for a look around.

A node ends with its parent process. It exits with 2, and one line that says
why, when it can't go on: its journal is damaged, its disk is full, a port is in
use.`,
		Example: `  chaos node --system raft --id n1 --cluster demo --dir /tmp/n1 \
    --peers n1=127.0.0.1:7001,n2=127.0.0.1:7002,n3=127.0.0.1:7003 \
    --client 127.0.0.1:8001 --status 127.0.0.1:9001`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context()) },
	}
	k := nodes.Knobs{}.WithDefaults()
	fs := c.Flags()
	fs.StringVar(&f.system, "system", "raft", "the algorithm: raft, paxos, paxos-classic")
	fs.StringVar(&f.id, "id", "n1", "this node's name; --peers must have it")
	fs.StringVar(&f.cluster, "cluster", "chaos", "the cluster's name; nodes and clients of another are refused")
	fs.StringVar(&f.dir, "dir", ".", "the node's own folder")
	fs.StringVar(&f.peers, "peers", "", "every node's peer address, as n1=HOST:PORT,n2=…; this node listens on its own")
	fs.StringVar(&f.client, "client", "127.0.0.1:0", "where to listen for clients")
	fs.StringVar(&f.status, "status", "127.0.0.1:0", "where to listen for the status page (HTTP)")
	fs.DurationVar(&f.tick, "tick", k.Tick, "one tick of the algorithm's time")
	fs.IntVar(&f.heartbeat, "heartbeat-ticks", k.HeartbeatTicks, "ticks between a leader's heartbeats")
	fs.IntVar(&f.election, "election-ticks", k.ElectionTicks, "base of the election time-out, in ticks; drawn from [base, 2*base)")
	fs.IntVar(&f.snapshot, "snapshot-entries", k.SnapshotEntries, "applied entries between snapshots")
	fs.Int64Var(&f.segment, "segment-bytes", replica.DefaultSegmentBytes, "size of a file of the journal")
	fs.StringVar(&f.crashAt, "crash-at", "", "kill this node at the nth passage of a crash point, as in sync:40; the points are "+strings.Join(replica.CrashPoints, ", "))
	fs.IntVar(&f.parent, "parent", 0, "the parent's process ID: end at once if it is another; 0: any")
	return c
}

func (f *nodeFlags) run(ctx context.Context) error {
	if err := tether(f.parent); err != nil {
		return err
	}
	debug.SetGCPercent(nodeGCPercent)
	debug.SetMemoryLimit(nodeMemoryMax)
	o, addrs, err := f.options()
	if err != nil {
		return usageError{err}
	}
	switch f.system {
	case "raft":
		return serveNode(ctx, f, o, addrs, func(o consensus.Options) consensus.Core[raft.Message, raft.Record] { return raft.New(o) }, raft.Codec{})
	case "paxos":
		return serveNode(ctx, f, o, addrs, func(o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
			return paxos.New(o, paxos.Multi)
		}, paxos.Codec{})
	case "paxos-classic":
		return serveNode(ctx, f, o, addrs, func(o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
			return paxos.New(o, paxos.Classic)
		}, paxos.Codec{})
	}
	return usageError{fmt.Errorf("--system %q: %s", f.system, meant(f.system, nodes.OursNames()))}
}

// options checks the flags.
func (f *nodeFlags) options() (o consensus.Options, addrs map[consensus.ID]string, err error) {
	if addrs, err = parsePeers(f.peers); err != nil {
		return o, nil, err
	}
	id, err := consensus.ParseID(f.id)
	if err != nil || addrs[id] == "" {
		return o, nil, fmt.Errorf("--id %q: --peers has no address for it", f.id)
	}
	if f.tick <= 0 || f.heartbeat < 1 || f.election <= f.heartbeat || f.snapshot < 1 {
		return o, nil, fmt.Errorf("--tick %s, --heartbeat-ticks %d, --election-ticks %d, --snapshot-entries %d: all must be positive, and elections rarer than heartbeats",
			f.tick, f.heartbeat, f.election, f.snapshot)
	}
	o = consensus.Options{
		ID: id, HeartbeatTicks: f.heartbeat, ElectionTicks: f.election, MaxInflight: nodeInflightMax, MaxBatchBytes: nodeBatchBytes,
		Rand: rand.New(rand.NewPCG(randomSeed(), uint64(id))),
	}
	for peer := range addrs {
		o.Voters.Voters = append(o.Voters.Voters, peer)
	}
	slices.Sort(o.Voters.Voters)
	return o, addrs, nil
}

// randomSeed is fresh at every start: time-outs that nodes drew alike would
// keep colliding.
func randomSeed() uint64 {
	var b [8]byte
	crand.Read(b[:]) // never fails
	n := uint64(0)
	for _, v := range b {
		n = n<<8 | uint64(v)
	}
	return n
}

func parsePeers(list string) (map[consensus.ID]string, error) {
	addrs := map[consensus.ID]string{}
	for _, p := range strings.Split(list, ",") {
		name, addr, ok := strings.Cut(p, "=")
		id, err := consensus.ParseID(name)
		if !ok || err != nil || id == 0 || addrs[id] != "" {
			return nil, fmt.Errorf("--peers: %q is not of the form n1=HOST:PORT, or names a node twice", p)
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("--peers: %q: %w", p, err)
		}
		addrs[id] = addr
	}
	return addrs, nil
}

// serveNode opens what the node needs and serves until ctx ends.
func serveNode[M, R any](ctx context.Context, f *nodeFlags, o consensus.Options, addrs map[consensus.ID]string,
	core func(consensus.Options) consensus.Core[M, R], codec consensus.Codec[M, R]) error {
	disk, err := replica.OpenDisk(filepath.Join(f.dir, "journal"))
	if err != nil {
		return err
	}
	audit, size, err := openAudit(filepath.Join(f.dir, "audit.jsonl"))
	if err != nil {
		return err
	}
	defer audit.Close()
	s := replica.Server[M, R]{Tick: f.tick, Peers: addrs, Config: replica.Config[M, R]{
		System: f.system, Cluster: f.cluster, Options: o, NewCore: core, Codec: codec, Disk: disk,
		SegmentBytes: f.segment, SnapshotEntries: f.snapshot, WaitTicks: int(waitTime / f.tick),
		Audit: audit, AuditBytes: size,
		Log: func(line string) { fmt.Fprintf(os.Stderr, "%s: %s\n", o.ID, line) },
	}}
	if f.crashAt != "" {
		if s.Config.Crash, err = replica.CrashAt(f.crashAt, func() { crashOnce(f.dir) }); err != nil {
			return usageError{err}
		}
	}
	if err := listenAll(addrs[o.ID], f, &s.Peer, &s.Clients, &s.Status); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopTimeout, func() { os.Exit(0) }) })
	defer stop()
	err = replica.Serve(ctx, s)
	if damage := (*replica.Damage)(nil); errors.As(err, &damage) {
		return fmt.Errorf("%s%w", history.Damage, err)
	}
	return err
}

// waitTime is how long a request waits for its answer at the node.
const waitTime = 10 * time.Second

// listenAll opens all ports or none.
func listenAll(peer string, f *nodeFlags, into ...*net.Listener) (err error) {
	for i, addr := range []string{peer, f.client, f.status} {
		l, listenErr := net.Listen("tcp", addr)
		if listenErr != nil {
			for _, open := range into[:i] {
				err = errors.Join(err, (*open).Close())
			}
			return errors.Join(listenErr, err)
		}
		*into[i] = l
	}
	return nil
}

// auditLineMax is longer than any line of an audit, bytes.
const auditLineMax = 4 << 10

// openAudit goes on in the node's own record, behind its last whole line.
func openAudit(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		size, err = cutLine(f, size)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// cutLine takes away what stands behind the last newline.
func cutLine(f *os.File, size int64) (int64, error) {
	tail := make([]byte, min(size, auditLineMax))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	rest := int64(len(tail) - 1 - bytes.LastIndexByte(tail, '\n'))
	if rest == 0 {
		return size, nil
	}
	return size - rest, f.Truncate(size - rest)
}

// crashOnce kills this process if it did not so before: a file in the node's
// folder remembers it.
func crashOnce(dir string) {
	f, err := os.OpenFile(filepath.Join(dir, "crashed"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	f.Close()
	killSelf()
}

// killSelf ends this process as kill -9 does, here and now.
func killSelf() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		p.Kill()
	}
	select {} // the signal is on its way
}
