package agent_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"chaos/nodes"
)

type stream = io.ReadWriteCloser

func stop(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }
func wake(pid int) error { return syscall.Kill(pid, syscall.SIGCONT) }

func describe(r *nftables.Rule) string {
	var b strings.Builder
	for _, e := range r.Exprs {
		fmt.Fprintf(&b, "%T%+v ", e, e)
	}
	return b.String()
}

// One direction of data is cut: the other one flows on, far beyond what a
// window holds, so the acknowledgements must pass.
func TestCutDataLeavesTheOtherDirection(t *testing.T) {
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	w := l.wire(1, 2)
	ev, err := f.Apply(context.Background(), "data", []nodes.Effect{{Kind: nodes.CutData, From: 1, To: 2}})
	proven(t, "cut of data", ev, err)
	if passes(t, w.from, w.to, quiet) {
		t.Error("a byte got from n1 to n2")
	}
	const volume = 64 << 20
	began := time.Now()
	go pour(w.to, volume)
	w.from.SetReadDeadline(time.Now().Add(enough))
	n, err := io.Copy(io.Discard, io.LimitReader(w.from, volume))
	if n != volume || err != nil {
		t.Fatalf("only %d of %d bytes got from n2 to n1: %v", n, volume, err)
	}
	t.Logf("%d MiB against the cut in %s", volume>>20, time.Since(began))
	if c, err := l.dialFrom(l.hosts[1], member(2).Addr(nodes.ClientPort), quiet); err == nil {
		c.Close()
		t.Error("n1 opened a connection to n2")
	}
	c, err := l.dialFrom(l.hosts[2], member(1).Addr(nodes.ClientPort), enough)
	must(t, err) // its answer is no data
	c.Close()
	if arrives(w.to, quiet) {
		t.Error("the byte arrived meanwhile")
	}
	ev, err = f.Revert(context.Background(), "data")
	proven(t, "heal", ev, err)
	if !arrives(w.to, enough) {
		t.Error("the byte did not arrive after the heal")
	}
}

func pour(c net.Conn, n int) {
	b := make([]byte, 64<<10)
	for ; n > 0; n -= len(b) {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// Both ways are delayed; what is measured is what TCP sees.
func TestDelayIsMeasured(t *testing.T) {
	l := newLab(t, 2)
	f := l.fleet(lease, nil)
	w := l.wire(1, 2)
	ctx := context.Background()
	const there, jitter, back = 40 * time.Millisecond, 5 * time.Millisecond, 15 * time.Millisecond
	ev, err := f.Apply(ctx, "there", []nodes.Effect{{Kind: nodes.Delayed, From: 1, To: 2, Delay: there, Jitter: jitter}})
	proven(t, "delay", ev, err)
	ev, err = f.Apply(ctx, "back", []nodes.Effect{{Kind: nodes.Delayed, From: 2, To: 1, Delay: back}})
	proven(t, "delay back", ev, err)
	var best time.Duration
	for range 10 {
		took := roundTrip(t, w)
		if took < there-jitter+back {
			t.Errorf("a round trip took %s, at least %s was asked for", took, there-jitter+back)
		}
		if best == 0 || took < best {
			best = took
		}
	}
	t.Logf("asked %s±%s and %s, the best of 10 round trips took %s", there, jitter, back, best)
	// The first connection takes the sudden delay for congestion; a new one does not.
	volume := 8 << 20
	w = l.wire(1, 2)
	began := time.Now()
	go pour(w.from, volume)
	w.to.SetReadDeadline(time.Now().Add(enough))
	if n, err := io.Copy(io.Discard, io.LimitReader(w.to, int64(volume))); int(n) != volume {
		t.Fatalf("only %d of %d bytes came through the delay: %v", n, volume, err)
	}
	t.Logf("%d MiB through it in %s", volume>>20, time.Since(began))
	for _, name := range []string{"there", "back"} {
		ev, err = f.Revert(ctx, name)
		proven(t, "heal", ev, err)
		if how := ev.Proofs[0].How; !strings.Contains(how, "before)") {
			t.Errorf("the cure was not compared with what was before: %s", how)
		}
	}
	t.Logf("healed, a round trip takes %s", roundTrip(t, w))
}

func roundTrip(t *testing.T, w wire) time.Duration {
	t.Helper()
	began := time.Now()
	if !passes(t, w.from, w.to, enough) || !passes(t, w.to, w.from, enough) {
		t.Fatal("a byte got lost")
	}
	return time.Since(began)
}

// Five nodes, a partition of two and three: its shape is proven by every link,
// and by traffic.
func TestPartition(t *testing.T) {
	l := newLab(t, 5)
	f := l.fleet(lease, nil)
	var effects []nodes.Effect
	for _, a := range []nodes.ID{1, 2} {
		for _, b := range []nodes.ID{3, 4, 5} {
			effects = append(effects, cut(a, b), cut(b, a))
		}
	}
	inside, across := l.wire(3, 5), l.wire(2, 4)
	for round := range 5 {
		name := fmt.Sprint("partition ", round)
		ev, err := f.Apply(context.Background(), name, effects)
		proven(t, name, ev, err)
		if len(ev.Proofs) != 20 {
			t.Errorf("%d proofs, there are 20 links", len(ev.Proofs))
		}
		if !passes(t, inside.from, inside.to, enough) {
			t.Error("n3 does not reach n5")
		}
		if round == 0 && passes(t, across.from, across.to, quiet) {
			t.Error("n2 reaches n4")
		}
		ev, err = f.Revert(context.Background(), name)
		proven(t, "heal", ev, err)
	}
	if !arrives(across.to, enough) {
		t.Error("n2 does not reach n4 after the heal")
	}
	began := time.Now()
	must(t, f.Close(context.Background()))
	t.Logf("closed in %s", time.Since(began))
}
