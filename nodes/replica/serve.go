package replica

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"chaos/nodes/consensus"
	"chaos/nodes/kv"
)

// Bounds of a serving node.
const (
	// inboxMax is how many inputs may wait for the owner; messages of peers
	// beyond it are dropped.
	inboxMax = 1 << 14
	// requestsMax is how many may wait when requests of clients are refused, so
	// that clients leave room for messages.
	requestsMax = inboxMax / 2
	// gatherMax is how many inputs are carried out with one sync.
	gatherMax = 1024
	// ticksMax is how many missed ticks are made good: after a pause of the
	// process, time must not rush by.
	ticksMax = 3
	// keeperMax is how many pieces of slow disk work may wait; a Node has one.
	keeperMax = 1
)

// A Server is what Serve needs beside a Node's own settings. Its Sender,
// Replier, Background and Crash may be unset: Serve puts its own in place.
type Server[M, R any] struct {
	Config  Config[M, R]
	Tick    time.Duration           // one tick of the core
	Peers   map[consensus.ID]string // where to dial each other node
	Peer    net.Listener            // for the other nodes
	Clients net.Listener
	Status  net.Listener // HTTP; may be nil
}

// What an input asks of the owner.
const (
	inMessage  = iota // envelope
	inReset           // peer
	inPropose         // ticket, data
	inRead            // ticket, key
	inTransfer        // peer
	inCompact
	inWorked // done
)

// An input is one thing for the owner to do.
type input[M any] struct {
	kind     int
	peer     consensus.ID
	envelope consensus.Envelope[M]
	ticket   Ticket
	key      string
	data     []byte
	done     func()
}

// server is a Server at work. Its goroutines: the owner (the caller of Serve),
// the keeper of slow disk work, an accepter per port, a sender per peer, and a
// reader (and for clients a writer) per connection.
type server[M, R any] struct {
	Server[M, R]
	ctx    context.Context
	node   *Node[M, R]
	inbox  *inbox[input[M]]
	peers  map[consensus.ID]*peer[M, R]
	order  []*peer[M, R] // ascending
	keeper chan func()
	status published
	all    sync.WaitGroup

	mu      sync.Mutex
	open    map[net.Conn]bool // accepted connections; closed at the end
	clients map[uint64]*client
	nextID  uint64
	answers []*client // those with something to flush; the owner's
}

// Serve runs a node until ctx ends, and then returns nil, or until it can't go
// on: the journal, the audit or the disk failed. It closes the listeners, and
// all its goroutines have ended when it returns.
func Serve[M, R any](ctx context.Context, c Server[M, R]) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &server[M, R]{
		Server: c, ctx: ctx, inbox: newInbox[input[M]](inboxMax), peers: map[consensus.ID]*peer[M, R]{},
		keeper: make(chan func(), keeperMax), open: map[net.Conn]bool{}, clients: map[uint64]*client{},
	}
	s.Config.Sender, s.Config.Replier, s.Config.Background = s, s, s.background
	node, err := NewNode(s.Config)
	if err == nil {
		s.node = node
		s.publish()
		s.start()
		err = s.own()
	}
	cancel()
	s.close()
	s.all.Wait()
	if node != nil {
		err = errors.Join(err, node.Close())
	}
	return err
}

// start begins every goroutine but the owner.
func (s *server[M, R]) start() {
	s.makePeers()
	s.spawn(s.keep)
	for _, p := range s.order {
		s.spawn(p.run)
	}
	s.spawn(func() { s.accept(s.Peer, s.servePeer) })
	s.spawn(func() { s.accept(s.Clients, s.serveClient) })
	if s.Status != nil {
		s.spawn(s.serveStatus)
	}
}

// spawn runs f in a goroutine that Serve waits for.
func (s *server[M, R]) spawn(f func()) {
	s.all.Add(1)
	go func() {
		defer s.all.Done()
		f()
	}()
}

func (s *server[M, R]) close() {
	s.Peer.Close()
	s.Clients.Close()
	if s.Status != nil {
		s.Status.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.Close()
	}
}

// connectionsMax is how many accepted connections may be open at a time, of
// peers and clients together.
const connectionsMax = 8192

// accept serves each connection in a goroutine of its own.
func (s *server[M, R]) accept(l net.Listener, serve func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if s.ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			s.pause(acceptPause)
			continue
		}
		if !s.track(conn) {
			conn.Close()
			continue
		}
		s.spawn(func() {
			defer s.forget(conn)
			serve(conn)
		})
	}
}

// acceptPause is how long an accepter waits after an error, such as too many
// open files.
const acceptPause = 10 * time.Millisecond

// pause waits; false when the server ends.
func (s *server[M, R]) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *server[M, R]) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || len(s.open) >= connectionsMax {
		return false
	}
	s.open[conn] = true
	return true
}

func (s *server[M, R]) forget(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
}

// own is the owner's loop: the only code that calls the node.
func (s *server[M, R]) own() error {
	ticker := time.NewTicker(s.Tick)
	defer ticker.Stop()
	clock := pacer{tick: s.Tick, last: time.Now()}
	var batch []input[M]
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case <-s.inbox.wake:
		case <-ticker.C:
		}
		batch = s.inbox.take(batch)
		if err := s.feed(batch, &clock); err != nil {
			return err
		}
		clear(batch)
	}
}

// feed gives inputs to the node, then the ticks that are due, and has it carry
// them out together. Ticks come after inputs, so that what arrived during a
// stall speaks before the time that passed; and before the flush, so that a
// heartbeat leaves before the sync and need not wait for it.
func (s *server[M, R]) feed(batch []input[M], clock *pacer) error {
	for {
		n := min(len(batch), gatherMax)
		for i := range batch[:n] {
			if err := s.take(&batch[i]); err != nil {
				return err
			}
		}
		batch = batch[n:]
		ticks := clock.due(time.Now())
		for range ticks {
			if err := s.node.Tick(); err != nil {
				return err
			}
		}
		if err := s.node.Flush(); err != nil {
			return err
		}
		if ticks > 0 {
			s.publish()
		}
		if len(batch) == 0 {
			return nil
		}
	}
}

func (s *server[M, R]) take(in *input[M]) error {
	switch in.kind {
	case inMessage:
		return s.node.Receive(in.envelope)
	case inReset:
		return s.node.PeerReset(in.peer)
	case inPropose:
		return s.node.Propose(in.ticket, in.data)
	case inRead:
		return s.node.Read(in.ticket, in.key)
	case inTransfer:
		return s.node.Transfer(in.peer)
	case inCompact:
		s.node.Compact()
	case inWorked:
		in.done()
	}
	return nil
}

// A pacer turns time that passed into ticks, at most ticksMax at once; what is
// more, after a stall of the owner or a pause of the process, never happened.
type pacer struct {
	tick time.Duration
	last time.Time
}

func (p *pacer) due(now time.Time) int {
	n := int(now.Sub(p.last) / p.tick)
	if n > ticksMax {
		p.last = now
		return ticksMax
	}
	p.last = p.last.Add(time.Duration(n) * p.tick)
	return n
}

// background hands slow work to the keeper; done runs in the owner.
func (s *server[M, R]) background(work func() error, done func(error)) {
	s.keeper <- func() {
		err := work()
		s.inbox.force(input[M]{kind: inWorked, done: func() { done(err) }})
	}
}

func (s *server[M, R]) keep() {
	for {
		select {
		case work := <-s.keeper:
			work()
		case <-s.ctx.Done():
			return
		}
	}
}

// Send implements Sender: it encodes the message behind the others for that peer.
func (s *server[M, R]) Send(e *consensus.Envelope[M]) {
	if p := s.peers[e.To]; p != nil {
		p.out.add(func(b []byte) []byte {
			at := len(b)
			b = appendFrame(b, frameMessage, func(b []byte) []byte { return s.Config.Codec.AppendMessage(b, e.Message) })
			if len(b)-at-frameHeader > peerFrameMax {
				return b[:at]
			}
			return b
		})
	}
}

// Flush implements Sender and Replier: writers wake up once for all that was
// gathered.
func (s *server[M, R]) Flush() {
	for _, p := range s.order {
		p.out.flush()
	}
	for i, c := range s.answers {
		c.marked = false
		c.out.flush()
		s.answers[i] = nil
	}
	s.answers = s.answers[:0]
}

// Reply implements Replier. A client that does not read its answers is cut off.
func (s *server[M, R]) Reply(conn uint64, r kv.Response) {
	s.mu.Lock()
	c := s.clients[conn]
	s.mu.Unlock()
	if c == nil {
		return
	}
	if !c.out.add(func(b []byte) []byte { return kv.AppendResponse(b, r) }) {
		c.conn.Close()
		return
	}
	if !c.marked {
		c.marked = true
		s.answers = append(s.answers, c)
	}
}
