package replica_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
	"chaos/nodes/replica"
	"chaos/paxos"
	"chaos/raft"
)

// patience bounds every wait of these tests; none of them measures time.
const patience = 15 * time.Second

// A world is a few real nodes on loopback. start runs one of them.
type world struct {
	t      *testing.T
	ids    []consensus.ID
	addrs  map[consensus.ID]string // peers
	client map[consensus.ID]string
	status map[consensus.ID]string
	disks  map[consensus.ID]*replica.MemDisk
	stop   map[consensus.ID]func() // ends a node and waits for it
	start  func(id consensus.ID)
	held   map[string]net.Listener // by address: opened and not used yet
}

// newWorld reserves addresses for n nodes.
func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, addrs: map[consensus.ID]string{}, client: map[consensus.ID]string{}, status: map[consensus.ID]string{},
		disks: map[consensus.ID]*replica.MemDisk{}, stop: map[consensus.ID]func(){}, held: map[string]net.Listener{}}
	for id := consensus.ID(1); int(id) <= n; id++ {
		w.ids = append(w.ids, id)
		w.disks[id] = replica.NewMemDisk()
		for _, m := range []map[consensus.ID]string{w.addrs, w.client, w.status} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			m[id] = l.Addr().String()
			w.held[m[id]] = l // until the node starts, so that nobody else gets the port
			t.Cleanup(func() { l.Close() })
		}
	}
	return w
}

func (w *world) stopAll() {
	for _, id := range w.ids {
		if w.stop[id] != nil {
			w.stop[id]()
		}
	}
}

func (w *world) options(id consensus.ID) consensus.Options {
	return consensus.Options{ID: id, Voters: consensus.Configuration{Voters: w.ids}, HeartbeatTicks: 3, ElectionTicks: 20,
		MaxInflight: 4096, MaxBatchBytes: 256 << 10, Rand: rand.New(rand.NewPCG(uint64(id), 7))}
}

// starter makes w.start for a core. Each node's audit goes to a buffer of its own.
func starter[M, R any](w *world, system string, core func(consensus.Options) consensus.Core[M, R], codec consensus.Codec[M, R]) {
	w.start = func(id consensus.ID) {
		s := replica.Server[M, R]{Tick: 10 * time.Millisecond, Peers: w.addrs, Config: replica.Config[M, R]{
			System: system, Cluster: "test", Options: w.options(id), NewCore: core, Codec: codec, Disk: w.disks[id],
			SegmentBytes: 64 << 10, SnapshotEntries: 200, Audit: &bytes.Buffer{},
		}}
		s.Peer, s.Clients, s.Status = w.listen(w.addrs[id]), w.listen(w.client[id]), w.listen(w.status[id])
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- replica.Serve(ctx, s) }()
		w.stop[id] = func() {
			cancel()
			if err := <-ended; err != nil {
				w.t.Errorf("%s ended with %v", id, err)
			}
			w.stop[id] = nil
		}
	}
}

// listen takes the listener that was opened for the address, or, where its node
// starts again, opens it once more: somebody's outgoing connection may have the
// port for a moment.
func (w *world) listen(addr string) net.Listener {
	if l := w.held[addr]; l != nil {
		delete(w.held, addr)
		return l
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l
		}
		if time.Now().After(end) {
			w.t.Fatal(err)
		}
	}
}

func (w *world) dial(id consensus.ID) *nodes.KVClient {
	return nodes.NewKVClient("test", func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", w.client[id])
	})
}

// until repeats a command under the same numbers until it is answered.
func until(t *testing.T, c *nodes.KVClient, mode kv.Mode, command kv.Command) kv.Result {
	t.Helper()
	end := time.Now().Add(patience)
	var last kv.Response
	for time.Now().Before(end) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		last = c.Do(ctx, mode, command)
		cancel()
		if last.Grade == kv.Answered {
			return last.Result
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("%s %s was not answered; the last answer was %+v", command.Op, command.Key, last)
	return kv.Result{}
}

func systems() map[string]func(*world) {
	return map[string]func(*world){
		"raft": func(w *world) {
			starter(w, "raft", func(o consensus.Options) consensus.Core[raft.Message, raft.Record] { return raft.New(o) }, raft.Codec{})
		},
		"paxos": func(w *world) {
			starter(w, "paxos", func(o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
				return paxos.New(o, paxos.Multi)
			}, paxos.Codec{})
		},
		"paxos-classic": func(w *world) {
			starter(w, "paxos-classic", func(o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
				return paxos.New(o, paxos.Classic)
			}, paxos.Codec{})
		},
	}
}

// TestServe writes through three nodes, ends and restarts each in turn, and
// then finds every value at every node, and no goroutine left.
func TestServe(t *testing.T) {
	for name, make := range systems() {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			w := newWorld(t, 3)
			make(w)
			for _, id := range w.ids {
				w.start(id)
			}
			for round, victim := range w.ids {
				w.stop[victim]()
				w.write(round)
				w.start(victim)
			}
			w.compare(3)
			w.stopAll()
			goroutinesEnd(t, before)
		})
	}
}

// clientsPerRound and writesPerClient are the load of write.
const clientsPerRound, writesPerClient = 6, 40

// write has clients write at the nodes that are up.
func (w *world) write(round int) {
	var all sync.WaitGroup
	for i := range clientsPerRound {
		id := w.ids[i%len(w.ids)]
		if w.stop[id] == nil {
			continue
		}
		all.Add(1)
		go func() {
			defer all.Done()
			c := w.dial(id)
			defer c.Close()
			for n := range writesPerClient {
				until(w.t, c, kv.ModeLog, kv.Command{Session: uint64(100*round + i + 1), Sequence: uint64(n + 1), Op: kv.Append,
					Key: fmt.Sprintf("%d.%d", round, i), Value: fmt.Append(nil, n)})
			}
		}()
	}
	all.Wait()
}

// compare reads every list at every node, in both modes.
func (w *world) compare(rounds int) {
	for _, id := range w.ids {
		c := w.dial(id)
		sequence := uint64(0)
		for round := range rounds {
			for i := range clientsPerRound {
				key := fmt.Sprintf("%d.%d", round, i)
				sequence++
				command := kv.Command{Session: 9000 + uint64(id), Sequence: sequence, Op: kv.Get, Key: key}
				for _, mode := range []kv.Mode{kv.ModeLog, kv.ModeIndex} {
					list := until(w.t, c, mode, command).Value.List
					want := writesPerClient
					if i%len(w.ids) == round {
						want = 0
					}
					if len(list) != want {
						w.t.Errorf("%s holds %d elements under %s, want %d", id, len(list), key, want)
					}
					for n, e := range list {
						if string(e) != fmt.Sprint(n) {
							w.t.Errorf("%s holds %q under %s at %d", id, e, key, n)
						}
					}
				}
			}
		}
		c.Close()
	}
}

// goroutinesEnd waits until no more goroutines run than before.
func goroutinesEnd(t *testing.T, before int) {
	t.Helper()
	end := time.Now().Add(patience)
	for runtime.NumGoroutine() > before {
		if time.Now().After(end) {
			stacks := make([]byte, 64<<10)
			t.Fatalf("%d goroutines ran before and %d run now:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		http.DefaultClient.CloseIdleConnections()
		time.Sleep(5 * time.Millisecond)
	}
}

// TestStatusPage reads what a node tells over HTTP, and gives it orders.
func TestStatusPage(t *testing.T) {
	w := newWorld(t, 3)
	systems()["raft"](w)
	for _, id := range w.ids {
		w.start(id)
	}
	defer w.stopAll()
	defer http.DefaultClient.CloseIdleConnections()
	c := w.dial(2)
	defer c.Close()
	until(t, c, kv.ModeLog, kv.Command{Session: 1, Sequence: 1, Op: kv.Put, Key: "k", Value: []byte("v")})
	end := time.Now().Add(patience)
	for {
		var s nodes.Status
		body := get(t, "http://"+w.status[1]+"/status")
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		if s.ID == 1 && s.Incarnation == 1 && s.Applied >= 2 && len(s.Hash) == 16 && s.Leader != 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("status stays %s", body)
		}
		time.Sleep(time.Millisecond)
	}
	if page := get(t, "http://"+w.status[1]+"/"); !strings.HasPrefix(page, "raft n1 of cluster test\n") {
		t.Errorf("the page is %q", page)
	}
	for path, want := range map[string]int{"/transfer?to=n2": 202, "/transfer?to=x": 400, "/compact": 202, "/nothing": 404} {
		r, err := http.Post("http://"+w.status[1]+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("POST %s: %d, want %d", path, r.StatusCode, want)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
