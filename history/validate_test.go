package history

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func client(index, process int, t Type, f string) Event {
	return Event{Index: index, Process: process, Type: t, F: f, Key: "k", Node: "n1"}
}

func nemesis(index int, t Type, f string, n Note) Event {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return Event{Index: index, Time: time.Duration(index) * time.Second, Process: Nemesis, Type: t, F: f, Value: b}
}

func TestValidate(t *testing.T) {
	other := client(2, 0, Ok, Read)
	other.Key = "other"
	tests := []struct {
		name   string
		events []Event
		want   string // the rule; "" for a well-formed history
	}{
		{"empty", nil, ""},
		{"starts anywhere, with gaps", []Event{client(7, 0, Invoke, Read), client(12, 0, Ok, Read), client(13, 0, Invoke, Write)}, ""},
		{"two processes", []Event{client(1, 0, Invoke, Read), client(2, 1, Invoke, Write), client(3, 0, Fail, Read), client(4, 1, Info, Write)}, ""},
		{"index twice", []Event{client(1, 0, Invoke, Read), client(1, 0, Ok, Read)}, "event 1: indices ascend, but the event before has index 1"},
		{"index falls", []Event{client(2, 0, Invoke, Read), client(1, 0, Ok, Read)}, "event 1: indices ascend"},
		{"negative index", []Event{client(-1, 0, Invoke, Read)}, "event -1: an index is never negative"},
		{"two open", []Event{client(1, 0, Invoke, Read), client(2, 0, Invoke, Write)}, "event 2: process 0 invokes write while its read of event 1 is open"},
		{"nothing open", []Event{client(1, 0, Ok, Read)}, "event 1: process 0 completes read, but has nothing open"},
		{"other function", []Event{client(1, 0, Invoke, Read), client(2, 0, Ok, Write)}, `event 2: process 0 completes write of "k", but invoked read of "k" at event 1`},
		{"other key", []Event{client(1, 0, Invoke, Read), other}, `event 2: process 0 completes read of "other"`},
		{"retired", []Event{client(1, 3, Invoke, Write), client(2, 3, Info, Write), client(3, 3, Invoke, Read)}, "event 3: process 3 invokes read although it retired at event 2, an info"},
		{"no function", []Event{client(1, 0, Invoke, "")}, "event 1: the function is missing"},
		{"no such type", []Event{client(1, 0, 9, Read)}, "event 1: there is no type 9"},
		{"no such process", []Event{client(1, -2, Invoke, Read)}, "event 1: there is no process -2"},
		{"negative time", []Event{{Index: 1, Time: -1, Type: Invoke, F: Read}}, "event 1: time is never negative"},
		{"a whole window", []Event{nemesis(1, Invoke, Inject, Note{ID: "i"}), nemesis(2, Ok, Inject, Note{ID: "i"}), nemesis(3, Ok, Verify, Note{ID: "i"}),
			nemesis(4, Invoke, Heal, Note{ID: "i"}), nemesis(5, Info, Heal, Note{ID: "i"}), nemesis(6, Invoke, Heal, Note{ID: "i"}), nemesis(7, Ok, Heal, Note{ID: "i"})}, ""},
		{"phases and leaders", []Event{nemesis(1, Info, Phase, Note{Phase: Storm}), nemesis(2, Info, Leader, Note{Leader: "-"}), nemesis(3, Info, Incident, Note{Node: "n1"})}, ""},
		{"heal of nothing", []Event{nemesis(1, Invoke, Heal, Note{ID: "i"})}, "event 1: heal of injection i, which was never commanded"},
		{"injected twice", []Event{nemesis(1, Invoke, Inject, Note{ID: "i"}), nemesis(2, Invoke, Inject, Note{ID: "i"})}, "event 2: injection i was commanded before, at event 1"},
		{"nameless injection", []Event{nemesis(1, Invoke, Inject, Note{})}, "event 1: inject names no injection"},
		{"phase of another type", []Event{nemesis(1, Ok, Phase, Note{})}, "event 1: phase is never of type ok"},
		{"nemesis reads", []Event{nemesis(1, Invoke, Read, Note{})}, `event 1: the nemesis has no function "read"`},
		{"malformed note", []Event{{Index: 1, Process: Nemesis, Type: Info, F: Phase, Value: json.RawMessage(`[]`)}}, "event 1: the note of phase is malformed"},
	}
	for _, tt := range tests {
		err := Validate(History{Events: tt.events})
		var rule *RuleError
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (!errors.As(err, &rule) || !strings.HasPrefix(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestOperations(t *testing.T) {
	h := History{Events: []Event{client(1, 0, Invoke, Write), client(2, 1, Invoke, Read), nemesis(3, Info, Phase, Note{}),
		client(4, 1, Ok, Read), client(5, 1, Invoke, Delete), client(6, 1, Info, Delete)}}
	ops := Operations(h)
	if len(ops) != 3 || ops[0].Complete.Index != -1 || !ops[0].Open() || ops[1].Complete.Index != 4 || ops[1].Open() || ops[2].Complete.Index != 6 || !ops[2].Open() {
		t.Errorf("got %+v", ops)
	}
}

func TestWindows(t *testing.T) {
	n := func(id string) Note {
		return Note{ID: id, Fault: "kill", Victims: []string{"n1"}, Quorum: id == "a"}
	}
	later := n("a")
	later.Quorum, later.Victims, later.How = false, []string{"n1", "n2"}, []string{"probe"}
	h := History{Events: []Event{
		nemesis(1, Invoke, Inject, n("a")), nemesis(2, Ok, Inject, Note{ID: "a"}),
		nemesis(3, Invoke, Inject, n("b")), nemesis(4, Info, Inject, n("b")),
		nemesis(5, Invoke, Inject, n("c")), // never completed
		nemesis(6, Ok, Verify, later), nemesis(7, Invoke, Heal, later), nemesis(8, Ok, Heal, later),
		nemesis(9, Info, Verify, n("b")), nemesis(10, Ok, Verify, n("b")),
		{Index: 20, Time: 20 * time.Second, Process: 1, Type: Invoke, F: Read},
	}}
	a := Window{Note: Note{ID: "a", Fault: "kill", Victims: []string{"n1", "n2"}, How: []string{"probe"}, Quorum: true}, From: 2, To: 7,
		Start: 2 * time.Second, End: 7 * time.Second, Injected: true, Verified: true, Healed: true, Closed: true, HealedAt: 8 * time.Second, HealedIndex: 8}
	b := Window{Note: n("b"), From: 4, To: 21, Start: 4 * time.Second, End: 20 * time.Second, Gap: true}
	if got := Windows(h); !reflect.DeepEqual(got, []Window{a, b}) {
		t.Errorf("got %+v", got)
	}
	if !a.Proven() || b.Proven() || a.Contains(2) || !a.Contains(3) || a.Contains(7) {
		t.Error("a window is proven at both ends and excludes them")
	}
}

func TestMeasure(t *testing.T) {
	at := func(s int, e Event) Event { e.Time = time.Duration(s) * time.Second; return e }
	h := History{Events: []Event{
		at(0, client(0, 0, Invoke, Read)), at(1, client(1, 0, Ok, Read)),
		at(5, client(2, 0, Invoke, Write)), // nothing was tried for four seconds: no outage
		at(6, client(3, 0, Ok, Write)),
		nemesis(4, Info, Leader, Note{Leader: "n1", Term: 1}),
		nemesis(5, Invoke, Inject, Note{ID: "a", Fault: "kill"}), nemesis(6, Ok, Inject, Note{ID: "a", Fault: "kill"}),
		at(7, client(7, 0, Invoke, Write)), at(8, client(8, 0, Fail, Write)),
		nemesis(9, Info, Leader, Note{Leader: "-", Term: 2}), nemesis(10, Info, Leader, Note{Leader: "n2", Term: 2}),
		at(11, client(11, 0, Invoke, Write)), at(12, client(12, 0, Info, Write)),
		nemesis(13, Ok, Verify, Note{ID: "a"}), nemesis(14, Invoke, Heal, Note{ID: "a"}), nemesis(15, Ok, Heal, Note{ID: "a"}),
		at(16, client(16, 1, Invoke, Read)), at(18, client(17, 1, Ok, Read)),
	}}
	want := Figures{
		All:       Outcomes{Ok: 3, Fail: 1, Info: 1},
		Functions: []FunctionFigure{{Read, Outcomes{Ok: 2}}, {Write, Outcomes{Ok: 1, Fail: 1, Info: 1}}},
		Faults:    []FaultFigure{{"kill", 1, 1}},
		Span:      18 * time.Second, Rate: 3.0 / 18, P50: time.Second, P99: 2 * time.Second,
		Unavailable: 11 * time.Second, UnavailableAt: 7 * time.Second,
		Recovery: 3 * time.Second, Recovered: true, LeaderChanges: 1,
	}
	if got := Measure(h); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := Measure(History{}); !reflect.DeepEqual(got, Figures{}) {
		t.Errorf("an empty history: %+v", got)
	}
}
