package agent

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

const (
	reg          = unix.NFT_REG_1 // the one register that our rules use
	minOffset    = 5              // of a TCP header, in 4-byte words
	maxOffset    = 15
	ipv4Header   = 20 // bytes, without options
	hookPriority = -10
)

// rules collects one transaction for the wall's table.
type rules struct {
	w       *wall
	in, out *nftables.Chain
	setID   uint32
}

func newRules(w *wall) *rules {
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		accept := nftables.ChainPolicyAccept
		priority := nftables.ChainPriority(hookPriority)
		return &nftables.Chain{
			Name: name, Table: w.table, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: &priority, Policy: &accept,
		}
	}
	b := &rules{w: w, in: w.conn.AddChain(chain("in", nftables.ChainHookInput))}
	b.out = w.conn.AddChain(chain("out", nftables.ChainHookOutput))
	b.rule(b.in, neighbours()...)
	return b
}

// add writes the rules of one flow: what drops comes before what delays.
func (b *rules) add(f *flow) error {
	f.sets = nil
	for _, c := range []string{f.evidence(), f.drops()} {
		b.w.conn.AddObj(&nftables.NamedObj{
			Table: b.w.table, Name: c, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{},
		})
		if f.port != 0 {
			break // both are the same one
		}
	}
	for _, v := range []family{ipv4, ipv6} {
		s, err := b.set(f, v)
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		f.sets = append(f.sets, s)
		from := v.from(f, s.set)
		switch {
		case f.state.Cut:
			b.cut(f, from)
		case f.state.CutData:
			b.cutData(f, v, from)
		}
		if f.queued() && !f.state.Cut {
			b.rule(b.chain(f), from, queueTo(b.w.mode, b.w.queues[f.link].number))
		}
	}
	return nil
}

// sparing lets packets pass that bear a mark.
func (b *rules) sparing(mark uint32) {
	for _, c := range []*nftables.Chain{b.in, b.out} {
		b.rule(c, part{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binary.NativeEndian.AppendUint32(nil, mark)},
			&expr.Verdict{Kind: expr.VerdictAccept},
		})
	}
}

func (b *rules) chain(f *flow) *nftables.Chain {
	if f.out {
		return b.out
	}
	return b.in
}

// set is the timed set of the flow's addresses of one family, nil if it has none.
func (b *rules) set(f *flow, v family) (*timedSet, error) {
	b.setID++
	s := &timedSet{set: &nftables.Set{
		Table: b.w.table, ID: b.setID, Name: f.name() + v.suffix, KeyType: v.key, HasTimeout: true,
	}}
	for _, a := range f.addrs {
		if a.Is4() == (v.suffix == ipv4.suffix) {
			s.addrs = append(s.addrs, a)
		}
	}
	if len(s.addrs) == 0 {
		return nil, nil
	}
	if err := b.w.conn.AddSet(s.set, s.elements(b.w.hello.Lease)); err != nil {
		return nil, fmt.Errorf("agent: making a set of addresses: %w", err)
	}
	return s, nil
}

func (b *rules) rule(c *nftables.Chain, parts ...part) {
	var e []expr.Any
	for _, p := range parts {
		e = append(e, p...)
	}
	b.w.conn.AddRule(&nftables.Rule{Table: b.w.table, Chain: c, Exprs: e})
}

// cut drops everything; probes are counted apart.
func (b *rules) cut(f *flow, from part) {
	if f.port == 0 {
		b.rule(b.in, from, protocol(unix.IPPROTO_UDP), port(2, b.w.hello.Probe), dropCounted(f.evidence()))
	}
	b.rule(b.chain(f), from, dropCounted(f.drops()))
}

// cutData drops what carries data or opens a connection, and lets through TCP
// segments with neither. nftables can't subtract, so there is one rule for each
// length that a TCP header may have: the packet is longer than its headers.
func (b *rules) cutData(f *flow, v family, from part) {
	chain := b.chain(f)
	if f.port == 0 {
		b.rule(chain, from, protocol(unix.IPPROTO_UDP), port(2, b.w.hello.Probe), dropCounted(f.evidence()))
		b.rule(chain, from, notProtocol(unix.IPPROTO_TCP), dropCounted(f.drops()))
	}
	b.rule(chain, from, protocol(unix.IPPROTO_TCP), bareSYN(), dropCounted(f.drops()))
	for words := minOffset; words <= maxOffset; words++ {
		b.rule(chain, from, protocol(unix.IPPROTO_TCP), offset(words), v.longerThan(4*words), dropCounted(f.drops()))
	}
}

func (f *flow) name() string {
	if f.out {
		return "to_clients"
	}
	return "from_" + endName(f.link.From)
}

// drops names the counter of what was dropped of a flow.
func (f *flow) drops() string { return f.name() + "_drops" }

// evidence names the counter that a probe of the flow moves.
func (f *flow) evidence() string {
	if f.port != 0 {
		return f.drops()
	}
	return f.name() + "_probes"
}

// A part is a piece of a rule: some matches, or what to do.
type part []expr.Any

// A family is IPv4 or IPv6, as rules see it.
type family struct {
	suffix          string
	protocol        byte
	key             nftables.SetDatatype
	source, dest    uint32 // where the addresses are in the header
	length, size    uint32 // where its length field is; bytes of an address
	countsOwnHeader int    // bytes that the length field counts besides the payload
}

var (
	ipv4 = family{"_v4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 12, 16, 2, 4, ipv4Header}
	ipv6 = family{"_v6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 8, 24, 4, 16, 0}
)

// from matches packets between the addresses of a set and the node.
func (v family) from(f *flow, s *nftables.Set) part {
	where := v.source
	if f.out {
		where = v.dest
	}
	p := part{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{v.protocol}},
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: where, Len: v.size},
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID},
	}
	if f.port == 0 {
		return p
	}
	at := uint32(2) // the destination port
	if f.out {
		at = 0
	}
	return append(append(p, protocol(unix.IPPROTO_TCP)...), port(at, f.port)...)
}

// longerThan matches a TCP packet with more bytes after the IP header than n.
func (v family) longerThan(n int) part {
	return part{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: v.length, Len: 2},
		&expr.Cmp{Op: expr.CmpOpGt, Register: reg, Data: binary.BigEndian.AppendUint16(nil, uint16(v.countsOwnHeader+n))},
	}
}

func protocol(p byte) part    { return layer4(expr.CmpOpEq, p) }
func notProtocol(p byte) part { return layer4(expr.CmpOpNeq, p) }

func layer4(op expr.CmpOp, p byte) part {
	return part{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: op, Register: reg, Data: []byte{p}},
	}
}

func port(at uint32, number int) part {
	return part{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binary.BigEndian.AppendUint16(nil, uint16(number))},
	}
}

// bareSYN matches a segment that opens a connection: SYN without ACK.
func bareSYN() part { return masked(13, 0x12, 0x02) }

// offset matches a TCP header of so many 4-byte words.
func offset(words int) part { return masked(12, 0xf0, byte(words)<<4) }

func masked(at uint32, mask, want byte) part {
	return part{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{want}},
	}
}

func dropCounted(counter string) part {
	return part{
		&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// neighbours lets IPv6 find its neighbours, as ARP does for IPv4 out of our
// sight: without it a one-way cut would grow into a cut both ways.
func neighbours() []part {
	return []part{protocol(unix.IPPROTO_ICMPV6), {
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: reg, FromData: []byte{133}, ToData: []byte{136}},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}}
}

// A queueMode is how a rule hands packets to a queue of ours.
type queueMode string

const (
	nativeQueue queueMode = "nft queue"
	xtQueue     queueMode = "xt NFQUEUE"
)

// queueTo hands packets to a queue; where nobody reads it they pass at once.
func queueTo(mode queueMode, number uint16) part {
	if mode == nativeQueue {
		return part{&expr.Queue{Num: number, Total: 1, Flag: expr.QueueFlagBypass}}
	}
	info := make([]byte, 8) // number, how many, flags (1: bypass), padding
	binary.NativeEndian.PutUint16(info, number)
	binary.NativeEndian.PutUint16(info[2:], 1)
	binary.NativeEndian.PutUint16(info[4:], 1)
	u := xt.Unknown(info)
	return part{&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &u}}
}

// findQueueMode tries both ways in an unhooked chain of a throw-away table.
func findQueueMode(c *nftables.Conn, name string) (queueMode, error) {
	var first error
	for _, mode := range []queueMode{nativeQueue, xtQueue} {
		err := try(c, name+"_try", queueTo(mode, 0))
		if err == nil {
			return mode, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", fmt.Errorf("agent: this kernel has neither nft queue nor xt NFQUEUE: %w", first)
}

// try adds one rule with these expressions to an unhooked chain of an own table,
// and takes it away again.
func try(c *nftables.Conn, name string, p part) error {
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	chain := c.AddChain(&nftables.Chain{Name: "try", Table: t})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: p})
	if err := c.Flush(); err != nil {
		return err // the transaction failed, so nothing is left of it
	}
	c.DelTable(t)
	return c.Flush()
}
