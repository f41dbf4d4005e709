package nodes

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"chaos/nodes/kv"
)

// The bounds of a KVClient.
const (
	kvDialTimeout  = time.Second           // for a connection, and again for its greeting
	kvSilenceMax   = time.Second           // without a byte while requests wait: the next request takes a new connection
	kvCancelPoll   = 50 * time.Millisecond // how late a cancelled context is noticed
	kvIdleMax      = time.Millisecond      // after which a connection is looked at before it is used again
	kvReceiveBytes = 16 << 10              // read from the socket at once
)

// A KVClient is a [kv.Client] around a socket: one node, one connection at a
// time, dialled when it is needed. It starts no goroutine; one owner uses it.
type KVClient struct {
	dial   func(context.Context) (net.Conn, error)
	client *kv.Client
	conn   net.Conn
	opened time.Time // when conn stood
	heard  time.Time // when the node was last heard, or first asked after it was
	buffer []byte
}

// NewKVClient makes a client of one node of the named cluster. dial must heed its
// context, and is called again after each loss of the connection.
func NewKVClient(cluster string, dial func(context.Context) (net.Conn, error)) *KVClient {
	return &KVClient{dial: dial, client: kv.NewClient(cluster)}
}

// Do sends one command once and waits for its answer until ctx ends. The
// response's value is valid until the next Do. After a wait in vain the
// connection stays, and the answer is dropped if it comes.
func (c *KVClient) Do(ctx context.Context, mode kv.Mode, command kv.Command) kv.Response {
	now := time.Now()
	if ctx.Err() != nil {
		return kv.Response{Grade: kv.Refused, Code: kv.NotSent}
	}
	if err := c.connect(ctx, now); err != nil {
		return kv.Response{Grade: kv.Refused, Code: kv.Unreachable, Text: err.Error()}
	}
	if c.client.Outstanding() == 0 {
		c.heard = now
	}
	id := c.client.Start(mode, command)
	for {
		if r, ok := c.take(id); ok {
			return r
		}
		heard, err := c.exchange(ctx, now)
		now = time.Now()
		if heard {
			c.heard = now
		}
		switch {
		case err != nil:
			c.drop(err.Error())
		case ctx.Err() != nil || passed(ctx, now):
			return c.abandon(id)
		}
	}
}

// Close drops the connection. The client may be used again.
func (c *KVClient) Close() error {
	c.drop("closed")
	return nil
}

// take looks for the end of one request and passes over the others: nobody waits for them.
func (c *KVClient) take(id uint64) (kv.Response, bool) {
	for {
		r, ok := c.client.Next()
		if !ok || r.ID == id {
			return r, ok
		}
	}
}

// connect sees to it that there is a connection worth using.
func (c *KVClient) connect(ctx context.Context, now time.Time) error {
	if c.conn != nil {
		if why := c.stale(now); why != "" {
			c.drop(why)
		}
	}
	if c.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, kvDialTimeout)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	c.conn, c.opened, c.heard = conn, time.Now(), now
	c.client.Open()
	return nil
}

// stale tells why the connection should be given up before anything more is sent
// on it, or nothing. A silent one may wait for a retransmission of the kernel's
// long after the way is free again.
func (c *KVClient) stale(now time.Time) string {
	switch {
	case c.client.Outstanding() >= kv.OutstandingMax:
		return "too many requests without an answer"
	case c.client.Outstanding() > 0 && now.Sub(c.heard) > kvSilenceMax:
		return "silent for too long"
	case !c.client.Greeted() && now.Sub(c.opened) > kvDialTimeout:
		return "the node does not greet"
	case c.client.Outstanding() == 0 && now.Sub(c.heard) > kvIdleMax && hungUp(c.conn):
		return "the node hung up"
	}
	return ""
}

// exchange sends what there is to send, then receives once, and tells whether
// anything came. That time is up is no error; the caller looks at the context.
func (c *KVClient) exchange(ctx context.Context, now time.Time) (heard bool, err error) {
	until := now.Add(kvCancelPoll)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	if err := c.conn.SetDeadline(until); err != nil {
		return false, err
	}
	if out := c.client.Out(); len(out) > 0 {
		n, err := c.conn.Write(out)
		c.client.Sent(n)
		if err != nil {
			return false, unlessTimeout(err)
		}
	}
	if c.buffer == nil {
		c.buffer = make([]byte, kvReceiveBytes)
	}
	n, err := c.conn.Read(c.buffer)
	if n > 0 {
		if err := c.client.Receive(c.buffer[:n]); err != nil {
			return true, err
		}
	}
	return n > 0, unlessTimeout(err)
}

func unlessTimeout(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err == io.EOF:
		return errHungUp
	}
	return err
}

var errHungUp = errors.New("the node closed the connection")

// passed tells whether ctx's deadline has passed, which its own timer may notice later.
func passed(ctx context.Context, now time.Time) bool {
	d, ok := ctx.Deadline()
	return ok && !now.Before(d)
}

// abandon ends a request whose time is up. A connection that would not even take
// all of it is dropped, so that nothing more of it leaves.
func (c *KVClient) abandon(id uint64) kv.Response {
	if r, ok := c.take(id); ok {
		return r
	}
	if c.client.Greeted() && len(c.client.Out()) > 0 {
		c.drop("time was up before everything was sent")
		if r, ok := c.take(id); ok {
			return r
		}
	}
	return c.client.Abandon(id)
}

// drop closes the connection; every request ends.
func (c *KVClient) drop(why string) {
	if c.conn != nil {
		c.conn.Close() // what it says is of no use: the connection is gone either way
		c.conn = nil
	}
	c.client.Lost(why)
}

// hungUp looks, without waiting or taking bytes, whether the other side has
// closed the connection. Where it can't be told it says no; then sending tells.
func hungUp(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		gone = n == 0 && err == nil || errors.Is(err, syscall.ECONNRESET)
	})
	return gone && err == nil
}
