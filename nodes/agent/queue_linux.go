package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"chaos/nodes"
)

// Of linux/netfilter/nfnetlink_queue.h.
const (
	subsystemQueue  = 3
	messagePacket   = 0
	messageVerdict  = 1
	messageConfig   = 2
	messageBatch    = 3
	attrPacketHead  = 1
	attrVerdictHead = 2
	attrPayload     = 10
	configCommand   = 1
	configParams    = 2
	configLength    = 3
	configMask      = 4
	configFlags     = 5
	commandBind     = 1
	copyPacket      = 2
	flagFailOpen    = 1
	flagSegments    = 4 // GSO: hand large segments over whole
	verdictDrop     = 0
	verdictAccept   = 1
)

const (
	firstQueue  = 21000   // queue numbers are shared by the whole namespace
	queueTries  = 64      // numbers to try, from firstQueue on
	queueLength = 16384   // packets held at most; the kernel lets more of them pass at once
	queueBuffer = 4 << 20 // bytes of the socket's receive buffer
	copyHead    = 96      // bytes of each packet that we see: enough to know our own probes
	copyWhole   = 0xffff  // bytes, where packets are doubled
	copiesBytes = 32 << 20
	releaseMost = 256 // packets let go by one message
	configWait  = 2 * time.Second
)

// A queue holds back the packets of one link, loses some and doubles others,
// and lets them go in the order in which they came, but for those that others
// overtake. Where it is full or gone the kernel lets packets pass.
type queue struct {
	number uint16
	conn   *netlink.Conn
	echo   *prober
	shaper shaper       // receive's own
	load   int64        // bytes taken; receive's own
	left   atomic.Int64 // bytes that were let go
	state  atomic.Pointer[nodes.LinkState]
	twins  atomic.Pointer[twins] // nil where nothing is doubled
	mode   queueConfig           // as the kernel has it; shape's own
	asked  chan error            // the kernel's answer to a change of mode

	mu     sync.Mutex
	line   []heldPacket // in order of due
	late   []heldPacket // those that others may overtake, likewise
	copies int          // bytes held in packets that are doubled
	last   uint32       // the number of the last packet seen

	news  chan struct{} // there is more to let go
	idle  chan struct{} // closed when receive has ended
	ended chan struct{} // closed by close
	work  sync.WaitGroup
}

type heldPacket struct {
	id   uint32
	due  time.Time
	size int
	copy []byte // where it arrives twice
}

// A queueConfig is what the kernel does with packets before we see them.
type queueConfig struct {
	split bool // large segments come in parts as the wire would carry them
	whole bool // we see all of a packet
}

func openQueue(l nodes.Link, echo *prober, seed uint64) (*queue, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("agent: opening the delay queue's netlink socket: %w", err)
	}
	q := &queue{
		conn: conn, echo: echo, asked: make(chan error, 1),
		news: make(chan struct{}, 1), idle: make(chan struct{}), ended: make(chan struct{}),
	}
	q.shaper.rand = rand.New(rand.NewPCG(seed, uint64(l.From)<<32|uint64(l.To)))
	q.state.Store(&nodes.LinkState{})
	// A lost notice is a packet that the kernel lets pass at once, since we fail
	// open; it must not end the queue.
	_ = conn.SetOption(netlink.NoENOBUFS, true)
	_ = conn.SetReadBuffer(queueBuffer)
	if err := q.bind(); err != nil {
		conn.Close()
		return nil, err
	}
	q.work.Add(2)
	go q.receive()
	go q.release()
	return q, nil
}

// bind takes the first free number.
func (q *queue) bind() error {
	var err error
	for q.number = firstQueue; q.number < firstQueue+queueTries; q.number++ {
		if err = q.configure(netlink.Attribute{Type: configCommand, Data: []byte{commandBind, 0, 0, 0}}); err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EPERM) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("agent: binding a delay queue: %w", err)
	}
	err = q.configure(append(q.mode.attributes(), netlink.Attribute{Type: configLength, Data: be32(queueLength)})...)
	if err != nil {
		return fmt.Errorf("agent: configuring a delay queue: %w", err)
	}
	return nil
}

func (c queueConfig) attributes() []netlink.Attribute {
	flags, bytes := uint32(flagFailOpen|flagSegments), uint32(copyHead)
	if c.split {
		flags &^= flagSegments
	}
	if c.whole {
		bytes = copyWhole
	}
	return []netlink.Attribute{
		{Type: configParams, Data: append(be32(bytes), copyPacket)},
		{Type: configFlags, Data: be32(flags)},
		{Type: configMask, Data: be32(flagFailOpen | flagSegments)},
	}
}

func (q *queue) configure(attrs ...netlink.Attribute) error {
	m, err := q.message(messageConfig, attrs...)
	if err != nil {
		return err
	}
	m.Header.Flags |= netlink.Acknowledge
	_, err = q.conn.Execute(m)
	return err
}

func (q *queue) message(kind uint16, attrs ...netlink.Attribute) (netlink.Message, error) {
	b, err := netlink.MarshalAttributes(attrs)
	head := []byte{unix.AF_UNSPEC, 0, byte(q.number >> 8), byte(q.number)}
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsystemQueue<<8 | kind), Flags: netlink.Request},
		Data:   append(head, b...),
	}, err
}

// shape sets what becomes of the packets that come from now on. Weather falls
// on packets as the wire carries them: losing one of 64 KiB, as the kernel hands
// them on within one machine, would lose 45 at a time.
func (q *queue) shape(s nodes.LinkState, t *twins) error {
	q.twins.Store(t)
	mode := queueConfig{split: s.Weather(), whole: s.Duplicated > 0}
	if mode != q.mode {
		if err := q.reconfigure(mode); err != nil {
			return err
		}
	}
	q.state.Store(&s)
	return nil
}

// reconfigure changes the mode while receive reads the socket, so that the
// kernel's answer comes by way of it.
func (q *queue) reconfigure(c queueConfig) error {
	m, err := q.message(messageConfig, c.attributes()...)
	if err != nil {
		return err
	}
	select { // an answer that came too late for the one before
	case <-q.asked:
	default:
	}
	m.Header.Flags |= netlink.Acknowledge
	if _, err := q.conn.Send(m); err != nil {
		return fmt.Errorf("agent: changing a delay queue: %w", err)
	}
	late := time.NewTimer(configWait)
	defer late.Stop()
	select {
	case err = <-q.asked:
	case <-late.C:
		err = fmt.Errorf("the kernel did not answer within %s", configWait)
	}
	if err != nil {
		return fmt.Errorf("agent: changing a delay queue: %w", err)
	}
	q.mode = c
	return nil
}

// receive reads packets and decides what becomes of each.
func (q *queue) receive() {
	defer q.work.Done()
	defer close(q.idle)
	for {
		messages, err := q.conn.Receive()
		switch {
		case err == nil:
		case q.isClosed():
			return
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOENT):
			// ENOENT answers a verdict for packets that the kernel has dropped
			// meanwhile (it does when hooks change); the queue lives on.
			continue
		default:
			q.answer(err)
			continue
		}
		now := time.Now()
		for _, m := range messages {
			if m.Header.Type == netlink.Error {
				q.answer(nil)
			} else if p, ok := q.parse(m); ok {
				q.take(p, now)
			}
		}
	}
}

// answer hands the kernel's answer to who waits for it, if anybody does.
func (q *queue) answer(err error) {
	select {
	case q.asked <- err:
	default:
	}
}

func (q *queue) isClosed() bool {
	select {
	case <-q.ended:
		return true
	default:
		return false
	}
}

// take decides the fate of one packet.
func (q *queue) take(p packet, now time.Time) {
	f := q.shaper.decide(*q.state.Load(), now, p.size)
	if !f.lost && !f.refused {
		q.load += int64(p.size)
	}
	q.tell(p, f, now)
	if f.lost || f.refused {
		q.verdicts(verdictDrop, p.id)
		return
	}
	h := heldPacket{id: p.id, due: f.due, size: p.size}
	q.mu.Lock()
	if f.double && q.copies+len(p.data) <= copiesBytes {
		h.copy = slices.Clone(p.data)
		q.copies += len(h.copy)
	}
	if f.late {
		q.late = append(q.late, h)
	} else {
		q.line = append(q.line, h)
	}
	q.last = p.id
	q.mu.Unlock()
	select {
	case q.news <- struct{}{}:
	default:
	}
}

// tell marks our own probes.
func (q *queue) tell(p packet, f fate, now time.Time) {
	if q.echo == nil {
		return
	}
	b, ok := p.probe(q.echo.port)
	if !ok {
		return
	}
	if nonce, ok := decodeProbe(b); ok {
		q.echo.mark(nonce, func(r *probeRecord) { r.queued = now })
	} else if nonce, at, ok := decodeTrain(b); ok {
		q.echo.onTrain(nonce, func(t *trainRecord) { t.enter(at, p.size, f, q.load, q.left.Load(), now) })
	}
}

// release lets packets go when they are due, as many at a time as are.
func (q *queue) release() {
	defer q.work.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		ready, inOrder, next := q.due(time.Now())
		if len(ready) > 0 {
			q.let(ready, inOrder)
			continue
		}
		var wait <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			wait = timer.C
		}
		select {
		case <-wait:
		case <-q.news:
		case <-q.ended:
			<-q.idle
			if ready, inOrder, _ = q.due(time.Time{}); len(ready) == 0 {
				return
			}
			q.let(ready, inOrder)
		}
	}
}

// due takes out what may go by now, in the order in which it may; everything
// where now is zero. inOrder says that nothing that came before is left behind,
// nor overtaken. Else next is when to look again; zero: when there is more.
func (q *queue) due(now time.Time) (ready []heldPacket, inOrder bool, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	may := func(l []heldPacket) bool { return len(l) > 0 && (now.IsZero() || !l[0].due.After(now)) }
	inOrder = len(q.late) == 0
	for len(ready) < releaseMost {
		from := &q.line
		if may(q.late) && (!may(q.line) || q.late[0].due.Before(q.line[0].due)) {
			from = &q.late
		} else if !may(q.line) {
			break
		}
		ready = append(ready, (*from)[0])
		q.copies -= len((*from)[0].copy)
		*from = (*from)[1:]
	}
	for _, l := range [][]heldPacket{q.line, q.late} {
		if len(l) > 0 && (next.IsZero() || l[0].due.Before(next)) {
			next = l[0].due
		}
	}
	return ready, inOrder, next
}

// let lets packets go: by one verdict for all up to the last of them where that
// is the same, else by one for each. Their doubles follow.
func (q *queue) let(ready []heldPacket, inOrder bool) {
	for _, p := range ready {
		q.left.Add(int64(p.size))
	}
	if inOrder {
		q.accept(ready[len(ready)-1].id)
	} else {
		ids := make([]uint32, len(ready))
		for i, p := range ready {
			ids[i] = p.id
		}
		q.verdicts(verdictAccept, ids...)
	}
	if t := q.twins.Load(); t != nil {
		for _, p := range ready {
			t.send(p.copy)
		}
	}
}

// accept lets every packet up to this one go.
func (q *queue) accept(id uint32) {
	m, err := q.message(messageBatch, netlink.Attribute{
		Type: attrVerdictHead, Data: append(be32(verdictAccept), be32(id)...),
	})
	if err == nil {
		_, _ = q.conn.Send(m) // a packet that is gone already needs no verdict
	}
}

// verdicts decide on single packets, in one system call.
func (q *queue) verdicts(verdict uint32, ids ...uint32) {
	messages := make([]netlink.Message, 0, len(ids))
	for _, id := range ids {
		m, err := q.message(messageVerdict, netlink.Attribute{
			Type: attrVerdictHead, Data: append(be32(verdict), be32(id)...),
		})
		if err == nil {
			messages = append(messages, m)
		}
	}
	_, _ = q.conn.SendMessages(messages) // see accept
}

// flush lets everything go that is held now, also what receive did not come to
// see. The kernel drops it when the rule goes that filled the queue, so this
// comes before.
func (q *queue) flush() {
	for ready, inOrder, _ := q.due(time.Time{}); len(ready) > 0; ready, inOrder, _ = q.due(time.Time{}) {
		q.let(ready, inOrder)
	}
	q.mu.Lock()
	last := q.last
	q.mu.Unlock()
	q.accept(last + 2*queueLength)
}

// close lets everything go that is held, and gives the number back. The rule
// that fills the queue must be gone already.
func (q *queue) close() error {
	close(q.ended)
	_ = q.conn.SetReadDeadline(time.Unix(1, 0)) // wakes receive
	q.work.Wait()
	q.accept(q.last + 2*queueLength) // also those that receive did not come to see
	return q.conn.Close()
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
