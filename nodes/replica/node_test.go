package replica_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"chaos/history"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
	"chaos/nodes/replica"
	"chaos/paxos"
	"chaos/raft"
)

// A lab runs nodes on disks in memory, and a network that drops, doubles and
// shuffles, all drawn from one seed.
type lab[M, R any] struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	system string
	core   func(consensus.Options) consensus.Core[M, R]
	codec  consensus.Codec[M, R]
	hosts  []*host[M, R]
	wire   []packet
	lossy  bool
	next   int               // the next element that a client appends
	open   map[int]bool      // elements whose end is not known
	acked  map[int]bool      // elements whose append was answered
	points map[string]uint64 // passages of crash points
}

type packet struct {
	from, to consensus.ID
	bytes    []byte
}

// A host is one node's place: its disk outlives the node.
type host[M, R any] struct {
	lab   *lab[M, R]
	id    consensus.ID
	disk  *replica.MemDisk
	node  *replica.Node[M, R]
	audit bytes.Buffer
	fuse  int // passages of crash points until the node dies; 0: never
	power bool
	jobs  []job // slow work that was begun and has not ended
}

type job struct {
	work func() error
	done func(error)
}

// background puts half of the slow work off, so that the node goes on meanwhile.
func (h *host[M, R]) background(work func() error, done func(error)) {
	if h.lab.random.IntN(2) == 0 {
		done(work())
		return
	}
	h.jobs = append(h.jobs, job{work, done})
}

// finish ends slow work that was put off.
func (h *host[M, R]) finish() {
	if len(h.jobs) == 0 {
		return
	}
	j := h.jobs[0]
	h.jobs = nil
	err := j.work()
	h.do(func(*replica.Node[M, R]) error { j.done(err); return nil })
}

// crashed is how a node dies at a crash point.
type crashed struct{}

func (h *host[M, R]) Send(e *consensus.Envelope[M]) {
	h.lab.wire = append(h.lab.wire, packet{e.From, e.To, h.lab.codec.AppendMessage(nil, e.Message)})
}

func (h *host[M, R]) Flush() {}

// Reply notes what clients are told. The connection's number is the element.
func (h *host[M, R]) Reply(conn uint64, r kv.Response) {
	element := int(conn)
	if !h.lab.open[element] {
		h.lab.t.Fatalf("seed %d: element %d was answered twice", h.lab.seed, element)
	}
	switch r.Grade {
	case kv.Answered:
		h.lab.acked[element] = true
		delete(h.lab.open, element)
	case kv.Refused:
		delete(h.lab.open, element)
		h.lab.acked[element] = false
	}
}

func (h *host[M, R]) crash(point string) {
	h.lab.points[point]++
	if h.fuse > 0 {
		if h.fuse--; h.fuse == 0 {
			panic(crashed{})
		}
	}
}

// do runs a call of the node, which may end it.
func (h *host[M, R]) do(call func(n *replica.Node[M, R]) error) {
	if h.node == nil {
		return
	}
	defer func() {
		if why := recover(); why == (crashed{}) {
			h.down()
		} else if why != nil {
			panic(why)
		}
	}()
	if err := call(h.node); err != nil {
		h.lab.t.Fatalf("seed %d: %s: %v", h.lab.seed, h.id, err)
	}
}

// down ends the node as kill -9 or a power cut does.
func (h *host[M, R]) down() {
	h.node, h.jobs = nil, nil
	if h.power {
		h.disk = h.disk.Restored(h.lab.random)
	} else {
		h.disk = h.disk.Killed()
	}
}

func (h *host[M, R]) up() {
	voters := consensus.Configuration{}
	for _, o := range h.lab.hosts {
		voters.Voters = append(voters.Voters, o.id)
	}
	n, err := replica.NewNode(replica.Config[M, R]{
		System: h.lab.system, Cluster: "lab", NewCore: h.lab.core, Codec: h.lab.codec, Disk: h.disk, SegmentBytes: 16 << 10,
		SnapshotEntries: 40, WaitTicks: 100, Sender: h, Replier: h, Audit: &h.audit, Crash: h.crash, Background: h.background,
		Options: consensus.Options{ID: h.id, Voters: voters, HeartbeatTicks: 2, ElectionTicks: 10, MaxInflight: 64,
			MaxBatchBytes: 4 << 10, Rand: rand.New(rand.NewPCG(h.lab.random.Uint64(), 0))},
	})
	if err != nil {
		h.lab.t.Fatalf("seed %d: %s: %v", h.lab.seed, h.id, err)
	}
	h.node = n
}

func newLab[M, R any](t *testing.T, seed uint64, system string, core func(consensus.Options) consensus.Core[M, R], codec consensus.Codec[M, R]) *lab[M, R] {
	l := &lab[M, R]{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 3)), system: system, core: core, codec: codec,
		open: map[int]bool{}, acked: map[int]bool{}, points: map[string]uint64{}}
	for id := consensus.ID(1); id <= 3; id++ {
		l.hosts = append(l.hosts, &host[M, R]{lab: l, id: id, disk: replica.NewMemDisk()})
	}
	for _, h := range l.hosts {
		h.up()
	}
	return l
}

// step lets one thing happen, and perhaps a gathered Flush after it.
func (l *lab[M, R]) step() {
	h := l.hosts[l.random.IntN(len(l.hosts))]
	switch draw := l.random.IntN(100); {
	case draw < 8:
		h.do((*replica.Node[M, R]).Tick)
	case draw < 18 && l.lossy:
		l.append(h)
	case draw < 19 && l.lossy:
		h.hurt()
	case draw < 21:
		if h.node == nil {
			h.up()
			l.reset(h)
		}
	case draw < 24:
		h.finish()
	default:
		l.deliver()
	}
	if l.random.IntN(2) == 0 {
		h.do((*replica.Node[M, R]).Flush)
	}
}

// hurt arms a crash at one of the next crash points, or cuts at once.
func (h *host[M, R]) hurt() {
	h.power = h.lab.random.IntN(2) == 0
	if h.fuse = h.lab.random.IntN(12); h.fuse == 0 && h.node != nil {
		h.down()
	}
}

// reset tells the others that the connection to h broke.
func (l *lab[M, R]) reset(h *host[M, R]) {
	for _, o := range l.hosts {
		if o != h {
			o.do(func(n *replica.Node[M, R]) error { return n.PeerReset(h.id) })
		}
	}
}

// append has a client append a fresh element.
func (l *lab[M, R]) append(h *host[M, R]) {
	if h.node == nil {
		return
	}
	l.next++
	l.open[l.next] = true
	c := kv.Command{Session: uint64(l.next), Sequence: 1, Op: kv.Append, Key: "list", Value: fmt.Append(nil, l.next)}
	q := kv.Request{ID: 1, Command: c}
	h.do(func(n *replica.Node[M, R]) error { return n.Request(uint64(l.next), q, kv.AppendCommand(nil, c)) })
}

// deliver takes a packet out of the wire: mostly the oldest.
func (l *lab[M, R]) deliver() {
	if len(l.wire) == 0 {
		return
	}
	i := 0
	if l.lossy && l.random.IntN(4) == 0 {
		i = l.random.IntN(min(len(l.wire), 20))
	}
	p := l.wire[i]
	if !l.lossy || l.random.IntN(20) > 0 { // else it arrives again
		l.wire = append(l.wire[:i], l.wire[i+1:]...)
	}
	if l.lossy && l.random.IntN(20) == 0 {
		return
	}
	m, err := l.codec.Message(p.bytes)
	if err != nil {
		l.t.Fatalf("seed %d: a message can't be read back: %v", l.seed, err)
	}
	to := l.hosts[p.to-1]
	to.do(func(n *replica.Node[M, R]) error {
		return n.Receive(consensus.Envelope[M]{From: p.from, To: p.to, Message: m})
	})
}

// run hurts the nodes for a while, heals, restarts all, and compares.
func (l *lab[M, R]) run() {
	l.lossy = true
	for range 6000 {
		l.step()
	}
	l.lossy = false
	l.settle()
	for _, h := range l.hosts {
		h.down()
		h.up()
	}
	l.settle()
	l.compare()
}

// settle lets the nodes agree on everything; bounded.
func (l *lab[M, R]) settle() {
	for _, h := range l.hosts {
		h.fuse = 0
	}
	last := 0 // an element that is appended and answered from here on
	for range 400 {
		for range 300 {
			l.step()
		}
		if l.agree() && l.acked[last] {
			return
		}
		if !l.acked[last] {
			l.append(l.hosts[l.random.IntN(3)])
			last = l.next
		}
	}
	for _, h := range l.hosts {
		if h.node != nil {
			l.t.Logf("%+v", h.node.Status())
		}
	}
	l.t.Fatalf("seed %d: the healed nodes do not agree", l.seed)
}

// agree tells whether all nodes are up and have applied the same.
func (l *lab[M, R]) agree() bool {
	for _, h := range l.hosts {
		if h.node == nil {
			return false
		}
		a, b := l.hosts[0].node.Status(), h.node.Status()
		if a.Applied == b.Applied && a.Hash != b.Hash {
			l.t.Fatalf("seed %d: at index %d node %s has hash %s and node %s %s", l.seed, a.Applied, a.ID, a.Hash, b.ID, b.Hash)
		}
		if a.Applied != b.Applied {
			return false
		}
	}
	return true
}

// compare checks the list against what clients were told, and the audits.
func (l *lab[M, R]) compare() {
	found := map[int]int{}
	for _, e := range l.list() {
		var n int
		fmt.Sscan(string(e), &n)
		found[n]++
	}
	for n, times := range found {
		if times > 1 {
			l.t.Errorf("seed %d: element %d was appended %d times", l.seed, n, times)
		}
		if acked, ended := l.acked[n]; ended && !acked {
			l.t.Errorf("seed %d: element %d was refused, and it is there", l.seed, n)
		}
	}
	for n, acked := range l.acked {
		if acked && found[n] == 0 {
			l.t.Errorf("seed %d: element %d was answered, and it is gone", l.seed, n)
		}
	}
	for _, h := range l.hosts {
		checkAudit(l.t, l.seed, &h.audit)
	}
}

// list reads the list from a restored copy of the first node's state.
func (l *lab[M, R]) list() [][]byte {
	h := l.hosts[0]
	for range 10 { // slow work that was put off comes first
		h.finish()
		h.node.Compact()
		h.do((*replica.Node[M, R]).Flush)
	}
	h.finish()
	_, found, err := replica.OpenJournal(l.hosts[0].disk.Killed(), replica.JournalOptions{Cluster: "lab", Node: 1})
	if err != nil || found.Snapshot == nil {
		l.t.Fatalf("seed %d: no snapshot to read from: %v", l.seed, err)
	}
	if at := h.node.Status().Applied; found.Snapshot.Index != at {
		l.t.Fatalf("seed %d: the snapshot is of index %d; %d was applied", l.seed, found.Snapshot.Index, at)
	}
	m := kv.NewMachine()
	if err := m.Restore(found.Snapshot.Data); err != nil {
		l.t.Fatal(err)
	}
	return m.Get("list").Value.List
}

// checkAudit reads an audit as the judge does: incarnations count up, and a
// term never falls, over restarts too.
func checkAudit(t *testing.T, seed uint64, audit io.Reader) {
	in := bufio.NewScanner(audit)
	var last history.Audit
	for in.Scan() {
		var a history.Audit
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			t.Fatalf("seed %d: audit line %q: %v", seed, in.Text(), err)
		}
		if a.Incarnation < last.Incarnation || (a.Incarnation > last.Incarnation) != a.Start || a.Term < last.Term {
			t.Fatalf("seed %d: audit line %+v after %+v", seed, a, last)
		}
		last = a
	}
	if last.Incarnation < 2 {
		t.Errorf("seed %d: the audit ends with %+v", seed, last)
	}
}

const labSeeds = 60

func TestNodeRaft(t *testing.T) {
	points := map[string]uint64{}
	for seed := range uint64(labSeeds) {
		l := newLab(t, seed, "raft", func(o consensus.Options) consensus.Core[raft.Message, raft.Record] { return raft.New(o) }, raft.Codec{})
		l.run()
		count(points, l.points)
	}
	passed(t, points)
}

func TestNodePaxos(t *testing.T) {
	points := map[string]uint64{}
	for seed := range uint64(labSeeds) {
		mode := paxos.Multi
		if seed%3 == 2 {
			mode = paxos.Classic
		}
		l := newLab(t, seed, "paxos", func(o consensus.Options) consensus.Core[paxos.Message, paxos.Record] { return paxos.New(o, mode) }, paxos.Codec{})
		l.run()
		count(points, l.points)
	}
	delete(points, replica.AfterEarly)
	points[replica.AfterEarly] = 1 // not every core sends early
	passed(t, points)
}

func count(into, from map[string]uint64) {
	for k, v := range from {
		into[k] += v
	}
}

// passed checks that the test met every crash point.
func passed(t *testing.T, points map[string]uint64) {
	for _, p := range replica.CrashPoints {
		if points[p] == 0 {
			t.Errorf("crash point %s was never passed", p)
		}
	}
}
