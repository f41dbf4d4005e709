package agent_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chaos/nodes"
)

// packets is how many datagrams a measurement sends: the share of them that met
// a fate is then within 5 points of the chance, but for one measurement of millions.
const (
	packets = 3000
	points  = 0.05
)

// A shower is what became of a train of datagrams that the test sent itself.
type shower struct {
	arrived, doubled, late int
	first, last            time.Time
}

// shower sends datagrams from one namespace to another, a few every
// millisecond, and counts what arrives.
func (l *lab) shower(from, to nodes.ID, count, size int) (s shower) {
	l.t.Helper()
	var in, out net.PacketConn
	var err error
	l.in(l.hosts[to], func() { in, err = net.ListenPacket("udp", address(to)+":0") })
	must(l.t, err)
	defer in.Close()
	in.(*net.UDPConn).SetReadBuffer(4 << 20)
	l.in(l.hosts[from], func() { out, err = net.ListenPacket("udp", address(from)+":0") })
	must(l.t, err)
	defer out.Close()
	var work sync.WaitGroup
	sent := make(chan struct{})
	work.Go(func() { s = receiveShower(in, count, sent) })
	b := make([]byte, size)
	for i := range count + 100 { // those after the count overtake the last of them
		binary.BigEndian.PutUint32(b, uint32(i))
		out.WriteTo(b, in.LocalAddr())
		if i%8 == 7 {
			time.Sleep(time.Millisecond)
		}
	}
	close(sent)
	work.Wait()
	return s
}

// dry sends showers until one is as whole as it must be, since a machine that is
// too busy to read them loses some at the socket; not those of five in a row.
func (l *lab) dry(from, to nodes.ID, size int, whole func(shower) bool) (s shower) {
	l.t.Helper()
	for range 5 {
		if s = l.shower(from, to, packets, size); whole(s) {
			return s
		}
	}
	l.t.Errorf("n%d→n%d: %+v of %d", from, to, s, packets)
	return s
}

// receiveShower takes what comes until nothing does, after all was sent.
func receiveShower(in net.PacketConn, count int, sent <-chan struct{}) (s shower) {
	seen, highest := make([]bool, count), -1
	b := make([]byte, 2048)
	for {
		in.SetReadDeadline(time.Now().Add(2 * quiet))
		n, _, err := in.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			select {
			case <-sent:
				return s
			default:
				continue
			}
		}
		if err != nil || n < 4 {
			continue
		}
		at := int(binary.BigEndian.Uint32(b))
		if s.last = time.Now(); s.first.IsZero() {
			s.first = s.last
		}
		switch {
		case at >= count:
		case seen[at]:
			s.doubled++
		default:
			seen[at] = true
			s.arrived++
			if at < highest {
				s.late++
			}
		}
		highest = max(highest, at)
	}
}

func (l *lab) near(what string, got, of int, asked float64) {
	l.t.Helper()
	share := float64(got) / float64(of)
	l.t.Logf("%s: asked %.1f%%, measured %.1f%% of %d", what, 100*asked, 100*share, of)
	if math.Abs(share-asked) > points {
		l.t.Errorf("%s: %.1f%% is not near %.1f%%", what, 100*share, 100*asked)
	}
}

// weather applies effects to the way from n1 to n2 and looks at it, and at the
// way back, before, meanwhile and after.
func (l *lab) weather(f interface {
	Apply(context.Context, string, []nodes.Effect) (nodes.Evidence, error)
	Verify(context.Context, string) (nodes.Evidence, error)
	Revert(context.Context, string) (nodes.Evidence, error)
}, look func(), effects ...nodes.Effect) {
	l.t.Helper()
	ctx := context.Background()
	for i := range effects {
		effects[i].From, effects[i].To = 1, 2
	}
	clear := func(when string, from, to nodes.ID) {
		l.t.Log(when)
		l.dry(from, to, 100, func(s shower) bool { return s.arrived == packets && s.doubled == 0 && s.late <= packets/50 })
	}
	clear("before", 1, 2)
	ev, err := f.Apply(ctx, "weather", effects)
	proven(l.t, fmt.Sprint("apply ", effects), ev, err)
	look()
	clear("the way back", 2, 1)
	ev, err = f.Verify(ctx, "weather")
	proven(l.t, "verify", ev, err)
	ev, err = f.Revert(ctx, "weather")
	proven(l.t, "revert", ev, err)
	if how := ev.Proofs[0].How; !strings.Contains(how, "before)") {
		l.t.Errorf("the cure was not compared with what was before: %s", how)
	}
	clear("after", 1, 2)
}

func TestWeatherIsMeasured(t *testing.T) {
	t.Parallel()
	lost := func(p int) func(l *lab, s shower) {
		return func(l *lab, s shower) { l.near("lost", packets-s.arrived, packets, float64(p)/1000) }
	}
	late := nodes.Effect{Kind: nodes.Reordered, PerMille: 200, Delay: 8 * time.Millisecond}
	for name, c := range map[string]struct {
		look    func(l *lab, s shower)
		effects []nodes.Effect
	}{
		"a little loss": {lost(50), []nodes.Effect{{Kind: nodes.Lossy, PerMille: 50}}},
		"loss":          {lost(200), []nodes.Effect{{Kind: nodes.Lossy, PerMille: 200}}},
		"half is lost":  {lost(500), []nodes.Effect{{Kind: nodes.Lossy, PerMille: 500}}},
		"doubled": {func(l *lab, s shower) {
			l.near("doubled", s.doubled, packets, 0.25)
			lost(0)(l, s)
		}, []nodes.Effect{{Kind: nodes.Duplicated, PerMille: 250}}},
		"late": {func(l *lab, s shower) {
			l.near("late", s.late, packets, 0.2)
			lost(0)(l, s)
		}, []nodes.Effect{late}},
		"everything": {func(l *lab, s shower) {
			lost(100)(l, s)
			l.near("doubled", s.doubled, s.arrived, 0.3)
			l.near("late", s.late, s.arrived, 0.2)
		}, []nodes.Effect{{Kind: nodes.Lossy, PerMille: 100}, {Kind: nodes.Duplicated, PerMille: 300}, late,
			{Kind: nodes.Delayed, Delay: 10 * time.Millisecond, Jitter: 2 * time.Millisecond}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			l.weather(l.fleet(lease, nil), func() { c.look(l, l.shower(1, 2, packets, 100)) }, c.effects...)
		})
	}
}

// A second copy is neither doubled again nor lost, and goes to clients' ends as
// to peers'.
func TestEverythingIsDoubledOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	all := nodes.Effect{Kind: nodes.Duplicated, From: 1, To: 2, PerMille: nodes.PerMilleMax}
	ev, err := f.Apply(ctx, "twice", []nodes.Effect{all})
	proven(t, all.String(), ev, err)
	l.dry(1, 2, 1200, func(s shower) bool {
		return s.arrived == packets && s.doubled >= packets-packets/50 && s.doubled <= packets
	})
	if took := l.pour(l.wire(1, 2), 4<<20); took > enough {
		t.Errorf("4 MiB took %s", took)
	}
	ev, err = f.Revert(ctx, "twice")
	proven(t, "revert", ev, err)
}

// What can't be proven is not done: weather on links of clients.
func TestWeatherOfClientsIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	for _, e := range []nodes.Effect{
		{Kind: nodes.Lossy, From: nodes.Clients, To: 1, PerMille: 100},
		{Kind: nodes.Limited, From: 1, To: nodes.Clients, Rate: nodes.RateMin},
		{Kind: nodes.Lossy, From: 1, To: 2, PerMille: 1},
		{Kind: nodes.Limited, From: 1, To: 2, Rate: 1},
	} {
		if _, err := f.Apply(context.Background(), e.String(), []nodes.Effect{e}); err == nil {
			t.Errorf("%s was not refused", e)
		}
	}
}

// The time that a volume takes over TCP through a limited link.
func TestRateIsMeasured(t *testing.T) {
	t.Parallel()
	for _, rate := range []int64{100_000, 1_000_000, nodes.RateMax} {
		t.Run(nodes.Rate(rate), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			volume := int(rate) // a second of it
			l.weather(l.fleet(lease, nil), func() {
				w := l.wire(1, 2)
				took := l.pour(w, volume)
				t.Logf("asked %s, %d bytes took %s: %s", nodes.Rate(rate), volume, took, nodes.Rate(int64(float64(volume)/took.Seconds())))
				if took < time.Second {
					t.Errorf("%d bytes took %s, a second is the least", volume, took)
				}
				if took > 3*time.Second {
					t.Errorf("%d bytes took %s", volume, took)
				}
			}, nodes.Effect{Kind: nodes.Limited, Rate: rate})
		})
	}
}

func (l *lab) pour(w wire, volume int) time.Duration {
	l.t.Helper()
	began := time.Now()
	go pour(w.from, volume)
	w.to.SetReadDeadline(time.Now().Add(enough))
	b := make([]byte, 256<<10)
	for left := volume; left > 0; {
		n, err := w.to.Read(b)
		if left -= n; err != nil {
			l.t.Fatalf("%d of %d bytes are missing: %v", left, volume, err)
		}
	}
	return time.Since(began)
}

// What full load costs, and that TCP copes: nothing is lost or doubled in a
// stream. But its packets meet the weather as those of our probes do, which go
// by UDP: what is proven by probes is of the path that nodes use.
func TestTCPUnderWeather(t *testing.T) {
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	const volume = 32 << 20
	const packets = volume / 1500 // at least, without those that are sent again
	resent := func(from, _ *unix.TCPInfo) uint32 { return from.Total_retrans }
	doubled := func(from, _ *unix.TCPInfo) uint32 { return from.Dsack_dups }
	late := func(_, to *unix.TCPInfo) uint32 { return to.Rcv_ooopack }
	for _, c := range []struct {
		effects []nodes.Effect
		met     func(from, to *unix.TCPInfo) uint32
		least   uint32 // half of what is to be expected, or less where TCP does not tell of each
	}{
		{nil, resent, 0},
		{[]nodes.Effect{{Kind: nodes.Delayed, Delay: time.Microsecond}}, resent, 0},
		{[]nodes.Effect{{Kind: nodes.Lossy, PerMille: nodes.PerMilleMin}}, resent, packets * nodes.PerMilleMin / 1000 / 2},
		{[]nodes.Effect{{Kind: nodes.Lossy, PerMille: 20}}, resent, packets * 20 / 1000 / 2},
		{[]nodes.Effect{{Kind: nodes.Duplicated, PerMille: 100}}, doubled, packets * 100 / 1000 / 10},
		{[]nodes.Effect{{Kind: nodes.Reordered, PerMille: 20, Delay: time.Millisecond}}, late, packets * 20 / 1000 / 10},
	} {
		for i := range c.effects {
			c.effects[i].From, c.effects[i].To = 1, 2
			ev, err := f.Apply(ctx, "weather", c.effects)
			proven(t, fmt.Sprint(c.effects), ev, err)
		}
		w := l.wire(1, 2)
		took := l.pour(w, volume)
		from, to := told(t, w.from), told(t, w.to)
		t.Logf("%v: %d MiB in %s; %d resent, %d doubled, %d late", c.effects, volume>>20, took, resent(from, to), doubled(from, to), late(from, to))
		if met := c.met(from, to); met < c.least {
			t.Errorf("%v: TCP met it %d times, at least %d are to be expected", c.effects, met, c.least)
		}
		if len(c.effects) == 0 {
			continue
		}
		ev, err := f.Verify(ctx, "weather")
		proven(t, "verify", ev, err)
		ev, err = f.Revert(ctx, "weather")
		proven(t, "revert", ev, err)
	}
}

// told is what the kernel knows of a connection.
func told(t *testing.T, c net.Conn) (info *unix.TCPInfo) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
	must(t, err)
	return info
}

// All links of five nodes at once, overlapped with a partition and another loss.
func TestWeatherOfAPartitionSize(t *testing.T) {
	l := newLab(t, 5)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	var lossy, more, cuts []nodes.Effect
	for a := nodes.ID(1); a <= 5; a++ {
		for b := nodes.ID(1); b <= 5; b++ {
			if a == b {
				continue
			}
			lossy = append(lossy, nodes.Effect{Kind: nodes.Lossy, From: a, To: b, PerMille: 100})
			more = append(more, nodes.Effect{Kind: nodes.Lossy, From: a, To: b, PerMille: 10},
				nodes.Effect{Kind: nodes.Delayed, From: a, To: b, Delay: 30 * time.Millisecond})
			if (a <= 2) != (b <= 2) {
				cuts = append(cuts, cut(a, b))
			}
		}
	}
	for _, s := range []struct {
		what string
		do   func() (nodes.Evidence, error)
	}{
		{"loss on 20 links", func() (nodes.Evidence, error) { return f.Apply(ctx, "lossy", lossy) }},
		{"partition over it", func() (nodes.Evidence, error) { return f.Apply(ctx, "cut", cuts) }},
		{"more loss over it", func() (nodes.Evidence, error) { return f.Apply(ctx, "more", more) }},
		{"verify the first", func() (nodes.Evidence, error) { return f.Verify(ctx, "lossy") }},
		{"heal the partition", func() (nodes.Evidence, error) { return f.Revert(ctx, "cut") }},
		{"verify the last", func() (nodes.Evidence, error) { return f.Verify(ctx, "more") }},
		{"heal the first", func() (nodes.Evidence, error) { return f.Revert(ctx, "lossy") }},
		{"heal the last", func() (nodes.Evidence, error) { return f.Revert(ctx, "more") }},
		{"cut and heal once more", func() (nodes.Evidence, error) { return f.Apply(ctx, "cut", cuts) }},
		{"heal", func() (nodes.Evidence, error) { return f.Revert(ctx, "cut") }},
	} {
		ev, err := s.do()
		proven(t, s.what, ev, err)
	}
}
