package replica

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"chaos/nodes/consensus"
)

// Bounds of peer connections. A partition drops packets in silence and TCP's
// retransmission timer then grows to many seconds; so nothing here waits for
// TCP: a connection without an answer for peerSilence is given up and dialled anew.
// Round trips of up to a second are borne.
const (
	// dialPause is the least time between the starts of two dials. A dial that
	// takes longer goes on beside the next one: it may be a long way, or lost.
	dialPause = 150 * time.Millisecond
	// dialTimeout bounds a dial and its greeting: two round trips.
	dialTimeout = 2500 * time.Millisecond
	// dialsMax is how many dials to one peer are under way at once.
	dialsMax = int(dialTimeout/dialPause) + 1
	// peerSilence is how long a connection may go without a sign of life that
	// was asked for, beyond the last round trip.
	peerSilence = 500 * time.Millisecond
	// tripMax is the longest round trip that is allowed for.
	tripMax = time.Second
	// pingEvery is how often a sign of life is asked for.
	pingEvery = 100 * time.Millisecond
	// stallGrace is how long we look for signs of life that came while we
	// ourselves stood still and missed the end of peerSilence.
	stallGrace = 20 * time.Millisecond
	// byeTimeout bounds the last write on a connection that is given up.
	byeTimeout = 10 * time.Millisecond
	// peerIdle is how long the accepting side waits for anything.
	peerIdle = 2 * time.Second
	// peerQueueMax is how many bytes may wait for a peer before messages are dropped.
	peerQueueMax = 8 << 20
	// readChunk is how much a reader asks for at a time, bytes.
	readChunk = 64 << 10
)

// A peer is our way to one other node.
type peer[M, R any] struct {
	server *server[M, R]
	id     consensus.ID
	addr   string
	out    *outbox
}

func (s *server[M, R]) makePeers() {
	for _, id := range slices.Sorted(maps.Keys(s.Peers)) {
		if id != s.Config.Options.ID {
			p := &peer[M, R]{server: s, id: id, addr: s.Peers[id], out: newOutbox(peerQueueMax)}
			s.peers[id] = p
			s.order = append(s.order, p)
		}
	}
}

// A link is a greeted connection.
type link struct {
	conn net.Conn
	trip time.Duration // of the greeting, at most tripMax
}

// run keeps a connection to the peer for as long as the server lives.
func (p *peer[M, R]) run() {
	for {
		began := time.Now()
		l, ok := p.connect()
		if !ok {
			return
		}
		p.use(l)
		if left := dialPause - time.Since(began); left > 0 && !p.server.pause(left) {
			return
		}
	}
}

// connect dials until one dial succeeds; false when the server ends. A packet
// that a partition swallowed holds up only its own dial.
func (p *peer[M, R]) connect() (l link, ok bool) {
	ctx, cancel := context.WithCancel(p.server.ctx)
	dialled := make(chan link, dialsMax) // without a connection where the dial failed
	next := time.NewTicker(dialPause)
	defer next.Stop()
	running := 0
	for due := true; l.conn == nil && ctx.Err() == nil; {
		if due && running < dialsMax {
			running++
			p.server.spawn(func() { dialled <- p.dial(ctx) })
		}
		select {
		case <-next.C:
			p.out.clear() // what was said to nobody is stale by now
			due = true
		case l = <-dialled:
			running--
			due = false
		case <-ctx.Done():
		}
	}
	cancel()
	for ; running > 0; running-- {
		if other := <-dialled; other.conn != nil {
			other.conn.Close()
		}
	}
	return l, l.conn != nil
}

// dial connects and greets; both sides know each other when it returns.
func (p *peer[M, R]) dial(ctx context.Context) link {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return link{}
	}
	began := time.Now()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = p.greet(conn)
	if !stop() || err != nil {
		conn.Close()
		return link{}
	}
	return link{conn, min(time.Since(began), tripMax)}
}

func (p *peer[M, R]) greet(conn net.Conn) error {
	c := p.server.Config
	if _, err := conn.Write(hello{from: c.Options.ID, to: p.id, cluster: c.Cluster}.append(nil)); err != nil {
		return err
	}
	r := frameReader{conn: conn, limit: greetingMax}
	kind, _, err := r.next()
	if err == nil && kind != frameWelcome {
		err = errFrame
	}
	return err
}

// use writes to a greeted connection until it breaks or falls silent.
func (p *peer[M, R]) use(l link) {
	broken := make(chan error, 1)
	stop := context.AfterFunc(p.server.ctx, func() { l.conn.Close() })
	defer stop()
	p.server.spawn(func() {
		err := listen(l)
		l.conn.SetWriteDeadline(time.Now()) // ends a write that waits for a peer that is gone
		broken <- err
	})
	err, whole := p.write(l.conn, broken)
	if errors.Is(err, os.ErrDeadlineExceeded) && whole {
		l.conn.SetWriteDeadline(time.Now().Add(byeTimeout))
		l.conn.Write(appendFrame(nil, frameBye, nil)) // a courtesy: without it the peer takes us for dead
	}
	l.conn.Close()
	p.server.lost(p.id, err)
}

// lost passes a broken connection on as a hint, unless it only fell silent or
// was closed by ourselves.
func (s *server[M, R]) lost(id consensus.ID, err error) {
	if s.ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, errBye) {
		s.inbox.put(input[M]{kind: inReset, peer: id})
	}
}

var errBye = errors.New("replica: the peer gave the connection up")

// write sends what the queue holds, and pings, until an error; whole tells
// whether the stream ends at the end of a frame.
func (p *peer[M, R]) write(conn net.Conn, broken <-chan error) (err error, whole bool) {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	var buf []byte
	for {
		asks := false
		select {
		case err := <-broken:
			return err, true
		case <-ping.C:
			asks = true
		case <-p.out.wake:
		}
		buf = p.out.take(buf)
		if asks {
			buf = appendPing(buf, time.Since(epoch))
		}
		if len(buf) == 0 {
			continue
		}
		if n, err := conn.Write(buf); err != nil { // bounded by listen
			return err, n == 0
		}
	}
}

// epoch is what pings count time from; it means nothing to others.
var epoch = time.Now()

// appendPing appends a ping that says when it was sent; its pong says the same.
func appendPing(b []byte, now time.Duration) []byte {
	return appendFrame(b, framePing, func(b []byte) []byte { return le.AppendUint64(b, uint64(now)) })
}

// pongTrip is the round trip that a pong ends, at most tripMax.
func pongTrip(payload []byte, now time.Duration) time.Duration {
	if len(payload) != pingBytes {
		return 0
	}
	return max(0, min(now-time.Duration(le.Uint64(payload)), tripMax))
}

// listen waits for pongs, and returns why there are no more. Where the limit
// passed, it looks once more: if it was this process that stood still, the signs
// of life are there already.
func listen(l link) error {
	r := frameReader{conn: l.conn, limit: greetingMax}
	limit := l.trip + peerSilence
	for again := false; ; {
		if err := l.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		kind, payload, err := r.next()
		switch {
		case err == nil && kind != framePong:
			return errFrame
		case err == nil:
			again, limit = false, pongTrip(payload, time.Since(epoch))+peerSilence
		case errors.Is(err, os.ErrDeadlineExceeded) && !again:
			again, limit = true, stallGrace
		default:
			return err
		}
	}
}

// A frameReader reads frames. The buffer grows with what has arrived, not with
// what a length claims.
type frameReader struct {
	conn  net.Conn
	limit int
	buf   []byte
	rest  []byte
}

// next waits for a frame; its payload is valid until the next call.
func (r *frameReader) next() (byte, []byte, error) {
	for {
		kind, payload, ok, err := r.ready()
		if ok || err != nil {
			return kind, payload, err
		}
		if err := r.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// ready takes a frame that has arrived.
func (r *frameReader) ready() (kind byte, payload []byte, ok bool, err error) {
	kind, payload, r.rest, ok, err = nextFrame(r.rest, r.limit)
	return kind, payload, ok, err
}

// fill waits for more bytes.
func (r *frameReader) fill() error {
	n := copy(r.buf[:cap(r.buf)], r.rest)
	r.buf = slices.Grow(r.buf[:n], min(readChunk, r.limit+frameHeader))
	m, err := r.conn.Read(r.buf[n:cap(r.buf)])
	r.buf = r.buf[:n+m]
	r.rest = r.buf
	if m > 0 {
		return nil
	}
	return err
}

// servePeer serves a connection that another node dialled.
func (s *server[M, R]) servePeer(conn net.Conn) {
	from, r, err := s.admit(conn)
	if err != nil {
		return
	}
	heard := false
	for err == nil {
		heard, err = s.hear(conn, r, from, heard)
	}
	if heard {
		s.lost(from, err)
	}
}

// admit reads the greeting, and welcomes a node of our cluster that means us.
func (s *server[M, R]) admit(conn net.Conn) (consensus.ID, *frameReader, error) {
	if err := conn.SetDeadline(time.Now().Add(peerIdle)); err != nil {
		return 0, nil, err
	}
	r := &frameReader{conn: conn, limit: greetingMax}
	kind, payload, err := r.next()
	if err != nil {
		return 0, nil, err
	}
	h, err := parseHello(payload)
	if err != nil || kind != frameHello {
		return 0, nil, errFrame
	}
	if h.cluster != s.Config.Cluster || h.to != s.Config.Options.ID || s.peers[h.from] == nil {
		return 0, nil, errors.New("replica: a peer of another cluster, or one that means another node")
	}
	_, err = conn.Write(appendFrame(nil, frameWelcome, nil))
	r.limit = peerFrameMax
	return h.from, r, err
}

// hear takes all frames that have arrived, after waiting for the first.
func (s *server[M, R]) hear(conn net.Conn, r *frameReader, from consensus.ID, heard bool) (bool, error) {
	if err := conn.SetReadDeadline(time.Now().Add(peerIdle)); err != nil {
		return heard, err
	}
	var batch []input[M]
	kind, payload, err := r.next()
	for ok := err == nil; ok && err == nil; kind, payload, ok, err = r.ready() {
		heard = true
		switch kind {
		case frameMessage:
			m, bad := s.Config.Codec.Message(payload)
			if bad != nil {
				return heard, bad
			}
			batch = append(batch, input[M]{kind: inMessage, envelope: consensus.Envelope[M]{From: from, To: s.Config.Options.ID, Message: m}})
		case framePing:
			err = s.pong(conn, payload)
		case frameBye:
			err = errBye
		default:
			err = errFrame
		}
		if err != nil {
			break
		}
	}
	if len(batch) > 0 {
		s.inbox.put(batch...) // messages past its bound are dropped
	}
	return heard, err
}

// pong answers a ping with what it says.
func (s *server[M, R]) pong(conn net.Conn, ping []byte) error {
	if len(ping) > pingBytes {
		return errFrame
	}
	if err := conn.SetWriteDeadline(time.Now().Add(peerSilence)); err != nil {
		return err
	}
	_, err := conn.Write(appendFrame(nil, framePong, func(b []byte) []byte { return append(b, ping...) }))
	return err
}
