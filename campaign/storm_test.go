package campaign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/nemesis"
	"chaos/nodes"
)

// stormy makes a storm over a cluster of five in memory.
func stormy(t *testing.T) (*world, *storm, *recorder) {
	t.Helper()
	w := newWorld()
	w.count = 5
	r, _ := record(t)
	t.Cleanup(func() { r.close() })
	return w, newStorm(r, memoryCluster{w}, (&observer{rec: r}).current), r
}

func inject(id, fault, victims string) nemesis.Step {
	return nemesis.Step{ID: id, Action: nemesis.Inject, Fault: fault, Victims: victims, Pick: 5}
}

func heal(id string) nemesis.Step { return nemesis.Step{ID: id, Action: nemesis.Heal} }

// noted lists what was recorded of an injection: "inject ok".
func noted(t *testing.T, r *recorder, id string) (forms []string, notes []history.Note) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := history.Validate(history.History{Events: r.all()}); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.all() {
		n, err := history.DecodeNote(e)
		if err != nil {
			t.Fatal(err)
		}
		if n.ID == id {
			forms, notes = append(forms, e.F+" "+e.Type.String()), append(notes, n)
		}
	}
	return forms, notes
}

var wholeStory = []string{"inject invoke", "inject ok", "verify ok", "heal invoke", "heal ok"}

// A fault is commanded, proven, proven again, healed and proven to be healed,
// and each note says whom it hit.
func TestInjectionIsNoted(t *testing.T) {
	w, s, r := stormy(t)
	s.fire(t.Context(), inject("kill-1", "kill", "n2,n4"))
	if active := *s.active.Load(); !slices.Equal(active, []string{"kill-1"}) || !w.wanted.Node(2).Down || w.wanted.Node(1).Down {
		t.Errorf("active %v, n2 %+v", active, w.wanted.Node(2))
	}
	s.fire(t.Context(), heal("kill-1"))
	forms, notes := noted(t, r, "kill-1")
	if !slices.Equal(forms, wholeStory) {
		t.Errorf("noted %v", forms)
	}
	for i, n := range notes {
		if n.Fault != "kill" || !slices.Equal(n.Victims, []string{"n2", "n4"}) || !n.Required || !n.Quorum || !slices.Equal(n.Kinds, []string{"down"}) {
			t.Errorf("note %d: %+v", i, n)
		}
	}
	if how := notes[1].How; len(how) != 2 || !strings.Contains(how[0], "n2 down: seen") {
		t.Errorf("proven by %q", how)
	}
	if len(*s.active.Load()) > 0 || len(s.trouble) > 0 || w.wanted.Node(2).Down {
		t.Errorf("active %v, trouble %v", *s.active.Load(), s.trouble)
	}
}

// Who is down or frozen already is spared by the next draw: killing a node that
// is dead would be proven, and would have hurt nobody.
func TestDrawsSpareWhoIsHurt(t *testing.T) {
	_, s, r := stormy(t)
	s.fire(t.Context(), inject("kill-1", "kill", "n1,n2"))
	s.fire(t.Context(), inject("pause-1", "pause", "n3"))
	for pick := range uint64(20) {
		id := fmt.Sprintf("kill-%d", pick+2)
		s.fire(t.Context(), nemesis.Step{ID: id, Action: nemesis.Inject, Fault: "kill", Victims: "one", Pick: pick})
		if _, notes := noted(t, r, id); !slices.Contains([]string{"n4", "n5"}, notes[0].Victims[0]) {
			t.Errorf("pick %d: %v is hurt once more", pick, notes[0].Victims)
		}
		s.fire(t.Context(), heal(id))
	}
}

// Whether a majority is left is judged over all that is live.
func TestQuorumCountsAllThatLives(t *testing.T) {
	_, s, r := stormy(t)
	for _, id := range []string{"n1", "n2", "n3"} {
		s.fire(t.Context(), inject("kill-"+id, "kill", id))
	}
	for id, want := range map[string]bool{"kill-n1": true, "kill-n2": true, "kill-n3": false} {
		if _, notes := noted(t, r, id); notes[0].Quorum != want {
			t.Errorf("%s: a majority is left: %v, want %v", id, notes[0].Quorum, want)
		}
	}
}

// Calls that fail become notes without proof, so that their window does not
// count; what could not be healed stays live, and is tried again at the end.
func TestFailedCalls(t *testing.T) {
	broken := errors.New("the agent is gone")
	for _, c := range []struct {
		call  string
		forms []string
		live  bool
	}{
		{"apply", []string{"inject invoke", "inject info", "verify ok", "heal invoke", "heal ok"}, false},
		{"verify", []string{"inject invoke", "inject ok", "verify info", "heal invoke", "heal ok"}, false},
		{"revert", []string{"inject invoke", "inject ok", "verify ok", "heal invoke", "heal info"}, true},
	} {
		w, s, r := stormy(t)
		w.broken[c.call+" kill-1"] = broken
		if c.call == "apply" { // nothing came of it, but nobody can know
			w.wanted.Add("kill-1", []nodes.Effect{{Kind: nodes.Down, Node: 1}})
		}
		s.fire(t.Context(), inject("kill-1", "kill", "n1"))
		s.fire(t.Context(), heal("kill-1"))
		forms, notes := noted(t, r, "kill-1")
		if !slices.Equal(forms, c.forms) {
			t.Errorf("%s fails: noted %v, want %v", c.call, forms, c.forms)
		}
		if len(s.trouble) > 0 {
			t.Errorf("%s fails: trouble %q", c.call, s.trouble)
		}
		told := slices.ContainsFunc(notes, func(n history.Note) bool { return slices.Contains(n.Failures, broken.Error()) })
		if !told || (len(s.live) > 0) != c.live {
			t.Errorf("%s fails: told in a note %v, live after its heal %v", c.call, told, len(s.live) > 0)
		}
		err := s.healAll(t.Context())
		if (err != nil) != c.live {
			t.Errorf("%s fails: at the end %v", c.call, err)
		}
		delete(w.broken, c.call+" kill-1")
		if err := s.healAll(t.Context()); err != nil || len(s.live) > 0 || w.wanted.Node(1).Down {
			t.Errorf("%s works again: %v, live %d", c.call, err, len(s.live))
		}
	}
}

// What it takes to verify a fault is not taken from the time to heal it.
func TestHealHasItsOwnTime(t *testing.T) {
	w, s, _ := stormy(t)
	s.fire(t.Context(), inject("kill-1", "kill", "n1"))
	s.fire(t.Context(), heal("kill-1"))
	if !w.until["revert kill-1"].After(w.until["verify kill-1"]) {
		t.Errorf("verified until %s, healed until %s", w.until["verify kill-1"], w.until["revert kill-1"])
	}
}

// Evidence that does not hold makes a note without proof, and no trouble: it is
// the verdict that suffers.
func TestUnprovenIsNoted(t *testing.T) {
	for at, call := range []string{"apply", "verify", "revert"} {
		w, s, r := stormy(t)
		w.unproven[call+" pause-1"] = true
		s.fire(t.Context(), inject("pause-1", "pause", "n3"))
		s.fire(t.Context(), heal("pause-1"))
		forms, notes := noted(t, r, "pause-1")
		for i, f := range forms {
			unproven := i == []int{1, 2, 4}[at]
			if strings.HasSuffix(f, " info") != unproven || unproven != (len(notes[i].Failures) > 0) {
				t.Errorf("%s unproven: %s with failures %q", call, f, notes[i].Failures)
			}
		}
		if len(s.trouble) > 0 || len(s.live) > 0 {
			t.Errorf("%s unproven: trouble %v, live %d", call, s.trouble, len(s.live))
		}
	}
}

// The final heal takes away what was really injected, the newest first, and
// nothing else: a step that never fired is not healed.
func TestFinalHealIsDerived(t *testing.T) {
	w, s, r := stormy(t)
	var reverted []string
	w.observe = func(call, injection string) {
		if call == "revert" {
			reverted = append(reverted, injection)
		}
	}
	schedule := nemesis.Schedule{inject("kill-1", "kill", "n1"), inject("pause-1", "pause", "n2"), inject("slow-1", "slow", "all"), heal("pause-1"),
		{ID: "kill-2", At: time.Hour, Action: nemesis.Inject, Fault: "kill", Victims: "n3"}}
	ctx, cancel := context.WithCancel(t.Context())
	w.observe = func(call, injection string) {
		if call == "revert" {
			reverted = append(reverted, injection)
			cancel() // the storm ends here; the call under way is finished
		}
	}
	s.run(ctx, schedule)
	if !slices.Equal(reverted, []string{"pause-1"}) {
		t.Fatalf("during the storm %v", reverted)
	}
	if err := s.healAll(t.Context()); err != nil {
		t.Error(err)
	}
	if !slices.Equal(reverted, []string{"pause-1", "slow-1", "kill-1"}) {
		t.Errorf("healed %v", reverted)
	}
	if len(w.wanted.Injections()) > 0 || len(s.trouble) > 0 {
		t.Errorf("left %v, trouble %v", w.wanted.Injections(), s.trouble)
	}
	for _, id := range []string{"kill-1", "pause-1", "slow-1"} {
		if forms, _ := noted(t, r, id); !slices.Equal(forms, wholeStory) {
			t.Errorf("%s: noted %v", id, forms)
		}
	}
}

// One heal that fails does not keep the others from being tried.
func TestFinalHealGoesOn(t *testing.T) {
	w, s, _ := stormy(t)
	for _, id := range []string{"kill-1", "kill-2", "kill-3"} {
		s.fire(t.Context(), inject(id, "kill", "one"))
	}
	w.broken["revert kill-3"], w.broken["revert kill-2"] = errors.New("third"), errors.New("second")
	err := s.healAll(t.Context())
	if err == nil || !strings.Contains(err.Error(), "healing kill-3: third") {
		t.Errorf("the first error is %v", err)
	}
	if left := w.wanted.Injections(); !slices.Equal(left, []string{"kill-2", "kill-3"}) || !slices.Equal(*s.active.Load(), left) {
		t.Errorf("left %v, active %v", left, *s.active.Load())
	}
}

// A heal of what never came to be is trouble, and notes nothing.
func TestHealOfNothing(t *testing.T) {
	_, s, r := stormy(t)
	s.fire(t.Context(), heal("kill-9"))
	if forms, _ := noted(t, r, "kill-9"); len(forms) > 0 || len(s.trouble) != 1 || !strings.Contains(s.trouble[0], "heal kill-9") {
		t.Errorf("noted %v, trouble %v", forms, s.trouble)
	}
}

// Who leads is the freshest claim of the highest term, and a change is noted once.
func TestObserver(t *testing.T) {
	r, _ := record(t)
	defer r.close()
	o := &observer{rec: r, start: time.Now().Add(-time.Minute)}
	claims := func(id nodes.ID, role string, term uint64) {
		var s nodes.Status
		s.ID, s.Role, s.Term = id, role, term
		o.saw(id, s)
	}
	if got := o.current(); got != 0 {
		t.Errorf("nobody was seen, and %s leads", got)
	}
	claims(1, "leader", 3)
	claims(1, "leader", 3)
	claims(2, "follower", 4)
	if got := o.current(); got != 1 {
		t.Errorf("%s leads, not n1", got)
	}
	claims(3, "leader", 4)
	claims(1, "leader", 3) // an old leader that does not know
	if got := o.current(); got != 3 {
		t.Errorf("%s leads, not n3", got)
	}
	o.seen.by[3] = claim{o.seen.by[3].status, o.seen.by[3].at - 2*observedFor}
	if got := o.current(); got != 1 {
		t.Errorf("n3 was not heard of for long, and %s leads", got)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all()) != 2 {
		t.Errorf("%d changes are noted: %+v", len(r.all()), r.all())
	}
}
