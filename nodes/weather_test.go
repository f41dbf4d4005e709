package nodes

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
)

func link(e Effect) Effect { e.From, e.To = 1, 2; return e }

// What holds on a link is a sum in which no order matters, and each injection
// taken away leaves what the others want.
func TestWeatherSums(t *testing.T) {
	injections := map[string][]Effect{
		"a": {link(Effect{Kind: Lossy, PerMille: 100}), link(Effect{Kind: Limited, Rate: 100_000})},
		"b": {link(Effect{Kind: Lossy, PerMille: 950}), link(Effect{Kind: Limited, Rate: 50_000}), link(Effect{Kind: Duplicated, PerMille: 20})},
		"c": {link(Effect{Kind: Reordered, PerMille: 50, Delay: 3 * time.Millisecond}), link(Effect{Kind: Reordered, PerMille: 10, Delay: 9 * time.Millisecond})},
		"d": {link(Effect{Kind: Limited, Rate: 70_000}), link(Effect{Kind: Delayed, Delay: time.Second, Jitter: 5}), link(Effect{Kind: Delayed, Delay: 1})},
	}
	order := []string{"a", "b", "c", "d"}
	want := LinkState{Delay: int64(time.Second) + 1, Jitter: 5, Lossy: 1000, Duplicated: 20, Reordered: 60, Hold: int64(9 * time.Millisecond), Rate: 50_000}
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		var w Wanted
		for _, name := range order {
			w.Add(name, injections[name])
		}
		if got := w.Links()[Link{1, 2}]; got != want {
			t.Fatalf("%v sum up to %+v, not %+v", order, got, want)
		}
		w.Remove("b")
		if got := w.Links()[Link{1, 2}]; got.Lossy != 100 || got.Rate != 70_000 || got.Duplicated != 0 || got.Reordered != 60 {
			t.Fatalf("without b there is left %+v", got)
		}
	}
}

func TestEffectsInWords(t *testing.T) {
	for _, c := range []struct {
		e       Effect
		want    string
		bounded bool
	}{
		{Effect{Kind: Down, Node: 3}, "n3 down", true},
		{link(Effect{Kind: Cut}), "n1→n2 cut", true},
		{Effect{Kind: Delayed, To: 2, Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond}, "clients→n2 delayed 20ms±5ms", true},
		{link(Effect{Kind: Delayed, Delay: -1}), "n1→n2 well", false},
		{link(Effect{Kind: Lossy, PerMille: 25}), "n1→n2 lossy 2.5%", true},
		{Effect{Kind: Lossy, To: 2, PerMille: 25}, "clients→n2 lossy 2.5%", false},
		{Effect{Kind: Limited, From: 2, Rate: 100_000}, "n2→clients limited 100kB/s", false},
		{link(Effect{Kind: Lossy, PerMille: 4}), "n1→n2 lossy 0.4%", false},
		{link(Effect{Kind: Lossy, PerMille: 1001}), "n1→n2 lossy 100%", false},
		{link(Effect{Kind: Duplicated, PerMille: 1000}), "n1→n2 duplicated 100%", true},
		{link(Effect{Kind: Duplicated}), "n1→n2 well", false},
		{link(Effect{Kind: Reordered, PerMille: 100, Delay: 5 * time.Millisecond}), "n1→n2 reordered 10% by 5ms", true},
		{link(Effect{Kind: Reordered, PerMille: 100}), "n1→n2 reordered 10% by 0s", false},
		{link(Effect{Kind: Reordered, PerMille: 100, Delay: time.Second}), "n1→n2 reordered 10% by 1s", false},
		{link(Effect{Kind: Limited, Rate: 100_000}), "n1→n2 limited 100kB/s", true},
		{link(Effect{Kind: Limited, Rate: 2_000_000}), "n1→n2 limited 2MB/s", true},
		{link(Effect{Kind: Limited, Rate: 64_001}), "n1→n2 limited 64001B/s", true},
		{link(Effect{Kind: Limited, Rate: RateMin - 1}), "n1→n2 limited 31999B/s", false},
		{link(Effect{Kind: Limited, Rate: RateMax + 1}), "n1→n2 limited 10000001B/s", false},
	} {
		if got := c.e.String(); got != c.want || c.e.Bounded() != c.bounded {
			t.Errorf("%+v is %q, within bounds %v; want %q, %v", c.e, got, c.e.Bounded(), c.want, c.bounded)
		}
		b, err := json.Marshal(c.e)
		var again Effect
		if err != nil || json.Unmarshal(b, &again) != nil || again != c.e {
			t.Errorf("%s does not survive its own JSON: %s", c.e, b)
		}
	}
	s := LinkState{CutData: true, Reset: true, Lossy: 10, Rate: 1_000_000}
	if got := s.String(); got != "cut-data, reset, lossy 1%, limited 1MB/s" || !s.Weather() || (LinkState{Cut: true, Delay: 1}).Weather() {
		t.Errorf("%+v is %q", s, got)
	}
}
