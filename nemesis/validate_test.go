package nemesis

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestValidateNamesStepAndField(t *testing.T) {
	good := Step{ID: "kill-1", Action: Inject, Fault: "kill"}
	edit := func(f func(*Step)) Schedule {
		s := good
		f(&s)
		return Schedule{s}
	}
	heal := Step{ID: "kill-1", At: 1, Action: Heal}
	for _, c := range []struct {
		name string
		s    Schedule
		want []string
	}{
		{"fine", Schedule{good, heal}, nil},
		{"never healed", Schedule{good}, nil},
		{"waits", edit(func(s *Step) { s.After, s.Within = NewLeader, time.Second }), nil},
		{"unknown fault", edit(func(s *Step) { s.Fault = "kil" }), []string{"step 1", "kill-1", "fault", `mean "kill"`}},
		{"no fault", edit(func(s *Step) { s.Fault = "" }), []string{"fault"}},
		{"args", edit(func(s *Step) { s.Args = Args{"x": "1"} }), []string{"args", `"x"`}},
		{"victims", edit(func(s *Step) { s.Victims = "lead" }), []string{"victims", `mean "leader"`}},
		{"not a member", edit(func(s *Step) { s.Victims = "n7" }), []string{"victims", "n7"}},
		{"action", edit(func(s *Step) { s.Action = "cure" }), []string{"action", "cure"}},
		{"no id", edit(func(s *Step) { s.ID = "" }), []string{"id"}},
		{"odd id", edit(func(s *Step) { s.ID = "../x" }), []string{"id"}},
		{"odd recipe", edit(func(s *Step) { s.Recipe = "a b" }), []string{"recipe"}},
		{"negative", edit(func(s *Step) { s.At = -1 }), []string{"at", "-1ns"}},
		{"too late", edit(func(s *Step) { s.At = AtMax + 1 }), []string{"at"}},
		{"condition", edit(func(s *Step) { s.After, s.Within = "noon", 1 }), []string{"after", "noon"}},
		{"no bound", edit(func(s *Step) { s.After = NewLeader }), []string{"within"}},
		{"bound alone", edit(func(s *Step) { s.Within = 1 }), []string{"within"}},
		{"long wait", edit(func(s *Step) { s.After, s.Within = NewLeader, WithinMax+1 }), []string{"within"}},
		{"order", Schedule{edit(func(s *Step) { s.At = 2 })[0], heal}, []string{"step 2", "at"}},
		{"doubled", Schedule{good, good}, []string{"step 2", "id"}},
		{"used again", Schedule{good, heal, {ID: "kill-1", At: 2, Action: Inject, Fault: "kill"}}, []string{"step 3", "id"}},
		{"heal alone", Schedule{heal}, []string{"step 1", "id", "no step above"}},
		{"healed twice", Schedule{good, heal, heal}, []string{"step 3", "id"}},
		{"heal with fault", Schedule{good, {ID: "kill-1", Action: Heal, Fault: "kill"}}, []string{"step 2", "fault"}},
		{"too many", make(Schedule, StepsMax+1), []string{"10001 steps"}},
	} {
		err := Validate(c.s, five())
		if len(c.want) == 0 && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v; want %q in it", c.name, err, w)
			}
		}
	}
}

// FuzzValidate reads schedules as a plan file holds them: nothing panics, and
// what is accepted can be walked to its end within its own bounds.
func FuzzValidate(f *testing.F) {
	for seed := range uint64(5) {
		b, err := json.Marshal(Draw(rand.New(rand.NewPCG(seed, 0)), everything(20*time.Second)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`[{"id":"a","at":1,"after":"leader","within":5,"action":"inject","fault":"slow","args":{"delay":"1ms"}},{"id":"a","at":2,"action":"heal"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Schedule
		if json.Unmarshal(b, &s) != nil || Validate(s, five()) != nil {
			return
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Schedule
		if err := json.Unmarshal(out, &again); err != nil || Validate(again, five()) != nil {
			t.Fatalf("does not survive its own JSON: %v, %v", err, Validate(again, five()))
		}
		walk(t, s, func(time.Duration) (leader int) { return 0 })
	})
}
