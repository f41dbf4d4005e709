package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// shortLease is short for a test, and long for the stalls of a starved machine: a
// beat that comes late would end what a test is still setting up.
const shortLease = 3 * time.Second

// A deadNetwork is a stream that can fall silent both ways without an end.
type deadNetwork struct {
	io.ReadWriteCloser
	once sync.Once
	dead chan struct{}
}

func (d *deadNetwork) die() { d.once.Do(func() { close(d.dead) }) }

func (d *deadNetwork) Read(b []byte) (int, error) {
	n, err := d.ReadWriteCloser.Read(b)
	select {
	case <-d.dead:
		select {} // what arrives from now on never does
	default:
		return n, err
	}
}

func (d *deadNetwork) Write(b []byte) (int, error) {
	select {
	case <-d.dead:
		return len(b), nil
	default:
		return d.ReadWriteCloser.Write(b)
	}
}

// A doorProcess is an agent behind a door in a process of its own, as on a host.
type doorProcess struct {
	*deadNetwork
	cmd   *exec.Cmd
	ended chan error
	said  strings.Builder // readable after ended
}

func startDoor(t *testing.T) *doorProcess {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &doorProcess{cmd: exec.Command(path), ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), childRole+"=door")
	p.cmd.Stderr = &p.said
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	// Not StdoutPipe: Wait would close it, and the process would end by that.
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = theirs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	p.deadNetwork = &deadNetwork{ReadWriteCloser: twoPipes{out, in}, dead: make(chan struct{})}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { p.cmd.Process.Kill(); in.Close(); out.Close() })
	return p
}

type twoPipes struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p twoPipes) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p twoPipes) Close() error                { return errors.Join(p.ReadCloser.Close(), p.in.Close()) }

func (p *doorProcess) await(t *testing.T, what string) error {
	t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(enoughTime):
		t.Fatalf("%s: the agent's process lives on", what)
		return nil
	}
}

// TestDeadNetwork: behind a network that died without a word an agent heals when
// its lease has run out, and ends one lease later, even where what it had to say
// is stuck.
func TestDeadNetwork(t *testing.T) {
	t.Parallel()
	for _, flooded := range []bool{false, true} {
		t.Run(fmt.Sprintf("flooded=%v", flooded), func(t *testing.T) {
			t.Parallel()
			p := startDoor(t)
			d, err := agent.OpenDoor(t.Context(), p, "")
			if err != nil {
				t.Fatal(err)
			}
			stream, err := d.Agent(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			h := hello()
			h.Lease = shortLease
			c, err := agent.Connect(t.Context(), stream, h, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Exec(t.Context(), sleeper(), t.TempDir()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Node(t.Context(), nodes.NodeState{}, true); err != nil {
				t.Fatal(err)
			}
			s, err := c.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for range 3 * boolInt(flooded) { // the whole way is full of bytes for clients
				flood(t, d)
			}
			began := time.Now()
			p.die()
			for syscall.Kill(s.Node, 0) == nil {
				if time.Since(began) > enoughTime {
					t.Fatal("the node lives on")
				}
				time.Sleep(time.Millisecond)
			}
			healed := time.Since(began)
			err = p.await(t, "after a dead network")
			t.Logf("node gone after %s, process after %s", healed, time.Since(began))
			if err == nil || !strings.Contains(p.said.String(), "nobody asked for its agent for "+shortLease.String()) {
				t.Errorf("it ended with %v, saying %s", err, p.said.String())
			}
			if lived := time.Since(began); lived < 3*shortLease/2 {
				t.Errorf("it ended after %s, before anybody could come back", lived)
			}
		})
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// flood opens a connection through a door to a server that never stops to send.
func flood(t *testing.T, d *agent.Door) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for err == nil {
			_, err = c.Write(make([]byte, 64<<10))
		}
	}()
	m := nodes.Member{ID: 1, Host: "127.0.0.1", Client: l.Addr().(*net.TCPAddr).Port}
	c, err := d.Dial(t.Context(), m, nodes.ClientPort)
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, c)
}

// TestSilentDoorTakesBack: a controller that was away for longer than its lease
// finds the door open for one lease more, and keeps it open from then on.
func TestSilentDoorTakesBack(t *testing.T) {
	t.Parallel()
	d, ended, err := doors(t, agent.ServeOptions{}, "")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := d.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(stream, `{"id":1,"op":"hello","hello":{"version":1,"run":"a","lease":%d}}`+"\n", shortLease)
	gone := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, stream); gone <- err }()
	if err := await(t, "until it gives us up", gone); err != nil {
		t.Fatal(err)
	}
	again, err := d.Agent(t.Context())
	if err != nil {
		t.Fatalf("the door was closed at once: %v", err)
	}
	h := hello()
	h.Lease = shortLease
	c, err := agent.Connect(t.Context(), again, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("the door closed on a controller: %v", err)
	case <-c.Done():
		t.Fatalf("the controller was lost: %v", c.Err())
	case <-time.After(5 * shortLease / 2):
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("the door closed while the files may be fetched: %v", err)
	case <-time.After(2 * shortLease):
	}
}

// TestDoorIsTold: a process ends when it is told to, whoever hangs on its stream.
func TestDoorIsTold(t *testing.T) {
	p := startDoor(t)
	d, err := agent.OpenDoor(t.Context(), p, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Agent(t.Context()); err != nil { // it runs, and knows its signals
		t.Fatal(err)
	}
	p.die()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.await(t, "after SIGTERM"); err != nil {
		t.Errorf("%v, saying %s", err, p.said.String())
	}
}

// TestDialsHeedTheirContext: however many dials a frozen host leaves without an
// answer, each ends when its own context does, and none is left over when the
// host wakes.
func TestDialsHeedTheirContext(t *testing.T) {
	p := startDoor(t)
	d, err := agent.OpenDoor(t.Context(), p, "")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := nodes.Member{ID: 1, Host: "127.0.0.1", Client: l.Addr().(*net.TCPAddr).Port}
	dial := func(wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		c, err := d.Dial(ctx, m, nodes.ClientPort)
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := dial(enoughTime); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const dials, wait = 3 * 2048, 200 * time.Millisecond // more than a door carries streams
	for dial(wait) == nil {                              // it takes a moment to freeze
	}
	began := time.Now()
	var work sync.WaitGroup
	for range dials {
		work.Go(func() {
			if err := dial(wait); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a dial of a frozen host: %v", err)
			}
		})
	}
	work.Wait()
	t.Logf("%d dials with %s each ended after %s", dials, wait, time.Since(began))
	if took := time.Since(began); took > enoughTime/2 {
		t.Errorf("dials with %s each took %s", wait, took)
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := dial(enoughTime); err != nil {
		t.Errorf("the host is awake: %v", err)
	}
}
