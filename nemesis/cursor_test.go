package nemesis

import (
	"testing"
	"time"

	"chaos/nodes"
)

type firing struct {
	at   time.Duration
	step Step
}

// walk carries a schedule out in virtual time, asking again when told to.
func walk(t *testing.T, s Schedule, leader func(time.Duration) int) []firing {
	t.Helper()
	c := NewCursor(s)
	var out []firing
	var now time.Duration
	live := map[string]bool{}
	for asked := 0; !c.Done(); asked++ {
		if asked > 4*len(s)+4 {
			t.Fatalf("asked %d times for %d steps", asked, len(s))
		}
		st, wait, ok := c.Next(now, nodes.ID(leader(now)))
		if !ok {
			if wait <= 0 {
				t.Fatalf("nothing is due at %s, and it says to wait %s", now, wait)
			}
			now += wait
			continue
		}
		if st.Action == Heal && !live[st.ID] {
			t.Fatalf("at %s: heal of %s, which is not injected", now, st.ID)
		}
		live[st.ID] = st.Action == Inject
		out = append(out, firing{now, st})
	}
	if len(out) != len(s) {
		t.Fatalf("%d of %d steps fired", len(out), len(s))
	}
	return out
}

func TestCursorFiresInTime(t *testing.T) {
	s := Schedule{
		{ID: "kill-1", At: 10, Action: Inject, Fault: "kill"},
		{ID: "pause-1", At: 10, Action: Inject, Fault: "pause"},
		{ID: "kill-1", At: 20, Action: Heal},
		{ID: "pause-1", At: 30, Action: Heal},
	}
	for i, f := range walk(t, s, func(time.Duration) int { return 0 }) {
		if f.at != s[i].At || f.step.ID != s[i].ID {
			t.Errorf("step %d fired at %d as %s", i+1, f.at, f.step.ID)
		}
	}
	if _, wait, ok := NewCursor(nil).Next(0, 0); ok || wait != 0 || !NewCursor(nil).Done() {
		t.Error("an empty schedule is not done")
	}
}

// A recipe that waits is moved as a whole; what is not part of it is not.
func TestConditionMovesOnlyItsGroup(t *testing.T) {
	s := Schedule{
		{ID: "a", At: 100, Action: Inject, Fault: "partition-leader", Recipe: "r"},
		{ID: "b", At: 200, Action: Inject, Fault: "kill", Recipe: "r", After: NewLeader, Within: 1000},
		{ID: "c", At: 210, Action: Inject, Fault: "pause"},
		{ID: "b", At: 220, Action: Heal, Recipe: "r"},
		{ID: "a", At: 250, Action: Heal, Recipe: "r"},
		{ID: "c", At: 900, Action: Heal},
	}
	for _, c := range []struct {
		name   string
		leader func(time.Duration) int
		b      time.Duration
	}{
		{"seen at 500", func(now time.Duration) int { return 1 + int(now/500) }, 500},
		{"never", func(time.Duration) int { return 1 }, 1200},
		{"at once", func(now time.Duration) int { return 1 + min(1, int(now/150)) }, 200},
	} {
		cur := NewCursor(s)
		at := map[string]time.Duration{}
		for now := time.Duration(0); !cur.Done(); now += 10 {
			for {
				st, _, ok := cur.Next(now, nodes.ID(c.leader(now)))
				if !ok {
					break
				}
				at[string(st.Action)+st.ID] = now
			}
		}
		shift := c.b - 200
		want := map[string]time.Duration{"injecta": 100, "injectb": c.b, "healb": 220 + shift, "heala": 250 + shift, "injectc": 210, "healc": 900}
		for k, v := range want {
			if at[k] != v {
				t.Errorf("%s: %s at %d; want %d", c.name, k, at[k], v)
			}
		}
	}
}

func TestLateInterpreterKeepsTheOrder(t *testing.T) {
	s := Schedule{
		{ID: "a", At: 1, Action: Inject, Fault: "kill", After: AnyLeader, Within: 5},
		{ID: "a", At: 2, Action: Heal},
		{ID: "b", At: 3, Action: Inject, Fault: "kill"},
	}
	c := NewCursor(s)
	now := time.Hour
	for _, want := range []Step{s[0], s[2], s[1]} {
		st, wait, ok := c.Next(now, 0)
		for !ok {
			now += wait
			st, wait, ok = c.Next(now, 0)
		}
		_ = want
		if st.Action == Heal && c.left == 3 {
			t.Fatal("healed before it was injected")
		}
	}
	if !c.Done() {
		t.Error("not done")
	}
}

func TestFinalHealIsOfWhatLives(t *testing.T) {
	got := FinalHeal([]Injection{{ID: "kill-1"}, {ID: "slow-2"}})
	if len(got) != 2 || got[0].ID != "slow-2" || got[1].ID != "kill-1" || got[0].Action != Heal {
		t.Errorf("%+v", got)
	}
}
