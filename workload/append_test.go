package workload

import "testing"

func TestAppendModel(t *testing.T) {
	steps(t, Append().Model, []stepCase{
		{"null", "append", "1", "ok", "null", "[1]"},
		{"[1]", "append", "2", "ok", "2", "[1 2]"},
		{"[1]", "append", "2", "ok", "3", ""},
		{"[1]", "append", "2", "info", "", "[1 2]"},
		{"[1,2]", "read", "null", "ok", "[1,2]", "[1 2]"},
		{"[1,2]", "read", "null", "ok", "[2,1]", ""},
		{"[1,2]", "read", "null", "ok", "[1]", ""},
		{"[1,2]", "read", "null", "ok", "[1,2,2]", ""},
		{"null", "read", "null", "ok", "null", "absent"},
		{"[1]", "read", "null", "ok", "null", ""},
	})
}

// Two appends to one state must not share memory: a search tries both.
func TestAppendsToOneStateDoNotMeet(t *testing.T) {
	m := Append().Model
	s := State{Kind: List, List: make([]int64, 1, 8)}
	_, a := m.Step(s, Call{F: "append", Arg: Num(1)})
	_, b := m.Step(s, Call{F: "append", Arg: Num(2)})
	if a.String() != "[0 1]" || b.String() != "[0 2]" {
		t.Errorf("%s and %s", a, b)
	}
}
