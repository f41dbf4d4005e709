package main

import (
	"errors"
	"net"
	"strings"
	"testing"

	"chaos/nodes/kv"
)

// kvNode answers each request on one connection after another by what reply
// makes of it, or hangs up where there is no reply.
func kvNode(t *testing.T, reply func(kv.Request) (kv.Response, bool)) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serveKV(conn, reply)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func serveKV(conn net.Conn, reply func(kv.Request) (kv.Response, bool)) {
	var in []byte
	greeted, b := false, make([]byte, 4096)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		body, rest, ok, err := kv.NextFrame(append(in, b[:n]...), kv.FrameMax)
		if in = rest; !ok || err != nil {
			continue
		}
		if !greeted {
			greeted = true
			conn.Write(kv.AppendWelcome(nil, ""))
			continue
		}
		q, _, err := kv.ParseRequest(body)
		r, ok := reply(q)
		if err != nil || !ok {
			return
		}
		r.ID = q.ID
		conn.Write(kv.AppendResponse(nil, r))
	}
}

// What a person reads, and the exit status, for each kind of end.
func TestKVEnds(t *testing.T) {
	text := func(s string) kv.Response {
		return kv.Response{Result: kv.Result{Value: kv.Value{Kind: kv.Text, Text: []byte(s)}}}
	}
	list := kv.Response{Result: kv.Result{Value: kv.Value{Kind: kv.List, List: [][]byte{[]byte("a"), []byte("b")}}}}
	noLeader := kv.Response{Grade: kv.Refused, Code: kv.NoLeader, Leader: 2}
	overdue := kv.Response{Grade: kv.Doubtful, Code: kv.Overdue}
	for _, test := range []struct {
		args   string
		reply  kv.Response
		hangUp bool
		status int
		out    string
	}{
		{"get k", text("blue"), false, 0, "blue\n"},
		{"get k", kv.Response{}, false, 0, "(absent)\n"},
		{"get k --mode log", list, false, 0, "a\nb\n"},
		{"put k v", kv.Response{}, false, 0, ""},
		{"delete k", kv.Response{}, false, 0, ""},
		{"add k 2", text("5"), false, 0, "5\n"},
		{"append k v", text("3"), false, 0, "3\n"},
		{"cas k a b", kv.Response{Result: kv.Result{Swapped: true, Value: text("a").Result.Value}}, false, 0, ""},
		{"cas k a b", text("c"), false, 1, "c\n"},
		{"cas k --absent b", text("c"), false, 1, "c\n"},
		{"cas k a b", kv.Response{}, false, 1, "(absent)\n"},
		{"put k v", noLeader, false, 2, "chaos: the put certainly did not happen: no leader (n2 leads)\n"},
		{"get k", noLeader, false, 2, "chaos: the get has no answer: no leader (n2 leads)\n"},
		{"put k v", overdue, false, 3, "chaos: the put may or may not have happened, or may yet: overdue\n"},
		{"get k", overdue, false, 2, "chaos: the get has no answer: overdue\n"},
		{"add k 1", kv.Response{}, true, 3, "chaos: the add may or may not have happened, or may yet: connection lost: the node closed the connection\n"},
		{"get k", kv.Response{}, true, 2, "chaos: the get has no answer: connection lost: the node closed the connection\n"},
		{"gte k", kv.Response{}, false, 64, `did you mean "get"?`},
		{"add k 1.5", kv.Response{}, false, 64, "not a whole number"},
		{"cas k b", kv.Response{}, false, 64, "cas takes KEY OLD NEW"},
		{"put k", kv.Response{}, false, 64, "usage: chaos kv put KEY VALUE"},
		{"get k --mode inde", kv.Response{}, false, 64, `did you mean "index"?`},
		{"get k --timeout 0s", kv.Response{}, false, 64, "--timeout must be above 0"},
		{"get k --cluster=", kv.Response{}, false, 64, "--cluster must name"},
		{"get k --node nowhere", kv.Response{}, false, 64, "HOST:PORT"},
	} {
		addr := kvNode(t, func(q kv.Request) (kv.Response, bool) {
			if (q.Mode == kv.ModeIndex) != (test.args == "get k") {
				t.Errorf("%s is asked for with mode %d", test.args, q.Mode)
			}
			return test.reply, !test.hangUp
		})
		root, out := rootCommand(), new(strings.Builder)
		root.SetArgs(append([]string{"kv", "--node", addr, "--cluster", "demo"}, strings.Fields(test.args)...))
		root.SetOut(out)
		root.SetErr(out)
		status, said := statusOf(root.Execute()), out.String()
		if status.code != test.status || !strings.Contains(said+status.says, test.out) || (test.status < 64 && said != test.out) {
			t.Errorf("%s: exit %d, %q %s; want exit %d, %q", test.args, status.code, said, status.says, test.status, test.out)
		}
	}
}

// An ending is what run makes of a command's error.
type ending struct {
	code int
	says string
}

func statusOf(err error) ending {
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return ending{}
	case errors.As(err, &exit):
		return ending{int(exit), ""}
	case errors.As(err, &usage):
		return ending{64, err.Error()}
	}
	return ending{2, err.Error()}
}
