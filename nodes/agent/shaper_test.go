package agent

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"chaos/nodes"
)

func newShaper(seed uint64) *shaper { return &shaper{rand: rand.New(rand.NewPCG(seed, 1))} }

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// feed gives the shaper n packets of so many bytes, one every gap.
func feed(h *shaper, s nodes.LinkState, n, size int, gap time.Duration) (out []fate) {
	for i := range n {
		out = append(out, h.decide(s, noon.Add(time.Duration(i)*gap), size))
	}
	return out
}

func TestShaperChances(t *testing.T) {
	const n = 200_000
	s := nodes.LinkState{Lossy: 100, Duplicated: 25, Reordered: 300, Hold: int64(5 * time.Millisecond)}
	var lost, double, late float64
	for _, f := range feed(newShaper(1), s, n, 100, time.Millisecond) {
		switch {
		case f.lost:
			lost++
			if f.double || f.late || !f.due.IsZero() {
				t.Fatalf("a lost packet has another fate, too: %+v", f)
			}
			continue
		case f.double:
			double++
		}
		if f.late {
			late++
		}
	}
	for _, c := range []struct{ got, want float64 }{{lost / n, 0.1}, {double / (n - lost), 0.025}, {late / (n - lost), 0.3}} {
		if math.Abs(c.got-c.want) > 5*math.Sqrt(c.want*(1-c.want)/n)+1e-9 && math.Abs(c.got-c.want) > 0.003 {
			t.Errorf("drew %.4f of the packets, asked %.4f", c.got, c.want)
		}
	}
	if !slices.Equal(feed(newShaper(7), s, 1000, 100, time.Millisecond), feed(newShaper(7), s, 1000, 100, time.Millisecond)) {
		t.Error("equal seeds draw different fates")
	}
}

// Jitter keeps the order; only what is late is overtaken, and by no more than the hold.
func TestShaperOrder(t *testing.T) {
	s := nodes.LinkState{Delay: int64(10 * time.Millisecond), Jitter: int64(10 * time.Millisecond)}
	last := time.Time{}
	for i, f := range feed(newShaper(2), s, 5000, 100, 100*time.Microsecond) {
		came := noon.Add(time.Duration(i) * 100 * time.Microsecond)
		if f.due.Before(last) || f.due.Before(came) || f.due.Sub(came) > 20*time.Millisecond {
			t.Fatalf("packet %d came at %s and is due at %s, the one before at %s", i, came, f.due, last)
		}
		last = f.due
	}
	s.Reordered, s.Hold = 200, int64(3*time.Millisecond)
	plain, late := time.Time{}, 0
	for i, f := range feed(newShaper(2), s, 5000, 100, 100*time.Microsecond) {
		if f.late {
			late++
			if hold := f.due.Sub(plain); i > 0 && hold < 3*time.Millisecond {
				t.Fatalf("packet %d is held for %s", i, hold)
			}
			continue
		}
		if f.due.Before(plain) {
			t.Fatalf("packet %d overtakes without being late", i)
		}
		plain = f.due
	}
	if late == 0 {
		t.Error("nothing was late")
	}
}

// A limited link sends no faster than asked, no slower while there is something
// to send, and refuses what its queue can't hold.
func TestShaperRate(t *testing.T) {
	const rate, size = 100_000, 1000
	s := nodes.LinkState{Rate: rate}
	h := newShaper(3)
	sent, refused := 0, 0
	var last time.Time
	for _, f := range feed(h, s, 4000, size, time.Millisecond) { // ten times as much as fits
		if f.refused {
			refused++
			continue
		}
		sent++
		if !last.IsZero() && f.due.Sub(last) != 10*time.Millisecond {
			t.Fatalf("%s between two packets of %d bytes at %d a second", f.due.Sub(last), size, rate)
		}
		last = f.due
	}
	if sent < 400 || sent > 421 { // 4 s of sending and a queue of 0.2 s
		t.Errorf("%d packets were sent of which 400 to 421 fit, %d refused", sent, refused)
	}
	if f := h.decide(s, last.Add(time.Second), size); f.refused || f.due != last.Add(time.Second+10*time.Millisecond) {
		t.Errorf("an idle link sends at %s: %+v", last, f)
	}
	if f := newShaper(3).decide(nodes.LinkState{Rate: nodes.RateMin}, noon, 60_000); f.refused {
		t.Error("a link that is free refuses a packet larger than its queue")
	}
}
