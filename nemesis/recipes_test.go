package nemesis

import (
	"strings"
	"testing"
	"time"
)

// build writes one recipe for each of many seeds and shows its steps.
func build(name string, see func(steps []Step, way []string)) {
	for _, rc := range recipes {
		if rc.name != name {
			continue
		}
		for seed := range uint64(100) {
			o := everything(30 * time.Second)
			d := newDrawer(draws(seed, 0), o, 0)
			for _, way := range rc.ways {
				s := &script{d: d}
				rc.write(s, way)
				see(s.steps, way)
			}
		}
	}
}

func TestRecipesUseOnlyWhatTheyNeed(t *testing.T) {
	for _, rc := range recipes {
		build(rc.name, func(steps []Step, way []string) {
			live := map[string]bool{}
			for _, st := range steps {
				if st.Action == Inject && !strings.Contains(strings.Join(way, ","), st.Fault) {
					t.Fatalf("%s uses %s, which is not of %v", rc.name, st.Fault, way)
				}
				live[st.ID] = st.Action == Inject
			}
			for id, l := range live {
				if l {
					t.Fatalf("%s: injection %s is never healed", rc.name, id)
				}
			}
		})
	}
}

func TestStaleReadsIsOneLongWindowOrManyShortOnes(t *testing.T) {
	build("stale-reads", func(steps []Step, way []string) {
		if way[0] == "partition-minority" {
			for i := 0; i < len(steps); i += 2 {
				if w := steps[i+1].At - steps[i].At; w < election || w > 2*election || steps[i].Victims != "leader-minority" || len(steps) < 8 {
					t.Fatalf("%+v for %s of %d steps", steps[i], w, len(steps))
				}
			}
			return
		}
		if w := steps[1].At - steps[0].At; w < 3*election || w > 10*election || steps[0].Victims != "leader" {
			t.Fatalf("%+v for %s", steps[0], w)
		}
	})
}

func TestVotesKillsAllAndThenVotersInAFlurry(t *testing.T) {
	build("votes", func(steps []Step, _ []string) {
		if steps[0].Victims != "all" || steps[1].Action != Heal {
			t.Fatalf("begins with %+v", steps[:2])
		}
		var last time.Duration
		flurry := 0
		for _, st := range steps[2:] {
			if st.Action != Inject || st.Victims == "all" {
				if st.Victims == "all" {
					last = 0
				}
				continue
			}
			if gap := st.At - last; last > 0 && gap > 0 && (gap < beatMin || gap > beatMax+blinkMax) {
				t.Fatalf("%s between two kills", gap)
			}
			last = st.At
			flurry++
		}
		if flurry < 8 {
			t.Fatalf("only %d kills of voters", flurry)
		}
	})
}

func TestValueChoiceRestartsTheBridge(t *testing.T) {
	build("value-choice", func(steps []Step, _ []string) {
		bridge, _ := fire(t, steps[0], five(), 0)
		for _, st := range steps[1:] {
			if st.Action == Inject {
				if down, _ := fire(t, st, five(), 3); down.Victims[0] != bridge.Victims[0] || len(down.Victims) != 1 {
					t.Fatalf("the bridge is %v, and %v is killed", bridge.Victims, down.Victims)
				}
			}
		}
	})
}

func TestAcceptorsHealsTheOldProposerAtOnce(t *testing.T) {
	waits := 0
	build("acceptors", func(steps []Step, _ []string) {
		for i, st := range steps {
			if st.Fault == "kill" {
				back := steps[i+2]
				if back.ID != steps[i-1].ID || back.Action != Heal || back.At-st.At > 2*blinkMax {
					t.Fatalf("after the kill at %s comes %+v", st.At, back)
				}
				if st.After == NewLeader {
					waits++
				}
			}
		}
	})
	if waits == 0 {
		t.Error("no round waits for the successor")
	}
}
