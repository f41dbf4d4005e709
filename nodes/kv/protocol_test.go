package kv

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func commands() []Command {
	var out []Command
	r := rand.New(rand.NewPCG(1, 4))
	for range 200 {
		out = append(out, draw(r))
	}
	return append(out, Command{Session: 1<<64 - 1, Sequence: 1<<64 - 1, Op: Add, Key: strings.Repeat("k", KeyMax), Delta: -1 << 63},
		Command{Session: 1, Sequence: 1, Op: CAS, Key: "k", Value: bytes.Repeat([]byte("v"), ValueMax), Old: bytes.Repeat([]byte("o"), ValueMax)})
}

// plain makes empty and nil bytes alike, as the encoding does.
func plain(c Command) Command {
	c.Value, c.Old = append([]byte{}, c.Value...), append([]byte{}, c.Old...)
	return c
}

func TestCommandRoundTrip(t *testing.T) {
	for _, c := range commands() {
		b := AppendCommand([]byte("before"), c)
		got, err := DecodeCommand(b[6:])
		if err != nil || !reflect.DeepEqual(plain(got), plain(c)) {
			t.Errorf("%v: %+v became %+v", err, c, got)
		}
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// What Check refuses, decoding refuses as well.
func TestBounds(t *testing.T) {
	long := make([]byte, ValueMax+1)
	for name, c := range map[string]Command{
		"no key":     {Op: Get},
		"long key":   {Op: Get, Key: strings.Repeat("k", KeyMax+1)},
		"long value": {Op: Put, Key: "k", Value: long},
		"long old":   {Op: CAS, Key: "k", Old: long},
		"no such op": {Op: 6, Key: "k"},
		"stray flag": {Op: Put, Key: "k", OldAbsent: true},
	} {
		if c.Check() == nil {
			t.Errorf("%s: passed Check", name)
		}
		if _, err := DecodeCommand(AppendCommand(nil, c)); err == nil {
			t.Errorf("%s: passed decoding", name)
		}
	}
}

func TestRequestAndResponseRoundTrip(t *testing.T) {
	for i, c := range commands() {
		want := Request{ID: uint64(i) << 20, Mode: Mode(i % 2), Command: c}
		body, rest, ok, err := NextFrame(AppendRequest(nil, want), FrameMax)
		got, encoded, perr := ParseRequest(body)
		if !ok || err != nil || perr != nil || len(rest) > 0 {
			t.Fatalf("frame %v %v %v, %d left", ok, err, perr, len(rest))
		}
		got.Command, want.Command = plain(got.Command), plain(want.Command)
		if !reflect.DeepEqual(got, want) || !bytes.Equal(encoded, AppendCommand(nil, c)) {
			t.Errorf("%+v became %+v", want, got)
		}
	}
	for _, want := range []Response{
		{ID: 1, Result: Result{Index: 1 << 60, Swapped: true, Value: Value{Kind: Text, Text: []byte("t")}}},
		{ID: 2, Result: Result{Index: 3, Value: Value{Kind: List, List: [][]byte{[]byte("a"), {}, []byte("b")}}}},
		{ID: 3, Grade: Refused, Code: NoLeader, Text: "no leader", Leader: 3},
		{ID: 4, Grade: Doubtful, Code: Superseded},
		Respond(5, Result{Status: WrongType, Index: 9}),
	} {
		body, _, _, _ := NextFrame(AppendResponse(nil, want), FrameMax)
		if got, err := ParseResponse(body); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %+v became %+v", err, want, got)
		}
	}
}

func TestFrameLimit(t *testing.T) {
	for _, limit := range []int{0, HelloMax, FrameMax} {
		whole := closeFrame(make([]byte, 4+limit), 0)
		if body, rest, ok, err := NextFrame(whole, limit); len(body) != limit || len(rest) != 0 || !ok || err != nil {
			t.Errorf("a frame of %d bytes, the limit: %v %v", limit, ok, err)
		}
		if _, _, ok, err := NextFrame(whole[:len(whole)-1], limit); ok || err != nil {
			t.Errorf("a frame of %d bytes, cut short: %v %v", limit, ok, err)
		}
		long := []byte{0, 0, 0, 0}
		for i, shift := range []int{24, 16, 8, 0} {
			long[i] = byte((limit + 1) >> shift)
		}
		if _, _, ok, err := NextFrame(long, limit); ok || err != ErrFrame {
			t.Errorf("a frame of one byte past the limit %d: %v %v", limit, ok, err)
		}
	}
}

func TestGreetings(t *testing.T) {
	body, _, _, _ := NextFrame(AppendHello(nil, "demo"), HelloMax)
	if cluster, err := ParseHello(body); cluster != "demo" || err != nil {
		t.Errorf("hello: %q, %v", cluster, err)
	}
	body[len(helloMagic)]++
	if _, err := ParseHello(body); !errors.Is(err, ErrVersion) {
		t.Errorf("another version: %v", err)
	}
	body[0]++
	if _, err := ParseHello(body); !errors.Is(err, ErrHello) {
		t.Errorf("another protocol: %v", err)
	}
	for _, refusal := range []string{"", "this is cluster demo", strings.Repeat("x", 2*TextMax)} {
		body, _, ok, err := NextFrame(AppendWelcome(nil, refusal), HelloMax)
		got, perr := ParseWelcome(body)
		if !ok || err != nil || perr != nil || got != cut(refusal) {
			t.Errorf("welcome %q: %v %v %v %q", refusal, ok, err, perr, got)
		}
	}
}

// Every status becomes a response that says what is certain, and passes the wire.
func TestRespond(t *testing.T) {
	tests := []struct {
		status        Status
		first, second Grade
	}{
		{Done, Answered, Answered},
		{WrongType, Refused, Refused},
		{StaleSequence, Doubtful, Doubtful},
		{UnknownSession, Refused, Doubtful},
		{BadCommand, Refused, Refused},
		{TooLong, Refused, Refused},
	}
	for _, test := range tests {
		r := Respond(1, Result{Status: test.status, Index: 5})
		if r.After(1) != test.first || r.After(2) != test.second {
			t.Errorf("%s: grades %d and %d, want %d and %d", test.status, r.After(1), r.After(2), test.first, test.second)
		}
		body, _, _, _ := NextFrame(AppendResponse(nil, r), FrameMax)
		if got, err := ParseResponse(body); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %v, %+v", test.status, err, got)
		}
	}
}

// A response is believed only as far as its code and grade agree; a code of a
// later version proves nothing.
func TestGradesOfTheWire(t *testing.T) {
	for code := range 256 {
		for grade := Answered; grade <= Doubtful; grade++ {
			want, known := grades[Code(code)]
			if !known {
				want = Doubtful
			}
			body, _, _, _ := NextFrame(AppendResponse(nil, Response{ID: 1, Grade: grade, Code: Code(code)}), FrameMax)
			r, err := ParseResponse(body)
			if ok := err == nil; ok != (grade == want || !known && grade != Answered) || ok && r.Grade != want {
				t.Errorf("%s with grade %d: %+v, %v", Code(code), grade, r, err)
			}
		}
	}
	doubtful := map[Code]bool{Stale: true, Superseded: true, Overdue: true}
	for code, grade := range grades {
		if want := map[bool]Grade{true: Doubtful, false: Refused}[doubtful[code]]; code != Fine && grade != want {
			t.Errorf("%s is graded %d, want %d", code, grade, want)
		}
	}
	body, _, _, _ := NextFrame(AppendResponse(nil, Response{ID: 1, Result: Result{Status: WrongType}}), FrameMax)
	if r, err := ParseResponse(body); err == nil {
		t.Errorf("answered, but not done: %+v", r)
	}
}

// No answer of a bounded machine outgrows a frame.
func TestLargestResponseFits(t *testing.T) {
	m := NewMachine()
	for i := uint64(1); ; i++ {
		if run(m, Command{Session: 1, Sequence: i, Op: Append, Key: "l"}).Status == TooLong {
			break
		}
	}
	r := Respond(1<<64-1, m.Get("l"))
	r.Result.Index = 1<<64 - 1
	body, _, ok, err := NextFrame(AppendResponse(nil, r), FrameMax)
	if got, perr := ParseResponse(body); !ok || err != nil || perr != nil || len(got.Result.Value.List) != ListMax {
		t.Errorf("%v %v %v, %d elements", ok, err, perr, len(got.Result.Value.List))
	}
}

func seedFrames(f *testing.F) {
	for _, c := range commands()[:20] {
		f.Add(AppendCommand(nil, c))
		f.Add(AppendRequest(nil, Request{ID: 9, Command: c})[4:])
	}
	m := NewMachine()
	run(m, Command{Session: 1, Sequence: 1, Op: Append, Key: "l", Value: []byte("x")})
	run(m, Command{Session: 1, Sequence: 2, Op: CAS, Key: "t", OldAbsent: true, Value: []byte("x")})
	f.Add(m.Snapshot())
	f.Add(AppendResult(nil, m.Get("l")))
	f.Add(AppendResponse(nil, Respond(3, m.Get("l")))[4:])
	f.Add(AppendHello(nil, "demo")[4:])
	f.Add(AppendWelcome(nil, "no")[4:])
}

// FuzzParsers feeds the same bytes to every parser. What one accepts must mean
// the same after it was written and read again.
func FuzzParsers(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeCommand(b); err == nil {
			again, err := DecodeCommand(AppendCommand(nil, c))
			if err != nil || !reflect.DeepEqual(plain(again), plain(c)) || c.Check() != nil {
				t.Fatalf("command %+v: %v, %v, %+v", c, c.Check(), err, again)
			}
		}
		if r, err := DecodeResult(b); err == nil {
			if again, err := DecodeResult(AppendResult(nil, r)); err != nil || show(again) != show(r) {
				t.Fatalf("result %+v: %v, %+v", r, err, again)
			}
		}
		if r, encoded, err := ParseRequest(b); err == nil {
			if _, err := DecodeCommand(encoded); err != nil || AppendRequest(nil, r) == nil {
				t.Fatalf("request %+v: %v", r, err)
			}
		}
		if r, err := ParseResponse(b); err == nil {
			if again, err := ParseResponse(AppendResponse(nil, r)[4:]); err != nil || again.ID != r.ID || again.Grade != r.Grade {
				t.Fatalf("response %+v: %v, %+v", r, err, again)
			}
		}
		ParseHello(b)
		ParseWelcome(b)
		NextFrame(b, FrameMax)
	})
}

// FuzzRestore: a snapshot that is accepted is a working machine.
func FuzzRestore(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := NewMachine()
		if m.Restore(b) != nil {
			return
		}
		again := NewMachine()
		if err := again.Restore(m.Snapshot()); err != nil || !bytes.Equal(m.Snapshot(), again.Snapshot()) {
			t.Fatalf("a machine restored from its own snapshot differs: %v", err)
		}
		r := rand.New(rand.NewPCG(1, 5))
		for range 20 {
			if m.Applied()+1 == 0 {
				return // the index that comes after the last one
			}
			run(m, draw(r))
		}
	})
}

// FuzzReceive: whatever a node sends, in whatever pieces, a client ends every
// request once, and never as answered unless a whole answer of its ID came.
func FuzzReceive(f *testing.F) {
	welcome := AppendWelcome(nil, "")
	f.Add(append(welcome, AppendResponse(nil, Response{ID: 1})...), uint8(3))
	f.Add(append(welcome, AppendResponse(nil, Response{ID: 77})...), uint8(1))
	f.Add(AppendWelcome(nil, "no"), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		c := NewClient("demo")
		c.Open()
		ends := map[uint64]int{}
		for range 3 {
			c.Start(ModeLog, Command{Session: 1, Sequence: 1, Op: Put, Key: "k"})
		}
		ends[c.lastID]++ // abandoned at once
		c.Abandon(c.lastID)
		for len(b) > 0 {
			c.Sent(len(c.Out()))
			n := min(len(b), int(piece)+1)
			if c.Receive(b[:n]) != nil {
				break
			}
			b = b[n:]
		}
		c.Lost("end")
		for r, ok := c.Next(); ok; r, ok = c.Next() {
			ends[r.ID]++
		}
		for id := uint64(1); id <= 3; id++ {
			if ends[id] != 1 {
				t.Fatalf("request %d ended %d times", id, ends[id])
			}
		}
	})
}
