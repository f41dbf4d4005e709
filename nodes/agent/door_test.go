package agent_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// doors are both ends of a door over a socket of this machine.
func doors(t *testing.T, o agent.ServeOptions, key string) (*agent.Door, <-chan error, error) {
	t.Helper()
	here, there := sockets(t)
	ended := make(chan error, 1)
	go func() { ended <- agent.ServeDoor(context.WithoutCancel(t.Context()), there, o) }()
	d, err := agent.OpenDoor(t.Context(), here, key)
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, ended, err
}

func sockets(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if here, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if there, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

func TestDoorKey(t *testing.T) {
	const key = "a key of sixteen"
	for _, c := range []struct{ host, controller, want string }{
		{key, key, ""}, {"", "", ""},
		{key, "a key of sixteeN", "not taken"}, {key, "", "asks for a key"}, {"", key, "no key"},
	} {
		d, ended, err := doors(t, agent.ServeOptions{Key: c.host}, c.controller)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("host %q, controller %q: %v", c.host, c.controller, err)
		}
		if d != nil {
			d.Close()
		}
		if end := await(t, "the host's end", ended); (end == nil) == (c.host != c.controller && c.host != "") {
			t.Errorf("host %q, controller %q: the host ended with %v", c.host, c.controller, end)
		}
	}
}

// TestDoorStrangers: whoever is at the other end, the error says so.
func TestDoorStrangers(t *testing.T) {
	for say, want := range map[string]string{
		"":                          "no greeting",
		"Welcome to Debian\n":       "Welcome to Debian",
		"chaos door 2 -\n":          "version 2",
		strings.Repeat("x", 10_000): "longer than",
		"chaos door 1 00\nwrong\n":  "does not know the key",
	} {
		here, there := sockets(t)
		go func() { io.WriteString(there, say); there.(*net.TCPConn).CloseWrite() }()
		if _, err := agent.OpenDoor(t.Context(), here, "a key of sixteen"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a host that says %.20q: %v", say, err)
		}
	}
	here, _ := sockets(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := agent.OpenDoor(ctx, here, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent host: %v", err)
	}
}

// TestDoorEcho: who only says again what it was told knows no key, nor does who
// heard the key proven in another greeting.
func TestDoorEcho(t *testing.T) {
	const key = "a key of sixteen"
	host := "chaos door 1 00112233445566778899aabbccddeeff\n"
	refused := func(what string, reply func(nonce, proof string) string) {
		here, there := sockets(t)
		go func() {
			io.WriteString(there, host)
			line, _ := bufio.NewReader(there).ReadString('\n')
			nonce, proof, _ := strings.Cut(strings.TrimSpace(line), " ")
			io.WriteString(there, reply(nonce, proof)+"\n")
			there.(*net.TCPConn).CloseWrite()
		}()
		if _, err := agent.OpenDoor(t.Context(), here, key); err == nil || !strings.Contains(err.Error(), "does not know the key") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("an echo", func(_, proof string) string { return proof })
	refused("an echo of all", func(nonce, proof string) string { return nonce + " " + proof })

	// One greeting goes well, and somebody hears all of it.
	here, there := sockets(t)
	atHost, atOurs := &listened{Conn: there}, &listened{Conn: here}
	ended := make(chan error, 2)
	go func() { ended <- agent.ServeDoor(t.Context(), atHost, agent.ServeOptions{Key: key}) }()
	d, err := agent.OpenDoor(t.Context(), atOurs, key)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	await(t, "the host's end", ended)
	said := atOurs.lines() // a host's greeting and its proof
	host = said[0]
	refused("a host's proof of another greeting", func(string, string) string { return strings.TrimSpace(said[1]) })
	here, there = sockets(t)
	go func() { ended <- agent.ServeDoor(t.Context(), there, agent.ServeOptions{Key: key}) }()
	io.WriteString(here, atHost.lines()[0])
	here.(*net.TCPConn).CloseWrite()
	if err := await(t, "the host's end", ended); err == nil || !strings.Contains(err.Error(), "key is wrong") {
		t.Errorf("a controller's proof of another greeting: %v", err)
	}
}

// A listened is a stream of which somebody hears what comes.
type listened struct {
	net.Conn
	mu    sync.Mutex
	heard bytes.Buffer
}

func (l *listened) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard.Write(b[:n])
	return n, err
}

func (l *listened) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.SplitAfter(l.heard.String(), "\n")
}

func TestDoorDial(t *testing.T) {
	d, _, err := doors(t, agent.ServeOptions{}, "")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := nodes.Member{ID: 1, Host: "127.0.0.1", Client: l.Addr().(*net.TCPAddr).Port}
	c, err := d.Dial(t.Context(), m, nodes.ClientPort)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "ask")
	buf := make([]byte, 3)
	if _, err := io.ReadFull(theirs, buf); err != nil || string(buf) != "ask" {
		t.Errorf("the node got %q, %v", buf, err)
	}
	io.WriteString(theirs, "all of a long answer")
	theirs.Close() // what was said before must arrive all the same
	if got, err := io.ReadAll(c); err != nil || string(got) != "all of a long answer" {
		t.Errorf("the client got %q, %v", got, err)
	}
	if c, err = d.Dial(t.Context(), m, nodes.ClientPort); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(5 * time.Millisecond))
	if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading after a deadline: %v", err)
	}
	if _, err = c.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing after a deadline: %v", err)
	}
	l.Close()
	if _, err := d.Dial(t.Context(), m, nodes.ClientPort); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	m.Host = "192.0.2.1"
	if _, err := d.Dial(t.Context(), m, nodes.ClientPort); err == nil || !strings.Contains(err.Error(), "no address of this host") {
		t.Errorf("another host: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(ctx, m, nodes.ClientPort); !errors.Is(err, context.Canceled) {
		t.Errorf("a dial given up: %v", err)
	}
	d.Close()
	if _, err := d.Dial(t.Context(), m, nodes.ClientPort); err == nil {
		t.Error("a closed door was passed")
	}
}

// TestDoorEnds: when the door's stream ends the agent behind it heals, and a
// second controller is refused until then.
func TestDoorEnds(t *testing.T) {
	d, ended, err := doors(t, agent.ServeOptions{}, "")
	if err != nil {
		t.Fatal(err)
	}
	connect := func() (*agent.Controller, error) {
		stream, err := d.Agent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return agent.Connect(t.Context(), stream, hello(), nil)
	}
	c, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connect(); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("a second controller: %v", err)
	}
	if err := c.Exec(t.Context(), sleeper(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Node(t.Context(), nodes.NodeState{}, true); err != nil {
		t.Fatal(err)
	}
	s, err := c.Status(t.Context())
	if err != nil || s.Node == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	d.Close()
	await(t, "the host's end", ended)
	if err := syscall.Kill(s.Node, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the node lives on behind a closed door: %v", err)
	}
	await(t, "the controller's end", c.Done())
}

func TestDoorFetch(t *testing.T) {
	d, _, err := doors(t, agent.ServeOptions{}, "")
	if err != nil {
		t.Fatal(err)
	}
	from, into := t.TempDir(), filepath.Join(t.TempDir(), "n1")
	files := map[string]string{"log.txt": "a log", "journal/1": strings.Repeat("\x00", 1<<20), "empty": ""}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	if err := d.Fetch(t.Context(), from, into); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if got, err := os.ReadFile(filepath.Join(into, name)); err != nil || string(got) != content {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := os.Lstat(filepath.Join(into, "link")); err == nil {
		t.Error("a link was followed or copied")
	}
	if err := d.Fetch(t.Context(), filepath.Join(from, "nowhere"), into); err != nil {
		t.Errorf("no such folder: %v", err)
	}
}

// TestUnpackStays: a host can't write outside of the run's folder, and no link.
func TestUnpackStays(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"up":       {Name: "../out", Typeflag: tar.TypeReg, Size: 1},
		"absolute": {Name: "/tmp/chaos-out", Typeflag: tar.TypeReg, Size: 1},
		"huge":     {Name: "huge", Typeflag: tar.TypeReg, Size: 1 << 40},
		"link":     {Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
	} {
		dir := t.TempDir()
		if err := agent.Unpack(bytes.NewReader(tarOf(t, h, true)), filepath.Join(dir, "in")); (err == nil) != (name == "link") {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
			t.Errorf("%s: %v", name, left)
		}
		if in, _ := os.ReadDir(filepath.Join(dir, "in")); len(in) > 0 {
			t.Errorf("%s: %v", name, in)
		}
	}
}

func TestUntarStrips(t *testing.T) {
	for _, name := range []string{"data/../../etc/passwd", "data//etc/passwd", "data/..", "data"} {
		dir := t.TempDir()
		if err := agent.Untar(bytes.NewReader(tarOf(t, tar.Header{Name: name, Size: 1}, false)), dir, 1); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	dir := t.TempDir()
	if err := agent.Untar(bytes.NewReader(tarOf(t, tar.Header{Name: "data/journal/1", Size: 1}, false)), dir, 1); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "journal", "1")); err != nil || string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
}

// tarOf is a tar file of one file with one byte.
func tarOf(t *testing.T, h tar.Header, compressed bool) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	var out io.Writer = &b
	if compressed {
		out = z
	}
	w := tar.NewWriter(out)
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "x")
	w.Flush()
	if compressed {
		z.Close()
	}
	return b.Bytes()
}
