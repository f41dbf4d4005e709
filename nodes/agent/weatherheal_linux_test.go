package agent_test

import (
	"context"
	"net"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// alone lets no agent of n2 come back, so that only the kernel can heal.
func alone(o *agent.FleetOptions) {
	open, opened := o.Hosts[1].Open, false
	o.Hosts[1].Open = func(ctx context.Context) (s stream, err error) {
		if opened {
			return nil, net.ErrClosed
		}
		opened = true
		return open(ctx)
	}
}

// An agent that is killed takes its queues along, delays too, and the kernel lets packets
// pass at once; one that is stuck holds them until the kernel's time limit.
func TestWeatherEndsWithItsAgent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lease time.Duration
		end   func(l *lab) error
	}{
		"killed": {time.Hour, func(l *lab) error { return l.agent(2).Process.Kill() }}, // no time limit is waited for
		"stuck":  {2 * time.Second, func(l *lab) error { return stop(l.agent(2).Process.Pid) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			f := l.fleet(c.lease, alone)
			ctx := context.Background()
			ev, err := f.Apply(ctx, "weather", []nodes.Effect{
				{Kind: nodes.Lossy, From: 1, To: 2, PerMille: 500}, {Kind: nodes.Limited, From: 1, To: 2, Rate: nodes.RateMin},
				{Kind: nodes.Delayed, From: 1, To: 2, Delay: time.Second},
			})
			proven(t, "weather", ev, err)
			must(t, c.end(l))
			t.Cleanup(func() { wake(l.agent(2).Process.Pid) })
			for until := time.Now().Add(enough); ; {
				s := l.shower(1, 2, packets, 100)
				if s.arrived == packets {
					break
				}
				if time.Now().After(until) {
					t.Fatalf("only %d of %d packets pass long after", s.arrived, packets)
				}
			}
			w := l.wire(1, 2)
			if !passes(t, w.from, w.to, time.Second/2) {
				t.Error("a packet is still delayed")
			}
			if ev, err := f.Verify(ctx, "weather"); err == nil && ev.Proven() {
				t.Errorf("weather without an agent is proven: %+v", ev)
			}
		})
	}
}

// Foreign packets that bear no mark of ours meet the weather, and tables of
// others stay as they are while it lasts.
func TestWeatherLeavesOtherLinksAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	f := l.fleet(lease, nil)
	ctx := context.Background()
	ev, err := f.Apply(ctx, "weather", []nodes.Effect{
		{Kind: nodes.Lossy, From: 1, To: 2, PerMille: 900}, {Kind: nodes.Duplicated, From: 1, To: 2, PerMille: nodes.PerMilleMax},
	})
	proven(t, "weather", ev, err)
	for _, way := range [][2]nodes.ID{{3, 2}, {1, 3}, {2, 1}} {
		l.dry(way[0], way[1], 100, func(s shower) bool { return s.arrived == packets && s.doubled == 0 })
	}
	c, err := l.dialFrom(l.hub, member(2).Addr(nodes.ClientPort), enough)
	must(t, err) // clients have no weather
	c.Close()
	ev, err = f.Revert(ctx, "weather")
	proven(t, "revert", ev, err)
}

// What is under way on a delayed link arrives when that is healed or the run
// ends, and at once.
func TestHealLetsGoWhatWaits(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *agent.Fleet){
		"revert": func(t *testing.T, f *agent.Fleet) {
			ev, err := f.Revert(context.Background(), "slow")
			proven(t, "revert", ev, err)
		},
		"close": func(t *testing.T, f *agent.Fleet) { must(t, f.Close(context.Background())) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			f := l.fleet(lease, nil)
			ev, err := f.Apply(context.Background(), "slow", []nodes.Effect{{Kind: nodes.Delayed, From: 1, To: 2, Delay: 2 * time.Second}})
			proven(t, "slow", ev, err)
			var in, out net.PacketConn
			l.in(l.hosts[2], func() { in, err = net.ListenPacket("udp", address(2)+":0") })
			must(t, err)
			defer in.Close()
			l.in(l.hosts[1], func() { out, err = net.ListenPacket("udp", address(1)+":0") })
			must(t, err)
			defer out.Close()
			const sent = 10
			for range sent {
				_, err = out.WriteTo([]byte("x"), in.LocalAddr())
				must(t, err)
			}
			end(t, f)
			must(t, in.SetReadDeadline(time.Now().Add(enough)))
			for i := range sent {
				if _, _, err := in.ReadFrom(make([]byte, 1)); err != nil {
					t.Fatalf("%d of %d packets that waited were let go: %v", i, sent, err)
				}
			}
		})
	}
}
