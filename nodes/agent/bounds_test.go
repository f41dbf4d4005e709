package agent

import (
	"math/rand/v2"
	"testing"
	"time"

	"chaos/nodes"
)

// A right fault is within its bounds but for one of 100,000 trains; none at all
// is never, and what is far from it hardly ever.
func TestBounds(t *testing.T) {
	for _, c := range []struct{ n, perMille, least, most int }{
		{200, 100, 4, 41}, {200, 500, 69, 131}, {600, 10, 1, 19}, {1200, 5, 1, 19}, {200, 1000, 190, 200}, {200, 900, 159, 196},
	} {
		least, most := bounds(c.n, c.perMille)
		if least != c.least || most != c.most {
			t.Errorf("%d tries at %s: %d to %d, not %d to %d", c.n, nodes.Percent(c.perMille), least, most, c.least, c.most)
		}
		inside := 0.0
		for k := least; k <= most && c.perMille < 1000; k++ {
			inside += binomial(c.n, k, float64(c.perMille)/1000)
		}
		if limit := 1 - 1e-5; c.perMille < 1000 && least > 1 && inside < limit {
			t.Errorf("%d tries at %s: %d to %d holds %.7f of all", c.n, nodes.Percent(c.perMille), least, most, inside)
		}
	}
}

// Every chance of weather is told from none by the train that is sent for it.
func TestTrainsAreLongEnough(t *testing.T) {
	l := nodes.Link{From: 1, To: 2}
	for p := nodes.PerMilleMin; p <= 900; p++ {
		for _, s := range []nodes.LinkState{{Lossy: p}, {Duplicated: p}, {Reordered: p, Hold: int64(5 * time.Millisecond)}, {Lossy: p, Rate: nodes.RateMin}} {
			a := &agentLinks{wanted: map[nodes.Link]nodes.LinkState{l: s}}
			tr := a.train(l)
			if err := tr.check(); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			if none := binomial(tr.Count, 0, float64(p)/1000); none > 1.0/400 {
				t.Fatalf("%s: a train of %d shows nothing in %.4f of all tries", s, tr.Count, none)
			}
		}
	}
}

// The judge accepts what a right fault gives and not what another one gives.
func TestJudgeOfTrains(t *testing.T) {
	l := nodes.Link{From: 1, To: 2}
	lossy, doubled := nodes.LinkState{Lossy: 100}, nodes.LinkState{Duplicated: 200}
	late := nodes.LinkState{Reordered: 100, Hold: int64(5 * time.Millisecond)}
	rate := nodes.LinkState{Rate: 100_000}
	ms := time.Millisecond
	for _, c := range []struct {
		what  string
		state nodes.LinkState
		was   nodes.LinkState
		train nodes.Train
		holds bool
	}{
		{"right", lossy, well, nodes.Train{Sent: 200, Arrived: 181}, true},
		{"no train", lossy, well, nodes.Train{}, false},
		{"no train", rate, well, nodes.Train{}, false},
		{"no loss", lossy, well, nodes.Train{Sent: 200, Arrived: 200}, false},
		{"a fifth of it", lossy, well, nodes.Train{Sent: 200, Arrived: 197}, false},
		{"thrice", lossy, well, nodes.Train{Sent: 200, Arrived: 140}, false},
		{"all lost", lossy, well, nodes.Train{Sent: 200}, false},
		{"everything is to be lost", nodes.LinkState{Lossy: 1000}, well, nodes.Train{Sent: 200}, true},
		{"everything is to be lost", nodes.LinkState{Lossy: 1000}, well, nodes.Train{Sent: 200, Arrived: 1}, false},
		{"gone", well, lossy, nodes.Train{Sent: 200, Arrived: 200}, true},
		{"not gone", well, lossy, nodes.Train{Sent: 200, Arrived: 185}, false},
		{"right", doubled, well, nodes.Train{Sent: 200, Arrived: 200, Doubled: 38}, true},
		{"a busy machine", lossy, well, nodes.Train{Sent: 200, Arrived: 90, Busy: 100}, true},
		{"a busy machine and no loss", lossy, well, nodes.Train{Sent: 200, Arrived: 100, Busy: 100}, false},
		{"a busy machine, doubled", doubled, well, nodes.Train{Sent: 200, Arrived: 150, Doubled: 5, Busy: 50}, true},
		{"none doubled", doubled, well, nodes.Train{Sent: 200, Arrived: 200}, false},
		{"all doubled", doubled, well, nodes.Train{Sent: 200, Arrived: 200, Doubled: 200}, false},
		{"not gone", well, doubled, nodes.Train{Sent: 200, Arrived: 200, Doubled: 30}, false},
		{"right", late, well, nodes.Train{Sent: 200, Arrived: 200, Late: 17}, true},
		{"in order", late, well, nodes.Train{Sent: 200, Arrived: 200}, false},
		{"not gone", well, late, nodes.Train{Sent: 200, Arrived: 200, Late: 17}, false},
		{"right", rate, well, nodes.Train{Sent: 10, Arrived: 10, Bytes: 15_000, Load: 15_000, Span: 151 * ms}, true},
		{"right on a busy machine", rate, well, nodes.Train{Sent: 10, Arrived: 10, Bytes: 15_000, Load: 15_000, Span: 280 * ms}, true},
		{"too fast", rate, well, nodes.Train{Sent: 10, Arrived: 10, Bytes: 15_000, Load: 15_000, Span: 120 * ms}, false},
		{"too slow", rate, well, nodes.Train{Sent: 10, Arrived: 10, Bytes: 15_000, Load: 15_000, Span: 300 * ms}, false},
		{"slow for others' bytes", rate, well, nodes.Train{Sent: 10, Arrived: 10, Bytes: 15_000, Load: 60_000, Ahead: 10_000, Span: 800 * ms}, true},
		{"no room, full", rate, well, nodes.Train{Sent: 10, Arrived: 5, Refused: 5, Bytes: 7_500, Load: 7_500, Ahead: 12_000, Span: 200 * ms}, true},
		{"no room, though not full", rate, well, nodes.Train{Sent: 10, Arrived: 5, Refused: 5, Bytes: 7_500, Load: 7_500, Span: 150 * ms}, false},
		{"gone", well, rate, nodes.Train{Sent: 10, Arrived: 10, Bytes: 15_000, Span: 2 * ms}, true},
		{"not gone", well, rate, nodes.Train{Sent: 10, Arrived: 10, Bytes: 15_000, Span: 151 * ms}, false},
		{"refused is not lost", nodes.LinkState{Lossy: 100, Rate: 100_000}, well,
			nodes.Train{Sent: 200, Arrived: 90, Refused: 100, Bytes: 9_000, Load: 9_000, Ahead: 11_000, Span: 95 * ms}, true},
	} {
		o := nodes.Observation{Link: l, Passed: c.train.Arrived > 0 || c.train.Sent == 0, Dropped: uint64(c.train.Sent - c.train.Arrived), Train: c.train, Was: c.was}
		if p := judge(c.state, o); p.Holds != c.holds {
			t.Errorf("%s: %s of %+v: %+v", c.what, c.state, c.train, p)
		}
	}
}

var well nodes.LinkState

// Trains of a right fault, drawn by chance, are accepted by the judge.
func TestRightFaultsAreProven(t *testing.T) {
	const trains = 100_000
	r := rand.New(rand.NewPCG(5, 5))
	for _, p := range []int{5, 10, 50, 100, 300, 900} {
		a := &agentLinks{wanted: map[nodes.Link]nodes.LinkState{{From: 1, To: 2}: {Lossy: p}}}
		n := a.train(nodes.Link{From: 1, To: 2}).Count
		misses := 0
		tries := trains / n
		for range tries {
			tr := nodes.Train{Sent: n}
			for range n {
				if r.IntN(1000) >= p {
					tr.Arrived++
				}
			}
			if !judge(nodes.LinkState{Lossy: p}, nodes.Observation{Passed: true, Train: tr}).Holds {
				misses++
			}
		}
		if misses > 3 || p > 10 && misses > 0 {
			t.Errorf("%s: %d of %d right trains were not proven", nodes.Percent(p), misses, tries)
		}
	}
}
