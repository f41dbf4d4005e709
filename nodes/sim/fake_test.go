package sim

import (
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/raft"
)

// A tale is a watch over toy cores: it notes what arrives where, and when.
type tale struct {
	world    *World
	arrived  []arrival
	restored map[consensus.ID]int // records found at the last start
	ticks    map[consensus.ID]int
	resets   []arrival      // of connections: at whom, and of whom
	handed   []arrival      // leadership, if there were any: by whom, and to whom
	asked    map[string]int // how often the watch was asked, by call and node
	objects  string         // the call at which it objects
}

type arrival struct {
	at      time.Duration
	from    consensus.ID
	to      consensus.ID
	message string
}

func (t *tale) Started(id consensus.ID) error { return t.ask("started", id) }
func (t *tale) Stepped(id consensus.ID) error { return t.ask("stepped", id) }
func (t *tale) Flushed(id consensus.ID) error { return t.ask("flushed", id) }
func (*tale) Moments() []consensus.Moment {
	return []consensus.Moment{{Name: "a toy's own", Seen: 3}}
}

func (t *tale) ask(call string, id consensus.ID) error {
	t.asked[call+" "+id.String()]++
	if call == t.objects {
		return &consensus.Breach{Invariant: call, Node: id}
	}
	return nil
}

func newTale() *tale {
	return &tale{restored: map[consensus.ID]int{}, ticks: map[consensus.ID]int{}, asked: map[string]int{}}
}

// words is the codec of messages and records that are plain text.
type words struct{}

func (words) AppendMessage(b []byte, m string) []byte { return append(b, m...) }
func (words) Message(b []byte) (string, error)        { return string(b), nil }
func (words) AppendRecord(b []byte, r string) []byte  { return append(b, r...) }
func (words) Record(b []byte) (string, error)         { return string(b), nil }

// A toy is a core that does everything at once: what is proposed is told early,
// journaled, told, and decided in one step.
type toy struct {
	tale  *tale
	id    consensus.ID
	index uint64
	again []consensus.Entry // restored, and not handed out yet
}

type toyOut = consensus.Output[string, string]

func (c *toy) Restore(_ *consensus.Snapshot, records []string) {
	c.tale.restored[c.id], c.index = len(records), uint64(len(records))
	for i, r := range records {
		c.again = append(c.again, consensus.Entry{Index: uint64(i + 1), Term: 1, Command: consensus.Command{Data: []byte(r)}})
	}
}
func (c *toy) Tick() toyOut {
	c.tale.ticks[c.id]++
	return toyOut{Committed: c.handOut()}
}
func (c *toy) handOut() []consensus.Entry {
	again := c.again
	c.again = nil
	return again
}
func (c *toy) Read(uint64) toyOut                  { return toyOut{} }
func (c *toy) Compact(consensus.Snapshot) []string { return nil }
func (c *toy) Transfer(to consensus.ID) toyOut {
	c.tale.handed = append(c.tale.handed, arrival{from: c.id, to: to})
	return toyOut{}
}
func (c *toy) PeerReset(id consensus.ID) toyOut {
	c.tale.resets = append(c.tale.resets, arrival{at: c.tale.world.Now(), from: id, to: c.id})
	return toyOut{}
}
func (c *toy) Status() consensus.Status {
	return consensus.Status{ID: c.id, Role: "toy", Commit: c.index, Applied: c.index}
}
func (c *toy) Receive(e consensus.Envelope[string]) toyOut {
	if e.Message == "die" {
		panic("a toy is broken")
	}
	c.tale.arrived = append(c.tale.arrived, arrival{c.tale.world.Now(), e.From, e.To, e.Message})
	return toyOut{}
}
func (c *toy) Propose(p consensus.Command) toyOut {
	c.index++
	tell := func(m string) []consensus.Envelope[string] {
		return []consensus.Envelope[string]{{From: c.id, To: 2, Message: m}}
	}
	return toyOut{Early: tell("early"), Records: []string{string(p.Data)}, Messages: tell("late"),
		Committed: append(c.handOut(), consensus.Entry{Index: c.index, Term: 1, Command: p})}
}

var testKnobs = nodes.Knobs{Tick: 10 * time.Millisecond, HeartbeatTicks: 3, ElectionTicks: 20}

// toyWorld is a booted world of toy cores.
func toyWorld(t *testing.T, seed uint64, n int, s Settings, edit func(*Options)) (*World, *tale) {
	t.Helper()
	story := newTale()
	system := Of("toy", words{}, func() *tale { return story },
		func(story *tale, o consensus.Options) consensus.Core[string, string] {
			return &toy{tale: story, id: o.ID}
		})
	story.world = boot(t, system, seed, n, s, edit)
	return story.world, story
}

func boot(t *testing.T, system System, seed uint64, n int, s Settings, edit func(*Options)) *World {
	t.Helper()
	o := Options{System: system, Nodes: n, Knobs: testKnobs, Cluster: "test", Settings: s, Seed: seed}
	if edit != nil {
		edit(&o)
	}
	w := New(o, func(int32) {})
	check(t, w.Boot())
	return w
}

var raftSystem = Of("raft", raft.Codec{}, raft.NewCheck, func(k *raft.Check, o consensus.Options) consensus.Core[raft.Message, raft.Record] {
	c := raft.New(o)
	k.Add(c)
	return c
})

// raftWorld is a world of raft with a leader, which the whole cluster knows.
func raftWorld(t *testing.T, seed uint64, n int, s Settings, edit func(*Options)) (w *World, leader nodes.ID) {
	t.Helper()
	w = boot(t, raftSystem, seed, n, s, edit)
	for range 100 {
		run(t, w, 100*time.Millisecond)
		if leader = agreed(w); leader != 0 {
			return w, leader
		}
	}
	t.Fatalf("seed %d: no leader within %s", seed, w.Now())
	return nil, 0
}

// agreed is the leader that all nodes know.
func agreed(w *World) (leader nodes.ID) {
	for i, m := range w.Members() {
		s, ok := w.Status(m.ID)
		if !ok || i > 0 && s.Leader != leader {
			return 0
		}
		leader = s.Leader
	}
	return leader
}

// run lets time pass, in which nothing may break.
func run(t *testing.T, w *World, d time.Duration) {
	t.Helper()
	if !w.Run(w.Now() + d) {
		t.Fatalf("at %s: %v", w.Now(), w.Breach())
	}
}

// An asker is one client with what it heard.
type asker struct {
	*Client
	heard []history.Event
	sent  int
}

func newAsker(w *World, id nodes.ID) *asker {
	a := &asker{}
	a.Client = w.Client(id, func(e history.Event) { a.heard = append(a.heard, e) })
	return a
}

// write has the client write value under key; each by a session of its own.
func (a *asker) write(key, value string, timeout time.Duration) {
	a.sent++
	a.Do(history.Event{Type: history.Invoke, F: history.Write, Key: key, Value: []byte(value), Attempts: 1,
		Session: uint64(a.number+1)<<32 | uint64(a.sent), Sequence: 1}, timeout)
}

func (a *asker) read(key, mode string, timeout time.Duration) {
	a.sent++
	a.Do(history.Event{Type: history.Invoke, F: history.Read, Key: key, Mode: mode, Attempts: 1,
		Session: uint64(a.number+1)<<32 | uint64(a.sent), Sequence: 1}, timeout)
}

// last is the end of the last attempt.
func (a *asker) last(t *testing.T) history.Event {
	t.Helper()
	if len(a.heard) != a.sent {
		t.Fatalf("client of %s heard %d ends of %d attempts: %v", a.node, len(a.heard), a.sent, a.heard)
	}
	return a.heard[len(a.heard)-1]
}
