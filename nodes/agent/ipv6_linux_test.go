package agent_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"chaos/nodes"
	"chaos/nodes/agent"
)

func six(id nodes.ID) string { return fmt.Sprintf("fd00::%x", int(id)) }

const clientSix = "fd00::ffff"

// addSix gives a host of the lab, or the hub, an address of IPv6.
func (l *lab) addSix(name, addr string) {
	l.t.Helper()
	link, err := netlink.LinkByName(name)
	must(l.t, err)
	a, err := netlink.ParseAddr(addr + "/64")
	must(l.t, err)
	a.Flags = unix.IFA_F_NODAD // it can be used at once
	err = netlink.AddrAdd(link, a)
	for _, none := range []error{unix.EACCES, unix.EOPNOTSUPP, unix.EAFNOSUPPORT} {
		if errors.Is(err, none) && !required("root") {
			l.t.Skipf("there is no IPv6 here: %v", err)
		}
	}
	must(l.t, err)
}

// forget makes a host look for its neighbours of IPv6 anew.
func (l *lab) forget(id nodes.ID) {
	l.in(l.hosts[id], func() {
		eth, err := netlink.LinkByName("eth0")
		must(l.t, err)
		all, err := netlink.NeighList(eth.Attrs().Index, netlink.FAMILY_V6)
		must(l.t, err)
		for _, n := range all {
			if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
				l.t.Fatal(err)
			}
		}
	})
}

// One way of IPv6 is cut, for all or for data alone, and the other is not, even
// where the host that receives has yet to find its neighbour.
func TestIPv6IsCutOneWay(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	l.in(l.hub, func() { l.addSix("br", clientSix) })
	var view []nodes.Member
	for _, m := range l.members() {
		l.in(l.hosts[m.ID], func() { l.addSix("eth0", six(m.ID)) })
		m.Host = six(m.ID)
		view = append(view, m)
	}
	f := l.fleet(lease, func(o *agent.FleetOptions) {
		for i := range o.Hosts {
			o.Hosts[i].Self, o.Hosts[i].View, o.Hosts[i].Clients = view[i], view, []string{clientSix}
		}
	})
	ctx := context.Background()
	for _, kind := range []nodes.EffectKind{nodes.Cut, nodes.CutData} {
		w := l.wireAt(1, 2, six(2))
		ev, err := f.Apply(ctx, "cut", []nodes.Effect{{Kind: kind, From: 1, To: 2}})
		proven(t, string(kind), ev, err)
		l.forget(2)
		ev, err = f.Verify(ctx, "cut")
		proven(t, "with neighbours to find", ev, err)
		if !passes(t, w.to, w.from, enough) {
			t.Errorf("%s: the way back is cut, too", kind)
		}
		if passes(t, w.from, w.to, quiet) {
			t.Errorf("%s: a byte got from n1 to n2", kind)
		}
		ev, err = f.Revert(ctx, "cut")
		proven(t, "heal", ev, err)
		if !arrives(w.to, enough) {
			t.Errorf("%s: the byte did not arrive after the heal", kind)
		}
	}
}
