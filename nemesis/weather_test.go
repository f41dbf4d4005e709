package nemesis

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/nodes"
)

func TestWeatherFallsOnTheLinksOfItsVictims(t *testing.T) {
	for _, c := range []struct {
		fault, victims string
		args           Args
		links          int
		first          string
	}{
		{"lossy", "", nil, 20, "n1→n2 lossy 10%"},
		{"lossy", "n2", Args{"percent": "2.5"}, 8, "n1→n2 lossy 2.5%"},
		{"lossy", "n2", Args{"percent": "20%", "direction": "out"}, 4, "n2→n1 lossy 20%"},
		{"lossy", "n2", Args{"direction": "in"}, 4, "n1→n2 lossy 10%"},
		{"duplicate", "n1,n2", Args{"percent": "100"}, 14, "n1→n2 duplicated 100%"},
		{"reorder", "n3", Args{"percent": "7", "hold": "12ms"}, 8, "n1→n3 reordered 7% by 12ms"},
		{"throttle", "", Args{"rate": "1MB/s"}, 20, "n1→n2 limited 1MB/s"},
		{"throttle", "leader", nil, 8, "n1→n4 limited 250kB/s"},
		{"reset", "n5", nil, 8, "n1→n5 reset"},
		{"swizzle", "n5", nil, 8, "n1→n5 cut"},
	} {
		_, effects := fire(t, Step{Fault: c.fault, Victims: c.victims, Args: c.args}, five(), 4)
		if len(effects) != c.links || effects[0].String() != c.first {
			t.Errorf("%s of %q %v: %d links, the first %s; want %d and %s", c.fault, c.victims, c.args, len(effects), effects[0], c.links, c.first)
		}
		for _, e := range effects {
			if !e.Bounded() {
				t.Errorf("%s is out of bounds", e)
			}
		}
	}
}

func TestWeatherRefusesWrongArguments(t *testing.T) {
	for _, c := range []struct {
		fault string
		args  Args
		want  string
	}{
		{"lossy", Args{"percent": "much"}, "percent"}, {"lossy", Args{"percent": "0"}, "between 0.5% and 90%"},
		{"lossy", Args{"percent": "95"}, "between"}, {"lossy", Args{"percent": "1.25"}, "number"}, {"lossy", Args{"percent": ".5"}, "number"},
		{"lossy", Args{"percent": "-1"}, "number"}, {"lossy", Args{"percent": "99999999999999"}, "number"},
		{"lossy", Args{"loss": "1"}, "direction"}, {"lossy", Args{"direction": "up"}, "both"},
		{"duplicate", Args{"percent": "101"}, "between"}, {"reorder", Args{"percent": "60"}, "between"},
		{"reorder", Args{"hold": "1s"}, "hold"}, {"reorder", Args{"hold": "1us"}, "less than 1ms"},
		{"throttle", Args{"rate": "1"}, "between 32kB/s and 10MB/s"}, {"throttle", Args{"rate": "1GB/s"}, "rate"},
		{"throttle", Args{"rate": "fast"}, "250kB/s"}, {"throttle", Args{"rate": "99999999999999999999"}, "rate"},
		{"wan", Args{"profile": "moon"}, "did you mean"}, {"wan", Args{"delay": "1ms"}, "profile"},
		{"swizzle", Args{"x": "1"}, "takes none"}, {"reset", Args{"percent": "1"}, "direction"},
	} {
		_, _, err := Fire(Step{Fault: c.fault, Args: c.args}, five(), 0, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v; want %q in it", c.fault, c.args, err, c.want)
		}
	}
	for _, f := range append(Weather(), Reset{}) {
		if _, _, err := Fire(Step{Fault: f.Name(), Victims: "n1"}, members(1), 0, nil); err == nil {
			t.Errorf("%s of one node is not refused", f.Name())
		}
		if err := Fits(f, 1); err == nil || !strings.Contains(err.Error(), "at least") {
			t.Errorf("%s fits one node: %v", f.Name(), err)
		}
	}
}

func TestRatesAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]int64{"250kB/s": 250_000, "250KB": 250_000, "250000": 250_000, "2 MB/s": 2_000_000, "64000B/s": 64_000} {
		if got, err := (Args{"rate": text}).rate(0); got != want || err != nil {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
}

// Each profile gives every link its delay, and in three regions nodes of one
// region are near one another, those of two are far, the same both ways.
func TestProfiles(t *testing.T) {
	for _, p := range profiles {
		i, effects := fire(t, Step{Fault: "wan", Args: Args{"profile": p.name}, Pick: 3}, five(), 0)
		delays, ways := map[nodes.Link]time.Duration{}, map[nodes.Link]way{}
		for _, e := range effects {
			l := nodes.Link{From: e.From, To: e.To}
			w := ways[l]
			if e.Kind == nodes.Delayed {
				w.delay, w.jitter, delays[l] = e.Delay, e.Jitter, e.Delay
			} else {
				w.perMille = e.PerMille
			}
			ways[l] = w
			if !e.Bounded() || e.Jitter > e.Delay {
				t.Errorf("%s: %s", p.name, e)
			}
		}
		for l, w := range ways {
			if w != p.near && !slices.Contains(p.far, w) {
				t.Errorf("%s: %s is like no way of it: %+v", p.name, l, w)
			}
		}
		if len(delays) != 20 {
			t.Errorf("%s: %d links of 20, %v", p.name, len(delays), i)
		}
		for l, d := range delays {
			if back := delays[nodes.Link{From: l.To, To: l.From}]; back != d {
				t.Errorf("%s: %s there, %s back", p.name, d, back)
			}
		}
		for _, w := range append(slices.Clone(p.far), p.near) {
			if !slices.ContainsFunc(effects, func(e nodes.Effect) bool { return e.Kind == nodes.Delayed && e.Delay == w.delay }) {
				t.Errorf("%s: no link takes %s", p.name, w.delay)
			}
		}
	}
	seen := map[int]bool{}
	for pick := range uint64(100) {
		_, effects := fire(t, Step{Fault: "wan", Pick: pick}, five(), 0)
		seen[len(effects)] = true
	}
	if !seen[20] || !seen[40] || len(seen) < 3 {
		t.Errorf("without an argument not every profile is drawn: %v effects", seen)
	}
}

// A swizzle cuts some of the members one by one, all of them are cut together,
// and it mends them one by one in another order.
func TestSwizzle(t *testing.T) {
	fs, err := Parse("swizzle")
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[int]bool{}
	for seed := range uint64(300) {
		o := Options{Duration: time.Duration(3+seed%30) * time.Second, Faults: fs, Nodes: 3 + int(seed%5), Election: election}
		groups := map[string][2][]string{}
		times := map[string]bool{} // by recipe, action and moment
		phase := map[string]Action{}
		for _, st := range drawn(seed, o) {
			if st.Recipe == "" || st.Action == Inject && phase[st.Recipe] == Heal {
				t.Fatalf("seed %d: %+v", seed, st)
			}
			phase[st.Recipe] = st.Action
			if at := fmt.Sprint(st.Recipe, st.Action, st.At); times[at] {
				t.Fatalf("seed %d: %s does two things at once: %+v", seed, st.Recipe, st)
			} else {
				times[at] = true
			}
			g, n := groups[st.Recipe], 0
			if st.Action == Heal {
				n = 1
			}
			g[n] = append(g[n], st.ID)
			groups[st.Recipe] = g
		}
		if len(groups) == 0 {
			t.Fatalf("seed %d: nothing was drawn", seed)
		}
		for name, g := range groups {
			cut, mended := g[0], g[1]
			sizes[len(cut)] = true
			if len(cut) < 2 || len(cut) >= o.Nodes || slices.Equal(cut, mended) || !slices.Equal(slices.Sorted(slices.Values(cut)), slices.Sorted(slices.Values(mended))) {
				t.Fatalf("seed %d: %s of %d nodes cuts %v and mends %v", seed, name, o.Nodes, cut, mended)
			}
		}
	}
	if len(sizes) < 3 {
		t.Errorf("of 3 to 7 nodes always as many were cut: %v", sizes)
	}
}

func TestWeatherIsAskedForByName(t *testing.T) {
	fs, err := Parse("all,weather")
	if err != nil || len(fs) != 4+len(Weather()) {
		t.Errorf("%d faults, %v", len(fs), err)
	}
	for _, f := range Weather() {
		if plain, _ := Parse("all"); slices.Contains(plain, f) {
			t.Errorf("all holds %s", f.Name())
		}
	}
}

func TestMuchLossParts(t *testing.T) {
	loss := func(perMille int) []nodes.Effect {
		_, effects := fire(t, Step{Fault: "lossy", Victims: "n1,n2,n3", Args: Args{"percent": nodes.Percent(perMille)}}, five(), 0)
		return effects
	}
	if !Quorum(five(), loss(100)) || !Quorum(five(), append(loss(100), loss(100)...)) {
		t.Error("a loss of 10% or 20% parts nodes")
	}
	if Quorum(five(), loss(300)) || Quorum(five(), append(loss(200), loss(100)...)) {
		t.Error("a loss of 30% parts nobody")
	}
}
