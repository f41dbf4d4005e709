package sim

import (
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/kv"
)

// The bounds of a client, as a live one has them.
const (
	dialTimeout = int64(time.Second) // for a connection, and again for its greeting
	silenceMax  = int64(time.Second) // without a byte while requests wait: the next request takes a new connection
	dialAgain   = int64(100 * time.Millisecond)
)

// A chunk is bytes under way between a client and its node.
type chunk struct {
	client int32
	gen    uint32 // of the connection
	up     bool   // to the node
	inc    uint32 // of the node that sent it
	left   int64
	bytes  []byte
}

// A Client is one client's connection after connection to one node: a kv.Client
// with the ways of a simulated network around it, and the node's end of it.
type Client struct {
	world   *World
	number  int32
	node    nodes.ID
	kv      *kv.Client
	done    func(history.Event)
	asked   history.Event
	gen     uint32 // counts connections
	dialing bool
	began   int64 // the dial
	opened  int64
	heard   int64
	waits   bool   // an attempt is under way
	attempt uint32 // counts them: a time-out of an earlier one means nothing
	id      uint64 // of the request; 0 before it could be started
	mode    kv.Mode
	command kv.Command
	floor   uint64 // what clients had seen of the log when it was asked
	ways    [2]way // from the node, to the node

	server  uint64 // the connection as the node knows it; 0: it has none
	greeted bool   // the node's side
	in      []byte // at the node, not parsed yet
	answers []byte // of the node, until it flushes
	buffers [][]byte
}

// A way keeps what a cut link holds back, in order.
type way struct {
	last int64 // when the last chunk arrives
	held []int32
}

const (
	down = 0
	up   = 1
)

// Client makes a client of one node. done gets the end of each attempt.
func (w *World) Client(id nodes.ID, done func(history.Event)) *Client {
	c := &Client{world: w, number: int32(len(w.clients)), node: id, kv: kv.NewClient(w.options.Cluster), done: done}
	w.clients = append(w.clients, c)
	return c
}

// Asking tells whether an attempt is under way.
func (c *Client) Asking() bool { return c.waits }

// Do makes one attempt, which ends within timeout. None is under way.
func (c *Client) Do(invoke history.Event, timeout time.Duration) {
	w := c.world
	mode, command, err := nodes.CommandOf(invoke)
	if err != nil {
		invoke.Type, invoke.Value, invoke.Error = history.Fail, nil, err.Error()
		c.done(invoke)
		return
	}
	c.attempt++
	c.waits, c.id, c.asked, c.mode, c.command = true, 0, invoke, mode, command
	c.floor = w.ledger.answered
	w.push(event{at: w.now + int64(timeout), kind: evTimeout, slot: c.number, inc: c.attempt})
	if c.kv.IsOpen() && c.stale() {
		c.drop("stale")
	}
	switch {
	case c.kv.IsOpen():
		c.send()
	case !c.dialing:
		c.dial()
	}
}

// Hurry ends the attempt under way, if there is one, as its time-out would.
func (c *Client) Hurry() {
	if c.waits {
		c.late()
	}
}

// stale tells whether the connection should be given up before anything more is sent on it.
func (c *Client) stale() bool {
	now := c.world.now
	return c.kv.Outstanding() >= kv.OutstandingMax ||
		c.kv.Outstanding() > 0 && now-c.heard > silenceMax ||
		!c.kv.Greeted() && now-c.opened > dialTimeout
}

func (c *Client) dial() {
	w := c.world
	c.gen++
	c.dialing, c.began = true, w.now
	w.push(event{at: w.now + w.delay(0, c.node) + w.delay(c.node, 0), kind: evConnect, slot: c.number, inc: c.gen})
}

// send starts the request on the open connection.
func (c *Client) send() {
	if c.kv.Outstanding() == 0 {
		c.heard = c.world.now
	}
	c.id = c.kv.Start(c.mode, c.command)
	c.pump()
	c.ended()
}

// pump sends what the client has to say.
func (c *Client) pump() {
	if out := c.kv.Out(); len(out) > 0 {
		c.world.convey(c, up, out, c.world.now)
		c.kv.Sent(len(out))
	}
}

// ended passes the end of the attempt on.
func (c *Client) ended() {
	for {
		r, ok := c.kv.Next()
		if !ok {
			return
		}
		if c.waits && r.ID == c.id && c.id != 0 {
			c.finish(r)
		}
	}
}

func (c *Client) finish(r kv.Response) {
	c.waits, c.id = false, 0
	c.attempt++
	if r.Grade == kv.Answered {
		c.world.check(c.world.ledger.answer(c.node, r.Result.Index, c.floor, c.mode))
	}
	c.done(nodes.Completion(c.asked, r))
}

// late ends an attempt whose time is up.
func (c *Client) late() {
	if c.id == 0 {
		c.dialing = false
		c.gen++
		c.finish(kv.Response{Grade: kv.Refused, Code: kv.Unreachable, Text: "the dial timed out"})
		return
	}
	c.finish(c.kv.Abandon(c.id))
}

// drop gives the connection up.
func (c *Client) drop(why string) {
	c.gen++
	c.closeServer()
	c.kv.Lost(why)
	c.ended()
}

// happen is what concerns this client alone.
func (c *Client) happen(e *event) {
	switch e.kind {
	case evTimeout:
		if c.waits && c.attempt == e.inc {
			c.late()
		}
	case evConnect:
		if c.dialing && c.gen == e.inc {
			c.connect()
		}
	case evBroken:
		if c.gen == e.inc && c.kv.IsOpen() {
			c.broken(e)
		}
	case evRetry:
		if c.gen == e.inc {
			c.retry(int(e.a))
		}
	}
}

// connect is the moment at which a dial succeeds, fails, or is tried again.
func (c *Client) connect() {
	w, h := c.world, c.world.hosts[c.node]
	switch {
	case w.cutOff(0, c.node) && w.now-c.began < dialTimeout:
		w.push(event{at: w.now + dialAgain, kind: evConnect, slot: c.number, inc: c.gen})
		return
	case h.node == nil || w.cutOff(0, c.node):
		c.dialing = false
		if c.waits {
			c.finish(kv.Response{Grade: kv.Refused, Code: kv.Unreachable, Text: "connection refused"})
		}
		return
	}
	c.dialing, c.opened, c.heard = false, w.now, w.now
	c.server, c.greeted, c.in, c.answers = uint64(c.gen)<<32|uint64(c.number), false, c.in[:0], c.answers[:0]
	c.ways = [2]way{{held: c.ways[down].held[:0]}, {held: c.ways[up].held[:0]}}
	c.kv.Open()
	if c.waits {
		c.send()
	} else {
		c.pump()
	}
}

// serverGone tells that the node's process ended: its host resets the connection.
func (c *Client) serverGone() {
	if c.server == 0 {
		return
	}
	c.closeServer()
	c.reset()
}

func (c *Client) closeServer() {
	c.server, c.in, c.answers = 0, c.in[:0], c.answers[:0]
}

// reset has the client's end learn that nobody is there, behind what is under way.
func (c *Client) reset() {
	w := c.world
	at := max(w.now+w.delay(c.node, 0), c.ways[down].last+1)
	w.push(event{at: at, kind: evBroken, slot: c.number, inc: c.gen})
}

func (c *Client) broken(e *event) {
	w := c.world
	if w.link(c.node, 0).Cut {
		w.push(event{at: w.now + dialAgain, kind: evBroken, slot: c.number, inc: e.inc})
		return
	}
	c.gen++
	c.kv.Lost("the connection was reset")
	c.ended()
}

// convey puts bytes on their way, in order.
func (w *World) convey(c *Client, dir int, b []byte, left int64) {
	k := chunk{client: c.number, gen: c.gen, up: dir == up, left: left, bytes: append(c.buffer(), b...)}
	from, to := nodes.ID(0), c.node
	if dir == down {
		from, to = to, from
		k.inc = w.hosts[c.node].incarnation
	}
	at := max(left+w.delay(from, to), c.ways[dir].last+1)
	c.ways[dir].last = at
	w.push(event{at: at, kind: evBytes, slot: w.chunks.put(k)})
}

func (c *Client) buffer() []byte {
	n := len(c.buffers)
	if n == 0 {
		return nil
	}
	b := c.buffers[n-1]
	c.buffers = c.buffers[:n-1]
	return b[:0]
}

// recycle keeps a chunk's memory.
func (w *World) recycle(k chunk) {
	if c := w.clients[k.client]; len(c.buffers) < buffersMax && cap(k.bytes) <= bufferKeep {
		c.buffers = append(c.buffers, k.bytes)
	}
}

// How many buffers, and how long ones, a client keeps.
const (
	buffersMax = 4
	bufferKeep = 4 << 10 // bytes
)

// bytesArrive delivers a chunk, or holds it back while the way is cut.
func (w *World) bytesArrive(slot int32) {
	k := &w.chunks.items[slot]
	c := w.clients[k.client]
	if k.gen != c.gen {
		w.recycle(w.chunks.take(slot))
		return
	}
	dir := down
	if k.up {
		dir = up
	}
	way := &c.ways[dir]
	if len(way.held) > 0 || w.blocked(c.node, dir) {
		way.held = append(way.held, slot)
		if len(way.held) == 1 {
			w.push(event{at: w.now + holdTry, kind: evRetry, slot: c.number, inc: c.gen, a: uint8(dir)})
		}
		return
	}
	c.deliver(slot)
}

func (w *World) blocked(id nodes.ID, dir int) bool {
	l := w.link(id, 0)
	if dir == up {
		l = w.link(0, id)
	}
	return l.Cut || l.CutData
}

// retry delivers what was held back as soon as the way is free.
func (c *Client) retry(dir int) {
	w := c.world
	if w.blocked(c.node, dir) {
		w.push(event{at: w.now + holdTry, kind: evRetry, slot: c.number, inc: c.gen, a: uint8(dir)})
		return
	}
	held := c.ways[dir].held
	c.ways[dir].held = nil
	for _, slot := range held {
		c.deliver(slot)
	}
}

func (c *Client) deliver(slot int32) {
	w := c.world
	k := w.chunks.items[slot]
	h := w.hosts[c.node]
	switch {
	case k.gen != c.gen:
		w.recycle(w.chunks.take(slot))
	case k.up && c.server == 0:
		w.recycle(w.chunks.take(slot))
		c.reset()
	case k.up:
		h.take(input{kind: inBytes, slot: slot})
	case !h.alive(k.inc, k.left):
		w.recycle(w.chunks.take(slot)) // it died before they left
	default:
		w.chunks.take(slot)
		c.receive(k)
	}
}

// receive gives the client what its node sent.
func (c *Client) receive(k chunk) {
	c.heard = c.world.now
	if err := c.kv.Receive(k.bytes); err != nil {
		c.ended()
		c.gen++
		c.closeServer()
		return
	}
	gen := c.gen
	c.pump()
	c.ended()
	if gen == c.gen {
		c.world.recycle(k)
	}
}

// hear is the node's end: it parses what arrived and asks the node.
func (h *host) hear(slot int32) error {
	w := h.world
	k := w.chunks.take(slot)
	c := w.clients[k.client]
	if k.gen != c.gen || c.server == 0 {
		w.recycle(k)
		return nil
	}
	c.in = append(c.in, k.bytes...)
	w.recycle(k)
	rest := c.in
	for {
		limit := kv.FrameMax
		if !c.greeted {
			limit = kv.HelloMax
		}
		body, next, ok, err := kv.NextFrame(rest, limit)
		if err != nil {
			c.serverGone()
			return nil
		}
		if !ok {
			break
		}
		rest = next
		if err := h.frame(c, body); err != nil {
			return err
		}
		if c.server == 0 {
			return nil
		}
	}
	c.in = append(c.in[:0], rest...)
	return nil
}

// frame takes a greeting, or a request.
func (h *host) frame(c *Client, body []byte) error {
	if !c.greeted {
		cluster, err := kv.ParseHello(body)
		if err != nil || cluster != h.world.options.Cluster {
			c.serverGone()
			return nil
		}
		c.greeted = true
		h.world.convey(c, down, kv.AppendWelcome(nil, ""), h.clock)
		return nil
	}
	q, encoded, err := kv.ParseRequest(body)
	if err != nil {
		c.serverGone()
		return nil
	}
	err = h.node.Request(c.server, q, encoded)
	h.world.check(h.world.watch.Stepped(h.id))
	return err
}

// answer sends what the node has to say.
func (c *Client) answer(left int64) {
	if len(c.answers) > 0 && c.server != 0 {
		c.world.convey(c, down, c.answers, left)
	}
	c.answers = c.answers[:0]
}
