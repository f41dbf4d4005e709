package replica

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"chaos/nodes/consensus"
)

// far is a relay that lets each byte travel for half a trip, both ways.
func far(t *testing.T, to string, trip time.Duration, copied *atomic.Int64) string {
	l := listenHere(t)
	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				here.Close()
				continue
			}
			go late(there, here, trip/2, copied)
			go late(here, there, trip/2, nil)
		}
	}()
	return l.Addr().String()
}

// late copies pieces in order, each one after a delay of its own.
func late(to io.WriteCloser, from io.Reader, delay time.Duration, copied *atomic.Int64) {
	type piece struct {
		b   []byte
		due time.Time
	}
	way := make(chan piece, 1024)
	go func() {
		defer close(way)
		for {
			b := make([]byte, 4096)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			way <- piece{b[:n], time.Now().Add(delay)}
		}
	}()
	defer to.Close()
	for p := range way {
		time.Sleep(time.Until(p.due))
		if n, err := to.Write(p.b); err != nil {
			return
		} else if copied != nil {
			copied.Add(int64(n))
		}
	}
}

func listenHere(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// idle is a server that has peers and no owner.
func idle(ctx context.Context, id consensus.ID, peers map[consensus.ID]string) *server[struct{}, struct{}] {
	s := &server[struct{}, struct{}]{ctx: ctx, inbox: newInbox[input[struct{}]](inboxMax), peers: map[consensus.ID]*peer[struct{}, struct{}]{}, open: map[net.Conn]bool{}}
	s.Peers, s.Config.Options.ID, s.Config.Cluster = peers, id, "test"
	s.makePeers()
	return s
}

// TestFarPeer has two nodes a second apart, as a round trip counts: a link forms
// and stays for longer than one that expects quicker pongs would.
func TestFarPeer(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	l := listenHere(t)
	var copied atomic.Int64
	addr := far(t, l.Addr().String(), tripMax, &copied)
	two := idle(ctx, 2, map[consensus.ID]string{1: "127.0.0.1:1"})
	two.spawn(func() { two.accept(l, two.servePeer) })
	one := idle(ctx, 1, map[consensus.ID]string{2: addr})
	defer func() {
		cancel()
		l.Close()
		two.mu.Lock()
		for conn := range two.open {
			conn.Close()
		}
		two.mu.Unlock()
		two.all.Wait()
		one.all.Wait()
	}()
	const pings, tries = 20, 5
	for range tries {
		link, ok := one.peers[2].connect()
		if !ok {
			t.Fatal("no link")
		}
		ended := make(chan struct{})
		one.spawn(func() { one.peers[2].use(link); close(ended) })
		if carries(&copied, copied.Load()+pings*(frameHeader+pingBytes), ended) {
			return
		}
	}
	t.Fatalf("%d links broke before they carried %d pings", tries, pings)
}

// carries waits until a number of bytes was copied; false if the link ended first.
func carries(copied *atomic.Int64, bytes int64, ended <-chan struct{}) bool {
	for copied.Load() < bytes {
		select {
		case <-ended:
			return false
		case <-time.After(pingEvery):
		}
	}
	return true
}
