package replica

import (
	"bytes"
	"context"
	"net"
	"slices"
	"time"

	"chaos/nodes/kv"
)

// Bounds of client connections.
const (
	// clientQueueMax is how many bytes of answers may wait for a client; one
	// that lets more wait is cut off.
	clientQueueMax = 8 << 20
	// clientGreeting is how long a new connection may take to greet.
	clientGreeting = 10 * time.Second
	// clientSilence is how long a write to a client may take.
	clientSilence = 5 * time.Second
)

// A client is one accepted connection of a client.
type client struct {
	id     uint64
	conn   net.Conn
	out    *outbox
	marked bool // has answers to flush; the owner's
}

// serveClient greets, then reads requests until the connection ends.
func (s *server[M, R]) serveClient(conn net.Conn) {
	rest, err := s.welcome(conn)
	if err != nil {
		return
	}
	c := &client{conn: conn, out: newOutbox(clientQueueMax)}
	s.mu.Lock()
	s.nextID++
	c.id = s.nextID
	s.clients[c.id] = c
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(s.ctx)
	s.spawn(func() { c.write(ctx) })
	s.requests(c, rest)
	cancel()
	s.mu.Lock()
	delete(s.clients, c.id)
	s.mu.Unlock()
}

// welcome checks the greeting; rest is what has arrived behind it.
func (s *server[M, R]) welcome(conn net.Conn) (rest []byte, err error) {
	if err := conn.SetDeadline(time.Now().Add(clientGreeting)); err != nil {
		return nil, err
	}
	var buf []byte
	for {
		body, rest, ok, err := kv.NextFrame(buf, kv.HelloMax)
		if err != nil {
			return nil, err
		}
		if ok {
			return rest, s.judge(conn, body)
		}
		if buf, err = readMore(conn, buf, kv.HelloMax); err != nil {
			return nil, err
		}
	}
}

// judge answers a greeting; an error if it was refused.
func (s *server[M, R]) judge(conn net.Conn, body []byte) error {
	cluster, err := kv.ParseHello(body)
	if err != nil {
		return err
	}
	refusal := ""
	if cluster != s.Config.Cluster {
		refusal = "this is another cluster"
	}
	if _, err := conn.Write(kv.AppendWelcome(nil, refusal)); err != nil {
		return err
	}
	if refusal != "" {
		return kv.ErrRefused
	}
	return conn.SetDeadline(time.Time{})
}

// readMore reads once behind buf.
func readMore(conn net.Conn, buf []byte, chunk int) ([]byte, error) {
	n := len(buf)
	buf = slices.Grow(buf, chunk)
	m, err := conn.Read(buf[n:cap(buf)])
	if m > 0 {
		err = nil
	}
	return buf[:n+m], err
}

// requests passes requests on to the owner, all that arrived together at once.
func (s *server[M, R]) requests(c *client, rest []byte) {
	var batch []input[M]
	buf := rest
	for {
		batch = batch[:0]
		for {
			body, rest, ok, err := kv.NextFrame(buf, kv.FrameMax)
			if err != nil {
				return
			}
			if !ok {
				break
			}
			buf = rest
			in, answered, err := s.request(c, body)
			if err != nil {
				return
			}
			if !answered {
				batch = append(batch, in)
			}
		}
		s.submit(c, batch)
		if len(buf) == 0 {
			buf = rest[:0:cap(rest)]
		}
		var err error
		if buf, err = readMore(c.conn, buf, 4<<10); err != nil {
			return
		}
		rest = buf
	}
}

// request reads one request. What can't be served is answered at once.
func (s *server[M, R]) request(c *client, body []byte) (in input[M], answered bool, err error) {
	q, encoded, err := kv.ParseRequest(body)
	if err != nil {
		return in, false, err
	}
	if r, bad := q.Refusal(); bad {
		c.answer(r)
		return in, true, nil
	}
	in.ticket = Ticket{c.id, q.ID}
	if q.Mode == kv.ModeIndex {
		in.kind, in.key = inRead, q.Command.Key
	} else {
		in.kind, in.data = inPropose, bytes.Clone(encoded)
	}
	return in, false, nil
}

// submit hands requests to the owner; those that its queue has no room for were
// certainly not begun.
func (s *server[M, R]) submit(c *client, batch []input[M]) {
	if len(batch) == 0 {
		return
	}
	for _, in := range batch[s.inbox.putBelow(requestsMax, batch):] {
		c.answer(kv.Response{ID: in.ticket.Request, Grade: kv.Refused, Code: kv.Busy, Text: "the node's queue is full"})
	}
}

// answer is for the connection's reader; the owner uses Reply.
func (c *client) answer(r kv.Response) {
	if !c.out.add(func(b []byte) []byte { return kv.AppendResponse(b, r) }) {
		c.conn.Close()
	}
	c.out.flush()
}

// write writes answers, all that wait with one call, until ctx ends.
func (c *client) write(ctx context.Context) {
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.out.wake:
		}
		buf = c.out.take(buf)
		if len(buf) == 0 {
			continue
		}
		c.conn.SetWriteDeadline(time.Now().Add(clientSilence))
		if _, err := c.conn.Write(buf); err != nil {
			c.conn.Close()
			return
		}
	}
}
