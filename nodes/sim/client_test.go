package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
)

// A scene is three nodes of raft with a leader, a follower, and a client of one
// of them which is about to write.
type scene struct {
	*World
	t        *testing.T
	leader   nodes.ID
	follower nodes.ID
	rest     nodes.ID
	*asker   // of the leader
	live     []string
}

func (s *scene) apply(name string, effects ...nodes.Effect) {
	s.t.Helper()
	if e, err := s.World.Apply(context.Background(), name, effects); err != nil || !e.Proven() {
		s.t.Fatalf("%s: %v, %v", name, e, err)
	}
	s.live = append(s.live, name)
}

func (s *scene) revert(name string) {
	s.t.Helper()
	if e, err := s.World.Revert(context.Background(), name); err != nil || !e.Proven() {
		s.t.Fatalf("%s: %v, %v", name, e, err)
	}
	s.live = slices.DeleteFunc(s.live, func(n string) bool { return n == name })
}

func (s *scene) run(d time.Duration) { s.t.Helper(); run(s.t, s.World, d) }

// open has the client's connection stand and greet.
func (s *scene) open() {
	s.t.Helper()
	s.write("warm", "1", time.Second)
	s.run(time.Second)
	if e := s.last(s.t); e.Type != history.Ok {
		s.t.Fatalf("the first write: %v", e)
	}
}

// try is the write whose grade is looked at.
func (s *scene) try() { s.write("x", "7", 300*ms) }

func (s *scene) kill(id nodes.ID)   { s.apply("kill", nodes.Effect{Kind: nodes.Down, Node: id}) }
func (s *scene) freeze(id nodes.ID) { s.apply("freeze", nodes.Effect{Kind: nodes.Frozen, Node: id}) }
func (s *scene) cut(from, to nodes.ID) {
	s.apply(fmt.Sprintf("cut %d %d", from, to), nodes.Effect{Kind: nodes.Cut, From: from, To: to})
}

// happened heals all and reads what became of the write, through the log.
func (s *scene) happened() bool {
	s.t.Helper()
	for len(s.live) > 0 {
		s.revert(s.live[0])
	}
	for _, id := range []nodes.ID{1, 2, 3} {
		s.World.Restart(id)
	}
	s.run(5 * time.Second)
	for range 5 {
		a := newAsker(s.World, s.rest)
		a.read("x", nodes.ModeLog, 2*time.Second)
		s.run(3 * time.Second)
		if e := a.last(s.t); e.Type == history.Ok {
			return string(e.Value) == "7"
		}
	}
	s.t.Fatal("nobody can be read from at the end")
	return false
}

// A client grades what it saw: ok only what happened, fail only what certainly
// did not and never will.
func TestGrades(t *testing.T) {
	const either = "either"
	for _, c := range []struct {
		name     string
		do       func(s *scene)
		grade    history.Type
		why      string // part of the error
		happened string // "yes", "no", either
	}{
		{"all is well", func(s *scene) { s.try() }, history.Ok, "", "yes"},
		{"over an open connection", func(s *scene) { s.open(); s.try() }, history.Ok, "", "yes"},
		{"through a follower", func(s *scene) { s.asker = newAsker(s.World, s.follower); s.try() }, history.Ok, "", "yes"},
		{"refused dial", func(s *scene) { s.kill(s.leader); s.try() }, history.Fail, "connection refused", "no"},
		{"node dies during the dial", func(s *scene) { s.try(); s.kill(s.leader) }, history.Fail, "connection refused", "no"},
		{"dial into a cut", func(s *scene) { s.cut(0, s.leader); s.try() }, history.Fail, "timed out", "no"},
		{"dial into a cut, and longer than a dial waits", func(s *scene) { s.cut(0, s.leader); s.write("x", "7", 3*time.Second) }, history.Fail, "unreachable", "no"},
		{"dial, and the way back is cut", func(s *scene) { s.cut(s.leader, 0); s.try() }, history.Fail, "timed out", "no"},
		{"dial into a cut that is mended", func(s *scene) {
			s.cut(0, s.leader)
			s.write("x", "7", 900*ms)
			s.run(400 * ms)
			s.revert(s.live[0])
		}, history.Ok, "", "yes"},
		{"time-out before the greeting", func(s *scene) {
			s.apply("data", nodes.Effect{Kind: nodes.CutData, From: s.leader, To: 0})
			s.try()
		}, history.Fail, "not greeted", "no"},
		{"reset before the greeting", func(s *scene) {
			s.apply("data", nodes.Effect{Kind: nodes.CutData, From: s.leader, To: 0})
			s.try()
			s.run(100 * ms)
			s.kill(s.leader)
		}, history.Fail, "reset", "no"},
		{"reset seen before sending", func(s *scene) { s.open(); s.kill(s.leader); s.run(50 * ms); s.try() }, history.Fail, "connection refused", "no"},
		{"reset not seen before sending", func(s *scene) { s.open(); s.kill(s.leader); s.try() }, history.Info, "reset", "no"},
		{"reset after sending", func(s *scene) { s.open(); s.try(); s.kill(s.leader) }, history.Info, "reset", "no"},
		{"node dies with the command", func(s *scene) { s.open(); s.try(); s.run(600 * time.Microsecond); s.kill(s.leader) }, history.Info, "reset", either},
		{"restart under an open connection", func(s *scene) { s.open(); s.kill(s.leader); s.revert("kill"); s.try() }, history.Info, "reset", "no"},
		{"restart, and the reset was seen", func(s *scene) {
			s.open()
			s.kill(s.leader)
			s.revert("kill")
			s.run(2 * time.Second)
			s.try()
		}, history.Ok, "", "yes"},
		{"answer after the time-out", func(s *scene) {
			s.open()
			s.apply("slow", nodes.Effect{Kind: nodes.Delayed, From: s.leader, To: 0, Delay: 500 * ms})
			s.try()
		}, history.Info, "timed out", "yes"},
		{"question held by a cut", func(s *scene) { s.open(); s.cut(0, s.leader); s.try(); s.run(500 * ms) }, history.Info, "timed out", "yes"},
		{"answer held by a cut", func(s *scene) { s.open(); s.cut(s.leader, 0); s.try(); s.run(500 * ms) }, history.Info, "timed out", "yes"},
		{"question held by a cut in which the node dies", func(s *scene) {
			s.open()
			s.cut(0, s.leader)
			s.try()
			s.run(100 * ms)
			s.kill(s.leader)
			s.run(100 * ms)
			s.revert("kill")
		}, history.Info, "reset", "no"},
		{"answer held by a cut in which the node dies", func(s *scene) {
			s.open()
			s.cut(s.leader, 0)
			s.try()
			s.run(100 * ms)
			s.kill(s.leader)
		}, history.Info, "timed out", "yes"},
		{"frozen node", func(s *scene) { s.open(); s.freeze(s.leader); s.try(); s.run(400 * ms) }, history.Info, "timed out", either},
		{"frozen for a moment", func(s *scene) { s.open(); s.freeze(s.leader); s.try(); s.run(100 * ms); s.revert("freeze") }, history.Ok, "", "yes"},
		{"frozen node that was never asked before", func(s *scene) { s.freeze(s.leader); s.try(); s.run(400 * ms) }, history.Fail, "not greeted", "no"},
		{"no leader", func(s *scene) {
			s.asker = newAsker(s.World, s.follower)
			s.kill(s.leader)
			s.cut(s.follower, s.rest)
			s.cut(s.rest, s.follower)
			s.run(3 * time.Second)
			s.try()
		}, history.Fail, "no leader", "no"},
		{"leader without a quorum", func(s *scene) {
			s.open()
			for _, id := range []nodes.ID{s.follower, s.rest} {
				s.cut(s.leader, id)
			}
			s.try()
			s.run(400 * ms)
		}, history.Info, "timed out", either},
		{"read of a frozen node", func(s *scene) { s.open(); s.freeze(s.leader); s.read("x", nodes.ModeIndex, 300*ms); s.run(400 * ms) }, history.Fail, "timed out", "no"},
		{"no such function", func(s *scene) {
			s.sent++
			s.Do(history.Event{Type: history.Invoke, F: "fly", Key: "x"}, 300*ms)
		}, history.Fail, "no function", "no"},
		{"interpreter in a hurry", func(s *scene) { s.open(); s.freeze(s.leader); s.try(); s.Hurry() }, history.Info, "timed out", either},
		{"interpreter in a hurry, during the dial", func(s *scene) { s.try(); s.Hurry() }, history.Fail, "timed out", "no"},
	} {
		for seed := range uint64(3) {
			w, leader := raftWorld(t, seed+1, 3, Defaults(), nil)
			s := &scene{World: w, t: t, leader: leader, follower: leader%3 + 1, rest: (leader+1)%3 + 1, asker: newAsker(w, leader)}
			c.do(s)
			s.run(3 * time.Second)
			e := s.last(t)
			if e.Type != c.grade || !strings.Contains(e.Error, c.why) {
				t.Errorf("%s, seed %d: %s %q, want %s %q", c.name, seed+1, e.Type, e.Error, c.grade, c.why)
			}
			did := s.happened()
			if c.happened == "yes" && !did || c.happened == "no" && did {
				t.Errorf("%s, seed %d: graded %s, and it happened: %t; want %s", c.name, seed+1, e.Type, did, c.happened)
			}
			if s.last(t); s.Asking() {
				t.Errorf("%s, seed %d: the attempt has two ends, or none", c.name, seed+1)
			}
		}
	}
}

// What was abandoned never answers a later question, and the client goes on
// over the same connection, or a new one.
func TestAnswersFindTheirQuestions(t *testing.T) {
	w, leader := raftWorld(t, 3, 3, Defaults(), nil)
	s := &scene{World: w, t: t, leader: leader, asker: newAsker(w, leader)}
	s.open()
	s.apply("slow", nodes.Effect{Kind: nodes.Delayed, From: leader, To: 0, Delay: 250 * ms})
	for n := range 8 {
		s.write("x", fmt.Sprint(n), 200*ms)
		s.run(220 * ms)
		if e := s.last(t); e.Type != history.Info {
			t.Fatalf("write %d behind a slow link: %v", n, e)
		}
	}
	s.revert("slow")
	s.run(time.Second)
	for n := range 8 {
		s.write("y", fmt.Sprint(n), time.Second)
		s.run(time.Second)
		s.read("y", nodes.ModeIndex, time.Second)
		s.run(time.Second)
		if e := s.last(t); e.Type != history.Ok || string(e.Value) != fmt.Sprint(n) {
			t.Fatalf("read %d: %s %s %s", n, e.Type, e.Value, e.Error)
		}
	}
}

// The time-out of one attempt never ends the next.
func TestTimeoutsOfTheirOwn(t *testing.T) {
	w, leader := raftWorld(t, 3, 3, Defaults(), nil)
	s := &scene{World: w, t: t, leader: leader, asker: newAsker(w, leader)}
	s.open() // ends at once; its time-out is still to come
	s.write("x", "1", time.Second)
	s.run(900 * ms)
	s.apply("slow", nodes.Effect{Kind: nodes.Delayed, From: leader, To: 0, Delay: 500 * ms})
	s.write("x", "2", time.Second)
	s.run(2 * time.Second)
	if e := s.last(t); e.Type != history.Ok {
		t.Errorf("a write that is answered in time ends as %s: %s", e.Type, e.Error)
	}
}

// The bytes of a connection arrive in the order in which they were sent, and
// the news that it broke behind them.
func TestBytesInOrder(t *testing.T) {
	w, leader := raftWorld(t, 3, 3, Settings{Latency: 100, Spread: 20_000, Sync: 1, Segment: segmentMin}, nil)
	a := newAsker(w, leader)
	a.write("x", "1", time.Second)
	run(t, w, time.Second)
	a.last(t)
	var sent []int32
	for range 50 {
		w.convey(a.Client, down, []byte{1}, w.now)
		for slot, k := range w.chunks.items { // the one that was not there before
			if k.client == a.number && len(k.bytes) == 1 && !slices.Contains(sent, int32(slot)) {
				sent = append(sent, int32(slot))
			}
		}
	}
	a.serverGone()
	last, broken := int64(0), false
	for w.queue.next() != nil && !broken {
		e := w.queue.pop()
		switch {
		case e.kind == evBytes && len(sent) > 0:
			if e.slot != sent[0] {
				t.Fatalf("chunk %d arrives where %d was to", e.slot, sent[0])
			}
			last, sent = e.at, sent[1:]
		case e.kind == evBroken:
			broken = true
			if e.at <= last || len(sent) > 0 {
				t.Errorf("the reset arrives with %d chunks under way", len(sent))
			}
		}
	}
	if !broken {
		t.Error("no reset is under way")
	}
}

// What a client sends behind bytes that a cut holds back does not overtake them.
func TestBytesBehindHeldOnes(t *testing.T) {
	w, leader := raftWorld(t, 3, 3, Defaults(), nil)
	s := &scene{World: w, t: t, leader: leader, asker: newAsker(w, leader)}
	s.open()
	s.cut(0, leader)
	s.write("x", "1", 5*ms)
	s.run(8 * ms)
	s.revert(s.live[0])
	s.write("x", "2", time.Second)
	s.run(time.Second)
	s.read("x", nodes.ModeLog, time.Second)
	s.run(time.Second)
	if e := s.last(t); e.Type != history.Ok || string(e.Value) != "2" {
		t.Errorf("the later write was carried out first: %s %s", e.Type, e.Value)
	}
}

// A connection on which requests wait and nothing comes is given up at the next.
func TestSilentConnections(t *testing.T) {
	for silence, fresh := range map[time.Duration]bool{500 * ms: false, 1500 * ms: true} {
		w, leader := raftWorld(t, 3, 3, Defaults(), nil)
		s := &scene{World: w, t: t, leader: leader, asker: newAsker(w, leader)}
		s.open()
		s.freeze(leader)
		s.try()
		s.run(silence)
		before := s.gen
		s.try()
		if got := s.gen != before; got != fresh {
			t.Errorf("after %s of silence a request takes a new connection: %t, want %t", silence, got, fresh)
		}
	}
}

// A read past the log is held to what clients had seen when it was asked, not
// to what they see later; one through the log is an entry of its own.
func TestReadsAreHeldToWhatWasSeen(t *testing.T) {
	for name, c := range map[string]struct {
		mode   string
		before bool // the others' index was seen before the read was asked
		want   string
	}{
		"seen before":             {nodes.ModeIndex, true, "read-fresh"},
		"seen since":              {nodes.ModeIndex, false, ""},
		"seen before, by the log": {nodes.ModeLog, true, ""},
	} {
		w, leader := raftWorld(t, 3, 3, Defaults(), nil)
		a := newAsker(w, leader)
		a.write("x", "1", time.Second)
		run(t, w, time.Second)
		if w.ledger.answered == 0 {
			t.Fatalf("%s: no client has seen anything", name)
		}
		if c.before {
			w.ledger.answered += 1000
		}
		a.read("x", c.mode, time.Second)
		w.ledger.answered += 1000
		w.Run(w.Now() + time.Second)
		if e := a.last(t); e.Type != history.Ok {
			t.Fatalf("%s: the read ended as %s %s", name, e.Type, e.Error)
		}
		if b := w.Breach(); (b == nil) != (c.want == "") || b != nil && (b.Invariant != c.want || b.Node != leader) {
			t.Errorf("%s: breach %v, want %q", name, b, c.want)
		}
	}
}
