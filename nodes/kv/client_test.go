package kv

import (
	"strings"
	"testing"
)

var put = Command{Session: 1, Sequence: 1, Op: Put, Key: "k", Value: []byte("v")}

// greeted makes a client whose greeting was accepted.
func greeted(t *testing.T) *Client {
	t.Helper()
	c := NewClient("demo")
	c.Open()
	c.Sent(len(c.Out()))
	if err := c.Receive(AppendWelcome(nil, "")); err != nil || !c.Greeted() {
		t.Fatal("greeting was not accepted", err)
	}
	return c
}

// want checks the next ended request.
func want(t *testing.T, c *Client, id uint64, grade Grade, code Code) {
	t.Helper()
	r, ok := c.Next()
	if !ok || r.ID != id || r.Grade != grade || r.Code != code {
		t.Errorf("ended %v: request %d, grade %d, %s (%s); want request %d, grade %d, %s", ok, r.ID, r.Grade, r.Code, r.Text, id, grade, code)
	}
}

func TestNothingLeavesBeforeTheGreeting(t *testing.T) {
	c := NewClient("demo")
	c.Open()
	hello := string(AppendHello(nil, "demo"))
	id := c.Start(ModeLog, put)
	gone := c.Start(ModeLog, put)
	if string(c.Out()) != hello {
		t.Fatalf("sends %q before it was greeted", c.Out())
	}
	c.Sent(len(c.Out()))
	if r := c.Abandon(gone); r.Grade != Refused || r.Code != NotSent {
		t.Errorf("abandoned before the greeting: %+v", r)
	}
	for _, b := range AppendWelcome(nil, "") {
		if err := c.Receive([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if string(c.Out()) != string(AppendRequest(nil, Request{ID: id, Command: put})) {
		t.Errorf("after the greeting it sends %q", c.Out())
	}
}

func TestAnswersMatchByID(t *testing.T) {
	c := greeted(t)
	a, b, late := c.Start(ModeLog, put), c.Start(ModeLog, put), c.Start(ModeLog, put)
	c.Sent(len(c.Out()))
	if r := c.Abandon(late); r.Grade != Doubtful || r.Code != TimedOut || c.Outstanding() != 3 {
		t.Errorf("abandoned: %+v, %d outstanding", r, c.Outstanding())
	}
	answers := AppendResponse(nil, Response{ID: late})
	answers = AppendResponse(answers, Response{ID: b, Grade: Refused, Code: Busy})
	answers = AppendResponse(answers, Response{ID: a, Result: Result{Index: 7}})
	answers = AppendResponse(answers, Response{ID: a, Result: Result{Index: 7}}) // twice
	if err := c.Receive(answers); err != nil {
		t.Fatal(err)
	}
	want(t, c, b, Refused, Busy)
	want(t, c, a, Answered, Fine)
	if r, ok := c.Next(); ok || c.Outstanding() != 0 {
		t.Errorf("one more: %+v, %d outstanding", r, c.Outstanding())
	}
}

// An answer that came in pieces is not overwritten by the beginning of the next.
func TestAnswersOutliveWhatFollows(t *testing.T) {
	c := greeted(t)
	var one, two []byte
	for _, answer := range []*[]byte{&one, &two} {
		id := c.Start(ModeLog, put)
		value := strings.Repeat(string(rune('a'+id)), 300)
		*answer = AppendResponse(nil, Response{ID: id, Result: Result{Value: Value{Kind: Text, Text: []byte(value)}}})
	}
	c.Sent(len(c.Out()))
	for _, piece := range [][]byte{one[:50], append(one[50:], two[:200]...)} {
		if err := c.Receive(piece); err != nil {
			t.Fatal(err)
		}
	}
	r, ok := c.Next()
	if !ok || string(AppendResponse(nil, r)) != string(one) {
		t.Errorf("%v, %q is not what was sent: %q", ok, r.Result.Value.Text, one)
	}
}

func TestLostGradesByWhatLeft(t *testing.T) {
	c := greeted(t)
	whole, part, none := c.Start(ModeLog, put), c.Start(ModeLog, put), c.Start(ModeLog, put)
	size := len(c.Out()) / 3
	c.Sent(size + 1)
	c.Lost("reset")
	want(t, c, whole, Doubtful, Lost)
	want(t, c, part, Doubtful, Lost)
	want(t, c, none, Refused, Unreachable)
	if c.IsOpen() || len(c.Out()) > 0 {
		t.Error("still open, or with something to send")
	}
	want(t, c, c.Start(ModeLog, put), Refused, Unreachable)
	c.Open()
	if !c.IsOpen() || c.Greeted() {
		t.Error("a new connection must be greeted anew")
	}
}

func TestLostExactlyBetweenRequests(t *testing.T) {
	c := greeted(t)
	whole, none := c.Start(ModeLog, put), c.Start(ModeLog, put)
	c.Sent(len(c.Out()) / 2)
	c.Lost("reset")
	want(t, c, whole, Doubtful, Lost)
	want(t, c, none, Refused, Unreachable)
}

// Half an answer of a lost connection must not be completed by the next one.
func TestNothingOutlivesItsConnection(t *testing.T) {
	c := greeted(t)
	lost := c.Start(ModeLog, put)
	c.Sent(len(c.Out()))
	answer := AppendResponse(nil, Response{ID: lost})
	if err := c.Receive(answer[:7]); err != nil {
		t.Fatal(err)
	}
	c.Lost("reset")
	want(t, c, lost, Doubtful, Lost)
	c.Open()
	c.Sent(len(c.Out()))
	if err := c.Receive(AppendWelcome(nil, "")); err != nil || !c.Greeted() {
		t.Fatal("greeting was not accepted", err)
	}
	id := c.Start(ModeLog, put)
	if id == lost {
		t.Fatalf("request %d stands for two", id)
	}
	c.Sent(len(c.Out()))
	if err := c.Receive(answer); err != nil { // of the lost one, as a node might that answers late
		t.Fatal(err)
	}
	if r, ok := c.Next(); ok {
		t.Errorf("an old answer ended %+v", r)
	}
	c.Receive(AppendResponse(nil, Response{ID: id, Result: Result{Index: 2}}))
	want(t, c, id, Answered, Fine)
}

// What Sent counts belongs to one connection: on the next, too, only that is
// certain which did not leave there.
func TestLostGradesAnew(t *testing.T) {
	c := greeted(t)
	first := c.Start(ModeLog, put)
	c.Sent(len(c.Out()))
	c.Lost("reset")
	want(t, c, first, Doubtful, Lost)
	c.Open()
	early, late := c.Start(ModeLog, put), c.Start(ModeLog, put) // both wait for the greeting
	c.Sent(len(c.Out()))
	c.Receive(AppendWelcome(nil, ""))
	c.Sent(len(c.Out()) / 2)
	c.Lost("reset")
	want(t, c, early, Doubtful, Lost)
	want(t, c, late, Refused, Unreachable)
	if r := c.Abandon(first); r.Grade != Doubtful {
		t.Errorf("a request that has ended is abandoned as %+v; nobody knows any more what left of it", r)
	}
}

func TestRefusedGreeting(t *testing.T) {
	c := NewClient("demo")
	c.Open()
	id := c.Start(ModeLog, put)
	c.Sent(len(c.Out()))
	if err := c.Receive(AppendWelcome(nil, "this is cluster other")); err != ErrRefused {
		t.Errorf("error %v", err)
	}
	want(t, c, id, Refused, WrongCluster)
	if c.IsOpen() || len(c.Out()) > 0 {
		t.Error("still open, or with something to send")
	}
}

func TestGarbage(t *testing.T) {
	response := AppendResponse(nil, Response{ID: 1})
	for name, bytes := range map[string]string{
		"too long":        "\xff\xff\xff\xff",
		"not a response":  "\x00\x00\x00\x01x",
		"of no request":   string(AppendResponse(nil, Response{ID: 99})),
		"of a bad grade":  strings.Replace(string(response), "\x01\x00", "\x01\x09", 1),
		"http":            "HTTP/1.1 400 Bad Request\r\n\r\n",
		"an empty frame":  "\x00\x00\x00\x00",
		"a second answer": string(AppendWelcome(nil, "")),
	} {
		c := greeted(t)
		id := c.Start(ModeLog, put)
		c.Sent(len(c.Out()))
		if c.Receive([]byte(bytes)) == nil {
			t.Errorf("%s passed", name)
		}
		want(t, c, id, Doubtful, Garbled)
	}
}

func TestStartRefusesWhatCannotBeServed(t *testing.T) {
	c := greeted(t)
	for _, bad := range []struct {
		mode Mode
		c    Command
	}{
		{ModeLog, Command{Op: Put, Key: "", Session: 1, Sequence: 1}},
		{ModeLog, Command{Op: Put, Key: "k", Sequence: 1}},
		{ModeLog, Command{Op: Put, Key: "k", Session: 1}},
		{ModeIndex, put},
	} {
		want(t, c, c.Start(bad.mode, bad.c), Refused, BadRequest)
	}
	if len(c.Out()) > 0 || c.Outstanding() > 0 {
		t.Error("something of them is to be sent")
	}
	c.Start(ModeIndex, Command{Op: Get, Key: "k"}) // a read without the log needs no session
	if c.Outstanding() != 1 {
		t.Error("a plain read was refused")
	}
}

func TestOutstandingMax(t *testing.T) {
	c := greeted(t)
	for range OutstandingMax {
		c.Abandon(c.Start(ModeLog, put))
	}
	want(t, c, c.Start(ModeLog, put), Refused, Crowded)
	c.Open()
	if c.Outstanding() != 0 {
		t.Errorf("%d outstanding on a new connection", c.Outstanding())
	}
}

// A long answer that comes in small pieces must not be copied again and again.
func BenchmarkReceivePieces(b *testing.B) {
	list := make([][]byte, ListMax/2)
	for i := range list {
		list[i] = []byte("x")
	}
	b.ReportAllocs()
	for b.Loop() {
		c := NewClient("demo")
		c.Open()
		c.Receive(AppendWelcome(nil, ""))
		id := c.Start(ModeIndex, Command{Op: Get, Key: "k"})
		c.Sent(len(c.Out()))
		answer := AppendResponse(nil, Response{ID: id, Result: Result{Value: Value{Kind: List, List: list}}})
		for len(answer) > 0 {
			n := min(len(answer), 512)
			c.Receive(answer[:n])
			answer = answer[n:]
		}
		if _, ok := c.Next(); !ok {
			b.Fatal("no answer")
		}
	}
}
