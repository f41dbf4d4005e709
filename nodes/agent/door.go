package agent

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"chaos/nodes"
)

// Bounds of a door, for both its ends.
const (
	doorVersion   = 1
	doorLine      = 4 << 10          // bytes of a greeting, a knock or its answer
	doorWait      = 10 * time.Second // for a greeting, a knock or its answer
	doorWrite     = 30 * time.Second // for one write to go out, before the door is given up
	doorNonce     = 16               // bytes
	doorDialLimit = 10 * time.Second // for a dial on the host, where the caller's ctx allows more
	doorKnocks    = doorStreams / 2  // without an answer at once: fewer than streams, for whose opening nobody can wait with a ctx
)

// doorGreeting begins the first line that a host says.
const doorGreeting = "chaos door"

// A knock is the first line of a stream through a door: what it is for.
type knock struct {
	Kind    knockKind     `json:"kind"`
	Addr    string        `json:"addr,omitempty"`    // dial
	Timeout time.Duration `json:"timeout,omitempty"` // dial
	Dir     string        `json:"dir,omitempty"`     // fetch
}

type knockKind string

const (
	knockAgent knockKind = "agent" // the lines that Serve speaks
	knockDial  knockKind = "dial"  // a connection to a port of this host
	knockFetch knockKind = "fetch" // a folder of this host, as a compressed tar file
)

// A knocked answers a knock.
type knocked struct {
	Error   string        `json:"error,omitempty"`
	Errno   syscall.Errno `json:"errno,omitempty"`   // the system's reason, if there is one
	Timeout bool          `json:"timeout,omitempty"` // the reason is time
}

// A Door is the controller's end of one stream to a host that carries many: the
// agent's lines, connections to the node, files. So a provider needs nothing of a
// host but one duplex stream: a container's attach stream, an SSH session, a socket.
type Door struct {
	session *yamux.Session
	room    chan struct{} // held by each knock without an answer
}

// OpenDoor greets the host at the other end of conn, which belongs to the Door
// from now on. Where the host asks for a key, both ends prove that they know it
// and neither tells it. ctx bounds the greeting.
func OpenDoor(ctx context.Context, conn io.ReadWriteCloser, key string) (*Door, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err := greetHost(conn, key)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	var session *yamux.Session
	if err == nil {
		session, err = yamux.Client(conn, doorSettings())
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("agent: opening the door of a host: %w", err)
	}
	return &Door{session, make(chan struct{}, doorKnocks)}, nil
}

// doorSettings leaves liveness to the agent's own beat.
func doorSettings() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive, c.LogOutput = false, io.Discard
	c.AcceptBacklog, c.ConnectionWriteTimeout = doorStreams, doorWrite
	c.StreamOpenTimeout, c.StreamCloseTimeout = 0, doorWait
	return c
}

// greetHost reads the host's greeting and answers its challenge.
func greetHost(conn io.ReadWriteCloser, key string) error {
	line, err := readShort(conn)
	if err != nil {
		return fmt.Errorf("no greeting came: %w", err)
	}
	var version int
	var theirs string
	if _, err := fmt.Sscanf(line, doorGreeting+" %d %s", &version, &theirs); err != nil {
		return fmt.Errorf("there is no agent of chaos: the host says %q", line)
	}
	switch {
	case version != doorVersion:
		return fmt.Errorf("the agent's door is of version %d, ours of %d: use the same build", version, doorVersion)
	case theirs == "-" && key == "":
		return nil
	case theirs == "-":
		return errors.New("the host asks for no key although one was made for it: it is not the agent that was started")
	case key == "":
		return errors.New("the host asks for a key")
	}
	ours := newNonce()
	if _, err := io.WriteString(conn, ours+" "+doorProof(key, "controller", theirs, ours)+"\n"); err != nil {
		return err
	}
	line, err = readShort(conn)
	if err != nil {
		return fmt.Errorf("the key was not taken: %w", err)
	}
	if !hmac.Equal([]byte(line), []byte(doorProof(key, "host", theirs, ours))) {
		return errors.New("the host does not know the key: it is not the agent that was started")
	}
	return nil
}

func newNonce() string {
	var b [doorNonce]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// doorProof shows that its maker knows the key.
func doorProof(key, who, host, controller string) string {
	h := hmac.New(sha256.New, []byte(key))
	io.WriteString(h, strings.Join([]string{doorGreeting, who, host, controller}, " "))
	return hex.EncodeToString(h.Sum(nil))
}

// readShort reads one short line and not a byte more.
func readShort(r io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < doorLine {
		if _, err := io.ReadFull(r, one); err != nil {
			if len(line) > 0 {
				err = fmt.Errorf("%w after %q", err, line)
			}
			return "", err
		}
		if one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[0])
	}
	return "", fmt.Errorf("a line is longer than %d bytes", doorLine)
}

// Done is closed when the door is.
func (d *Door) Done() <-chan struct{} { return d.session.CloseChan() }

// Close ends every stream through the door: the host's agent heals and ends.
func (d *Door) Close() error { return d.session.Close() }

// Agent opens a stream to the host's agent, for [Connect].
func (d *Door) Agent(ctx context.Context) (io.ReadWriteCloser, error) {
	return d.knock(ctx, knock{Kind: knockAgent})
}

// Dial connects from the host itself to a port of its node, and fails as a
// connection made there would, later too.
func (d *Door) Dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	k := knock{Kind: knockDial, Addr: m.Addr(p), Timeout: doorDialLimit}
	if until, ok := ctx.Deadline(); ok {
		k.Timeout = max(min(k.Timeout, time.Until(until)), 1)
	}
	conn, err := d.knock(ctx, k)
	if err != nil {
		addr, _ := net.ResolveTCPAddr("tcp", k.Addr)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: err}
	}
	return dialled{conn}, nil
}

// A dialled is a connection through a door. A deadline that passed is told as
// sockets tell it, which clients look for.
type dialled struct{ net.Conn }

func (d dialled) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	return n, asSocket(err)
}

func (d dialled) Write(b []byte) (int, error) {
	n, err := d.Conn.Write(b)
	return n, asSocket(err)
}

func asSocket(err error) error {
	if errors.Is(err, yamux.ErrTimeout) {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Fetch copies a folder of the host into one of ours, files of at most 256 MiB
// in all: what comes on top is left out, logs and audits last of all, and told by
// an error. That there is no such folder is no error.
func (d *Door) Fetch(ctx context.Context, from, into string) error {
	conn, err := d.knock(ctx, knock{Kind: knockFetch, Dir: from})
	if err != nil {
		return fmt.Errorf("agent: fetching %s: %w", from, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := unpack(bufio.NewReader(conn), into); err != nil {
		return fmt.Errorf("agent: fetching %s: %w", from, errors.Join(context.Cause(ctx), err))
	}
	return nil
}

// knock opens a stream, says what for, and waits for the answer. However long
// the stream itself is stuck, behind a frozen host for one, ctx ends the wait.
func (d *Door) knock(ctx context.Context, k knock) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case d.room <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.Done():
		return nil, fmt.Errorf("agent: the door is closed: %w", yamux.ErrSessionShutdown)
	}
	answers := make(chan opened) // without a buffer: an answer is taken, or its stream closed
	go func() {
		defer func() { <-d.room }()
		o := d.open(ctx, k)
		select {
		case answers <- o:
		case <-ctx.Done():
			o.drop()
		}
	}()
	select {
	case o := <-answers:
		return o.conn, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// An opened is what became of a knock.
type opened struct {
	conn net.Conn
	err  error
}

func (o opened) drop() {
	if o.err == nil {
		o.conn.Close()
	}
}

func (d *Door) open(ctx context.Context, k knock) opened {
	conn, err := d.session.OpenStream()
	if err != nil {
		return opened{nil, fmt.Errorf("agent: the door is closed: %w", err)}
	}
	err = conn.SetDeadline(time.Now().Add(doorWait + k.Timeout))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	var answer knocked
	if err == nil {
		answer, err = exchange(conn, k)
	}
	if !stop() {
		err = ctx.Err()
	}
	if err == nil {
		err = answer.reason()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return opened{nil, err}
	}
	return opened{conn, nil}
}

func exchange(conn net.Conn, k knock) (a knocked, err error) {
	b, err := json.Marshal(k)
	if err != nil {
		return a, err
	}
	if _, err := conn.Write(append(b, '\n')); err != nil {
		return a, err
	}
	line, err := readShort(conn)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal([]byte(line), &a)
}

// reason is the error that an answer tells, as the system gave it on the host.
func (a knocked) reason() error {
	switch {
	case a.Timeout:
		return context.DeadlineExceeded
	case a.Errno != 0:
		return os.NewSyscallError("connect", a.Errno)
	case a.Error != "":
		return errors.New(a.Error)
	}
	return nil
}
