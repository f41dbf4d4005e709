package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
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
	verdictAccept   = 1
)

const (
	firstQueue  = 21000   // queue numbers are shared by the whole namespace
	queueTries  = 64      // numbers to try, from firstQueue on
	queueLength = 16384   // packets held at most; the kernel lets more of them pass at once
	queueBuffer = 4 << 20 // bytes of the socket's receive buffer
	copyRange   = 96      // bytes of each packet that we see: enough to know our own probes
)

// A queue holds back the packets of one link and lets them go in the order in
// which they came. Where it is full or gone the kernel lets packets pass.
type queue struct {
	number uint16
	conn   *netlink.Conn
	echo   *prober
	rand   *rand.Rand
	delay  atomic.Pointer[nodes.LinkState]
	held   chan heldPacket
	last   uint32        // the number of the last packet seen; receive's own
	ended  chan struct{} // closed by close
	work   sync.WaitGroup
}

type heldPacket struct {
	id  uint32
	due time.Time
}

func openQueue(l nodes.Link, echo *prober, seed uint64) (*queue, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("agent: opening the delay queue's netlink socket: %w", err)
	}
	q := &queue{
		conn: conn, echo: echo, held: make(chan heldPacket, queueLength), ended: make(chan struct{}),
		rand: rand.New(rand.NewPCG(seed, uint64(l.From)<<32|uint64(l.To))),
	}
	q.shape(nodes.LinkState{})
	// A lost notice is a packet that stays in the kernel's queue, where failing
	// open or the next batch lets it go; it must not end the queue.
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
	params := append(be32(copyRange), copyPacket)
	flags := uint32(flagFailOpen | flagSegments)
	err = q.configure(
		netlink.Attribute{Type: configParams, Data: params},
		netlink.Attribute{Type: configLength, Data: be32(queueLength)},
		netlink.Attribute{Type: configFlags, Data: be32(flags)},
		netlink.Attribute{Type: configMask, Data: be32(flags)},
	)
	if err != nil {
		return fmt.Errorf("agent: configuring a delay queue: %w", err)
	}
	return nil
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

// shape sets the delay of the packets that come from now on.
func (q *queue) shape(s nodes.LinkState) { q.delay.Store(&s) }

// receive reads packets and decides when each may go.
func (q *queue) receive() {
	defer q.work.Done()
	defer close(q.held)
	var last time.Time
	for {
		messages, err := q.conn.Receive()
		if err != nil {
			// ENOENT answers a verdict for packets that the kernel has dropped
			// meanwhile (it does when hooks change); the queue lives on.
			if q.isClosed() || !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ENOENT) {
				return
			}
			continue
		}
		now := time.Now()
		for _, m := range messages {
			id, ok := q.packet(m, now)
			if !ok {
				continue
			}
			q.last = id
			// Never before the one in front of it: a path with jitter does not
			// reorder what one sender sent.
			if due := now.Add(q.draw()); due.After(last) {
				last = due
			}
			select {
			case q.held <- heldPacket{id, last}:
			case <-q.ended:
				return
			}
		}
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

// draw is uniform in [Delay-Jitter, Delay+Jitter], and never negative.
func (q *queue) draw() time.Duration {
	s := q.delay.Load()
	d := s.Delay
	if s.Jitter > 0 {
		d += q.rand.Int64N(2*s.Jitter+1) - s.Jitter
	}
	return time.Duration(max(d, 0))
}

// packet reads the number of a queued packet, and marks it if it is a probe.
func (q *queue) packet(m netlink.Message, now time.Time) (id uint32, ok bool) {
	if m.Header.Type != netlink.HeaderType(subsystemQueue<<8|messagePacket) || len(m.Data) < 4 {
		return 0, false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return 0, false
	}
	for ad.Next() {
		switch b := ad.Bytes(); ad.Type() {
		case attrPacketHead:
			if len(b) >= 4 {
				id, ok = binary.BigEndian.Uint32(b), true
			}
		case attrPayload:
			if q.echo != nil {
				if nonce, is := probeInPacket(b, q.echo.port); is {
					q.echo.mark(nonce, func(r *probeRecord) { r.queued = now })
				}
			}
		}
	}
	return id, ok && ad.Err() == nil
}

// probeInPacket finds the nonce of one of our own probes in an IP packet.
func probeInPacket(b []byte, port int) (nonce uint64, ok bool) {
	head := 0
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
		head = int(b[0]&15) * 4
	case len(b) >= 40 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
		head = 40
	}
	if head == 0 || len(b) != head+8+probeSize || int(binary.BigEndian.Uint16(b[head+2:])) != port {
		return 0, false
	}
	return decodeProbe(b[head+8:])
}

// release lets packets go when they are due, as many at a time as are.
func (q *queue) release() {
	defer q.work.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var next *heldPacket
	for {
		var p heldPacket
		if next != nil {
			p, next = *next, nil
		} else {
			var ok bool
			if p, ok = <-q.held; !ok {
				return
			}
		}
		if wait := time.Until(p.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-q.ended:
			}
		}
		p.id, next = q.more(p.id)
		q.accept(p.id)
	}
}

// more takes all further packets that are due, and returns the last of them and
// the first that is not due yet.
func (q *queue) more(id uint32) (uint32, *heldPacket) {
	now := time.Now()
	for {
		select {
		case p, ok := <-q.held:
			if !ok {
				return id, nil
			}
			if p.due.After(now) && !q.isClosed() {
				return id, &p
			}
			id = p.id
		default:
			return id, nil
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
