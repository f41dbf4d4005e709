package agent

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"chaos/nodes"
)

// A wall is our own table in the firewall of the current network namespace.
//
// Every rule asks a set whether the peer is still to be hurt, and the elements
// of the sets time out in the kernel after one lease. So even if this process
// is gone or stuck the peers are well again one lease after the last beat.
// Foreign tables are neither read nor changed.
type wall struct {
	hello Hello
	echo  *prober
	seed  uint64

	mu     sync.Mutex
	conn   *nftables.Conn
	table  *nftables.Table
	mode   queueMode
	flows  []flow                // what is in force
	queues map[nodes.Link]*queue // of the flows that pass one
	opened uint64                // queues so far
	twins  *twins                // nil until something is doubled
	closed bool
}

// A flow is one link as this host's firewall sees it.
type flow struct {
	link  nodes.Link
	state nodes.LinkState
	out   bool         // from the node to clients: the output hook, else the input hook
	addrs []netip.Addr // of the other end
	port  int          // the node's client port, where only that is meant; 0: every packet
	sets  []*timedSet
}

// A timedSet is one set of addresses of one family, with time limits.
type timedSet struct {
	set   *nftables.Set
	addrs []netip.Addr
}

func openWall(h Hello, echo *prober, seed uint64) (*wall, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("agent: opening the firewall's netlink socket: %w", err)
	}
	w := &wall{hello: h, echo: echo, seed: seed, conn: conn, queues: map[nodes.Link]*queue{}}
	w.table = &nftables.Table{Family: nftables.TableFamilyINet, Name: TableOf(h.Run)}
	if err := w.drop(); err != nil { // what a predecessor of this run may have left
		conn.CloseLasting()
		return nil, err
	}
	return w, nil
}

// set brings the firewall to exactly want, in one transaction, and tells which
// links had lapsed before.
func (w *wall) set(want []linkWant) (lapsed []nodes.Link, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, os.ErrClosed
	}
	flows, err := w.plan(want)
	if err != nil {
		return nil, err
	}
	lapsed = w.check()
	if err := w.openQueues(flows); err != nil {
		return lapsed, err
	}
	for _, q := range w.leaving(flows) {
		q.flush()
	}
	if err := w.install(flows); err != nil {
		return lapsed, err
	}
	return lapsed, w.closeQueues(flows)
}

// plan turns wanted links into flows of this host.
func (w *wall) plan(want []linkWant) (flows []flow, err error) {
	for _, l := range want {
		if l.State == (nodes.LinkState{}) {
			continue
		}
		if l.State.Reset {
			return nil, fmt.Errorf("agent: %s: this firewall does not reset connections", linkName(l.Link))
		}
		clients := l.Link.From == nodes.Clients || l.Link.To == nodes.Clients
		if clients && l.State.Weather() {
			return nil, fmt.Errorf("agent: %s %s: weather on links of clients can't be proven, so it is not done", linkName(l.Link), l.State)
		}
		f := flow{link: l.Link, state: l.State}
		switch self := w.hello.Self.ID; {
		case l.Link.From == nodes.Clients && l.Link.To == self:
			f.port = w.ownPort()
			f.addrs, err = parseAddrs(w.hello.Clients)
		case l.Link.To == nodes.Clients && l.Link.From == self:
			f.out, f.port = true, w.ownPort()
			f.addrs, err = parseAddrs(w.hello.Clients)
		case l.Link.To == self:
			f.addrs, err = w.peer(l.Link.From)
		default:
			err = fmt.Errorf("agent: %s does not end at %s", linkName(l.Link), self)
		}
		if err != nil {
			return nil, err
		}
		if len(f.addrs) == 0 {
			return nil, fmt.Errorf("agent: no address to hurt %s by", linkName(l.Link))
		}
		flows = append(flows, f)
	}
	return flows, nil
}

// ownPort is the node's client port as this host sees it.
func (w *wall) ownPort() int {
	for _, m := range w.hello.View {
		if m.ID == w.hello.Self.ID {
			return m.Client
		}
	}
	return w.hello.Self.Client
}

func (w *wall) peer(id nodes.ID) ([]netip.Addr, error) {
	for _, m := range w.hello.View {
		if m.ID == id {
			return parseAddrs([]string{m.Host})
		}
	}
	return nil, fmt.Errorf("agent: %s is not a member that this host knows", id)
}

func parseAddrs(in []string) (out []netip.Addr, err error) {
	for _, s := range in {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("agent: the address of a peer: %w", err)
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}

// install replaces the table by one for these flows, in one transaction.
func (w *wall) install(flows []flow) error {
	if len(flows) == 0 {
		w.flows = nil
		return w.drop()
	}
	w.conn.AddTable(w.table)
	w.conn.DelTable(w.table)
	w.conn.AddTable(w.table)
	b := newRules(w)
	if slices.ContainsFunc(flows, func(f flow) bool { return f.state.Duplicated > 0 }) {
		b.sparing(twinMark)
	}
	for i := range flows {
		if err := b.add(&flows[i]); err != nil {
			return err
		}
	}
	if err := w.conn.Flush(); err != nil {
		return fmt.Errorf("agent: changing the firewall: %w", err)
	}
	w.flows = flows
	return nil
}

// drop deletes our table; that there is none is no error.
func (w *wall) drop() error {
	w.conn.AddTable(w.table)
	w.conn.DelTable(w.table)
	if err := w.conn.Flush(); err != nil {
		return fmt.Errorf("agent: removing the firewall's table %s: %w", w.table.Name, err)
	}
	return nil
}

// renew gives every element another lease, and tells which had run out or were
// taken away meanwhile: there the fault had a gap.
func (w *wall) renew() (lapsed []nodes.Link, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.flows) == 0 {
		return nil, nil
	}
	lapsed = w.check()
	if len(lapsed) > 0 {
		return lapsed, w.install(w.flows)
	}
	for _, f := range w.flows {
		for _, s := range f.sets {
			if err := errors.Join(w.conn.SetDeleteElements(s.set, s.elements(0)),
				w.conn.SetAddElements(s.set, s.elements(w.hello.Lease))); err != nil {
				return nil, fmt.Errorf("agent: renewing %s: %w", linkName(f.link), err)
			}
		}
	}
	if err := w.conn.Flush(); err != nil {
		// An element ran out between the look and the transaction.
		return w.links(), w.install(w.flows)
	}
	return nil, nil
}

// check tells the links of which an element, or the whole table, is missing.
func (w *wall) check() (lapsed []nodes.Link) {
	for _, f := range w.flows {
		for _, s := range f.sets {
			found, err := w.conn.GetSetElements(s.set)
			if err != nil || !s.complete(found) {
				lapsed = append(lapsed, f.link)
				break
			}
		}
	}
	return lapsed
}

func (w *wall) links() (out []nodes.Link) {
	for _, f := range w.flows {
		out = append(out, f.link)
	}
	return out
}

func (s *timedSet) complete(found []nftables.SetElement) bool {
	for _, a := range s.addrs {
		if !slices.ContainsFunc(found, func(e nftables.SetElement) bool { return slices.Equal(e.Key, a.AsSlice()) }) {
			return false
		}
	}
	return true
}

func (s *timedSet) elements(lease time.Duration) (out []nftables.SetElement) {
	for _, a := range s.addrs {
		out = append(out, nftables.SetElement{Key: a.AsSlice(), Timeout: lease})
	}
	return out
}

// counters reads, for each link that is cut, how many packets were dropped: of
// a peer those to the probe port alone, of clients all of them.
func (w *wall) counters() (map[nodes.Link]uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[nodes.Link]uint64{}
	if w.closed || !slices.ContainsFunc(w.flows, func(f flow) bool { return f.state.Cut || f.state.CutData }) {
		return out, nil // only cuts count, and asking the kernel is dear
	}
	objects, err := w.conn.GetNamedObjects(w.table)
	if err != nil {
		return nil, fmt.Errorf("agent: reading the firewall's counters: %w", err)
	}
	packets := map[string]uint64{}
	for _, o := range objects {
		if n, ok := o.(*nftables.NamedObj); ok && n.Table.Name == w.table.Name {
			if c, ok := n.Obj.(*expr.Counter); ok {
				packets[n.Name] = c.Packets
			}
		}
	}
	for _, f := range w.flows {
		out[f.link] = packets[f.evidence()]
	}
	return out, nil
}

func (w *wall) describe() (table, queue string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.flows) > 0 {
		table = "inet " + w.table.Name
	}
	return table, string(w.mode)
}

// close removes the table and lets go what is delayed. It may be called twice.
func (w *wall) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	for _, q := range w.leaving(nil) {
		q.flush()
	}
	err := errors.Join(w.drop(), w.closeQueues(nil))
	if w.twins != nil {
		w.twins.close()
	}
	return errors.Join(err, w.conn.CloseLasting())
}

// openQueues makes sure that every flow that needs one has its queue, with what
// is wanted of it, before a rule sends packets there.
func (w *wall) openQueues(flows []flow) (err error) {
	for _, f := range flows {
		if !f.queued() {
			continue
		}
		if w.mode == "" {
			if w.mode, err = findQueueMode(w.conn, w.table.Name); err != nil {
				return err
			}
		}
		if f.state.Duplicated > 0 && w.twins == nil {
			if w.twins, err = openTwins(); err != nil {
				return err
			}
		}
		q := w.queues[f.link]
		if q == nil {
			w.opened++ // so that no two queues of a link draw the same
			if q, err = openQueue(f.link, w.echo, w.seed+w.opened); err != nil {
				return err
			}
			w.queues[f.link] = q
		}
		if err := q.shape(f.state, w.twins); err != nil {
			return err
		}
	}
	return nil
}

// closeQueues lets go what no flow holds back any more.
func (w *wall) closeQueues(flows []flow) (err error) {
	for link, q := range w.leaving(flows) {
		err = errors.Join(err, q.close())
		delete(w.queues, link)
	}
	return err
}

// leaving are the queues that none of these flows passes.
func (w *wall) leaving(flows []flow) map[nodes.Link]*queue {
	out := maps.Clone(w.queues)
	for _, f := range flows {
		if f.queued() {
			delete(out, f.link)
		}
	}
	return out
}

// queued tells whether the packets of the flow pass a queue of ours.
func (f *flow) queued() bool { return f.state.Delay > 0 || f.state.Jitter > 0 || f.state.Weather() }
