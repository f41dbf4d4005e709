package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"chaos/nodes"
)

// patience bounds every wait of these tests; it is no measurement.
const patience = 10 * time.Second

// A target is a TCP server whose connections the test holds in its hands.
type target struct {
	net.Listener
	conns chan *net.TCPConn
	taken atomic.Int64
}

func newTarget(t *testing.T) *target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &target{Listener: l, conns: make(chan *net.TCPConn, 16)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.taken.Add(1)
			s.conns <- c.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() { l.Close() })
	return s
}

func (s *target) next(t *testing.T) *net.TCPConn {
	t.Helper()
	select {
	case c := <-s.conns:
		t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(patience):
		t.Fatal("the target got no connection")
		return nil
	}
}

func newNetwork(t *testing.T) *Network {
	before := runtime.NumGoroutine()
	n, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		end := time.Now().Add(patience)
		for runtime.NumGoroutine() > before+1 && time.Now().Before(end) { // the target's own
			time.Sleep(time.Millisecond)
		}
		if got := runtime.NumGoroutine(); got > before+1 {
			b := make([]byte, 1<<16)
			t.Errorf("%d goroutines before, %d after Close:\n%s", before, got, b[:runtime.Stack(b, true)])
		}
	})
	return n
}

// open makes a network with one relayed connection from n1 to n2.
func open(t *testing.T) (n *Network, s *target, down, up *net.TCPConn) {
	s = newTarget(t)
	n = newNetwork(t)
	down = dial(t, n, s)
	return n, s, down, s.next(t)
}

func dial(t *testing.T, n *Network, s *target) *net.TCPConn {
	t.Helper()
	port, err := n.Open(1, 2, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func set(t *testing.T, n *Network, states map[nodes.Link]nodes.LinkState) {
	t.Helper()
	if err := n.Set(t.Context(), states); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, c *net.TCPConn, s string) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c *net.TCPConn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

// silent is true if nothing arrives, as far as the relay's own probe can tell.
func silent(t *testing.T, n *Network, l nodes.Link, c *net.TCPConn) {
	t.Helper()
	o := probe(t, n, l)
	if o.Passed || o.Dropped == 0 {
		t.Fatalf("%v: %+v, want it held", l, o)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if k, err := c.Read(make([]byte, 1)); k != 0 || !errors.Is(err, syscall.EAGAIN) && !isTimeout(err) {
		t.Fatalf("read %d bytes, %v; want silence", k, err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func probe(t *testing.T, n *Network, l nodes.Link) nodes.Observation {
	t.Helper()
	o, err := n.Probe(t.Context(), []nodes.Link{l})
	if err != nil {
		t.Fatal(err)
	}
	if o[0].Link != l || o[0].How == "" {
		t.Fatalf("%+v is no observation of %v", o[0], l)
	}
	return o[0]
}

// until waits for what the relay is about to do.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

var (
	there = nodes.Link{From: 1, To: 2}
	back  = nodes.Link{From: 2, To: 1}
	well  = map[nodes.Link]nodes.LinkState{}
	cut   = nodes.LinkState{Cut: true}
)

func TestPass(t *testing.T) {
	n, _, down, up := open(t)
	send(t, down, "question")
	expect(t, up, "question")
	send(t, up, "answer")
	expect(t, down, "answer")
	until(t, "counters", func() bool {
		return n.Counters(there) == Counters{Passed: 8, Connections: 1} && n.Counters(back) == Counters{Passed: 6}
	})
	if o := probe(t, n, there); !o.Passed || o.Dropped != 0 {
		t.Errorf("probe of a link that is well: %+v", o)
	}
}

// A cut link holds bytes in both of its connections, closes nothing, and
// everything goes on in order.
func TestCutHoldsAndResumesInOrder(t *testing.T) {
	n, _, down, up := open(t)
	send(t, down, "a")
	expect(t, up, "a")
	for round := range 3 {
		set(t, n, map[nodes.Link]nodes.LinkState{there: cut, back: cut})
		var want strings.Builder
		for i := range 200 {
			line := strconv.Itoa(round) + "." + strconv.Itoa(i) + " "
			want.WriteString(line)
			send(t, down, line)
		}
		send(t, up, "back")
		silent(t, n, there, up)
		silent(t, n, back, down)
		set(t, n, well)
		expect(t, up, want.String())
		expect(t, down, "back")
	}
	if n.Counters(there).Held == 0 || n.Counters(back).Held == 0 {
		t.Error("nothing was counted as held")
	}
}

// More bytes than the relay keeps wait in the sockets, and none is lost.
func TestCutKeepsMoreThanItsQueue(t *testing.T) {
	n, _, down, up := open(t)
	set(t, n, map[nodes.Link]nodes.LinkState{there: cut})
	data := bytes.Repeat([]byte("0123456789abcdef"), 20*queueBytes/16)
	wrote := make(chan error, 1)
	go func() {
		_, err := down.Write(data)
		wrote <- errors.Join(err, down.CloseWrite())
	}()
	silent(t, n, there, up)
	select {
	case err := <-wrote:
		t.Fatalf("%d bytes vanished in a relay that keeps %d: %v", len(data), queueBytes, err)
	case <-time.After(50 * time.Millisecond):
	}
	set(t, n, well)
	up.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(up)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes arrived of %d, %v", len(got), len(data), err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

func TestOneDirection(t *testing.T) {
	for name, state := range map[string]nodes.LinkState{"cut": cut, "cut-data": {CutData: true}} {
		t.Run(name, func(t *testing.T) {
			n, _, down, up := open(t)
			set(t, n, map[nodes.Link]nodes.LinkState{back: state})
			send(t, down, "still")
			expect(t, up, "still")
			send(t, up, "late")
			silent(t, n, back, down)
			if o := probe(t, n, there); !o.Passed {
				t.Errorf("the other direction: %+v", o)
			}
			set(t, n, well)
			expect(t, down, "late")
		})
	}
}

func TestHalfClose(t *testing.T) {
	_, _, down, up := open(t)
	send(t, down, "last words")
	if err := down.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	up.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(up); err != nil || string(b) != "last words" {
		t.Fatalf("%q, %v", b, err)
	}
	send(t, up, "still here")
	up.Close()
	down.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(down); err != nil || string(b) != "still here" {
		t.Fatalf("%q, %v", b, err)
	}
}

// The end of a connection is a packet too: it waits, behind the bytes before it.
func TestCutHoldsTheEnd(t *testing.T) {
	n, _, down, up := open(t)
	set(t, n, map[nodes.Link]nodes.LinkState{there: cut})
	send(t, down, "x")
	down.Close()
	silent(t, n, there, up)
	set(t, n, well)
	up.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(up); err != nil || string(b) != "x" {
		t.Fatalf("%q, %v", b, err)
	}
}

// A bare end passes where only data is cut; one behind held data does not.
func TestCutDataLetsABareEndPass(t *testing.T) {
	n, _, down, up := open(t)
	set(t, n, map[nodes.Link]nodes.LinkState{there: {CutData: true}})
	down.CloseWrite()
	up.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(up); err != nil || len(b) != 0 {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestDelay(t *testing.T) {
	n, _, down, up := open(t)
	const delay = 30 * time.Millisecond
	slow := nodes.LinkState{Delay: int64(delay), Jitter: int64(delay / 3)}
	set(t, n, map[nodes.Link]nodes.LinkState{there: slow})
	start := time.Now()
	for i := range 100 {
		send(t, down, strconv.Itoa(i)+" ")
	}
	var want strings.Builder
	for i := range 100 {
		want.WriteString(strconv.Itoa(i) + " ")
	}
	expect(t, up, want.String()) // jitter must not change the order
	if took := time.Since(start); took < delay*2/3 {
		t.Errorf("arrived after %s, sooner than the least delay", took)
	}
	if o := probe(t, n, there); !o.Passed || o.Took < delay*2/3 {
		t.Errorf("probe: %+v", o)
	}
	if o := probe(t, n, back); !o.Passed {
		t.Errorf("probe of the way back: %+v", o)
	}
}

// What comes after a delay was healed waits behind what came before.
func TestHealedDelayKeepsTheOrder(t *testing.T) {
	l := &link{id: there, changed: make(chan struct{})}
	s := newStream(nil, l, nil)
	s.dst = new(net.TCPConn) // takes nothing
	l.set(nodes.LinkState{Delay: int64(time.Hour)})
	s.take([]byte("a"))
	l.set(nodes.LinkState{})
	s.take([]byte("b"))
	if len(s.queue) != 2 || s.failed {
		t.Errorf("%d of 2 chunks wait, and dst was written to: %v", len(s.queue), s.failed)
	}
}

// Bytes that wait for a delay are held when the link is cut meanwhile.
func TestCutWhileDelayed(t *testing.T) {
	n, _, down, up := open(t)
	set(t, n, map[nodes.Link]nodes.LinkState{there: {Delay: int64(time.Hour)}})
	send(t, down, "slow")
	set(t, n, map[nodes.Link]nodes.LinkState{there: cut})
	silent(t, n, there, up)
}

func TestReset(t *testing.T) {
	n, s, down, up := open(t)
	set(t, n, map[nodes.Link]nodes.LinkState{there: {Reset: true}})
	for _, c := range []*net.TCPConn{down, up} {
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want a reset", err)
		}
	}
	if o := probe(t, n, there); o.Passed || o.Dropped == 0 || !strings.Contains(o.How, "reset") {
		t.Errorf("probe: %+v", o)
	}
	dialReset(t, n, s)
	if o := probe(t, n, back); !o.Passed {
		t.Errorf("the other direction: %+v", o)
	}
	if _, err := n.Dial(t.Context(), 1, 2, s.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want it refused", err)
	}
	set(t, n, well)
	if o := probe(t, n, there); !o.Passed {
		t.Errorf("after the heal: %+v", o)
	}
	if got := s.taken.Load(); got != 1 {
		t.Errorf("the target saw %d connections, want the first one only", got)
	}
}

// A connection that is opened while the link is cut reaches its target after
// the heal; one that was given up meanwhile never does.
func TestOpeningStalls(t *testing.T) {
	for name, states := range map[string]map[nodes.Link]nodes.LinkState{
		"cut there": {there: cut}, "cut back": {back: cut}, "data cut there": {there: {CutData: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTarget(t)
			n := newNetwork(t)
			set(t, n, states)
			gaveUp := dial(t, n, s)
			c := dial(t, n, s)
			send(t, c, "hello")
			until(t, "both connections wait", func() bool { return n.Counters(there).Held >= 2 })
			gaveUp.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := n.Dial(ctx, 1, 2, s.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("dial: %v, want it to wait as long as it may", err)
			}
			if got := s.taken.Load(); got != 0 {
				t.Fatalf("the target saw %d connections through a cut", got)
			}
			set(t, n, well)
			expect(t, s.next(t), "hello")
			until(t, "the given up one is gone", func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return len(n.pairs) <= 1+len(n.probers)
			})
			if got := s.taken.Load(); got != 1 {
				t.Errorf("the target saw %d connections, want 1", got)
			}
		})
	}
}

// Data cut on the way back lets connections open: only their bytes stall.
func TestCutDataBackLetsOpen(t *testing.T) {
	s := newTarget(t)
	n := newNetwork(t)
	set(t, n, map[nodes.Link]nodes.LinkState{back: {CutData: true}})
	c := dial(t, n, s)
	up := s.next(t)
	send(t, c, "hello")
	expect(t, up, "hello")
	send(t, up, "late")
	silent(t, n, back, c)
}

func TestDial(t *testing.T) {
	s := newTarget(t)
	n := newNetwork(t)
	c, err := n.Dial(t.Context(), nodes.Clients, 2, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	up, down := s.next(t), c.(*net.TCPConn)
	send(t, down, "hello")
	expect(t, up, "hello")
	clients := nodes.Link{From: nodes.Clients, To: 2}
	set(t, n, map[nodes.Link]nodes.LinkState{clients: cut})
	send(t, down, "held")
	silent(t, n, clients, up)
	set(t, n, well)
	expect(t, up, "held")
	s.Close()
	if _, err := n.Dial(t.Context(), nodes.Clients, 2, s.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial of a dead target: %v, want it refused", err)
	}
}

// A target that is gone shows as a reset, at once and not through the door's
// accept loop: others go on.
func TestTargetRefuses(t *testing.T) {
	s := newTarget(t)
	n := newNetwork(t)
	s.Close()
	dialReset(t, n, s)
}

// dialReset opens a connection that must be reset, during its opening or after.
func dialReset(t *testing.T, n *Network, s *target) {
	t.Helper()
	port, err := n.Open(1, 2, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err == nil {
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

// When the target dies the dialer hears of it, unless the way back is cut.
func TestTargetDies(t *testing.T) {
	n, _, down, up := open(t)
	send(t, down, "x")
	expect(t, up, "x")
	set(t, n, map[nodes.Link]nodes.LinkState{back: cut})
	reset(up)
	until(t, "writes into the dead target fail", func() bool {
		_, err := down.Write([]byte("x"))
		return err != nil || n.Counters(back).Held > 0
	})
	silent(t, n, back, down)
	set(t, n, well)
	down.SetReadDeadline(time.Now().Add(patience))
	if _, err := down.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && err != io.EOF {
		t.Errorf("%v, want the end", err)
	}
}

// A reset travels too: where the way back is cut it waits, even if the target
// had said before that it sends no more.
func TestCutHoldsTheReset(t *testing.T) {
	n, _, down, up := open(t)
	up.CloseWrite()
	down.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(down); err != nil || len(b) != 0 {
		t.Fatalf("%q, %v", b, err)
	}
	set(t, n, map[nodes.Link]nodes.LinkState{back: cut})
	reset(up)
	for range 50 {
		send(t, down, "x")
		time.Sleep(time.Millisecond)
	}
	set(t, n, well)
	until(t, "the dialer hears of the reset", func() bool {
		_, err := down.Write([]byte("x"))
		return err != nil
	})
}

// A door takes connectionsMax connections and resets what comes on top.
func TestConnectionsAreBounded(t *testing.T) {
	n := newNetwork(t)
	d := &door{network: n, from: 1, to: 2, slots: make(chan struct{}, 1)}
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	s := newTarget(t)
	d.listener, d.target = l, s.Addr().String()
	n.doors = append(n.doors, d)
	n.work.Go(d.accept)
	first, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	s.next(t)
	second, err := net.Dial("tcp", l.Addr().String())
	if err == nil {
		defer second.Close()
		second.SetReadDeadline(time.Now().Add(patience))
		_, err = second.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

func TestProbesOfManyLinks(t *testing.T) {
	n := newNetwork(t)
	var links []nodes.Link
	wanted := map[nodes.Link]nodes.LinkState{}
	for a := range nodes.ID(6) {
		for b := range nodes.ID(6) {
			if a == b {
				continue
			}
			links = append(links, nodes.Link{From: a, To: b})
			if a < 3 && b >= 3 {
				wanted[nodes.Link{From: a, To: b}] = cut
			}
		}
	}
	for range 3 {
		set(t, n, wanted)
		seen, err := n.Probe(t.Context(), links)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range seen {
			if o.Link != links[i] || o.Passed == wanted[o.Link].Cut {
				t.Errorf("%v: %+v", links[i], o)
			}
		}
		set(t, n, well)
	}
}

func TestClosed(t *testing.T) {
	n, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newTarget(t)
	c := dial(t, n, s)
	s.next(t)
	if err := errors.Join(n.Close(), n.Close()); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a connection outlived its network: %v", err)
	}
	if _, err := n.Open(1, 2, s.Addr().String()); !errors.Is(err, ErrClosed) {
		t.Errorf("open: %v", err)
	}
	if _, err := n.Probe(t.Context(), []nodes.Link{there}); err == nil {
		t.Error("a probe of a closed network went well")
	}
}
