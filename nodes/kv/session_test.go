package kv

import (
	"bytes"
	"testing"
)

func TestSessions(t *testing.T) {
	steps := []struct {
		session, sequence uint64
		op                Op
		want              string
		about             string
	}{
		{1, 2, Add, "unknown session", "a session opens with sequence 1"},
		{1, 1, Add, `done "1"`, "the first command"},
		{1, 1, Add, `done "1"`, "sent again: the answer, not the effect"},
		{2, 1, Add, `done "2"`, "another session"},
		{1, 1, Add, `done "1"`, "still the first answer"},
		{1, 2, Add, `done "3"`, "the next"},
		{1, 1, Add, "stale sequence", "the session has gone on"},
		{1, 9, Add, `done "4"`, "sequences may be left out"},
		{1, 5, Add, "stale sequence", "but not used later"},
		{2, 2, Get, `done "4"`, "a read has a sequence too"},
		{1, 10, Add, `done "5"`, "a change between"},
		{2, 2, Get, `done "5"`, "a read sent again is read again"},
		{2, 2, Add, "bad command", "a sequence that a read used is used"},
		{1, 10, Get, "bad command", "nor is a read answered with a sum"},
		{1, 10, Add, `done "5"`, "nothing of it disturbed the session"},
	}
	m := NewMachine()
	for i, s := range steps {
		r := run(m, Command{Session: s.session, Sequence: s.sequence, Op: s.op, Key: "n", Delta: map[Op]int64{Add: 1}[s.op]})
		if got := show(r); got != s.want {
			t.Errorf("step %d, %s: %s, want %s", i+1, s.about, got, s.want)
		}
	}
}

// A repeated command tells the index at which it was applied, not the one at
// which it was repeated: a witness of the order must not be led astray.
func TestRepeatedCommandKeepsItsIndex(t *testing.T) {
	m := NewMachine()
	c := Command{Session: 1, Sequence: 1, Op: Put, Key: "k", Value: []byte("v")}
	first := run(m, c)
	run(m, Command{Session: 2, Sequence: 1, Op: Put, Key: "k", Value: []byte("w")})
	if again := run(m, c); again.Index != first.Index || first.Index != 1 {
		t.Errorf("applied at %d, repeated at %d", first.Index, again.Index)
	}
	if got := show(m.Get("k")); got != `done "w"` {
		t.Errorf("the repeated command was applied again: %s", got)
	}
}

func TestEviction(t *testing.T) {
	m := NewMachine()
	open := func(id uint64) Result { return run(m, Command{Session: id, Sequence: 1, Op: Get, Key: "k"}) }
	for id := uint64(1); id <= SessionsMax; id++ {
		open(id)
	}
	run(m, Command{Session: 1, Sequence: 2, Op: Get, Key: "k"}) // used: 2 is the oldest now
	run(m, Command{Session: 3, Sequence: 1, Op: Get, Key: "k"}) // a repeated command counts as use
	for id := uint64(SessionsMax + 1); id <= SessionsMax+3; id++ {
		open(id)
	}
	if len(m.sessions.at) != SessionsMax || len(m.sessions.slots) != SessionsMax+1 {
		t.Fatalf("%d sessions in %d slots; the bound is %d", len(m.sessions.at), len(m.sessions.slots), SessionsMax)
	}
	for id, want := range map[uint64]Status{1: Done, 2: UnknownSession, 3: Done, 4: UnknownSession, 5: UnknownSession, 6: Done, SessionsMax + 1: Done} {
		if r := run(m, Command{Session: id, Sequence: 3, Op: Get, Key: "k"}); r.Status != want {
			t.Errorf("session %d: %s, want %s", id, r.Status, want)
		}
	}
	// Order of use is state: a restored machine evicts the same ones.
	restored := NewMachine()
	if err := restored.Restore(m.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for id := uint64(1 << 20); id < 1<<20+100; id++ {
		c := Command{Session: id, Sequence: 1, Op: Get, Key: "k"}
		run(m, c)
		run(restored, c)
	}
	if !bytes.Equal(m.Snapshot(), restored.Snapshot()) {
		t.Error("a restored machine evicted other sessions")
	}
}
