// Package relay is a network of small TCP relays, one for each directed pair of
// dialer and target, that can be hurt as a real network can: bytes pass, wait
// for a delay or for their turn on a limited link, are held without any
// connection closing, or connections are reset. It stands in where a host's own
// network can't be touched.
//
// The state of the directed link From → To applies to the bytes that flow from
// From to To, in connections that either of the two dialled. Held bytes wait in
// a bounded queue, then in the senders' own sockets, and go on in order when
// the link is well again. A link that resets does so to the connections that
// From dialled.
//
// What a relay can't show: it carries TCP only. The listener accepts before the
// target does, so a dialer that is not one of ours sees an open connection
// where a real network shows it a silent one, and a reset where it shows a
// refused one ([Network.Dial] shows both as they are). There are no packets, so
// a link that is cut in one direction doesn't starve the other of
// acknowledgements: [nodes.Cut] and [nodes.CutData] differ only in opening
// connections and in their ends; nor is anything lost, doubled or reordered.
// Nodes that tell each other addresses of their own pass it by.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"chaos/nodes"
)

// Bounds of a network.
const (
	connectionsMax = 1024             // relayed connections through one door; more are reset
	dialTimeout    = 10 * time.Second // for the target to take a relayed connection
	coupleTimeout  = 5 * time.Second  // for a connection to ourselves
)

// ErrClosed says that the network was closed.
var ErrClosed = errors.New("relay: the network is closed")

// A Network relays TCP connections between nodes, and from clients to nodes. It
// is a [nodes.Links]. Its goroutines are one for each door, two for each relayed
// connection and one for each probe; all of them end with Close.
type Network struct {
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // every goroutine

	mu      sync.Mutex
	ended   bool
	links   map[nodes.Link]*link
	doors   []*door
	pairs   map[*pair]struct{}
	probers map[nodes.Link]*prober

	coupling sync.Mutex       // one couple at a time
	self     *net.TCPListener // where couples meet
}

var _ nodes.Links = (*Network)(nil)

// errPackets says why a relay has no weather but a limited rate.
var errPackets = errors.New("a relay carries streams of bytes, in which nothing gets lost, arrives twice or overtakes; " +
	"where network namespaces work links have packets: --network namespaces")

// Effects is what a relay can do to links: for each kind of effect nil, or why
// not and the remedy.
func Effects() map[nodes.EffectKind]error {
	return map[nodes.EffectKind]error{
		nodes.Cut: nil, nodes.CutData: nil, nodes.Delayed: nil, nodes.Limited: nil, nodes.Reset: nil,
		nodes.Lossy: errPackets, nodes.Duplicated: errPackets, nodes.Reordered: errPackets,
	}
}

// New makes a network without doors, in which every link is well. It lives
// until Close, longer than ctx.
func New(ctx context.Context) (*Network, error) {
	self, err := listen()
	if err != nil {
		return nil, err
	}
	n := &Network{
		links:   map[nodes.Link]*link{},
		pairs:   map[*pair]struct{}{},
		probers: map[nodes.Link]*prober{},
		self:    self,
	}
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return n, nil
}

func listen() (*net.TCPListener, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("relay: no port to listen on: %w", err)
	}
	return l, nil
}

// Open makes a door: connections to the port of 127.0.0.1 that it returns are
// relayed to target, as if from had dialled to.
func (n *Network) Open(from, to nodes.ID, target string) (port int, err error) {
	l, err := listen()
	if err != nil {
		return 0, err
	}
	d := &door{network: n, from: from, to: to, target: target, listener: l, slots: make(chan struct{}, connectionsMax)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return 0, errors.Join(ErrClosed, l.Close())
	}
	n.doors = append(n.doors, d)
	n.work.Go(d.accept)
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Dial connects to target through the network as from, and shows what a real
// network shows: it waits while the link is cut, and says that the target
// refuses where it does. ctx bounds the opening.
func (n *Network) Dial(ctx context.Context, from, to nodes.ID, target string) (net.Conn, error) {
	fail := func(err error) error {
		addr, _ := net.ResolveTCPAddr("tcp", target)
		return &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: err}
	}
	if err := n.passable(ctx, from, to); err != nil {
		return nil, fail(err)
	}
	up, err := dialTarget(ctx, target)
	if err != nil {
		return nil, err
	}
	near, far, err := n.couple()
	if err != nil {
		return nil, errors.Join(fail(err), up.Close())
	}
	p := n.pair(from, to, near)
	p.up = up
	if !n.start(p, p.run) {
		return nil, errors.Join(fail(ErrClosed), far.Close())
	}
	return far, nil
}

// Counters are what a link has counted since the network was made.
type Counters struct {
	Passed      uint64 // bytes that were handed on
	Held        uint64 // reads that had to wait because the link was cut
	Resets      uint64 // connections that were reset by the link's state
	Connections uint64 // connections that the link's To took from its From
}

// Counters of a directed link.
func (n *Network) Counters(l nodes.Link) Counters {
	k := n.link(l)
	return Counters{k.passed.Load(), k.held.Load(), k.resets.Load(), k.connections.Load()}
}

// Set brings every link to what is wanted; the others are well. What was
// already taken from a connection and is being written may still arrive.
func (n *Network) Set(ctx context.Context, wanted map[nodes.Link]nodes.LinkState) error {
	for l, s := range wanted {
		if s.Lossy > 0 || s.Duplicated > 0 || s.Reordered > 0 {
			return fmt.Errorf("relay: %v %s: %w", l, s, errPackets)
		}
	}
	for _, l := range nodes.SortedLinks(wanted) {
		if err := n.prober(l).ready(ctx); err != nil {
			return err // see Probe: what is hurt below is an open connection
		}
	}
	n.mu.Lock()
	states := map[*link]nodes.LinkState{}
	for _, k := range n.links {
		states[k] = nodes.LinkState{}
	}
	for l, s := range wanted {
		states[n.linkLocked(l)] = s
	}
	n.mu.Unlock()
	for k, s := range states {
		k.set(s)
	}
	return nil
}

// Close ends every connection and every goroutine of the network.
func (n *Network) Close() error {
	n.mu.Lock()
	if n.ended {
		n.mu.Unlock()
		return nil
	}
	n.ended = true
	n.cancel()
	err := n.self.Close()
	for _, d := range n.doors {
		err = errors.Join(err, d.listener.Close())
	}
	for p := range n.pairs {
		p.abort()
	}
	n.mu.Unlock()
	n.work.Wait()
	return err
}

func (n *Network) link(l nodes.Link) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.linkLocked(l)
}

func (n *Network) linkLocked(l nodes.Link) *link {
	k := n.links[l]
	if k == nil {
		k = &link{id: l, changed: make(chan struct{}), streams: map[*stream]struct{}{}}
		n.links[l] = k
	}
	return k
}

// start takes p in and runs it, if the network still lives; else p is aborted.
func (n *Network) start(p *pair, run func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		p.abort()
		return false
	}
	n.pairs[p] = struct{}{}
	n.work.Go(run)
	return true
}

func (n *Network) remove(p *pair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pairs, p)
}

// couple makes a connection to ourselves and returns both its ends.
func (n *Network) couple() (near, far *net.TCPConn, err error) {
	n.coupling.Lock()
	defer n.coupling.Unlock()
	c, err := net.DialTimeout("tcp", n.self.Addr().String(), coupleTimeout)
	if err != nil {
		return nil, nil, err
	}
	if err := n.self.SetDeadline(time.Now().Add(coupleTimeout)); err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	for {
		a, err := n.self.AcceptTCP()
		if err != nil {
			return nil, nil, errors.Join(err, c.Close())
		}
		if a.RemoteAddr().String() == c.LocalAddr().String() {
			return a, c.(*net.TCPConn), nil
		}
		a.Close() // a stranger: this port is nobody's service
	}
}

// dialTarget connects to a node's real port.
func dialTarget(ctx context.Context, target string) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
