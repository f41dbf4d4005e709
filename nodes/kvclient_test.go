package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes/kv"
)

// A shyConn greets, and then takes at most take bytes of what is written,
// before Write fails with err.
type shyConn struct {
	memoryConn
	take  int
	err   error
	taken []byte
	asked func() // called when something was written after the greeting
}

func (c *shyConn) Write(b []byte) (int, error) {
	if !c.greeted {
		return c.memoryConn.Write(b)
	}
	defer c.asked()
	n := min(len(b), c.take)
	c.take -= n
	c.taken = append(c.taken, b[:n]...)
	if n < len(b) {
		return n, c.err
	}
	return n, nil
}

func (c *shyConn) Read(b []byte) (int, error) {
	if n := copy(b, c.out); n > 0 {
		c.out = c.out[n:]
		return n, nil
	}
	time.Sleep(time.Millisecond)
	return 0, os.ErrDeadlineExceeded
}

// A write fails with certainty only if not one byte of it left, whether the
// connection broke or took nothing more in time; then nothing of it leaves later.
func TestPartOfARequestIsInDoubt(t *testing.T) {
	whole := len(kv.AppendRequest(nil, kv.Request{ID: 1, Command: command(t, write)}))
	for name, err := range map[string]error{"broken": errors.New("broken pipe"), "stuck": os.ErrDeadlineExceeded} {
		for _, take := range []int{0, 1, whole - 1, whole} {
			conn := &shyConn{take: take, err: err}
			dials := 0
			dial := func(context.Context, Member, Port) (net.Conn, error) {
				if dials++; dials > 1 {
					return &memoryConn{}, nil
				}
				return conn, nil
			}
			c := dialOurs(t, Member{ID: 1}, dial)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			conn.asked = cancel
			got := c.Do(ctx, write)
			cancel()
			if want := map[bool]history.Type{true: history.Fail, false: history.Info}[take == 0]; got.Type != want {
				t.Errorf("%s after %d of %d bytes: %s %q, want %s", name, take, whole, got.Type, got.Error, want)
			}
			conn.take, conn.err = 1<<20, nil
			ctx, conn.asked = context.WithTimeout(t.Context(), patience)
			next := c.Do(ctx, read)
			conn.asked()
			if take < whole && (next.Type != history.Ok || len(conn.taken) != take || dials != 2) {
				t.Errorf("%s after %d of %d bytes: %d bytes left in the end, %d dials, the next read is %s", name, take, whole, len(conn.taken), dials, next.Type)
			}
		}
	}
}

// A carriedConn is one whose deadline passes a few times before bytes come.
type carriedConn struct {
	net.Conn
	late int
}

func (c *carriedConn) Read(b []byte) (int, error) {
	if c.late > 0 {
		c.late--
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	return c.Conn.Read(b)
}

// A client waits on when a deadline of its connection has passed.
func TestDeadlinesOfCarriedConnections(t *testing.T) {
	dials := 0
	carried := func(ctx context.Context, m Member, p Port) (net.Conn, error) {
		dials++
		conn, err := dialTCP(ctx, m, p)
		return &carriedConn{conn, 3}, err
	}
	m, _ := fakeNode(t, world())
	ours := dialOurs(t, m, carried)
	defer ours.Close()
	f, _ := startEtcd(t)
	for name, c := range map[string]Client{"ours": ours, "etcd": dialEtcd(t, f.member, carried)} {
		dials = 0
		if got := c.Do(t.Context(), write); got.Type != history.Ok || dials != 1 {
			t.Errorf("%s: %s %q after %d dials", name, got.Type, got.Error, dials)
		}
	}
}

func command(t *testing.T, e history.Event) kv.Command {
	t.Helper()
	_, c, err := CommandOf(e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var get = kv.Command{Op: kv.Get, Key: "k"}

// ask makes one request that is answered.
func ask(t *testing.T, c *KVClient) kv.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return c.Do(ctx, kv.ModeIndex, get)
}

// askUntil makes one request that is given up at the event.
func askUntil(t *testing.T, c *KVClient, event <-chan struct{}) kv.Response {
	t.Helper()
	ctx, cancel := soon(t, event)
	defer cancel()
	return c.Do(ctx, kv.ModeIndex, get)
}

// client is a KVClient of a fake node, and how often it dialled.
func client(t *testing.T, cluster string, scripts ...script) (c *KVClient, dials *int) {
	m, dial := fakeNode(t, scripts...)
	dials = new(int)
	c = NewKVClient(cluster, func(ctx context.Context) (net.Conn, error) {
		*dials++
		return dial(ctx, m, ClientPort)
	})
	t.Cleanup(func() { c.Close() })
	return c, dials
}

// A connection that was silent for too long is given up by the next request, and
// one whose silence nobody heard, since nobody asked, is not.
func TestSilence(t *testing.T) {
	asked := make(chan struct{}, 1)
	c, dials := client(t, "demo", mute(asked), answer(kv.Response{}))
	for range 2 {
		if r := askUntil(t, c, asked); r.Code != kv.TimedOut || *dials != 1 {
			t.Errorf("no answer: %s after %d dials", r.Code, *dials)
		}
		c.heard = time.Now() // however slow the machine is
	}
	c.heard = c.heard.Add(-2 * kvSilenceMax)
	if r := ask(t, c); r.Grade != kv.Answered || *dials != 2 {
		t.Errorf("after a silence: %s after %d dials", r.Code, *dials)
	}
	c, dials = client(t, "demo", func(n *fakeConn) {
		n.greet()
		q, _ := n.request()
		n.respond(kv.Response{ID: q.ID})
		n.request()
		asked <- struct{}{}
		silent(n)
	})
	ask(t, c)
	c.heard = c.heard.Add(-2 * kvSilenceMax) // long idle
	began := time.Now()
	if r := askUntil(t, c, asked); r.Code != kv.TimedOut || *dials != 1 {
		t.Errorf("after an idle time: %s after %d dials", r.Code, *dials)
	}
	if c.heard.Before(began) {
		t.Error("silence from before the question counts")
	}
}

// A node that does not greet is asked on a new connection after a while.
func TestNoGreeting(t *testing.T) {
	came := make(chan struct{}, 1)
	c, dials := client(t, "demo", func(n *fakeConn) { n.frame(); came <- struct{}{}; silent(n) }, answer(kv.Response{}))
	if r := askUntil(t, c, came); r.Grade != kv.Refused || r.Code != kv.NotSent || *dials != 1 {
		t.Errorf("grade %d, %s after %d dials", r.Grade, r.Code, *dials)
	}
	c.opened = time.Now() // however slow the machine is
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if r := c.Do(ctx, kv.ModeIndex, get); r.Grade != kv.Refused || r.Code != kv.NotSent || *dials != 1 {
		t.Errorf("again: grade %d, %s after %d dials", r.Grade, r.Code, *dials)
	}
	c.opened = c.opened.Add(-2 * kvDialTimeout)
	if r := ask(t, c); r.Grade != kv.Answered || *dials != 2 {
		t.Errorf("then: %s after %d dials", r.Code, *dials)
	}
}

// The client greets by the name that the cluster was launched with.
func TestClusterName(t *testing.T) {
	heard := make(chan string, 1)
	m, dial := fakeNode(t, func(n *fakeConn) {
		cluster, _ := kv.ParseHello(n.frame())
		heard <- cluster
	})
	c, err := Ours("paxos", "").Dial(t.Context(), m, dial, Options{Cluster: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	c.Do(t.Context(), write)
	if got := <-heard; got != "mine" {
		t.Errorf("greets cluster %q, want mine", got)
	}
}

// A completion's value is its own: later answers leave it as it was.
func TestValuesStay(t *testing.T) {
	m, dial := fakeNode(t, world())
	c := dialOurs(t, m, dial)
	defer c.Close()
	var all []history.Event
	for i, f := range []string{history.Write, history.Add, history.Read, history.CAS, history.Add, history.Read} {
		in := map[string]string{history.Write: "1000", history.Add: "1", history.CAS: "[1001,2001]", history.Read: "null"}[f]
		all = append(all, c.Do(t.Context(), history.Event{F: f, Key: "k", Mode: ModeLog, Value: json.RawMessage(in), Session: 1, Sequence: uint64(i + 1)}))
	}
	var got []string
	for _, e := range all {
		got = append(got, string(e.Value))
	}
	if s := strings.Join(got, " "); s != `1000 1001 1001 {"swapped":true,"saw":1001} 2002 2002` {
		t.Errorf("values are %s", s)
	}
}
