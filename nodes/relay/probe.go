package relay

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"chaos/nodes"
)

// Bounds of a probe.
const (
	probeTimeout = 2 * time.Second        // beyond the delay that the link is said to have
	probeBytes   = 8                      // a probe is its number
	rateTime     = 150 * time.Millisecond // what the probes of a limited link take that is free
	rateShare    = 8                      // times as long, where others use it too
)

// Probe sends a few bytes along each of the links, in a connection of its own
// that runs through the same code as every other one and was open before the
// link was hurt, and tells what became of them: they arrived at its other end,
// the copier counted them as held, or the connection was reset. Of what Set was
// told it knows nothing but how long to wait.
func (n *Network) Probe(ctx context.Context, links []nodes.Link) ([]nodes.Observation, error) {
	out := make([]nodes.Observation, len(links))
	errs := make([]error, len(links))
	var all sync.WaitGroup
	for i, l := range links {
		all.Go(func() { out[i], errs[i] = n.prober(l).probe(ctx) })
	}
	all.Wait()
	return out, errors.Join(errs...)
}

func (n *Network) prober(l nodes.Link) *prober {
	k := n.link(l)
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.probers[l]
	if p == nil {
		p = &prober{network: n, link: k, turn: make(chan struct{}, 1), news: make(chan struct{}, 1)}
		n.probers[l] = p
	}
	return p
}

// A prober owns the probe connection of one directed link.
type prober struct {
	network *Network
	link    *link
	turn    chan struct{} // held by who probes
	news    chan struct{} // something below changed

	in   *net.TCPConn // the dialer's end; nil until ready
	sent uint64       // number of the last probe

	mu      sync.Mutex
	arrived uint64 // number of the last probe that arrived
	at      time.Time
	began   time.Time // when the first of a row of probes arrived
	held    uint64    // how often the copier began to hold something
	dead    bool      // the connection was reset
}

// ready opens the probe connection, if there is none.
func (p *prober) ready(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
		return p.open()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *prober) open() error {
	p.mu.Lock()
	usable := p.in != nil && !p.dead
	p.mu.Unlock()
	if usable {
		return nil
	}
	down, in, err := p.network.couple()
	if err != nil {
		return fmt.Errorf("relay: probe of %v: %w", p.link.id, err)
	}
	up, sink, err := p.network.couple()
	if err != nil {
		return errors.Join(fmt.Errorf("relay: probe of %v: %w", p.link.id, err), down.Close(), in.Close())
	}
	pair := p.network.pair(p.link.id.From, p.link.id.To, down)
	pair.up = up
	pair.forward.onHeld = func() { p.note(func() { p.held++ }) }
	p.mu.Lock()
	p.in, p.sent, p.arrived, p.held, p.dead = in, 0, 0, 0, false
	p.mu.Unlock()
	run := func() {
		defer in.Close()
		p.network.work.Go(func() { p.listen(in, sink) })
		pair.run()
	}
	if !p.network.start(pair, run) {
		return errors.Join(ErrClosed, in.Close(), sink.Close())
	}
	return nil
}

// listen is the sink: it notes what arrives until the connection ends. in says
// which connection it is: the end of an old one is no news.
func (p *prober) listen(in, sink *net.TCPConn) {
	defer sink.Close()
	var b [probeBytes]byte
	r := bufio.NewReaderSize(sink, readBytes)
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			p.note(func() { p.dead = p.dead || p.in == in })
			return
		}
		if r.Buffered() >= probeBytes {
			continue // of those that came together the last tells all
		}
		now := time.Now()
		p.note(func() {
			if p.in == in {
				p.arrived, p.at = binary.BigEndian.Uint64(b[:]), now
				if p.began.IsZero() {
					p.began = now
				}
			}
		})
	}
}

func (p *prober) note(what func()) {
	p.mu.Lock()
	what()
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// probe sends one probe and waits for its fate.
func (p *prober) probe(ctx context.Context) (nodes.Observation, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nodes.Observation{}, ctx.Err()
	}
	heldBefore, resetsBefore := p.link.held.Load(), p.link.resets.Load()
	if err := p.open(); err != nil {
		return nodes.Observation{}, err
	}
	state, was := p.link.weather()
	timeout := time.NewTimer(probeTimeout + time.Duration(state.Delay+state.Jitter) + rateShare*rateTime)
	defer timeout.Stop()
	p.mu.Lock()
	held := p.held
	p.began = time.Time{}
	p.mu.Unlock()
	row := row(state, was)
	passed, start := p.link.passed.Load(), time.Now()
	p.send(start, row)
	for {
		o, ok := p.fate(start, held)
		if ok {
			p.tell(&o, heldBefore, resetsBefore)
			if o.Passed && row > 1 {
				p.measure(&o, row, start, p.link.passed.Load()-passed, was)
			}
			return o, nil
		}
		select {
		case <-p.news:
		case <-timeout.C:
			o.How = fmt.Sprintf("a probe did not arrive within %s", time.Since(start).Round(time.Millisecond))
			return o, nil
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

// row is how many probes it takes to tell the state of a link: where its rate is
// or was limited, as many as take rateTime at that rate.
func row(now, was nodes.LinkState) int {
	rate := now.Rate
	if rate == 0 {
		rate = was.Rate
	}
	if now.Cut || now.CutData || now.Reset || rate == 0 {
		return 1
	}
	return int(time.Duration(rate)*rateTime/time.Second) / probeBytes
}

// send sends a row of probes. An error shows as a reset, or as silence.
func (p *prober) send(now time.Time, row int) {
	b := make([]byte, 0, row*probeBytes)
	for range row {
		p.sent++
		b = binary.BigEndian.AppendUint64(b, p.sent)
	}
	p.in.SetWriteDeadline(now.Add(probeTimeout))
	p.in.Write(b)
}

// measure tells of a row of probes that arrived. load is what the link handed on
// meanwhile, others' bytes included.
func (p *prober) measure(o *nodes.Observation, row int, start time.Time, load uint64, was nodes.LinkState) {
	now, _ := p.link.get()
	p.mu.Lock()
	ahead := int64(p.began.Sub(start)) * now.Rate / int64(time.Second) // what the first probe waited for
	o.Train = nodes.Train{Sent: row, Arrived: row, Bytes: int64(row * probeBytes), Load: int64(load), Ahead: ahead, Span: p.at.Sub(start)}
	p.mu.Unlock()
	o.Was, o.How = was, o.Train.String()
	if was.Rate > 0 && o.Train.Span < spent(o.Train.Bytes, was.Rate) {
		p.link.settle(was)
	}
}

// fate is what became of the last probe, if it is known.
func (p *prober) fate(start time.Time, held uint64) (nodes.Observation, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := nodes.Observation{Link: p.link.id}
	switch {
	case p.arrived >= p.sent:
		o.Passed, o.Took = true, p.at.Sub(start)
	case p.dead, p.held > held:
		o.Dropped = 1
	default:
		return o, false
	}
	return o, true
}

// tell puts the observation into words.
func (p *prober) tell(o *nodes.Observation, held, resets uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case o.Passed:
		o.How = fmt.Sprintf("a probe arrived after %s", o.Took.Round(time.Microsecond))
	case p.dead:
		o.How = fmt.Sprintf("the probe's connection was reset, resets %d→%d", resets, p.link.resets.Load())
	default:
		o.How = fmt.Sprintf("the probe is held in the relay, held reads %d→%d", held, p.link.held.Load())
	}
}
