package nemesis

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"chaos/nodes"
)

func five() []nodes.ID { return members(5) }

func members(n int) []nodes.ID {
	var out []nodes.ID
	for i := range n {
		out = append(out, nodes.ID(i+1))
	}
	return out
}

// fire resolves and makes effects of one step, and fails the test on an error.
func fire(t *testing.T, st Step, all []nodes.ID, leader nodes.ID) (Injection, []nodes.Effect) {
	t.Helper()
	i, effects, err := Fire(st, all, leader, nil)
	if err != nil {
		t.Fatalf("%+v: %v", st, err)
	}
	return i, effects
}

func words(effects []nodes.Effect) string {
	var out []string
	for _, e := range effects {
		out = append(out, e.String())
	}
	return strings.Join(out, ", ")
}

func TestEveryFaultIsFoundAndDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range All() {
		g, err := Find(f.Name())
		if err != nil || g.Name() != f.Name() || seen[f.Name()] {
			t.Errorf("%s: found %v, %v; seen before: %v", f.Name(), g, err, seen[f.Name()])
		}
		seen[f.Name()] = true
		if f.About() == "" || len(f.Kinds()) == 0 {
			t.Errorf("%s has no description or needs no effect", f.Name())
		}
	}
	for _, want := range []string{"one", "halves", "minority", "leader", "ring", "bridge", "one-way", "one-way-data", "client"} {
		if !seen["partition-"+want] {
			t.Errorf("there is no shape %s", want)
		}
	}
}

func TestEffectsAreOfTheKindsNamed(t *testing.T) {
	for _, f := range All() {
		for pick := range uint64(50) {
			_, effects := fire(t, Step{ID: "a", Fault: f.Name(), Pick: pick}, five(), 2)
			for _, e := range effects {
				if !slices.Contains(f.Kinds(), e.Kind) {
					t.Fatalf("%s, pick %d: effect %s is not of the kinds %v", f.Name(), pick, e, f.Kinds())
				}
				if e.OnLink() && e.From == e.To {
					t.Fatalf("%s, pick %d: a link from a node to itself: %s", f.Name(), pick, e)
				}
			}
			_, again := fire(t, Step{ID: "a", Fault: f.Name(), Pick: pick}, five(), 2)
			if !slices.Equal(effects, again) || len(effects) == 0 {
				t.Fatalf("%s, pick %d: %s, and the second time %s", f.Name(), pick, words(effects), words(again))
			}
		}
	}
}

func TestWrongNamesNameTheNearest(t *testing.T) {
	for name, want := range map[string]string{"kil": `"kill"`, "partiton": `"partition"`, "partition-rings": `"partition-ring"`, "sloww": `"slow"`} {
		_, err := Find(name)
		if err == nil || !strings.Contains(err.Error(), "did you mean "+want) {
			t.Errorf("Find(%q): %v; it should name %s", name, err, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ list, want, err string }{
		{"kill,pause,partition", "kill pause partition", ""},
		{"kill, kill ,slow", "kill slow", ""},
		{"all", "kill pause partition slow", ""},
		{"none", "", ""},
		{"partition-ring,all", "partition-ring kill pause partition slow", ""},
		{"kill,,slow", "", "a name is missing"},
		{"", "", "a name is missing"},
		{"kill,paws", "", `did you mean "pause"`},
	} {
		fs, err := Parse(c.list)
		var names []string
		for _, f := range fs {
			names = append(names, f.Name())
		}
		if got := strings.Join(names, " "); c.err == "" && (err != nil || got != c.want) {
			t.Errorf("Parse(%q) = %q, %v; want %q", c.list, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("Parse(%q): %v; want %q in it", c.list, err, c.err)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		asked, fault string
		want         bool
	}{
		{"partition", "partition-ring", true}, {"partition", "partition", true}, {"kill", "kill", true},
		{"partition-ring", "partition-one", false}, {"partition-one-way", "partition-one-way-data", false}, {"kill", "pause", false},
	} {
		if Covers(c.asked, c.fault) != c.want {
			t.Errorf("Covers(%q, %q) is not %v", c.asked, c.fault, c.want)
		}
	}
}

func TestUnableSaysWhy(t *testing.T) {
	a := nodes.Abilities{Effects: map[nodes.EffectKind]error{nodes.Down: nil, nodes.Frozen: errors.New("no signals here; run it as root")}}
	if err := Unable(Kill{}, a); err != nil {
		t.Errorf("kill: %v", err)
	}
	if err := Unable(Pause{}, a); err == nil || !strings.Contains(err.Error(), "run it as root") {
		t.Errorf("pause: %v; want the remedy", err)
	}
	if err := Unable(Slow{}, a); err == nil {
		t.Error("slow is able without the effect that it needs")
	}
}
