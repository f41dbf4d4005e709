package workload

import (
	"encoding/json"
	"strings"
	"testing"

	"chaos/history"
)

// call parses an operation as it stands in a history.
func call(t *testing.T, m Model, f, ask, typ, answer string) Call {
	t.Helper()
	c, err := m.Parse(operation(t, f, ask, typ, answer))
	if err != nil {
		t.Fatalf("%s %s → %s %s: %v", f, ask, typ, answer, err)
	}
	return c
}

func operation(t *testing.T, f, ask, typ, answer string) (op history.Operation) {
	t.Helper()
	op.Invoke = history.Event{F: f, Value: json.RawMessage(ask)}
	op.Complete = history.Event{F: f, Value: json.RawMessage(answer)}
	if err := op.Complete.Type.UnmarshalText([]byte(typ)); err != nil {
		t.Fatal(err)
	}
	return op
}

// A case of a model: a call in a state, and the state after it, "" if illegal.
type stepCase struct{ state, f, ask, typ, answer, after string }

func steps(t *testing.T, m Model, cases []stepCase) {
	t.Helper()
	for _, c := range cases {
		s, err := ParseValue([]byte(c.state))
		if err != nil {
			t.Fatal(err)
		}
		before := s.String()
		ok, after := m.Step(s, call(t, m, c.f, c.ask, c.typ, c.answer))
		if s.String() != before {
			t.Errorf("%s: in %s: %s %s changed the state in place", m.Name, c.state, c.f, c.ask)
		}
		if ok != (c.after != "") || ok && after.String() != c.after {
			t.Errorf("%s: in %s: %s %s → %s %s: legal %v, then %s; want %q", m.Name, c.state, c.f, c.ask, c.typ, c.answer, ok, after, c.after)
		}
	}
}

func TestParseRefusesWhatIsIllFormed(t *testing.T) {
	for _, c := range []struct {
		m                   Model
		f, ask, typ, answer string
	}{
		{Register().Model, "cas", "[1,2]", "ok", `{"swapped":true}`},
		{Register().Model, "jump", "1", "ok", "1"},
		{Universal, "read", "3", "ok", "3"},
		{Universal, "read", "null", "ok", `"x"`},
		{Universal, "read", "null", "ok", `[1,]`},
		{Universal, "read", "null", "ok", `[1 2]`},
		{Universal, "read", "null", "ok", `1 2`},
		{Universal, "read", "null", "ok", `nul`},
		{Universal, "read", "null", "ok", `1.5`},
		{Universal, "write", "null", "ok", "1"},
		{Universal, "write", "", "ok", "1"},
		{Universal, "write", "1", "ok", "2"},
		{Universal, "write", "9223372036854775808", "ok", "1"},
		{Universal, "write", "-9223372036854775809", "ok", "1"},
		{Universal, "write", "99999999999999999999999", "ok", "1"},
		{Universal, "write", "01", "ok", "1"},
		{Universal, "write", "-", "info", ""},
		{Universal, "cas", "[1]", "info", ""},
		{Universal, "cas", "[[1],2]", "info", ""},
		{Universal, "cas", "[1,2,3]", "info", ""},
		{Universal, "cas", "[1,null]", "info", ""},
		{Universal, "cas", "[1,2]", "ok", `{"saw":1}`},
		{Universal, "cas", "[1,2]", "ok", `{"swapped":true,"swapped":true}`},
		{Universal, "cas", "[1,2]", "ok", `{"swapped":1}`},
		{Universal, "cas", "[1,2]", "ok", `{"swapped":true`},
		{Universal, "delete", "1", "ok", "null"},
		{Universal, "add", "1", "ok", "[1]"},
		{Universal, "append", "[1]", "ok", "null"},
	} {
		if got, err := c.m.Parse(operation(t, c.f, c.ask, c.typ, c.answer)); err == nil {
			t.Errorf("%s %s → %s %s is taken as %+v", c.f, c.ask, c.typ, c.answer, got)
		}
	}
}

func TestParseReadsWhatOthersWrite(t *testing.T) {
	c := call(t, Universal, "cas", " [ null , -2 ] ", "ok", ` { "saw" : 7 , "swapped" : false } `)
	if c.From.Kind != Absent || c.Arg.Number != -2 || c.Swapped || !c.Known || !c.Revealed || c.Out.Number != 7 {
		t.Errorf("%+v", c)
	}
	if c = call(t, Universal, "cas", "[1,2]", "ok", `{"swapped":false}`); c.Revealed || !c.Known {
		t.Errorf("a failed swap that does not say what it saw: %+v", c)
	}
	for _, typ := range []string{"info", "fail"} {
		if c = call(t, Universal, "add", "3", typ, "rubbish"); c.Known || c.Revealed || c.Arg.Number != 3 {
			t.Errorf("%s: %+v", typ, c)
		}
	}
	for _, text := range []string{"-9223372036854775808", "9223372036854775807", "0", "-1"} {
		if c = call(t, Universal, "write", text, "ok", text); c.Arg.String() != text {
			t.Errorf("%s is read as %s", text, c.Arg)
		}
	}
}

func TestUniversalTakesAll(t *testing.T) {
	steps(t, Universal, []stepCase{
		{"5", "delete", "null", "ok", "null", "absent"},
		{"5", "delete", "null", "info", "", "absent"},
		{"null", "delete", "null", "ok", "", "absent"},
		{"[1]", "write", "2", "ok", "2", "2"},
		{"[1]", "add", "2", "ok", "2", ""},
		{"[1]", "add", "2", "info", "", "[1]"},
		{"1", "append", "2", "ok", "null", ""},
		{"1", "append", "2", "info", "", "1"},
		{"[1]", "cas", "[1,2]", "ok", `{"swapped":true}`, ""},
	})
}

func TestModelFor(t *testing.T) {
	for _, c := range []struct {
		key, fallback, model string
		ok                   bool
	}{
		{"cas/12", "", "cas", true}, {"counter/1", "register", "counter", true}, {"x", "append", "append", true},
		{"x/y", "", "key", false}, {"x", "nonsense", "key", false}, {"x", "mixed", "key", true}, {"", "", "key", false},
	} {
		if m, ok := ModelFor(c.key, c.fallback); m.Name != c.model || ok != c.ok {
			t.Errorf("ModelFor(%q, %q) = %s, %v", c.key, c.fallback, m.Name, ok)
		}
	}
}

func TestValues(t *testing.T) {
	list := func(e ...int64) Value { return Value{Kind: List, List: e} }
	different := []Value{{}, Num(0), Num(1), list(), list(0), list(1, 2), list(2, 1)}
	for i, v := range different {
		for j, w := range different {
			if v.Equal(w) != (i == j) {
				t.Errorf("%s equal to %s: %v", v, w, v.Equal(w))
			}
			if (v.Hash() == w.Hash()) != (i == j) {
				t.Errorf("%s and %s: hashes %x and %x", v, w, v.Hash(), w.Hash())
			}
		}
	}
}

func FuzzParseValue(f *testing.F) {
	for _, s := range []string{"null", "", "-12", "[1, 2,3]", "[]", "9223372036854775808", "[", "- 1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseValue(b)
		if len(strings.TrimSpace(string(b))) == 0 {
			return
		}
		var n *int64
		var list []int64
		number, lists := json.Unmarshal(b, &n) == nil, json.Unmarshal(b, &list) == nil && !strings.Contains(string(b), "null")
		if (err == nil) != (number || lists) {
			t.Fatalf("%q: %s, %v; encoding/json takes it as number %v, as list %v", b, v, err, number, lists)
		}
		if err == nil && number && n != nil && v.Number != *n {
			t.Fatalf("%q: %s, not %d", b, v, *n)
		}
	})
}

// FuzzParse feeds garbage as questions and answers: nothing panics, and what is
// taken as the answer of a swap, encoding/json reads the same way.
func FuzzParse(f *testing.F) {
	f.Add("cas", []byte("[1,2]"), []byte(`{"swapped":false,"saw":3}`))
	f.Add("cas", []byte("[null,2]"), []byte(`{ "saw":null, "swapped":true }`))
	f.Add("add", []byte("1"), []byte("2"))
	f.Add("append", []byte("1"), []byte("null"))
	f.Add("read", []byte(""), []byte("[1,2]"))
	f.Fuzz(func(t *testing.T, fn string, ask, answer []byte) {
		op := history.Operation{Invoke: history.Event{F: fn, Value: ask}, Complete: history.Event{Type: history.Ok, Value: answer}}
		c, err := Universal.Parse(op)
		if err != nil {
			return
		}
		for _, s := range []State{{}, Num(3), {Kind: List, List: []int64{1}}} {
			Universal.Step(s, c)
		}
		if fn != "cas" {
			return
		}
		var reply struct {
			Swapped *bool
			Saw     *int64
		}
		if c.Out.Kind != List && (json.Unmarshal(answer, &reply) != nil || reply.Swapped == nil || *reply.Swapped != c.Swapped) {
			t.Fatalf("%q is taken as %+v", answer, c)
		}
		if reply.Saw != nil && c.Out.Number != *reply.Saw {
			t.Fatalf("%q: saw %s", answer, c.Out)
		}
	})
}
