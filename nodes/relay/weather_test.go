package relay

import (
	"bytes"
	"io"
	"testing"
	"time"

	"chaos/nodes"
)

// flood writes so many bytes and returns how long they take to arrive.
func flood(t *testing.T, from io.Writer, to io.Reader, volume int) time.Duration {
	t.Helper()
	began, wrote := time.Now(), make(chan error, 1)
	go func() {
		_, err := from.Write(bytes.Repeat([]byte{7}, volume))
		wrote <- err
	}()
	if _, err := io.ReadFull(to, make([]byte, volume)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	return took
}

// A limited link takes as long as its bytes do, over all of its connections
// together; the way back and the time after the heal are well.
func TestRate(t *testing.T) {
	n, s, down, up := open(t)
	other := dial(t, n, s)
	otherUp := s.next(t)
	for _, rate := range []int64{100_000, 1_000_000} {
		volume := int(rate / 5)
		set(t, n, map[nodes.Link]nodes.LinkState{there: {Rate: rate}})
		o := probe(t, n, there)
		if least := spent(o.Train.Bytes, rate); !o.Passed || o.Train.Bytes < rate/10 || o.Train.Span < least || o.Train.Load < o.Train.Bytes/2 || o.Train.Load > 2*o.Train.Bytes { // a chunk may be counted a little late
			t.Errorf("%s: the probe: %+v", nodes.Rate(rate), o)
		}
		began, both := time.Now(), make(chan time.Duration, 1)
		go func() { both <- flood(t, other, otherUp, volume) }()
		flood(t, down, up, volume)
		<-both
		took, least := time.Since(began), spent(2*int64(volume), rate)
		t.Logf("asked %s, %d bytes over two connections took %s, the least is %s; %s", nodes.Rate(rate), 2*volume, took, least, o.How)
		if took < least {
			t.Errorf("%d bytes took %s", 2*volume, took)
		}
		if o := probe(t, n, back); !o.Passed || o.Train.Sent != 0 {
			t.Errorf("the way back: %+v", o)
		}
		set(t, n, well)
		o = probe(t, n, there)
		if !o.Passed || o.Was.Rate != rate || o.Train.Span >= spent(o.Train.Bytes, rate) {
			t.Errorf("healed: %+v", o)
		}
		if o = probe(t, n, there); o.Train.Sent != 0 || o.Was != (nodes.LinkState{}) {
			t.Errorf("the limit is not forgotten: %+v", o)
		}
	}
}

// A limited link sends one chunk after the other, a new limit knows nothing of
// the queue of the former, and a delay is drawn anew for each chunk.
func TestDue(t *testing.T) {
	l := &link{id: there, changed: make(chan struct{}), streams: map[*stream]struct{}{}}
	now := time.Now()
	for _, c := range []struct {
		state nodes.LinkState
		want  []time.Duration // of chunks of 1,000 bytes that come at once
	}{
		{nodes.LinkState{Rate: 10_000}, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}},
		{nodes.LinkState{Rate: 20_000}, []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}},
		{nodes.LinkState{Rate: 10_000, Delay: int64(time.Second)}, []time.Duration{1100 * time.Millisecond, 1200 * time.Millisecond}},
		{nodes.LinkState{Delay: int64(time.Second)}, []time.Duration{time.Second, time.Second}},
		{nodes.LinkState{}, []time.Duration{0, 0}},
	} {
		l.set(c.state)
		for i, want := range c.want {
			if got := l.due(now, 1000).Sub(now); got != want {
				t.Errorf("%s: chunk %d is due after %s, want %s", c.state, i, got, want)
			}
		}
	}
	seen := map[time.Duration]bool{}
	l.set(nodes.LinkState{Delay: int64(time.Second), Jitter: int64(time.Second / 2)})
	for range 100 {
		d := l.due(now, 1).Sub(now)
		if d < time.Second/2 || d > time.Second*3/2 {
			t.Errorf("%s is out of the jitter's bounds", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different delays of 100", len(seen))
	}
}

// What a row of probes found before it, and what went with it, is told in bytes.
func TestMeasure(t *testing.T) {
	n, _, _, _ := open(t)
	p := n.prober(there)
	set(t, n, map[nodes.Link]nodes.LinkState{there: {Rate: 10_000}})
	start := time.Now()
	p.began, p.at = start.Add(time.Second), start.Add(3*time.Second)
	var o nodes.Observation
	p.measure(&o, 100, start, 5000, nodes.LinkState{})
	if want := (nodes.Train{Sent: 100, Arrived: 100, Bytes: 100 * probeBytes, Load: 5000, Ahead: 10_000, Span: 3 * time.Second}); o.Train != want {
		t.Errorf("%+v, want %+v", o.Train, want)
	}
}

// What waits for its turn on a limited link is little, so that a heal is soon felt.
func TestRateKeepsLittle(t *testing.T) {
	n, _, down, up := open(t)
	set(t, n, map[nodes.Link]nodes.LinkState{there: {Rate: nodes.RateMin}})
	const volume = 4 << 20 // two minutes at that rate
	wrote := make(chan error, 1)
	go func() {
		_, err := down.Write(make([]byte, volume))
		wrote <- err
	}()
	if _, err := io.ReadFull(up, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	set(t, n, well)
	up.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(up, make([]byte, volume-1)); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

func TestPacketsAreRefused(t *testing.T) {
	n := newNetwork(t)
	for _, s := range []nodes.LinkState{{Lossy: 10}, {Duplicated: 10}, {Reordered: 10, Hold: 1}} {
		if err := n.Set(t.Context(), map[nodes.Link]nodes.LinkState{there: s}); err == nil {
			t.Errorf("%s is not refused", s)
		}
	}
	for kind, why := range Effects() {
		state := map[nodes.EffectKind]nodes.LinkState{
			nodes.Lossy: {Lossy: 10}, nodes.Duplicated: {Duplicated: 10}, nodes.Reordered: {Reordered: 10},
			nodes.Cut: cut, nodes.CutData: {CutData: true}, nodes.Reset: {Reset: true}, nodes.Delayed: {Delay: 1}, nodes.Limited: {Rate: nodes.RateMin},
		}[kind]
		if err := n.Set(t.Context(), map[nodes.Link]nodes.LinkState{there: state}); (err == nil) != (why == nil) || state == (nodes.LinkState{}) {
			t.Errorf("%s: offered %v, set %v", kind, why, err)
		}
	}
	set(t, n, well)
}

// A probe of which nothing is heard proves nothing: neither that a link is well
// nor that it is cut. Only what the copier counted, or a reset, is evidence.
func TestSilenceProvesNothing(t *testing.T) {
	n, _, _, _ := open(t)
	p := n.prober(there)
	if err := p.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	near, far, err := n.couple() // leads past the link, to nobody who reads
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	defer far.Close()
	p.in = near
	if o := probe(t, n, there); o.Passed || o.Dropped > 0 {
		t.Errorf("silence is taken for evidence: %+v", o)
	}
}
