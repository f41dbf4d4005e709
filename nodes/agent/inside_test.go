package agent

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
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"chaos/nodes"
)

func FuzzReadLine(f *testing.F) {
	f.Add([]byte("a\nb\n"))
	f.Add([]byte(`{"id":1,"op":"hello"}` + "\n" + `{"id":`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 16)
		var got []byte
		for {
			line, err := readLine(r)
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(append(got, line...), '\n')
			var q request
			if json.Unmarshal(line, &q) == nil && q.Hello != nil {
				_ = q.Hello.check()
			}
		}
		if want := b[:bytes.LastIndexByte(b, '\n')+1]; !bytes.Equal(got, want) {
			t.Errorf("read %q, not %q", got, want)
		}
	})
}

func FuzzProbePacket(f *testing.F) {
	f.Add(append(make([]byte, 28), encodeProbe(7)...))
	f.Fuzz(func(t *testing.T, b []byte) { decodeProbe(b) })
}

func TestReadLineIsBounded(t *testing.T) {
	long := strings.Repeat("a", maxLine-1) + "\n"
	if line, err := readLine(bufio.NewReader(strings.NewReader(long))); err != nil || len(line) != maxLine-1 {
		t.Errorf("the longest line: %d bytes, %v", len(line), err)
	}
	if _, err := readLine(bufio.NewReader(strings.NewReader("a" + long))); err != errLineTooLong {
		t.Errorf("a line too long: %v", err)
	}
}

func TestPumpIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.txt")
	p, err := openPump(path)
	if err != nil {
		t.Fatal(err)
	}
	p.room = 100
	for i := range 50 {
		p.take([]byte(fmt.Sprintf("line %d\n", i)))
	}
	p.take([]byte(strings.Repeat("x", 10*tailLineSize)))
	lines, panicked := p.last()
	p.close()
	if panicked || len(lines) != panicLines || lines[panicLines-2] != "line 49" || len(lines[panicLines-1]) != tailLineSize {
		t.Errorf("the last lines are %q", lines)
	}
	b, _ := os.ReadFile(path)
	if !strings.HasPrefix(string(b), "line 0\nline 1\n") || strings.Count(string(b), "cut here") != 1 || len(b) > 200 {
		t.Errorf("the log is %q", b)
	}
}

func TestPumpFindsThePanic(t *testing.T) {
	p, err := openPump(filepath.Join(t.TempDir(), "log.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.take([]byte("working\npan"))
	p.take([]byte("ic: broken\n"))
	for i := range 500 {
		p.take([]byte(fmt.Sprintf("goroutine %d\n", i)))
	}
	if lines, panicked := p.last(); !panicked || lines[0] != "panic: broken" || len(lines) != panicLines {
		t.Errorf("%v %q", panicked, lines)
	}
}

func TestJudge(t *testing.T) {
	l := nodes.Link{From: 1, To: 2}
	cut, delayed := nodes.LinkState{Cut: true}, nodes.LinkState{Delay: int64(20 * time.Millisecond), Jitter: int64(5 * time.Millisecond)}
	for _, c := range []struct {
		state nodes.LinkState
		seen  nodes.Observation
		holds bool
	}{
		{nodes.LinkState{}, nodes.Observation{Passed: true}, true},
		{nodes.LinkState{}, nodes.Observation{}, false},
		{cut, nodes.Observation{Dropped: 1}, true},
		{cut, nodes.Observation{}, false}, // lost, but not by us
		{cut, nodes.Observation{Passed: true, Dropped: 1}, false},
		{nodes.LinkState{CutData: true}, nodes.Observation{Passed: true}, false},
		{delayed, nodes.Observation{Passed: true, Took: 15 * time.Millisecond}, true},
		{delayed, nodes.Observation{Passed: true, Took: 14 * time.Millisecond}, false},
		{delayed, nodes.Observation{Took: time.Second}, false},
		{nodes.LinkState{Cut: true, Delay: 1}, nodes.Observation{Dropped: 1}, true},
		{nodes.LinkState{}, nodes.Observation{Passed: true, Took: 14 * time.Millisecond, Was: delayed}, true},
		{nodes.LinkState{}, nodes.Observation{Passed: true, Took: 15 * time.Millisecond, Was: delayed}, false}, // it is still there
		{nodes.LinkState{Delay: 1}, nodes.Observation{Passed: true, Took: 15 * time.Millisecond, Was: delayed}, true},
	} {
		c.seen.Link = l
		if p := judge(c.state, c.seen); p.Holds != c.holds || !strings.HasPrefix(p.What, "n1→n2 ") {
			t.Errorf("%+v %+v: %+v", c.state, c.seen, p)
		}
	}
}

func TestProbesAreForgotten(t *testing.T) {
	p := &prober{probes: map[uint64]*probeRecord{}}
	for i := range uint64(maxNonces + 10) {
		p.expect(watching{Nonce: i + 1}, 0)
	}
	if len(p.probes) != maxNonces || len(p.order) != maxNonces {
		t.Errorf("%d probes in %d places", len(p.probes), len(p.order))
	}
	p.mark(5, func(*probeRecord) { t.Error("a forgotten probe arrived") })
	if s := p.look(watching{Nonce: 5}, 9); s != (seen{}) {
		t.Errorf("a forgotten probe was seen: %+v", s)
	}
}

// Drops of an earlier fault prove nothing of a later one.
func TestOnlyNewDropsCount(t *testing.T) {
	p := &prober{probes: map[uint64]*probeRecord{}}
	w := watching{Nonce: 1}
	p.expect(w, 5)
	for counter, dropped := range map[uint64]uint64{4: 0, 5: 0, 6: 1, 9: 4} {
		if s := p.look(w, counter); s.Passed || s.Before != 5 || s.Dropped != dropped {
			t.Errorf("the counter went from 5 to %d: %+v", counter, s)
		}
	}
}

// A request to an agent that is gone already finds it lost, as one that was under
// way does: no gap of its own, and no error of who asked.
func TestCallOfALostAgent(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	c := &Controller{conn: newLineConn(here), pending: map[uint64]chan answer{}}
	c.conn.close(io.EOF)
	for range 64 { // some of which still find room in the queue of lines
		if _, err := c.call(t.Context(), request{Op: opBeat}); !errors.Is(err, errLost) || !errors.Is(err, io.EOF) {
			t.Fatalf("asking an agent that is gone: %v", err)
		}
	}
}

// What was drawn once is never drawn again, so nothing old is taken for new.
func TestNoncesDiffer(t *testing.T) {
	if a, b := nonce(), nonce(); a == b {
		t.Errorf("two probes are called %d", a)
	}
	if a, b := newNonce(), newNonce(); a == b || len(a) != 2*doorNonce {
		t.Errorf("two greetings are called %s and %s", a, b)
	}
}

// A shownMachine shows what a test says.
type shownMachine bool

func (m shownMachine) Bring(ctx context.Context, s nodes.MachineState) ([]nodes.Proof, error) {
	return m.Prove(ctx, s), nil
}

func (m shownMachine) Prove(context.Context, nodes.MachineState) []nodes.Proof {
	return []nodes.Proof{{What: "the machine", Holds: bool(m), How: "as the test says"}}
}

// A machine that is away silences its own links and no other, and only as long
// as it is seen to be away.
func TestOnlyWhoIsAwayIsSilent(t *testing.T) {
	all := []nodes.Link{{From: 1, To: 2}, {From: 3, To: 1}, {From: nodes.Clients, To: 2}, {From: 3, To: nodes.Clients}}
	for _, seen := range []bool{true, false} {
		f := &Fleet{}
		for id := range nodes.ID(3) {
			f.hosts = append(f.hosts, &host{Host: Host{Self: nodes.Member{ID: id + 1}, Machine: shownMachine(seen)}, away: id+1 == 2})
		}
		f.wanted.Add("machine", []nodes.Effect{{Kind: nodes.MachineFrozen, Node: 2}})
		proofs, pending := f.silenced(t.Context(), all)
		if want := []nodes.Link{all[1], all[3]}; !slices.Equal(pending, want) {
			t.Errorf("left to be probed: %v, not %v", pending, want)
		}
		for _, l := range []nodes.Link{all[0], all[2]} {
			if p, ok := proofs[l]; !ok || p.Holds != seen || p.What != linkName(l) {
				t.Errorf("the machine is seen to be away: %v, and %+v", seen, p)
			}
		}
		f.wanted.Remove("machine")
		if proofs, _ := f.silenced(t.Context(), all[:1]); proofs[all[0]].Holds {
			t.Errorf("nobody wants the machine to be away, and its links are proven: %v", proofs)
		}
	}
}

// An agent that is lost while its machine is being welcomed back is missed, too.
func TestLostWhileWelcomed(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	c := &Controller{conn: newLineConn(here), pending: map[uint64]chan answer{}}
	h := &host{Host: Host{Self: nodes.Member{ID: 2}, Open: func(context.Context) (io.ReadWriteCloser, error) {
		return nil, errors.New("no way there")
	}}, ctl: c, away: true}
	f := &Fleet{hosts: []*host{h}, incidents: make(chan nodes.Incident, 9)}
	var end context.CancelFunc
	f.ctx, end = context.WithCancel(t.Context())
	c.conn.close(io.EOF)
	if !h.forget(c) {
		t.Fatal("the agent of a machine that is away is to be brought back")
	}
	f.attend(h, c, false)
	select {
	case i := <-f.incidents:
		if i.Node != 2 || i.Kind != "agent-lost" || !strings.Contains(i.Detail, "EOF") {
			t.Errorf("told: %+v", i)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody misses the agent")
	}
	end()
	f.work.Wait()
}

// The number of a group that is gone may be anybody's: who bears it now is spared.
func TestKillSparesAnHeir(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	exited := func(n *node) error {
		select {
		case <-n.exits:
			return nil
		case <-time.After(4 * killWait):
			return errors.New("no exit is told")
		}
	}
	for what, c := range map[string]struct {
		seconds string
		end     func(*node) error
	}{
		"killed": {"60", (*node).kill},
		"ended":  {"0", exited},
	} {
		n := newNode(1, func(string) {})
		defer n.spawn.close()
		if err := n.prepare(&nodes.Exec{Path: sleep, Args: []string{c.seconds}}, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(n.start(), c.end(n)); err != nil {
			t.Fatal(err)
		}
		<-n.proc.done // else it is still asked who has the number
		heir := exec.Command(sleep, "60")
		heir.SysProcAttr = childAttributes()
		if err := heir.Start(); err != nil {
			t.Fatal(err)
		}
		n.proc.pid = heir.Process.Pid
		if err := n.kill(); err != nil {
			t.Error(err)
		}
		heir.Process.Signal(syscall.SIGTERM)
		if err := heir.Wait(); err == nil || err.Error() != "signal: terminated" {
			t.Errorf("%s: a stranger that has the number now ended by %v", what, err)
		}
	}
}
