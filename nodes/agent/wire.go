package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"chaos/nodes"
)

const (
	version      = 1       // of the lines; both ends must agree
	maxLine      = 1 << 20 // bytes of one line; what is longer ends the stream
	maxQueued    = 256     // lines that wait to be written; one more ends the stream
	maxPerHost   = 256     // links named in one request
	helloWait    = 10 * time.Second
	defaultLease = 15 * time.Second
	minLease     = 50 * time.Millisecond
)

// A request is one line from a controller. Op chooses which other fields count.
type request struct {
	ID    uint64          `json:"id"`
	Op    op              `json:"op"`
	Hello *Hello          `json:"hello,omitempty"`
	Dir   string          `json:"dir,omitempty"`
	Exec  *nodes.Exec     `json:"exec,omitempty"`
	State nodes.NodeState `json:"state"`
	Start bool            `json:"start,omitempty"` // node: start it if it does not run
	Links []linkWant      `json:"links,omitempty"`
	Send  []sending       `json:"send,omitempty"`
	Watch []watching      `json:"watch,omitempty"`
	Wait  time.Duration   `json:"wait,omitempty"`
}

type op string

const (
	opHello   op = "hello"
	opBeat    op = "beat"
	opExec    op = "exec"    // how to start the node from now on
	opNode    op = "node"    // bring the node to State and prove it
	opProve   op = "prove"   // prove State, change nothing
	opLinks   op = "links"   // bring the firewall to Links
	opExpect  op = "expect"  // probes are to come: remember the counters
	opSend    op = "send"    // send probes
	opObserve op = "observe" // tell what became of probes, waiting at most Wait
	opStatus  op = "status"
	opProbe   op = "probe" // tell what could be done here
	opBye     op = "bye"   // heal, stop the node, end
)

// A linkWant is the state of one link that ends, or for clients begins, at the host.
type linkWant struct {
	Link  nodes.Link      `json:"link"`
	State nodes.LinkState `json:"state"`
}

// A sending is one probe to another host.
type sending struct {
	To    nodes.ID `json:"to"`
	Nonce uint64   `json:"nonce,string"`
	Train *train   `json:"train,omitempty"` // nil: a single probe
}

// A watching is one probe that should reach, or fail to reach, this host.
type watching struct {
	Link  nodes.Link `json:"link"`
	Nonce uint64     `json:"nonce,string"` // names the probe; never equal for two
	Train *train     `json:"train,omitempty"`
}

// An answer is one line from an agent: to the request with its ID, or with ID 0
// an incident that nobody asked for.
type answer struct {
	ID       uint64          `json:"id"`
	Error    string          `json:"error,omitempty"`
	Proofs   []nodes.Proof   `json:"proofs,omitempty"`
	Seen     []seen          `json:"seen,omitempty"`
	Incident *nodes.Incident `json:"incident,omitempty"`
	Link     *nodes.Link     `json:"link,omitempty"` // of an incident "lapse" of a link
	Status   *Status         `json:"status,omitempty"`

	Effects map[nodes.EffectKind]string `json:"effects,omitempty"` // "": can be done; else why not
}

// A seen tells what became of one watching.
type seen struct {
	Passed  bool          `json:"passed,omitempty"`
	Held    time.Duration `json:"held,omitempty"` // from its arrival at the host to its delivery; 0: not held
	Before  uint64        `json:"before"`         // the link's counter of drops when the probe was announced
	Dropped uint64        `json:"dropped"`        // and how much it grew
	Train   *nodes.Train  `json:"train,omitempty"`
}

// Status is what an agent says of itself.
type Status struct {
	PID    int    `json:"pid"`    // of the agent
	Node   int    `json:"node"`   // of the node's process; 0: none
	Starts int    `json:"starts"` // of the node, by this agent
	OS     string `json:"os"`
	Table  string `json:"table,omitempty"` // the firewall's own table, where it is in use
	Queue  string `json:"queue,omitempty"` // how packets come to be delayed: "nft queue", "xt NFQUEUE"
}

var (
	errLineTooLong = fmt.Errorf("agent: a line is longer than %d bytes", maxLine)
	errSlowReader  = fmt.Errorf("agent: the other end left %d lines unread", maxQueued)
	errClosed      = errors.New("agent: the stream is closed")
)

// A lineConn is one end of the stream. Its writes never block the caller.
type lineConn struct {
	stream io.ReadWriteCloser
	in     *bufio.Reader
	out    chan []byte
	done   chan struct{} // closed by close
	flush  chan struct{} // closed when the writer has ended
	once   sync.Once
	err    error // why it closed; written once before done is closed
}

func newLineConn(stream io.ReadWriteCloser) *lineConn {
	c := &lineConn{
		stream: stream, in: bufio.NewReaderSize(stream, 32<<10), out: make(chan []byte, maxQueued),
		done: make(chan struct{}), flush: make(chan struct{}),
	}
	go c.write()
	return c
}

func (c *lineConn) write() {
	defer close(c.flush)
	for {
		select {
		case line := <-c.out:
			if line == nil {
				return
			}
			if _, err := c.stream.Write(line); err != nil {
				c.close(err)
				return
			}
		case <-c.done:
			return
		}
	}
}

// send queues one line; a full queue closes the stream.
func (c *lineConn) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("agent: encoding a line: %w", err)
	}
	if len(b) >= maxLine {
		return errLineTooLong
	}
	select {
	case <-c.done:
		return c.err
	case c.out <- append(b, '\n'):
		return nil
	default:
		c.close(errSlowReader)
		return errSlowReader
	}
}

func (c *lineConn) receive(v any) error {
	line, err := readLine(c.in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("agent: a line is not understood: %w", err)
	}
	return nil
}

// close ends the stream; only the first call's reason counts.
func (c *lineConn) close(reason error) {
	c.once.Do(func() {
		if reason == nil {
			reason = errClosed
		}
		c.err = reason
		close(c.done)
		c.stream.Close()
	})
}

// drain gives queued lines at most d to be written. Nothing is written after it.
func (c *lineConn) drain(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case c.out <- nil:
	case <-c.done:
		return
	case <-t.C:
		return
	}
	select {
	case <-c.flush:
	case <-c.done:
	case <-t.C:
	}
}

// readLine returns the next line without its end. It never holds more than
// maxLine bytes. A last line without an end is io.ErrUnexpectedEOF.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, errLineTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}
