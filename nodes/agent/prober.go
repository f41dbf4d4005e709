package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"chaos/nodes"
)

const (
	probeSize     = 16   // bytes: magic, nonce
	maxNonces     = 4096 // probes remembered, the oldest forgotten first
	defaultProbes = 7719 // the UDP port, where nobody asks for another
	probeBuffer   = 1 << 20
	headers4      = 20 + 8 // bytes of IPv4 and UDP
	headers6      = 40 + 8
)

var (
	probeMagic  = [8]byte{'c', 'h', 'a', 'o', 's', 'p', 'r', 1}
	errNoProbes = errors.New("agent: no probe port was asked for, so links can't be probed")
)

// A prober sends and receives the datagrams that prove the state of links. A
// nonce is drawn by the controller, so nobody else can forge an arrival; only
// announced nonces are remembered.
type prober struct {
	socket  *net.UDPConn
	targets map[nodes.ID]*net.UDPAddr
	port    int
	headers int // bytes of a packet before those of a probe

	mu     sync.Mutex
	probes map[uint64]*probeRecord // by nonce
	order  []uint64                // of announcement, to forget
	trains []uint64                // those of them that are trains, likewise
	work   sync.WaitGroup          // trains that are being sent
	ended  chan struct{}           // closed by close
	once   sync.Once
}

type probeRecord struct {
	before  uint64    // the link's counter when it was announced
	queued  time.Time // when the delay queue saw it
	arrived time.Time
	train   *trainRecord // nil: a single probe
}

func listenProbes(h Hello) (*prober, error) {
	p := &prober{
		targets: map[nodes.ID]*net.UDPAddr{}, port: h.Probe, probes: map[uint64]*probeRecord{}, ended: make(chan struct{}),
	}
	at := h.Self.Host
	for _, m := range h.View {
		ip, err := netip.ParseAddr(m.Host)
		if err != nil {
			return nil, fmt.Errorf("agent: the address of %s: %w", m.ID, err)
		}
		p.targets[m.ID] = net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(h.Probe)))
		if m.ID == h.Self.ID {
			at = m.Host
		}
	}
	addr, err := net.ResolveUDPAddr("udp", net.JoinHostPort(at, strconv.Itoa(h.Probe)))
	if err != nil {
		return nil, fmt.Errorf("agent: the address for probes: %w", err)
	}
	if p.socket, err = net.ListenUDP("udp", addr); err != nil {
		return nil, fmt.Errorf("agent: listening for probes: %w", err)
	}
	if p.headers = headers4; addr.IP.To4() == nil {
		p.headers = headers6
	}
	_ = p.socket.SetReadBuffer(probeBuffer) // the system may allow less, which costs probes only under load
	go p.receive()
	return p, nil
}

func (p *prober) receive() {
	buf := make([]byte, trainSizeMax+1)
	for {
		n, err := p.socket.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if nonce, ok := decodeProbe(buf[:n]); ok {
			p.mark(nonce, func(r *probeRecord) { r.arrived = time.Now() })
		} else if nonce, at, ok := decodeTrain(buf[:n]); ok {
			p.onTrain(nonce, func(t *trainRecord) { t.arrive(at, n+p.headers, time.Now()) })
		}
	}
}

func (p *prober) mark(nonce uint64, f func(*probeRecord)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.probes[nonce]; r != nil {
		f(r)
	}
}

func decodeProbe(b []byte) (nonce uint64, ok bool) {
	if len(b) != probeSize || [8]byte(b[:8]) != probeMagic {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), true
}

func encodeProbe(nonce uint64) []byte {
	b := make([]byte, probeSize)
	copy(b, probeMagic[:])
	binary.BigEndian.PutUint64(b[8:], nonce)
	return b
}

func (p *prober) send(s sending) error {
	to := p.targets[s.To]
	if to == nil {
		return fmt.Errorf("agent: no address of %s to probe", s.To)
	}
	if s.Train != nil {
		return p.dispatch(s, to)
	}
	// A failed send is an observation, not an error: the probe will not arrive.
	_, _ = p.socket.WriteToUDP(encodeProbe(s.Nonce), to)
	return nil
}

func (p *prober) expect(w watching, counter uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.probes[w.Nonce] == nil {
		p.order = append(p.order, w.Nonce)
	}
	p.probes[w.Nonce] = &probeRecord{before: counter}
	if w.Train != nil {
		p.expectTrain(w)
	}
	for len(p.order) > maxNonces {
		delete(p.probes, p.order[0])
		p.order = p.order[1:]
	}
}

func (p *prober) look(w watching, counter uint64) (s seen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.probes[w.Nonce]
	if r == nil {
		return s
	}
	s.Before, s.Passed = r.before, !r.arrived.IsZero()
	if counter > r.before {
		s.Dropped = counter - r.before
	}
	if s.Passed && !r.queued.IsZero() {
		s.Held = r.arrived.Sub(r.queued)
	}
	if r.train != nil {
		r.train.look(&s, p.overflow(), time.Now())
	}
	return s
}

func (p *prober) close() {
	p.once.Do(func() { close(p.ended) })
	p.socket.Close()
	p.work.Wait()
}
