package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
)

// A script is what a fake node does with one connection. It returns when the
// connection should be closed.
type script func(n *fakeConn)

// fakeConn is the node's side of one connection.
type fakeConn struct {
	t *testing.T
	net.Conn
	in []byte
}

// frame reads one frame; nil when the client has closed.
func (n *fakeConn) frame() []byte {
	for {
		body, rest, ok, err := kv.NextFrame(n.in, kv.FrameMax)
		if err != nil {
			n.t.Errorf("the client sent a bad frame: %v", err)
			return nil
		}
		if ok {
			n.in = rest
			return body
		}
		b := make([]byte, 4096)
		m, err := n.Read(b)
		if err != nil {
			return nil
		}
		n.in = append(n.in, b[:m]...)
	}
}

// greet reads a greeting and accepts it. A client that gave up dialling sends none.
func (n *fakeConn) greet() {
	body := n.frame()
	if body == nil {
		return
	}
	if cluster, err := kv.ParseHello(body); cluster != "demo" || err != nil {
		n.t.Errorf("the client greets with %q, %v", cluster, err)
	}
	n.Write(kv.AppendWelcome(nil, ""))
}

// request reads one request; false when the client has closed.
func (n *fakeConn) request() (kv.Request, bool) {
	body := n.frame()
	if body == nil {
		return kv.Request{}, false
	}
	r, _, err := kv.ParseRequest(body)
	if err != nil {
		n.t.Errorf("the client sent a bad request: %v", err)
	}
	return r, err == nil
}

func (n *fakeConn) respond(r kv.Response) { n.Write(kv.AppendResponse(nil, r)) }

// fakeNode runs one script a connection, the last one for all that follow, and
// returns how to dial it. Everything has ended when the test does.
func fakeNode(t *testing.T, scripts ...script) (Member, DialFunc) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second)) // a test that hangs ends
			scripts[min(i, len(scripts)-1)](&fakeConn{t: t, Conn: conn})
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	port := l.Addr().(*net.TCPAddr).Port
	return Member{ID: 1, Host: "127.0.0.1", Client: port, Status: port}, dialTCP
}

func dialTCP(ctx context.Context, m Member, p Port) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", m.Addr(p))
}

func dialOurs(t *testing.T, m Member, dial DialFunc) Client {
	t.Helper()
	c, err := Ours("raft", "chaos").Dial(t.Context(), m, dial, Options{Cluster: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var write = history.Event{F: history.Write, Key: "register/1", Value: json.RawMessage("5"), Session: 9, Sequence: 1, Attempts: 1, Process: 3}
var read = history.Event{F: history.Read, Key: "register/1", Session: 9, Sequence: 2, Attempts: 1, Process: 3}

// answer greets, and answers every request with r.
func answer(r kv.Response) script {
	return func(n *fakeConn) {
		n.greet()
		for q, ok := n.request(); ok; q, ok = n.request() {
			r.ID = q.ID
			n.respond(r)
		}
	}
}

// silent waits until the client closes.
func silent(n *fakeConn) { io.Copy(io.Discard, n) }

// mute greets and answers nothing. It tells of every request that came.
func mute(asked chan<- struct{}) script {
	return func(n *fakeConn) {
		n.greet()
		for _, ok := n.request(); ok; _, ok = n.request() {
			asked <- struct{}{}
		}
	}
}

// patience is for what must come: a test that waits so long has failed.
const patience = 15 * time.Second

// soon is a context that ends when the event comes, however slow the machine is.
func soon(t *testing.T, event <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	go func() {
		select {
		case <-event:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// everyFunction is one invocation of each; all but reads are graded like writes.
func everyFunction() []history.Event {
	out := []history.Event{write, read}
	for f, in := range map[string]string{history.CAS: "[1,2]", history.Delete: "null", history.Add: "3", history.Append: "3"} {
		e := write
		e.F, e.Value = f, json.RawMessage(in)
		out = append(out, e)
	}
	return out
}

// Every way in which an attempt can end, and its grade as a write. A read that
// is not answered has failed, always.
func TestEveryErrorAndItsGrade(t *testing.T) {
	refused := func(code kv.Code) script { return answer(kv.Response{Grade: kv.Refused, Code: code}) }
	doubtful := func(code kv.Code) script { return answer(kv.Response{Grade: kv.Doubtful, Code: code}) }
	after := func(bytes string) script {
		return func(n *fakeConn) { n.greet(); n.request(); io.WriteString(n, bytes) }
	}
	tests := []struct {
		name     string
		node     script // nil: one that greets and is silent
		attempts int
		want     history.Type
		says     string
	}{
		{"answered", answer(kv.Response{Result: kv.Result{Index: 8}}), 1, history.Ok, ""},
		{"closed at once", func(n *fakeConn) {}, 1, history.Fail, "unreachable"},
		{"closed instead of greeting", func(n *fakeConn) { n.frame() }, 1, history.Fail, "unreachable"},
		{"greets in garbage", func(n *fakeConn) { n.frame(); io.WriteString(n, "HTTP/1.1 400 Bad Request\r\n\r\n") }, 1, history.Fail, "unreachable"},
		{"wrong cluster", func(n *fakeConn) { n.frame(); n.Write(kv.AppendWelcome(nil, "this is cluster other")) }, 1, history.Fail, "cluster other"},
		{"closed before sending", func(n *fakeConn) { n.greet() }, 1, history.Info, "connection"},
		{"closed after the request", after(""), 1, history.Info, "connection"},
		{"closed within the answer", after("\x00\x00\x00\x09\x01"), 1, history.Info, "connection"},
		{"garbage", after("what?what?"), 1, history.Info, "garbled"},
		{"answer to nobody", after(string(kv.AppendResponse(nil, kv.Response{ID: 99}))), 1, history.Info, "garbled"},
		{"no answer", nil, 1, history.Info, "timed out"},
		{"no leader", answer(kv.Response{Grade: kv.Refused, Code: kv.NoLeader, Leader: 3}), 1, history.Fail, "no leader (n3 leads)"},
		{"no leader, second attempt", refused(kv.NoLeader), 2, history.Fail, "no leader"},
		{"busy", refused(kv.Busy), 1, history.Fail, "busy"},
		{"bad request", refused(kv.BadRequest), 1, history.Fail, "bad request"},
		{"wrong type", refused(kv.Type), 1, history.Fail, "wrong type"},
		{"too long", refused(kv.Full), 1, history.Fail, "too long"},
		{"stopping", refused(kv.Stopping), 1, history.Fail, "stopping"},
		{"unknown session, first attempt", refused(kv.NoSession), 1, history.Fail, "unknown session"},
		{"unknown session, second attempt", refused(kv.NoSession), 2, history.Info, "unknown session"},
		{"stale sequence", doubtful(kv.Stale), 1, history.Info, "stale sequence"},
		{"superseded", doubtful(kv.Superseded), 1, history.Info, "superseded"},
		{"overdue", doubtful(kv.Overdue), 1, history.Info, "overdue"},
		{"a code of tomorrow", doubtful(77), 1, history.Info, "code(77)"},
		{"refused with a code of tomorrow", refused(77), 1, history.Info, "code(77)"},
		{"refused though superseded", refused(kv.Superseded), 1, history.Info, "garbled"},
		{"refused with a code of the client's own", refused(kv.Unreachable), 1, history.Info, "unreachable"},
		{"answered, but not done", answer(kv.Response{Result: kv.Result{Status: kv.WrongType}}), 1, history.Info, "garbled"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, invoke := range everyFunction() {
				want := test.want
				if invoke.F == history.Read && want == history.Info {
					want = history.Fail
				}
				if sums := invoke.F == history.Add || invoke.F == history.Append; sums && want == history.Ok {
					continue // their answers have values
				}
				asked := make(chan struct{}, 1)
				node := test.node
				if node == nil {
					node = mute(asked)
				}
				m, dial := fakeNode(t, node)
				c := dialOurs(t, m, dial)
				invoke.Attempts = test.attempts
				ctx, cancel := soon(t, asked)
				got := c.Do(ctx, invoke)
				cancel()
				c.Close()
				if got.Type != want || !strings.Contains(got.Error, test.says) || (got.Error == "") != (want == history.Ok) {
					t.Errorf("%s: %s %q; want %s %q", invoke.F, got.Type, got.Error, want, test.says)
				}
				if got.Node != "n1" || got.Key != invoke.Key || got.Process != 3 {
					t.Errorf("the completion is of another operation: %+v", got)
				}
			}
		})
	}
}

func TestNothingThereIsACertainFailure(t *testing.T) {
	m, dial := fakeNode(t, silent)
	m.Client = closedPort(t)
	c := dialOurs(t, m, dial)
	if got := c.Do(t.Context(), write); got.Type != history.Fail || !strings.Contains(got.Error, "refused") {
		t.Errorf("nobody listens: %s %q", got.Type, got.Error)
	}
	slow := func(ctx context.Context, _ Member, _ Port) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c = dialOurs(t, m, slow)
	if got := c.Do(t.Context(), write); got.Type != history.Fail {
		t.Errorf("a dial that never ends: %s %q", got.Type, got.Error)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.Do(ended, write); got.Type != history.Fail || got.Error != "not sent in time" {
		t.Errorf("an ended context: %s %q", got.Type, got.Error)
	}
}

// closedPort is a port that nobody listens on.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Bad invocations end without a connection.
func TestBadInvocations(t *testing.T) {
	dial := func(context.Context, Member, Port) (net.Conn, error) {
		t.Error("dialled")
		return nil, errors.New("no")
	}
	c := dialOurs(t, Member{ID: 1}, dial)
	for _, bad := range []history.Event{
		{F: "shrink", Key: "k"}, {F: history.Read, Key: "k", Mode: "local"},
		{F: history.Write, Key: "k", Value: json.RawMessage("null")}, {F: history.Write, Key: "k"},
		{F: history.Write, Key: "k", Value: json.RawMessage("{")},
		{F: history.Add, Key: "k", Value: json.RawMessage("1.5")}, {F: history.CAS, Key: "k", Value: json.RawMessage("[1]")},
		{F: history.CAS, Key: "k", Value: json.RawMessage("[1,null]")}, {F: history.CAS, Key: "k", Value: json.RawMessage("7")},
	} {
		bad.Session, bad.Sequence = 1, 1
		if got := c.Do(t.Context(), bad); got.Type != history.Fail || got.Error == "" {
			t.Errorf("%s %s: %s %q", bad.F, bad.Value, got.Type, got.Error)
		}
	}
}

// A connection outlives a wait in vain: the late answer is passed over, the next
// one belongs to the next operation.
func TestLateAnswer(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	m, dial := fakeNode(t, func(n *fakeConn) {
		n.greet()
		first, _ := n.request()
		asked <- struct{}{}
		<-release
		second, _ := n.request()
		n.respond(kv.Response{ID: first.ID, Result: kv.Result{Index: 1, Value: kv.Value{Kind: kv.Text, Text: []byte("1")}}})
		n.respond(kv.Response{ID: second.ID, Result: kv.Result{Index: 2, Value: kv.Value{Kind: kv.Text, Text: []byte("2")}}})
		silent(n)
	}, func(n *fakeConn) { t.Error("dialled again"); silent(n) })
	c := dialOurs(t, m, dial)
	defer c.Close()
	ctx, cancel := soon(t, asked)
	defer cancel()
	if got := c.Do(ctx, write); got.Type != history.Info || got.Error != "timed out" {
		t.Errorf("first: %s %q", got.Type, got.Error)
	}
	close(release)
	if got := c.Do(t.Context(), read); got.Type != history.Ok || string(got.Value) != "2" || got.At != 2 {
		t.Errorf("second: %+v", got)
	}
}

// After a loss the next operation takes a new connection, and one that was
// closed while nobody used it is noticed before anything is sent.
func TestDialsAgain(t *testing.T) {
	dropped := make(chan struct{})
	m, dial := fakeNode(t,
		func(n *fakeConn) { n.greet(); n.request() },
		func(n *fakeConn) {
			n.greet()
			q, _ := n.request()
			n.respond(kv.Response{ID: q.ID})
			n.Close()
			close(dropped)
		},
		answer(kv.Response{Result: kv.Result{Index: 3}}))
	c := dialOurs(t, m, dial)
	defer c.Close()
	if got := c.Do(t.Context(), write); got.Type != history.Info {
		t.Errorf("first: %s %q", got.Type, got.Error)
	}
	if got := c.Do(t.Context(), write); got.Type != history.Ok {
		t.Errorf("second: %s %q", got.Type, got.Error)
	}
	<-dropped
	time.Sleep(5 * kvIdleMax) // idle for long enough to be looked at
	if got := c.Do(t.Context(), write); got.Type != history.Ok || got.At != 3 {
		t.Errorf("third, after the node had closed: %s %q", got.Type, got.Error)
	}
}

// A node that never answers does not collect requests without bound: the one
// after OutstandingMax takes a new connection.
func TestUnansweredRequestsAreBounded(t *testing.T) {
	var connections, most atomic.Int64
	m, dial := fakeNode(t, func(n *fakeConn) {
		n.greet()
		connections.Add(1)
		count := int64(0)
		for _, ok := n.request(); ok; _, ok = n.request() {
			count++
			most.Store(max(most.Load(), count))
		}
	})
	c := dialOurs(t, m, dial)
	defer c.Close()
	for tries := 0; tries < 5000 && connections.Load() < 2; tries++ { // on a slow machine not every one is sent
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if got := c.Do(ctx, read); got.Type != history.Fail {
			t.Fatalf("%s %q", got.Type, got.Error)
		}
		cancel()
	}
	if most.Load() > kv.OutstandingMax || connections.Load() < 2 {
		t.Errorf("%d requests on one connection, %d connections; want at most %d, then another", most.Load(), connections.Load(), kv.OutstandingMax)
	}
}

// world is a fake node with a real machine.
func world() script {
	m := kv.NewMachine()
	return func(n *fakeConn) {
		n.greet()
		for q, ok := n.request(); ok; q, ok = n.request() {
			r := m.Get(q.Command.Key)
			if q.Mode == kv.ModeLog {
				r = m.Apply(entry(m, q.Command))
			}
			n.respond(kv.Respond(q.ID, r))
		}
	}
}

// entry makes c the machine's next one.
func entry(m *kv.Machine, c kv.Command) consensus.Entry {
	return consensus.Entry{Index: m.Applied() + 1, Command: consensus.Command{Data: kv.AppendCommand(nil, c)}}
}

// Histories' functions and values, there and back.
func TestFunctions(t *testing.T) {
	m, dial := fakeNode(t, world())
	c := dialOurs(t, m, dial)
	defer c.Close()
	steps := []struct{ f, key, mode, in, out string }{
		{history.Read, "r", "index", "null", "null"},
		{history.Read, "r", "log", "", "null"},
		{history.Read, "r", "", "", "null"},
		{history.CAS, "r", "", "[1,2]", `{"swapped":false,"saw":null}`},
		{history.CAS, "r", "", "[ null , 2 ]", `{"swapped":true,"saw":null}`},
		{history.CAS, "r", "", "[2,3]", `{"swapped":true,"saw":2}`},
		{history.CAS, "r", "", "[2,4]", `{"swapped":false,"saw":3}`},
		{history.Write, "r", "", "17", "17"},
		{history.Read, "r", "", "", "17"},
		{history.Read, "r", "index", "", "17"},
		{history.Add, "r", "", "-20", "-3"},
		{history.Delete, "r", "", "null", "null"},
		{history.Read, "r", "index", "", "null"},
		{history.Append, "l", "", "1", "1"},
		{history.Append, "l", "", "2", "2"},
		{history.Read, "l", "index", "", "[1,2]"},
		{history.Write, "s", "", `"a,\"b"`, `"a,\"b"`},
		{history.CAS, "s", "", `["a,\"b", {"x": [1, 2]}]`, `{"swapped":true,"saw":"a,\"b"}`},
		{history.Read, "s", "index", "", `{"x":[1,2]}`},
		{history.CAS, "s", "", ` [ {"x":[1, 2]} , [ 7 ] ] `, `{"swapped":true,"saw":{"x":[1,2]}}`},
		{history.Read, "s", "log", "", `[7]`},
	}
	sequence := uint64(0)
	for i, s := range steps {
		if s.f != history.Read || s.mode == ModeLog { // sessions count what goes through the log
			sequence++
		}
		invoke := history.Event{F: s.f, Key: s.key, Mode: s.mode, Value: json.RawMessage(s.in), Session: 1, Sequence: sequence, Attempts: 1, Node: "n1"}
		got := c.Do(t.Context(), invoke)
		if got.Type != history.Ok || string(got.Value) != s.out || got.Sequence != sequence {
			t.Errorf("step %d, %s %s: %s %s %q, want %s", i+1, s.f, s.in, got.Type, got.Value, got.Error, s.out)
		}
	}
}

// What other programs stored still becomes one line of JSON.
func TestForeignTexts(t *testing.T) {
	for text, want := range map[string]string{"hello": `"hello"`, "01": `"01"`, "-": `"-"`, "": `""`, "[1,\n 2]": "[1,2]", "\xff": `"\ufffd"`} {
		if got := string(valueJSON(kv.Value{Kind: kv.Text, Text: []byte(text)})); got != want {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
	}
	garbled := Completion(history.Event{F: history.Add}, kv.Response{Result: kv.Result{Value: kv.Value{Kind: kv.Text, Text: []byte("x")}}})
	if garbled.Type != history.Info {
		t.Errorf("a sum that is no number: %+v", garbled)
	}
}

// page answers one request with the status of a node.
func page(id ID) script {
	return func(n *fakeConn) {
		q := make([]byte, 4096)
		k, _ := n.Read(q)
		if !strings.HasPrefix(string(q[:k]), "GET /status HTTP/1.1\r\n") {
			n.t.Errorf("asks %q", q[:k])
		}
		var s Status
		s.ID, s.Role, s.Leader, s.Term, s.Hash, s.Incarnation = id, "follower", 3, 7, "00ff", 4
		body, _ := json.Marshal(s)
		fmt.Fprintf(n, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

func TestObserve(t *testing.T) {
	m, dial := fakeNode(t,
		page(1),
		page(2),
		func(n *fakeConn) { n.Read(make([]byte, 4096)); io.WriteString(n, "HTTP/1.1 503 no\r\n\r\n") },
		func(n *fakeConn) { n.Read(make([]byte, 4096)); io.WriteString(n, "HTTP/1.1 200 OK\r\n\r\n{") },
		func(n *fakeConn) {
			n.Read(make([]byte, 4096))
			io.WriteString(n, "HTTP/1.1 200 OK\r\n\r\n\""+strings.Repeat("x", 2*observeMax))
			silent(n)
		},
		silent)
	s := Ours("paxos", "chaos")
	got, err := s.Observe(t.Context(), m, dial)
	if err != nil || got.ID != 1 || got.Leader != 3 || got.Term != 7 || got.Hash != "00ff" || got.Incarnation != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, about := range []string{"of another node", "an error page", "cut short", "without end", "no answer"} {
		if got, err := s.Observe(t.Context(), m, dial); err == nil {
			t.Errorf("%s: %+v", about, got)
		}
	}
	m.Status = closedPort(t)
	if _, err := s.Observe(t.Context(), m, dial); err == nil {
		t.Error("nobody listens, but there is a status")
	}
}

func TestExec(t *testing.T) {
	self := Member{ID: 2, Host: "10.0.0.2", Peer: 1, Client: 2, Status: 3}
	all := []Member{{ID: 1, Host: "10.0.0.1", Peer: 1}, self}
	o := Options{Cluster: "demo", Knobs: Knobs{CrashAt: "n2:sync:40", ElectionTicks: 30}}
	got := Ours("paxos-classic", "/bin/chaos").Exec(self, all, "/d", o)
	want := "node --system paxos-classic --id n2 --cluster demo --dir /d --peers n1=10.0.0.1:1,n2=10.0.0.2:1" +
		" --client 10.0.0.2:2 --status 10.0.0.2:3 --tick 10ms --heartbeat-ticks 3 --election-ticks 30 --snapshot-entries 10000 --crash-at sync:40"
	if strings.Join(got.Args, " ") != want || got.Path != "/bin/chaos" || got.Ready != ClientPort {
		t.Errorf("got  %s\nwant %s", strings.Join(got.Args, " "), want)
	}
	other := Ours("raft", "/bin/chaos").Exec(all[0], all, "/d", o)
	if strings.Contains(strings.Join(other.Args, " "), "crash-at") {
		t.Error("a crash point of n2 was armed at n1")
	}
	for _, name := range OursNames() {
		if s := Ours(name, ""); s.Name() != name || !reflect.DeepEqual(s.Modes(), []string{"index", "log"}) {
			t.Errorf("%s: %s, %v", name, s.Name(), s.Modes())
		}
	}
}

// BenchmarkDo is one operation over loopback against a node that does nothing else.
func BenchmarkDo(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go echo(l)
	m := Member{ID: 1, Host: "127.0.0.1", Client: l.Addr().(*net.TCPAddr).Port}
	c, _ := Ours("raft", "").Dial(b.Context(), m, dialTCP, Options{Cluster: "demo"})
	defer c.Close()
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if got := c.Do(ctx, write); got.Type != history.Ok {
			b.Fatal(got.Error)
		}
	}
}

// BenchmarkDoNoSocket is the same without the kernel: our own part of the cost.
func BenchmarkDoNoSocket(b *testing.B) {
	dial := func(context.Context, Member, Port) (net.Conn, error) { return &memoryConn{}, nil }
	c, _ := Ours("raft", "").Dial(b.Context(), Member{ID: 1}, dial, Options{Cluster: "demo"})
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if got := c.Do(ctx, write); got.Type != history.Ok {
			b.Fatal(got.Error)
		}
	}
}

// memoryConn answers within Write.
type memoryConn struct {
	net.Conn
	greeted bool
	in, out []byte
}

func (c *memoryConn) Write(b []byte) (int, error) {
	c.in, c.out = reply(append(c.in, b...), c.out[:0], &c.greeted)
	return len(b), nil
}
func (c *memoryConn) Read(b []byte) (int, error)  { return copy(b, c.out), nil }
func (c *memoryConn) SetDeadline(time.Time) error { return nil }
func (c *memoryConn) Close() error                { return nil }

// reply answers all whole frames of in, and returns what is left and the answers.
func reply(in, out []byte, greeted *bool) ([]byte, []byte) {
	all := in
	for {
		body, rest, ok, _ := kv.NextFrame(in, kv.FrameMax)
		if !ok {
			return append(all[:0], in...), out
		}
		in = rest
		if !*greeted {
			*greeted, out = true, kv.AppendWelcome(out, "")
			continue
		}
		if r, _, err := kv.ParseRequest(body); err == nil {
			out = kv.AppendResponse(out, kv.Response{ID: r.ID})
		}
	}
}

func echo(l net.Listener) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	var in, out []byte
	greeted, b := false, make([]byte, 4096)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		in, out = reply(append(in, b[:n]...), out[:0], &greeted)
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}
