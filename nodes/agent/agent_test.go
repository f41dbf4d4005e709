package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// serve runs an agent in this process and returns its stream and its end.
func serve(t *testing.T, o agent.ServeOptions) (io.ReadWriteCloser, <-chan error) {
	t.Helper()
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- agent.Serve(context.Background(), there, o) }()
	here.SetDeadline(time.Now().Add(3 * enoughTime)) // no test hangs where an agent does
	t.Cleanup(func() { here.Close() })
	return here, ended
}

func hello() agent.Hello {
	return agent.Hello{Run: "run", Lease: time.Minute, Self: nodes.Member{ID: 1, Host: "127.0.0.1"}}
}

func sleeper() nodes.Exec {
	path, _ := os.Executable()
	return nodes.Exec{Path: path, Env: []string{childRole + "=node", "PRINT=hello there"}}
}

func TestKeyAndSoleController(t *testing.T) {
	o := agent.ServeOptions{Key: "a key of sixteen", Sole: &sync.Mutex{}}
	h := hello()
	for _, wrong := range []string{"", "a key of sixteeN", "a key of sixteen "} {
		stream, ended := serve(t, o)
		h.Key = wrong
		if _, err := agent.Connect(t.Context(), stream, h, nil); err == nil || !strings.Contains(err.Error(), "key") {
			t.Errorf("the key %q: %v", wrong, err)
		}
		if await(t, "the refusal", ended) == nil {
			t.Errorf("the key %q: the agent says nothing", wrong)
		}
	}
	h.Key = o.Key
	stranger, _ := serve(t, o) // who shows no key takes nobody's place
	stranger.Write([]byte(`{"id":1,"op":"hello",`))
	stream, ended := serve(t, o)
	first, err := agent.Connect(t.Context(), stream, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := serve(t, o)
	if _, err := agent.Connect(t.Context(), second, h, nil); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("a second controller: %v", err)
	}
	if _, err := first.Status(t.Context()); err != nil {
		t.Errorf("the first controller was disturbed: %v", err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := await(t, "the end after a farewell", ended); err != nil {
		t.Errorf("after a farewell: %v", err)
	}
	stream, _ = serve(t, o)
	third, err := agent.Connect(t.Context(), stream, h, nil)
	if err != nil {
		t.Fatalf("after the first one: %v", err)
	}
	third.Close(t.Context())
}

func TestNodeLife(t *testing.T) {
	stream, ended := serve(t, agent.ServeOptions{})
	c, err := agent.Connect(t.Context(), stream, hello(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, dir := t.Context(), t.TempDir()
	if _, err := c.Node(ctx, nodes.NodeState{}, true); err == nil {
		t.Error("a node was started that nobody described")
	}
	e := sleeper()
	e.Files = map[string][]byte{"../escape": nil}
	if err := c.Exec(ctx, e, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Node(ctx, nodes.NodeState{}, true); err == nil {
		t.Error("a file was written outside of the node's folder")
	}
	e.Files = map[string][]byte{"a/b": []byte("c")}
	if err := c.Exec(ctx, e, dir); err != nil {
		t.Fatal(err)
	}
	var last int
	for _, step := range []struct {
		state nodes.NodeState
		start bool
	}{
		{nodes.NodeState{}, true}, {nodes.NodeState{Frozen: true}, false}, {nodes.NodeState{Frozen: true}, true},
		{nodes.NodeState{}, false}, {nodes.NodeState{Down: true}, false}, {nodes.NodeState{Down: true, Frozen: true}, true},
		{nodes.NodeState{Frozen: true}, true}, {nodes.NodeState{Down: true}, false}, {nodes.NodeState{}, true}, {nodes.NodeState{}, true},
	} {
		proofs, err := c.Node(ctx, step.state, step.start)
		if err != nil {
			t.Fatalf("%+v: %v", step, err)
		}
		again, err := c.Prove(ctx, step.state)
		if ev := (nodes.Evidence{Proofs: append(proofs, again...)}); err != nil || !ev.Proven() {
			t.Errorf("%+v: %v %v", step, err, ev.Failures())
		}
		if other, _ := c.Prove(ctx, nodes.NodeState{Down: !step.state.Down}); (nodes.Evidence{Proofs: other}).Proven() {
			t.Errorf("%+v: the contrary is proven too: %v", step, other)
		}
		s, err := c.Status(ctx)
		if err != nil || (s.Node == 0) != step.state.Down {
			t.Errorf("%+v: %+v %v", step, s, err)
		}
		last = s.Node
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // it may have been killed before it said a word
		b, _ := os.ReadFile(filepath.Join(dir, "log.txt"))
		if strings.Contains(string(b), "hello there\n") {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the log has %q", b)
		}
	}
	// The stream just ends: no farewell.
	stream.Close()
	if err := await(t, "the end after the stream's", ended); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if p, err := os.FindProcess(last); err == nil && alive(p) {
		t.Errorf("the node lives on as process %d", last)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a", "b")); string(b) != "c" {
		t.Errorf("the node's file has %q: %v", b, err)
	}
}

func TestUnaskedExitIsReported(t *testing.T) {
	reports := make(chan agent.Report, 10)
	stream, _ := serve(t, agent.ServeOptions{})
	c, err := agent.Connect(t.Context(), stream, hello(), func(r agent.Report) { reports <- r })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for word, wantPanic := range map[string]bool{"exit": false, "panic": true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		e := sleeper()
		e.Env = append(e.Env, "LISTEN="+addr)
		if err := c.Exec(t.Context(), e, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Node(t.Context(), nodes.NodeState{}, true); err != nil {
			t.Fatal(err)
		}
		tellNode(t, addr, word)
		r := await(t, "the report of "+word, reports)
		if r.Kind != "exit" || r.Panic != wantPanic || r.Node != 1 || !strings.Contains(r.Detail, "exit status") {
			t.Errorf("%s: %+v", word, r)
		}
		// It stays down until somebody asks for a start, and asking to freeze is none.
		proofs, err := c.Node(t.Context(), nodes.NodeState{Frozen: true}, false)
		if err != nil || (nodes.Evidence{Proofs: proofs}).Proven() {
			t.Errorf("a node that has ended is proven frozen: %v %v", proofs, err)
		}
	}
	if len(reports) > 0 {
		t.Errorf("a kill that was asked for is reported: %+v", <-reports)
	}
}

func tellNode(t *testing.T, addr, word string) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			fmt.Fprintln(c, word)
			c.Close()
			return
		}
	}
	t.Fatalf("nobody listens at %s", addr)
}

// A stream from a stranger must not end anything but itself.
func TestGarbageEndsTheStream(t *testing.T) {
	valid, _ := json.Marshal(map[string]any{"id": 1, "op": "hello", "hello": map[string]any{"version": 1, "run": "a", "lease": int64(time.Hour)}})
	for name, garbage := range map[string][]byte{
		"not JSON":      []byte("GET / HTTP/1.1\r\n\r\n"),
		"no hello":      []byte(`{"id":1,"op":"beat"}` + "\n"),
		"other version": []byte(`{"id":1,"op":"hello","hello":{"version":99,"run":"a"}}` + "\n"),
		"bad run":       []byte(`{"id":1,"op":"hello","hello":{"version":1,"run":"../a"}}` + "\n"),
		"endless line":  bytes.Repeat([]byte("a"), 3<<20),
		"later garbage": append(append(valid, '\n'), "garbage\n"...),
		"cut off":       valid,
	} {
		stream, ended := serve(t, agent.ServeOptions{})
		go io.Copy(io.Discard, stream)
		stream.Write(garbage)
		if name == "cut off" {
			stream.Close()
		}
		if err := await(t, name, ended); err == nil {
			t.Errorf("%s: the agent ended well", name)
		}
	}
}

func TestUnknownRequestsAreAnswered(t *testing.T) {
	stream, ended := serve(t, agent.ServeOptions{})
	lines := bufio.NewScanner(stream)
	go fmt.Fprint(stream, `{"id":1,"op":"hello","hello":{"version":1,"run":"a"}}`+"\n"+`{"id":2,"op":"dance"}`+"\n"+
		`{"id":3,"op":"send","send":[{"To":"n9","nonce":"1"}]}`+"\n"+`{"id":4,"op":"links","links":[{"link":{"From":"n1","To":"n2"},"state":{"Cut":true}}]}`+"\n"+
		`{"id":5,"op":"observe","wait":1}`+"\n"+`{"id":6,"op":"exec"}`+"\n"+`{"id":7,"op":"bye"}`+"\n")
	failed := 0
	for lines.Scan() {
		var a struct{ Error string }
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Error(err)
		}
		if a.Error != "" {
			failed++
		}
	}
	if failed != 5 {
		t.Errorf("%d requests failed, 5 should", failed)
	}
	if err := await(t, "the end after a farewell", ended); err != nil {
		t.Error(err)
	}
}

func TestProbeLeavesNothing(t *testing.T) {
	for kind, why := range agent.Probe(t.Context()) {
		t.Logf("%s: %v", kind, why)
	}
}
