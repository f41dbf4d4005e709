package relay

import (
	"context"
	"net"
	"sync"
	"time"

	"chaos/nodes"
)

// acceptPause is how long a door waits when the process has no descriptors left.
const acceptPause = 10 * time.Millisecond

// A door is the listener of one ordered pair of dialer and target.
type door struct {
	network  *Network
	from, to nodes.ID
	target   string
	listener *net.TCPListener
	slots    chan struct{} // one for each connection
}

// accept takes connections until the listener is closed. The target is dialled
// elsewhere: a slow one must not keep others waiting.
func (d *door) accept() {
	for {
		c, err := d.listener.AcceptTCP()
		if err != nil {
			select {
			case <-d.network.ctx.Done():
				return
			case <-time.After(acceptPause):
				continue
			}
		}
		p := d.network.pair(d.from, d.to, c)
		select {
		case d.slots <- struct{}{}:
		default:
			p.abort()
			continue
		}
		d.network.start(p, func() {
			defer func() { <-d.slots }()
			p.connect(d.target)
		})
	}
}

// A pair is one relayed connection: down leads to the dialer, up to the target.
type pair struct {
	network           *Network
	from, to          nodes.ID
	there, back       *link
	forward, backward *stream

	ctx    context.Context // ends with the pair
	cancel context.CancelFunc

	mu       sync.Mutex
	down, up *net.TCPConn // up is nil until the target took the connection
	aborted  bool
}

func (n *Network) pair(from, to nodes.ID, down *net.TCPConn) *pair {
	p := &pair{network: n, from: from, to: to, down: down}
	p.ctx, p.cancel = context.WithCancel(n.ctx)
	p.there = n.link(nodes.Link{From: from, To: to})
	p.back = n.link(nodes.Link{From: to, To: from})
	p.forward, p.backward = newStream(p, p.there, p.back), newStream(p, p.back, p.there)
	return p
}

// connect opens the way to the target when the links let it, and runs the pair.
func (p *pair) connect(target string) {
	if !p.reach(target) {
		p.abort()
		p.network.remove(p)
		return
	}
	p.run()
}

// reach dials the target, and tells whether there are two ends to connect.
func (p *pair) reach(target string) bool {
	if p.network.passable(p.ctx, p.from, p.to) != nil || gone(p.down) {
		return false
	}
	up, err := dialTarget(p.ctx, target)
	if err != nil {
		p.refuse(p.back, p.down)
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.aborted {
		up.Close()
		return false
	}
	p.up = up
	return true
}

// run copies both ways until both have ended.
func (p *pair) run() {
	defer p.network.remove(p)
	p.forward.src, p.forward.dst = p.down, p.up
	p.backward.src, p.backward.dst = p.up, p.down
	if !p.join() {
		p.abort()
	} else {
		p.there.connections.Add(1)
		back := make(chan struct{})
		go func() { // ends before run does
			defer close(back)
			p.backward.copy()
		}()
		p.forward.copy()
		<-back
		p.settle(p.forward)
		p.settle(p.backward)
	}
	p.there.leave(p.forward)
	p.back.leave(p.backward)
	p.end()
}

func (p *pair) join() bool { return p.there.join(p.forward) && p.back.join(p.backward) }

// settle tells a stream's source if nobody took its bytes.
func (p *pair) settle(s *stream) {
	if s.failed {
		p.refuse(s.back, s.src)
	}
}

// refuse resets a connection by way of the link that leads to its other end:
// while that is cut the reset waits as everything does.
func (p *pair) refuse(way *link, c *net.TCPConn) {
	for {
		state, changed := way.get()
		if !state.Cut {
			reset(c)
			return
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			return
		}
	}
}

// abort resets both ends.
func (p *pair) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.aborted {
		return
	}
	p.aborted = true
	p.cancel()
	reset(p.down)
	if p.up != nil {
		reset(p.up)
	}
}

// end closes both ends after all is said.
func (p *pair) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.aborted {
		return
	}
	p.aborted = true
	p.cancel()
	p.down.Close()
	p.up.Close()
}
