package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"chaos/history"
)

// event is an invocation of a session's command.
func event(f, key, in string, session, sequence uint64) history.Event {
	return history.Event{F: f, Key: key, Value: json.RawMessage(in), Session: session, Sequence: sequence, Attempts: 1, Node: "n1", Process: 3}
}

// Histories' functions and values, there and back, each at a revision of its own.
func TestEtcdFunctions(t *testing.T) {
	_, c := startEtcd(t)
	steps := []struct{ f, key, mode, in, out string }{
		{history.Read, "r", ModeLinearizable, "null", "null"},
		{history.Read, "r", ModeSerializable, "", "null"},
		{history.CAS, "r", "", "[1,2]", `{"swapped":false,"saw":null}`},
		{history.CAS, "r", "", "[ null , 2 ]", `{"swapped":true,"saw":null}`},
		{history.CAS, "r", "", "[null,3]", `{"swapped":false,"saw":2}`},
		{history.CAS, "r", "", "[2,3]", `{"swapped":true,"saw":2}`},
		{history.CAS, "r", "", "[2,4]", `{"swapped":false,"saw":3}`},
		{history.Write, "r", "", "17", "17"},
		{history.Read, "r", "", "", "17"},
		{history.Add, "r", "", "-20", "-3"},
		{history.Add, "r", "", "-9223372036854775805", "-9223372036854775808"},
		{history.Write, "r", "", "9223372036854775806", "9223372036854775806"},
		{history.Add, "r", "", "1", "9223372036854775807"},
		{history.Delete, "r", "", "null", "null"},
		{history.Delete, "r", "", "null", "null"},
		{history.Read, "r", "", "", "null"},
		{history.Append, "l", "", "1", "1"},
		{history.Append, "l", "", "2", "2"},
		{history.Read, "l", "", "", "[1,2]"},
		{history.Write, "s", "", `"a,\"b"`, `"a,\"b"`},
		{history.CAS, "s", "", `["a,\"b", {"x": [1, 2]}]`, `{"swapped":true,"saw":"a,\"b"}`},
		{history.Read, "s", "", "", `{"x":[1,2]}`},
	}
	sequence, at := uint64(0), uint64(0)
	for i, s := range steps {
		invoke := event(s.f, s.key, s.in, 0, 0)
		if invoke.Mode = s.mode; s.f != history.Read {
			sequence++
			invoke.Session, invoke.Sequence = 9, sequence
		}
		got := c.Do(t.Context(), invoke)
		if got.Type != history.Ok || string(got.Value) != s.out {
			t.Errorf("step %d, %s %s: %s %s %q, want %s", i+1, s.f, s.in, got.Type, got.Value, got.Error, s.out)
		}
		if s.f == history.Read && got.At != max(at, 1) || s.f != history.Read && got.At <= at {
			t.Errorf("step %d, %s: revision %d after %d", i+1, s.f, got.At, at)
		}
		at = got.At
	}
}

// What can't be sent certainly failed, and sends nothing.
func TestEtcdRefusesToSend(t *testing.T) {
	f, c := startEtcd(t)
	f.set("k/n", []byte("9223372036854775807"))
	f.set("k/x", []byte(`"x"`))
	bad := []history.Event{
		event("shrink", "k", "1", 9, 1), event(history.Write, "k", "", 9, 1), event(history.Write, "k", "null", 9, 1), event(history.CAS, "k", "[1]", 9, 1),
		event(history.Add, "k", `"x"`, 9, 1), event(history.Add, "n", "1", 9, 1), event(history.Add, "x", "1", 9, 1), event(history.Append, "n", "1", 9, 1),
		event(history.Write, "k", "1", 0, 1), event(history.Write, "k", "1", 9, 0),
		{F: history.Read, Key: "k", Mode: "by hearsay"},
	}
	for _, e := range bad {
		if got := c.Do(t.Context(), e); got.Type != history.Fail || got.Error == "" {
			t.Errorf("%+v: %s %q", e, got.Type, got.Error)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.Do(ended, event(history.Write, "k", "1", 9, 1)); got.Type != history.Fail {
		t.Errorf("a write whose context had ended: %+v", got)
	}
	if n := f.count(etcdTxnPath + " led"); n > 0 {
		t.Errorf("%d changes were sent", n)
	}
}

// A command that is sent again is applied once and answered as it was, the first
// of its session like any other.
func TestEtcdOnce(t *testing.T) {
	for name, s := range map[string]struct{ f, before, in, out string }{
		"write":          {history.Write, "", "1", "1"},
		"delete":         {history.Delete, "5", "null", "null"},
		"swap":           {history.CAS, "5", "[5,1]", `{"swapped":true,"saw":5}`},
		"swap in vain":   {history.CAS, "5", "[4,7]", `{"swapped":false,"saw":5}`},
		"swap of absent": {history.CAS, "", "[7,8]", `{"swapped":false,"saw":null}`},
		"add":            {history.Add, "5", "2", "7"},
		"append":         {history.Append, "[5]", "2", "2"},
	} {
		for sequence := uint64(1); sequence <= 2; sequence++ {
			once(t, fmt.Sprintf("%s, sequence %d", name, sequence), s.before, s.out, event(s.f, "k", s.in, 9, sequence))
		}
	}
}

// once sends the command, then again, then again after others changed the key,
// and at last after its session went on.
func once(t *testing.T, name, before, out string, invoke history.Event) {
	f, c := startEtcd(t)
	if invoke.Sequence > 1 {
		c.Do(t.Context(), event(history.Write, "other", "1", 9, 1))
	}
	if before != "" {
		f.set("k/k", []byte(before))
	}
	first := c.Do(t.Context(), invoke)
	if first.Type != history.Ok || string(first.Value) != out {
		t.Errorf("%s: %+v", name, first)
	}
	for i, between := range []string{"", "7", "4"} { // values that would let a swap in vain succeed
		if between != "" {
			if got := c.Do(t.Context(), event(history.Write, "k", between, 8, uint64(i))); got.Type != history.Ok {
				t.Fatalf("%s: %+v", name, got)
			}
		}
		invoke.Attempts++
		want := first
		want.Attempts = invoke.Attempts
		if got := c.Do(t.Context(), invoke); !reflect.DeepEqual(got, want) {
			t.Errorf("%s, again: %+v, want %+v", name, got, want)
		}
		if got := f.stores("k/k"); between != "" && got != between {
			t.Errorf("%s, again, was applied again: %s", name, got)
		}
	}
	if got := c.Do(t.Context(), event(history.Write, "k", "8", 9, 4)); got.Type != history.Ok {
		t.Errorf("%s, then a later sequence: %+v", name, got)
	}
	if got := c.Do(t.Context(), invoke); got.Type != history.Info || f.stores("k/k") != "8" {
		t.Errorf("%s, a lower sequence: %+v, and %s is stored", name, got, f.stores("k/k"))
	}
}

// A member that lags behind does not mislead: what it shows of the key is found
// to be old, and a copy whose session has gone on meanwhile is refused.
func TestEtcdLooksAtOldState(t *testing.T) {
	f, c := startEtcd(t)
	add := event(history.Add, "k", "1", 9, 1)
	c.Do(t.Context(), add)
	f.stale = f.revision
	for i, e := range []history.Event{event(history.Add, "k", "2", 9, 2), event(history.Add, "k", "4", 8, 1)} {
		if got := c.Do(t.Context(), e); got.Type != history.Ok || string(got.Value) != []string{"3", "7"}[i] {
			t.Errorf("add %s: %+v", e.Value, got)
		}
	}
	if add.Attempts++; c.Do(t.Context(), add).Type != history.Info || f.stores("k/k") != "7" {
		t.Errorf("a lower sequence: %+v; %s is stored", c.Do(t.Context(), add), f.stores("k/k"))
	}
	if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k", Mode: ModeSerializable}); string(got.Value) != "1" {
		t.Errorf("a serializable read there: %+v", got)
	}
}

// What an unknown session sends after its first command is not executed. Of a
// first attempt that is certain.
func TestEtcdUnknownSession(t *testing.T) {
	f, c := startEtcd(t)
	for attempts, want := range map[int]history.Type{0: history.Fail, 1: history.Fail, 2: history.Info} {
		for _, fn := range []string{history.Write, history.Add, history.Append} {
			invoke := event(fn, "k", "1", 77, 5)
			invoke.Attempts = attempts
			if got := c.Do(t.Context(), invoke); got.Type != want || f.stores("k/k") != "" {
				t.Errorf("%s, attempt %d: %+v, stores %q", fn, attempts, got, f.stores("k/k"))
			}
		}
	}
}

// A session's key that holds nonsense proves nothing.
func TestEtcdGarbledSession(t *testing.T) {
	for junk, sequence := range map[string]uint64{"": 1, "x": 2, "zzzzzzzzzzzzzzzz1": 2} { // nothing is less than any sequence
		f, c := startEtcd(t)
		f.set(etcdSession(9), []byte(junk))
		for _, fn := range []string{history.Write, history.Append} {
			if got := c.Do(t.Context(), event(fn, "k", "1", 9, sequence)); got.Type != history.Info {
				t.Errorf("%q, %s: %+v", junk, fn, got)
			}
		}
	}
}

// An append whose key others change meanwhile compares again, up to a bound;
// then it certainly did not happen.
func TestEtcdContention(t *testing.T) {
	for rivals, want := range map[int]history.Type{0: history.Ok, etcdRounds - 1: history.Ok, etcdRounds: history.Fail} {
		f, c := startEtcd(t)
		left := rivals
		f.hook = func(path string) (int, string) {
			if path == etcdTxnPath && f.asked[len(f.asked)-1] != path && left > 0 {
				left--
				f.revision++
				f.set("k/l", fmt.Appendf(nil, "[%d]", left))
			}
			return 0, ""
		}
		got := c.Do(t.Context(), event(history.Append, "l", "99", 9, 1))
		stored := f.stores("k/l")
		if got.Type != want || strings.Contains(stored, "99") != (want == history.Ok) || f.count(etcdTxnPath+" led") != min(rivals+1, etcdRounds) {
			t.Errorf("%d rivals: %+v, %s after %d transactions", rivals, got, stored, f.count(etcdTxnPath))
		}
		if rivals > 0 && want == history.Ok && string(got.Value) != "2" {
			t.Errorf("%d rivals: the new length is %s, want 2", rivals, got.Value)
		}
	}
}

// Every error has a grade: certain only where etcd says it before it proposes.
// A read that is not answered failed.
func TestEtcdGrades(t *testing.T) {
	plain := func(message string, code int) string {
		return fmt.Sprintf(`{"error":%q,"message":%q,"code":%d}`, message, message, code)
	}
	for _, g := range []struct {
		status int
		body   string
		want   history.Type
	}{
		{503, plain("etcdserver: no leader", 14), history.Fail},
		{503, `{"error":"etcdserver: no leader","code":14}`, history.Fail},                // 3.3
		{503, `{"code":14,"message":"etcdserver: no leader","details":[]}`, history.Fail}, // from 3.5 on
		{503, plain("etcdserver: not capable", 14), history.Fail},
		{429, plain("etcdserver: too many requests", 8), history.Fail},
		{400, plain("etcdserver: request is too large", 3), history.Fail},
		{400, plain("etcdserver: too many operations in txn request", 3), history.Fail},
		{400, plain("etcdserver: duplicate key given in txn request", 3), history.Fail},
		{400, plain("etcdserver: key is not provided", 3), history.Fail},
		{500, plain("raft proposal dropped", 2), history.Fail},
		{503, plain("etcdserver: request timed out", 14), history.Info},
		{503, plain("etcdserver: request timed out, possibly due to previous leader failure", 14), history.Info},
		{503, plain("etcdserver: request timed out, possibly due to connection lost", 14), history.Info},
		{503, plain("etcdserver: request timed out, waiting for the applied index took too long", 14), history.Info},
		{503, plain("etcdserver: leader changed", 14), history.Info},
		{503, plain("etcdserver: server stopped", 14), history.Info},
		{503, plain("etcdserver: unhealthy cluster", 14), history.Info},
		{408, plain("etcdserver: request cancelled", 1), history.Info},
		{429, plain("etcdserver: mvcc: database space exceeded", 8), history.Info}, // may come of what was applied
		{400, plain("etcdserver: mvcc: required revision has been compacted", 11), history.Info},
		{400, plain("etcdserver: mvcc: required revision is a future revision", 11), history.Info},
		{500, plain("etcdserver: corrupt cluster", 15), history.Info},
		{403, plain("etcdserver: permission denied", 7), history.Info},
		{400, plain("etcdserver: user name is empty", 3), history.Info},
		{504, plain("context deadline exceeded", 4), history.Info},
		{408, plain("context canceled", 1), history.Info},
		{503, plain("transport is closing", 14), history.Info},
		{503, plain("all SubConns are in TransientFailure", 14), history.Info},
		{500, plain("etcdserver: no leader to be found", 2), history.Info}, // no error that etcd has
		{503, plain("", 14), history.Info},
		{503, "", history.Info},
		{404, "404 page not found\n", history.Info},
		{307, "", history.Info},
		{200, "{", history.Info},
		{200, "", history.Info},
		{200, `{"succeeded":true}`, history.Info},
		{200, `{"header":{"revision":"5"}}`, history.Info},
		{200, `{"header":{"revision":"-5"},"succeeded":true}`, history.Info},
		{200, `{"header":{"revision":"5"},"responses":[{"response_range":{}}]}`, history.Info},
		{200, `{"header":{"revision":"5"},"responses":[{"response_range":{}},{"response_range":{}}]}`, history.Info},
		{200, `{"header":{"revision":"5"},"responses":[{"response_range":{"kvs":[{"value":"eA==","mod_revision":"4"}]}},{"response_range":{}}]}`, history.Info},
	} {
		f, c := startEtcd(t)
		f.hook = func(path string) (int, string) {
			if path == etcdListPath {
				return 0, ""
			}
			return g.status, g.body
		}
		got := c.Do(t.Context(), event(history.Write, "k", "1", 9, 1))
		if got.Type != g.want || got.Error == "" {
			t.Errorf("%d %s: a write is %s %q, want %s", g.status, g.body, got.Type, got.Error, g.want)
		}
		if f.count(etcdTxnPath) != 1 {
			t.Errorf("%d %s: sent %d times", g.status, g.body, f.count(etcdTxnPath))
		}
		if got := c.Do(t.Context(), event(history.Append, "k", "1", 9, 2)); got.Type != history.Fail && g.status != 200 {
			t.Errorf("%d %s: an append that could not read is %s", g.status, g.body, got.Type)
		}
		if strings.Contains(g.body, `"header":{"revision":"5"}`) {
			continue // an absent key, to a read
		}
		if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k"}); got.Type != history.Fail || got.Error == "" {
			t.Errorf("%d %s: a read is %s %q", g.status, g.body, got.Type, got.Error)
		}
	}
}

// Garbled answers to a swap.
func TestEtcdGarbledSwap(t *testing.T) {
	for _, body := range []string{
		`{"header":{"revision":"5"},"succeeded":true}`,
		`{"header":{"revision":"5"},"succeeded":true,"responses":[{"response_range":{}}]}`,
		`{"header":{"revision":"5"},"succeeded":true,"responses":[{"response_txn":{}}]}`,
		`{"header":{"revision":"5"},"succeeded":true,"responses":[{"response_txn":{"responses":[{},{"response_range":{"kvs":[{},{}]}}]}}]}`,
		`{"header":{"revision":"5"},"succeeded":true,"responses":[{"response_txn":{"responses":[{},{"response_range":{"kvs":[{"mod_revision":"3"},{"mod_revision":"4"}]}}]}}]}`,
	} {
		f, c := startEtcd(t)
		f.hook = func(path string) (int, string) {
			return map[string]int{etcdTxnPath: 200}[path], body
		}
		if got := c.Do(t.Context(), event(history.CAS, "k", "[1,2]", 9, 1)); got.Type != history.Info {
			t.Errorf("%s: %+v", body, got)
		}
	}
}

// Requests that change something and linearizable reads ask for a leader, so
// that a member without one refuses at once; serializable ones must not.
func TestEtcdAsksForALeader(t *testing.T) {
	f, c := startEtcd(t)
	c.Do(t.Context(), history.Event{F: history.Read, Key: "k"})
	c.Do(t.Context(), history.Event{F: history.Read, Key: "k", Mode: ModeSerializable})
	c.Do(t.Context(), event(history.Add, "k", "1", 9, 1))
	want := []string{etcdListPath, etcdRangePath + " led", etcdRangePath, etcdTxnPath, etcdTxnPath + " led"}
	if !reflect.DeepEqual(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
}

// An http request, as far as a script needs it: its path; "" when the client has closed.
func (n *fakeConn) path() string {
	head := ""
	for b := make([]byte, 1); !strings.HasSuffix(head, "\r\n\r\n"); head += string(b) {
		if _, err := n.Read(b); err != nil {
			return ""
		}
	}
	var length int
	fmt.Sscanf(head[strings.Index(head, "Content-Length:"):], "Content-Length: %d", &length)
	if _, err := io.ReadFull(n, make([]byte, length)); err != nil {
		return ""
	}
	return strings.Fields(head)[1]
}

func (n *fakeConn) reply(body string) {
	fmt.Fprintf(n, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// welcome answers the greeting.
func (n *fakeConn) welcome() {
	if path := n.path(); path != "" && path != etcdListPath {
		n.t.Errorf("greets with %q", path)
	}
	n.reply(roster("demo", 1))
}

// Connections that break, stay silent or lead elsewhere.
func TestEtcdConnections(t *testing.T) {
	const whole = `{"header":{"revision":"5"},"succeeded":true}`
	for name, s := range map[string]struct {
		script script
		write  history.Type
	}{
		"closed before the greeting": {func(n *fakeConn) {}, history.Fail},
		"closed at the greeting":     {func(n *fakeConn) { n.path() }, history.Fail},
		"another cluster":            {func(n *fakeConn) { n.path(); n.reply(roster("other", 1)); silent(n) }, history.Fail},
		"another member":             {func(n *fakeConn) { n.path(); n.reply(roster("demo", 2)); silent(n) }, history.Fail},
		"no list":                    {func(n *fakeConn) { n.path(); n.reply("[]"); silent(n) }, history.Fail},
		"an error as greeting": {func(n *fakeConn) {
			n.path()
			io.WriteString(n, "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")
			silent(n)
		}, history.Fail},
		"closed after the greeting": {func(n *fakeConn) { n.welcome(); n.path() }, history.Info},
		"half an answer": {func(n *fakeConn) {
			n.welcome()
			n.path()
			io.WriteString(n, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"+whole)
		}, history.Info},
		"no http":  {func(n *fakeConn) { n.welcome(); n.path(); io.WriteString(n, "hello\r\n\r\n") }, history.Info},
		"too long": {func(n *fakeConn) { n.welcome(); n.path(); n.reply(whole + strings.Repeat(" ", etcdAnswerMax)) }, history.Info},
		"a head too long": {func(n *fakeConn) {
			n.welcome()
			n.path()
			io.WriteString(n, "HTTP/1.1 200 OK\r\nX: ")
			io.Copy(n, zeros{})
		}, history.Info},
	} {
		m, dial := fakeNode(t, s.script)
		c := dialEtcd(t, m, dial)
		if got := c.Do(t.Context(), event(history.Write, "k", "1", 9, 1)); got.Type != s.write || got.Error == "" {
			t.Errorf("%s: a write is %s %q, want %s", name, got.Type, got.Error, s.write)
		}
		if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k"}); got.Type != history.Fail {
			t.Errorf("%s: a read is %s", name, got.Type)
		}
	}
	c := dialEtcd(t, Member{ID: 1, Host: "127.0.0.1", Client: closedPort(t)}, dialTCP)
	if got := c.Do(t.Context(), event(history.Write, "k", "1", 9, 1)); got.Type != history.Fail {
		t.Errorf("nobody listens: a write is %s %q", got.Type, got.Error)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// An expiring context is out of time once the event comes, as after a deadline,
// however slow the machine is.
type expiring struct {
	context.Context
	event <-chan struct{}
}

func (c expiring) Err() error {
	select {
	case <-c.event:
		return context.DeadlineExceeded
	default:
		return c.Context.Err()
	}
}

// A change that is not answered in time is in doubt, also one that looked at its
// key first, and a read failed. The next operation takes a new connection, so that
// it never gets the late answer.
func TestEtcdSilence(t *testing.T) {
	looked := func(kv string) string {
		return `{"header":{"revision":"4"},"responses":[{"response_range":{}},{"response_range":{"kvs":[` + kv + `]}}]}`
	}
	for _, s := range []struct {
		f, look string
		want    history.Type
	}{
		{history.Write, "", history.Info},
		{history.Read, "", history.Fail},
		{history.Add, looked(""), history.Info},
		{history.Add, looked(`{"value":"MQ==","mod_revision":"3"}`), history.Info},
		{history.Append, looked(""), history.Info},
		{history.Append, looked(`{"value":"WzFd","mod_revision":"3"}`), history.Info}, // [1]
	} {
		asked, late := make(chan struct{}), make(chan struct{})
		m, dial := fakeNode(t,
			func(n *fakeConn) {
				n.welcome()
				if s.look != "" {
					n.path()
					n.reply(s.look)
				}
				n.path()
				close(asked)
				<-late
				n.reply(`{"header":{"revision":"5"}}`)
				silent(n)
			},
			func(n *fakeConn) { n.welcome(); n.path(); n.reply(`{"header":{"revision":"6"}}`); silent(n) })
		c := dialEtcd(t, m, dial)
		got := c.Do(expiring{t.Context(), asked}, event(s.f, "k", "1", 9, 1))
		close(late)
		if got.Type != s.want {
			t.Errorf("%s after %q: %s %q, want %s", s.f, s.look, got.Type, got.Error, s.want)
		}
		if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k"}); got.Type != history.Ok || got.At != 6 {
			t.Errorf("after a %s: %+v", s.f, got)
		}
	}
}

// A greeting that comes late serves the next operation.
func TestEtcdLateGreeting(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	m, plain := fakeNode(t, func(n *fakeConn) {
		n.path()
		close(asked)
		<-release
		n.reply(roster("demo", 1))
		if path := n.path(); path != etcdRangePath {
			n.t.Errorf("after one greeting it asks %s", path)
		}
		n.reply(`{"header":{"revision":"5"}}`)
		silent(n)
	})
	dials := 0
	c := dialEtcd(t, m, func(ctx context.Context, m Member, p Port) (net.Conn, error) { dials++; return plain(ctx, m, p) })
	ctx, cancel := soon(t, asked)
	got := c.Do(ctx, event(history.Write, "k", "1", 9, 1))
	cancel()
	close(release)
	if got.Type != history.Fail {
		t.Errorf("a write that was never sent: %+v", got)
	}
	c.gate.opened = time.Now() // on a busy machine this took longer than a greeting may
	if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k"}); got.Type != history.Ok || dials != 1 {
		t.Errorf("%d dials: %+v", dials, got)
	}
}

// What comes behind an answer is nobody's, and a member that wants to close is
// not asked again.
func TestEtcdTrustsNoMoreThanOneAnswer(t *testing.T) {
	first := `{"header":{"revision":"5"}}`
	whole := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(first), first)
	for name, reply := range map[string]string{
		"two answers": "HTTP/1.1 200 OK\r\n" + whole + "HTTP/1.1 200 OK\r\n" + whole,
		"the last":    "HTTP/1.1 200 OK\r\nConnection: close\r\n" + whole,
	} {
		m, dial := fakeNode(t,
			func(n *fakeConn) { n.welcome(); n.path(); io.WriteString(n, reply); silent(n) },
			func(n *fakeConn) { n.welcome(); n.path(); n.reply(`{"header":{"revision":"6"}}`); silent(n) })
		c := dialEtcd(t, m, dial)
		for at := uint64(5); at <= 6; at++ {
			if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k"}); got.Type != history.Ok || got.At != at {
				t.Errorf("%s: %+v, want revision %d", name, got, at)
			}
		}
	}
}

// A connection that nobody greets is given up in the end.
func TestEtcdNoGreeting(t *testing.T) {
	asked := make(chan struct{})
	m, dial := fakeNode(t,
		func(n *fakeConn) { n.path(); close(asked); silent(n) },
		func(n *fakeConn) { n.welcome(); n.path(); n.reply(`{"header":{"revision":"5"}}`); silent(n) })
	c := dialEtcd(t, m, dial)
	ctx, cancel := soon(t, asked)
	c.Do(ctx, history.Event{F: history.Read, Key: "k"})
	cancel()
	c.gate.opened = time.Now().Add(-2 * etcdDialMax)
	if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k"}); got.Type != history.Ok {
		t.Errorf("%+v", got)
	}
}

// A connection that ends instead of a greeting does not cost the next operation, too.
func TestEtcdEndsWhileGreeting(t *testing.T) {
	m, dial := fakeNode(t,
		func(n *fakeConn) { n.path() },
		func(n *fakeConn) { n.welcome(); n.path(); n.reply(`{"header":{"revision":"5"}}`); silent(n) })
	c := dialEtcd(t, m, dial)
	for _, want := range []history.Type{history.Fail, history.Ok} {
		if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k"}); got.Type != want {
			t.Errorf("%+v, want %s", got, want)
		}
	}
}

// A member that hung up between two operations is noticed before anything is sent.
func TestEtcdHangsUpWhileIdle(t *testing.T) {
	gone := make(chan struct{})
	m, dial := fakeNode(t,
		func(n *fakeConn) {
			n.welcome()
			n.path()
			n.reply(`{"header":{"revision":"5"}}`)
			n.Close()
			close(gone)
		},
		func(n *fakeConn) {
			n.welcome()
			n.path()
			n.reply(`{"header":{"revision":"6"},"succeeded":true}`)
			silent(n)
		})
	c := dialEtcd(t, m, dial)
	if got := c.Do(t.Context(), history.Event{F: history.Read, Key: "k"}); got.Type != history.Ok {
		t.Fatalf("%+v", got)
	}
	<-gone
	for end := time.Now().Add(patience); !hungUp(c.gate.conn) && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	time.Sleep(2 * etcdIdleMax)
	if got := c.Do(t.Context(), event(history.Write, "k", "1", 9, 1)); got.Type != history.Ok || got.At != 6 {
		t.Errorf("%+v", got)
	}
}

// A tightConn greets, and then takes at most take bytes.
type tightConn struct {
	net.Conn
	greeting io.Reader
	take     int
	err      error
	stuck    func()
	closed   bool
}

func (c *tightConn) Read(b []byte) (int, error)  { return c.greeting.Read(b) }
func (c *tightConn) SetDeadline(time.Time) error { return nil }
func (c *tightConn) Close() error                { c.closed = true; return nil }
func (c *tightConn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), etcdListPath) {
		return len(b), nil
	}
	n := min(len(b), c.take)
	if c.take -= n; n < len(b) {
		c.stuck()
		return n, c.err
	}
	return n, nil
}

// A write fails with certainty only if not one byte of it left.
func TestEtcdPartOfARequestIsInDoubt(t *testing.T) {
	for name, err := range map[string]error{"broken": errors.New("broken pipe"), "stuck": os.ErrDeadlineExceeded} {
		for take, want := range map[int]history.Type{0: history.Fail, 1: history.Info, 100: history.Info} {
			body := roster("demo", 1)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			conn := &tightConn{take: take, err: err, stuck: cancel,
				greeting: strings.NewReader(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))}
			c := dialEtcd(t, Member{ID: 1}, func(context.Context, Member, Port) (net.Conn, error) { return conn, nil })
			if got := c.Do(ctx, event(history.Write, "k", "1", 9, 1)); got.Type != want || !conn.closed {
				t.Errorf("%s after %d bytes: %s %q, want %s", name, take, got.Type, got.Error, want)
			}
			cancel()
		}
	}
}

func TestEtcdObserve(t *testing.T) {
	f, _ := startEtcd(t)
	const format = `{"header":{"cluster_id":"%d","member_id":"10%d","revision":"4","raft_term":"3"},"version":"3.4.23","dbSize":"20480",%s"raftIndex":"12","raftTerm":"3","raftAppliedIndex":"11"}`
	var status string
	f.hook = func(path string) (int, string) {
		if path == etcdListPath {
			return 0, ""
		}
		return http.StatusOK, status
	}
	s := Etcd("")
	for _, want := range []struct {
		leader, role string
		id           ID
	}{{`"leader":"101",`, "leader", 1}, {`"leader":"103",`, "follower", 3}, {"", "candidate", 0}} {
		status = fmt.Sprintf(format, 7, 1, want.leader)
		got, err := s.Observe(t.Context(), f.member, dialTCP)
		if err != nil || got.ID != 1 || got.Role != want.role || got.Leader != want.id || got.Term != 3 || got.Commit != 12 || got.Applied != 11 {
			t.Errorf("%s: %+v, %v", want.role, got, err)
		}
	}
	if n := f.count(etcdListPath); n != 1 {
		t.Errorf("the members were asked for %d times; they never change", n)
	}
	status = fmt.Sprintf(format, 7, 2, "")
	if got, err := s.Observe(t.Context(), f.member, dialTCP); err == nil {
		t.Errorf("of another node: %+v", got)
	}
	f.cluster, status = "x-y", fmt.Sprintf(format, 8, 1, "") // a new cluster with names of its own
	if _, err := s.Observe(t.Context(), f.member, dialTCP); err != nil || f.count(etcdListPath) != 2 {
		t.Errorf("another cluster: %v after %d lists", err, f.count(etcdListPath))
	}
	for name, hook := range map[string]func(string) (int, string){
		"an error":   func(string) (int, string) { return 503, `{"error":"etcdserver: server stopped","code":14}` },
		"no status":  func(string) (int, string) { return 200, "<html>" },
		"no members": func(path string) (int, string) { return 200, fmt.Sprintf(format, 9, 1, "") },
		"a nameless member": func(path string) (int, string) {
			return 200, `{"header":{"cluster_id":"9","member_id":"101"},"members":[{"ID":"101"}]}`
		},
	} {
		f.hook = hook
		if got, err := s.Observe(t.Context(), f.member, dialTCP); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestEtcdExec(t *testing.T) {
	self := Member{ID: 2, Host: "10.0.0.2", Peer: 1, Client: 2, Status: 3}
	all := []Member{{ID: 1, Host: "10.0.0.1", Peer: 1}, self}
	got := Etcd("/opt/etcd").Exec(self, all, "/d", Options{Cluster: "demo", Knobs: Knobs{SnapshotEntries: 40}})
	want := "--name demo-n2 --data-dir /d/data --initial-cluster demo-n1=http://10.0.0.1:1,demo-n2=http://10.0.0.2:1 --initial-cluster-token demo --initial-cluster-state new" +
		" --listen-peer-urls http://10.0.0.2:1 --initial-advertise-peer-urls http://10.0.0.2:1 --listen-client-urls http://10.0.0.2:2,http://10.0.0.2:3" +
		" --advertise-client-urls http://10.0.0.2:2 --heartbeat-interval 30 --election-timeout 200 --snapshot-count 40 --quota-backend-bytes 8589934592" +
		" --pre-vote --logger zap --log-outputs stderr"
	if strings.Join(got.Args, " ") != want || got.Path != "/opt/etcd" || got.Ready != ClientPort {
		t.Errorf("got  %s\nwant %s", strings.Join(got.Args, " "), want)
	}
	if got := Etcd("").Exec(self, all, "/d", Options{}); got.Path != "etcd" {
		t.Errorf("the program is %q", got.Path)
	}
	if s := Etcd(""); s.Name() != "etcd" || !reflect.DeepEqual(s.Modes(), []string{"linearizable"}) {
		t.Errorf("%s: %v", s.Name(), s.Modes())
	}
	if s := EtcdSerializable(""); s.Name() != "etcd-serializable" || !reflect.DeepEqual(s.Modes(), []string{"linearizable", "serializable"}) {
		t.Errorf("%s: %v", s.Name(), s.Modes())
	}
}

// etcd refuses an election time-out of less than five heartbeats, or of more
// than 50 s.
func TestEtcdTimings(t *testing.T) {
	for _, c := range []struct {
		knobs               Knobs
		heartbeat, election time.Duration
	}{
		{Knobs{}, 30 * time.Millisecond, 200 * time.Millisecond},
		{Knobs{HeartbeatTicks: 30}, 40 * time.Millisecond, 200 * time.Millisecond},
		{Knobs{Tick: time.Millisecond, HeartbeatTicks: 1, ElectionTicks: 2}, time.Millisecond, 5 * time.Millisecond},
		{Knobs{Tick: 10 * time.Second, HeartbeatTicks: 1000, ElectionTicks: 10_000}, 10 * time.Second, 50 * time.Second},
	} {
		if h, e := etcdTimings(c.knobs.WithDefaults()); h != c.heartbeat || e != c.election {
			t.Errorf("%+v: %s and %s, want %s and %s", c.knobs, h, e, c.heartbeat, c.election)
		}
	}
	if got := milliseconds(1500 * time.Microsecond); got != "2" {
		t.Errorf("1.5ms is written as %s; less than asked for may be too little for etcd", got)
	}
}

func TestEtcdRefuse(t *testing.T) {
	here, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := Etcd(here).(etcd)
	for _, c := range []struct {
		want string
		o    Options
	}{
		{"", Options{Nodes: 3, Network: "namespaces"}}, {"", Options{Nodes: 5}},
		{"relay", Options{Nodes: 3, Network: "relay"}}, {"crash", Options{Nodes: 3, Knobs: Knobs{CrashAt: "n1:sync:4"}}},
		{"--nodes 3 or --nodes 5, not 1", Options{Nodes: 1}}, {"not 4", Options{Nodes: 4}}, {"not 7", Options{Nodes: 7}},
	} {
		if err := s.Refuse(c.o); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
	// What is missing here is no wrong usage, and only this machine's files can be looked for.
	missing := Etcd("/no/such/etcd").(etcd)
	if err := missing.Refuse(Options{Nodes: 3, Network: "namespaces"}); err != nil {
		t.Errorf("refused on every machine: %v", err)
	}
	if err := missing.Missing(Options{Network: "namespaces"}); err == nil || !strings.Contains(err.Error(), "CHAOS_ETCD") {
		t.Errorf("there is no such program: %v", err)
	}
	if err := errors.Join(missing.Missing(Options{Network: "containers"}), s.Missing(Options{Network: "namespaces"})); err != nil {
		t.Error(err)
	}
}
