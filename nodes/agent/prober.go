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

	mu     sync.Mutex
	probes map[uint64]*probeRecord // by nonce
	order  []uint64                // of announcement, to forget
}

// A train is many probes of one nonce, sent one after the other, where a single
// one tells too little.
type train struct {
	Count int `json:"count"`          // probes that count
	Tail  int `json:"tail,omitempty"` // and those sent after them, which overtake late ones
	Size  int `json:"size"`           // bytes of each, at least trainSize
}

type probeRecord struct {
	before  uint64    // the link's counter when it was announced
	queued  time.Time // when the delay queue saw it
	arrived time.Time
}

func listenProbes(h Hello) (*prober, error) {
	p := &prober{targets: map[nodes.ID]*net.UDPAddr{}, port: h.Probe, probes: map[uint64]*probeRecord{}}
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
	go p.receive()
	return p, nil
}

func (p *prober) receive() {
	buf := make([]byte, 2*probeSize)
	for {
		n, err := p.socket.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if nonce, ok := decodeProbe(buf[:n]); ok && err == nil {
			p.mark(nonce, func(r *probeRecord) { r.arrived = time.Now() })
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
	return s
}

func (p *prober) close() { p.socket.Close() }
