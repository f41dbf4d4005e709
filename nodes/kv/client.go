package kv

import (
	"fmt"
	"slices"
)

// A Client is the client's side of one connection after another to one node, as
// a pure machine: it is told what happens and says what to send. A live client
// wraps it in a socket, the simulation drives it by events. It never sends
// anything twice and never follows a hint.
//
// Its owner calls Open when a connection stands, sends what Out holds, feeds
// what arrives to Receive, and takes ended requests from Next. Requests may be
// started at any time while the connection is open; none leaves before the node
// has accepted the greeting, so that a node which never greets refused with
// certainty.
type Client struct {
	cluster string
	state   connection
	lastID  uint64
	waiting []waiting // in order of ID; at most OutstandingMax
	ended   []Response
	taken   int // of ended, by Next

	out       []byte // to be sent
	outSent   int    // bytes of out that left
	sentTotal uint64 // bytes that left since Open
	in, spare []byte // received and not parsed yet; the buffer before it
}

type connection uint8

const (
	closed connection = iota
	greets
	ready
)

// waiting is a request without an answer.
type waiting struct {
	id        uint64
	held      []byte // its frame, until the greeting is accepted
	start     uint64 // place of its first byte in all that is sent since Open
	abandoned bool   // nobody wants the answer
}

// NewClient makes a client of a node of the named cluster, not connected yet.
func NewClient(cluster string) *Client { return &Client{cluster: cluster} }

// Open tells that a new connection stands.
func (c *Client) Open() {
	c.Lost("a new connection was opened")
	c.state, c.sentTotal, c.outSent = greets, 0, 0
	c.out = AppendHello(c.out[:0], c.cluster)
}

// IsOpen tells whether there is a connection, as far as the client knows.
func (c *Client) IsOpen() bool { return c.state != closed }

// Outstanding is how many requests have no answer yet, abandoned ones included.
func (c *Client) Outstanding() int { return len(c.waiting) }

// Start begins one request and returns its ID. One that can't be sent ends at
// once, as Refused.
func (c *Client) Start(mode Mode, command Command) (id uint64) {
	c.lastID++
	r := Request{ID: c.lastID, Mode: mode, Command: command}
	if err := command.Check(); err != nil {
		return c.end(Response{ID: r.ID, Grade: Refused, Code: BadRequest, Text: err.Error()})
	}
	if refusal, refused := r.Refusal(); refused {
		return c.end(refusal)
	}
	if c.state == closed {
		return c.end(Response{ID: r.ID, Grade: Refused, Code: Unreachable, Text: "not connected"})
	}
	if len(c.waiting) == OutstandingMax {
		return c.end(Response{ID: r.ID, Grade: Refused, Code: Crowded})
	}
	w := waiting{id: r.ID}
	if c.state == ready {
		w.start = c.sentTotal + uint64(len(c.out)-c.outSent)
		c.out = AppendRequest(c.out, r)
	} else {
		w.held = AppendRequest(nil, r)
	}
	c.waiting = append(c.waiting, w)
	return r.ID
}

func (c *Client) end(r Response) uint64 {
	if c.taken == len(c.ended) {
		c.ended, c.taken = c.ended[:0], 0
	}
	c.ended = append(c.ended, r)
	return r.ID
}

// Out is what must be sent next; it is valid until the next call.
func (c *Client) Out() []byte { return c.out[c.outSent:] }

// Sent tells that the first n bytes of Out left.
func (c *Client) Sent(n int) {
	c.outSent += n
	c.sentTotal += uint64(n)
	if c.outSent == len(c.out) {
		c.out, c.outSent = c.out[:0], 0
	}
}

// Next takes one ended request. Its result may alias what was given to Receive,
// and is valid until Receive is called again.
func (c *Client) Next() (Response, bool) {
	if c.taken == len(c.ended) {
		return Response{}, false
	}
	c.taken++
	return c.ended[c.taken-1], true
}

// Receive takes bytes of the node. After an error the connection must be closed:
// every request has ended.
func (c *Client) Receive(b []byte) error {
	data := b
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		data = c.in
	}
	rest, err := c.frames(data)
	if err != nil {
		if c.state == greets {
			err = fmt.Errorf("no node of ours greets like that: %w", err)
		}
		c.breakOff(Garbled, err.Error())
		return err
	}
	if len(c.in) > 0 && len(rest) == len(c.in) {
		return nil // nothing was whole; what came stays where it is
	}
	c.in, c.spare = append(c.spare[:0], rest...), c.in
	return nil
}

// frames takes all whole frames off data.
func (c *Client) frames(data []byte) (rest []byte, err error) {
	for {
		limit := FrameMax
		if c.state == greets {
			limit = HelloMax
		}
		body, rest, ok, err := NextFrame(data, limit)
		if err != nil || !ok {
			return rest, err
		}
		if err := c.frame(body); err != nil {
			return nil, err
		}
		data = rest
	}
}

func (c *Client) frame(body []byte) error {
	if c.state == greets {
		return c.welcome(body)
	}
	r, err := ParseResponse(body)
	if err != nil || r.ID > c.lastID || c.state == closed {
		return ErrResponse
	}
	i := slices.IndexFunc(c.waiting, func(w waiting) bool { return w.id == r.ID })
	if i < 0 {
		return nil // a node that answers twice
	}
	if !c.waiting[i].abandoned {
		c.end(r)
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	return nil
}

// welcome lets the requests leave that waited for the greeting.
func (c *Client) welcome(body []byte) error {
	refusal, err := ParseWelcome(body)
	if err != nil {
		return err
	}
	if refusal != "" {
		c.breakOff(WrongCluster, refusal)
		return ErrRefused
	}
	c.state = ready
	for i := range c.waiting {
		w := &c.waiting[i]
		w.start = c.sentTotal + uint64(len(c.out)-c.outSent)
		c.out = append(c.out, w.held...)
		w.held = nil
	}
	return nil
}

// Abandon ends a request that nobody wants to wait for any longer, and grades
// it. An answer that comes later is dropped. It is the request's only end.
func (c *Client) Abandon(id uint64) Response {
	i := slices.IndexFunc(c.waiting, func(w waiting) bool { return w.id == id })
	if i < 0 {
		return Response{ID: id, Grade: Doubtful, Code: TimedOut}
	}
	if c.waiting[i].held != nil {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return Response{ID: id, Grade: Refused, Code: NotSent, Text: "the node has not greeted yet"}
	}
	c.waiting[i].abandoned = true
	return Response{ID: id, Grade: Doubtful, Code: TimedOut}
}

// Lost tells that the connection is gone, and why. Every request ends.
func (c *Client) Lost(why string) { c.breakOff(Lost, why) }

// breakOff ends every request: with certainty those of which nothing left.
func (c *Client) breakOff(code Code, why string) {
	for _, w := range c.waiting {
		r := Response{ID: w.id, Grade: Doubtful, Code: code, Text: why}
		if w.held != nil || w.start >= c.sentTotal {
			r.Grade = Refused
			if code != WrongCluster {
				r.Code = Unreachable
			}
		}
		if !w.abandoned {
			c.end(r)
		}
	}
	c.state, c.waiting = closed, c.waiting[:0]
	c.out, c.outSent, c.in = c.out[:0], 0, c.in[:0]
}

// Greeted tells whether the node has accepted the greeting.
func (c *Client) Greeted() bool { return c.state == ready }
