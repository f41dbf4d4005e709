package nodes

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// The bounds of a gateway.
const (
	etcdDialMax    = time.Second           // for a connection, and again for its greeting
	etcdCancelPoll = 50 * time.Millisecond // how late a cancelled context is noticed
	etcdIdleMax    = time.Millisecond      // after which a connection is looked at before it is used again
	etcdAnswerMax  = 4 << 20               // bytes of one answer, its header included
)

// Whether a member that knows no leader should refuse a request at once,
// instead of keeping it until there is one.
const (
	etcdLed   = true
	etcdAlone = false
)

// A gateway is one connection to one member of etcd, dialled when it is needed:
// JSON over HTTP/1.1, one request at a time, each sent once. An answer that does
// not come in time closes the connection, and with it the member's work on the
// request, if that has not gone on. It starts no goroutine; one owner uses it.
type gateway struct {
	dial func(context.Context) (net.Conn, error)
	host string
	name string // of the member that must be there; "": any

	ctx     context.Context // of the call under way
	conn    net.Conn
	in      *bufio.Reader
	room    int // bytes that the answer under way may still have
	opened  time.Time
	used    time.Time
	asked   bool // who is there, and not answered yet
	greeted bool // it is the member that must be there
}

// An etcdEnd is how a call ended that was not answered.
type etcdEnd struct {
	certain bool // it did nothing and never will
	why     string
}

func (e *etcdEnd) Error() string { return e.why }

// call sends one request, q as JSON, and reads the answer into a.
func (g *gateway) call(ctx context.Context, path string, led bool, q, a any) *etcdEnd {
	if ctx.Err() != nil {
		return &etcdEnd{true, "not sent in time"}
	}
	g.ctx = ctx
	if err := g.connect(); err != nil {
		return &etcdEnd{true, "unreachable: " + err.Error()}
	}
	sent, err := g.send(path, led, q)
	switch {
	case err != nil && sent == 0:
		g.close()
		return &etcdEnd{true, "not sent: " + err.Error()}
	case err != nil:
		g.close()
		return &etcdEnd{false, "only sent in part: " + err.Error()}
	}
	status, body, err := g.receive()
	switch {
	case err != nil:
		return &etcdEnd{false, "no answer: " + err.Error()}
	case status != http.StatusOK:
		return gradeEtcd(status, body)
	}
	if err := json.Unmarshal(body, a); err != nil {
		g.close()
		return &etcdEnd{false, "garbled answer: " + err.Error()}
	}
	return nil
}

// connect sees to it that there is a connection worth using. One whose greeting
// did not come in the time of this call is kept: it may come before the next.
func (g *gateway) connect() error {
	now := time.Now()
	if g.conn != nil && g.stale(now) {
		g.close()
	}
	if g.conn == nil {
		ctx, cancel := context.WithTimeout(g.ctx, etcdDialMax)
		defer cancel()
		conn, err := g.dial(ctx)
		if err != nil {
			return err
		}
		g.conn, g.in, g.opened = conn, bufio.NewReader(g), time.Now()
		g.asked, g.greeted = false, g.name == ""
	}
	if g.greeted {
		return nil
	}
	return g.greet()
}

// stale tells whether the connection should be given up before anything more is
// sent on it.
func (g *gateway) stale(now time.Time) bool {
	if !g.greeted {
		return now.Sub(g.opened) > etcdDialMax
	}
	return now.Sub(g.used) > etcdIdleMax && hungUp(g.conn)
}

// greet asks who is there, before anything is sent that must not go to another
// cluster. So a connection that nobody serves is found out, too, while all
// that was not sent is certain.
func (g *gateway) greet() error {
	if !g.asked {
		g.asked = true
		if _, err := g.send(etcdListPath, etcdAlone, struct{}{}); err != nil {
			g.close()
			return err
		}
	}
	g.room = etcdAnswerMax
	if _, err := g.in.Peek(1); err != nil {
		if g.ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			g.close()
		}
		return fmt.Errorf("not greeted: %w", err)
	}
	status, body, err := g.receive()
	if err != nil {
		return fmt.Errorf("not greeted: %w", err)
	}
	if status != http.StatusOK {
		g.close()
		return fmt.Errorf("not greeted: %w", gradeEtcd(status, body))
	}
	var list etcdMembers
	err = json.Unmarshal(body, &list)
	if name := list.answerer(); err == nil && name != g.name {
		err = fmt.Errorf("it is %.64q, not %q", name, g.name)
	}
	if err != nil {
		g.close()
		return fmt.Errorf("not greeted: %w", err)
	}
	g.greeted = g.conn != nil
	if !g.greeted {
		return errHungUp
	}
	return nil
}

// send writes one request, and returns how many bytes of it left.
func (g *gateway) send(path string, led bool, q any) (n int, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return 0, err
	}
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, g.host, len(body))
	if led {
		b = append(b, "Grpc-Metadata-Hasleader: true\r\n"...)
	}
	b = append(append(b, "\r\n"...), body...)
	for n < len(b) {
		if err := g.wait(); err != nil {
			return n, err
		}
		m, err := g.conn.Write(b[n:])
		n += m
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
	return n, nil
}

// receive reads one answer. The connection is kept only where the next answer
// begins behind this one.
func (g *gateway) receive() (status int, body []byte, err error) {
	g.room = etcdAnswerMax
	answer, err := http.ReadResponse(g.in, nil)
	if err == nil {
		status = answer.StatusCode
		body, err = io.ReadAll(answer.Body) // nothing to close: it holds no more than the connection
	}
	if err != nil {
		g.close()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errHungUp
		}
		return 0, nil, err
	}
	g.used = time.Now()
	if answer.Close || g.in.Buffered() > 0 {
		g.close()
	}
	return status, body, nil
}

// Read gives bytes of the answer under way, until the context of the call ends.
func (g *gateway) Read(b []byte) (int, error) {
	for {
		if g.room <= 0 {
			return 0, fmt.Errorf("an answer of more than %d bytes", etcdAnswerMax)
		}
		if err := g.wait(); err != nil {
			return 0, err
		}
		n, err := g.conn.Read(b[:min(len(b), g.room)])
		g.room -= n
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// wait allows the connection some time, and tells whether the call's time is up.
func (g *gateway) wait() error {
	now := time.Now()
	if err := g.ctx.Err(); err != nil {
		return err
	}
	if passed(g.ctx, now) {
		return context.DeadlineExceeded
	}
	until := now.Add(etcdCancelPoll)
	if d, ok := g.ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	return g.conn.SetDeadline(until)
}

// close drops the connection; the next call makes another.
func (g *gateway) close() {
	if g.conn != nil {
		g.conn.Close() // what it says is of no use: the connection is gone either way
		g.conn = nil
	}
}
