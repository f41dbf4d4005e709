package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"chaos/nodes/consensus"
)

// run applies one command as the machine's next entry, and then spoils the
// entry's bytes: a machine must have copied what it keeps.
func run(m *Machine, c Command) Result {
	data := AppendCommand(nil, c)
	r := m.Apply(consensus.Entry{Index: m.Applied() + 1, Command: consensus.Command{Data: data}})
	for i := range data {
		data[i] = 0xff
	}
	return r
}

func show(r Result) string {
	s := r.Status.String()
	switch r.Value.Kind {
	case Text:
		s += fmt.Sprintf(" %q", r.Value.Text)
	case List:
		s += fmt.Sprintf(" %q", r.Value.List)
	}
	if r.Swapped {
		s += " swapped"
	}
	return s
}

func TestOperations(t *testing.T) {
	b := func(s string) []byte { return []byte(s) }
	tests := []struct {
		c    Command
		want string
	}{
		{Command{Op: Get, Key: "k"}, "done"},
		{Command{Op: Delete, Key: "k"}, "done"},
		{Command{Op: CAS, Key: "k", Old: b("1"), Value: b("2")}, "done"},
		{Command{Op: CAS, Key: "k", Old: b(""), Value: b("2")}, "done"},
		{Command{Op: CAS, Key: "k", OldAbsent: true, Value: b("1")}, "done swapped"},
		{Command{Op: CAS, Key: "k", OldAbsent: true, Value: b("2")}, `done "1"`},
		{Command{Op: CAS, Key: "k", Old: b("3"), Value: b("2")}, `done "1"`},
		{Command{Op: CAS, Key: "k", Old: b("1"), Value: b("2")}, `done "1" swapped`},
		{Command{Op: CAS, Key: "k", Old: b("21"), Value: b("3")}, `done "2"`},
		{Command{Op: CAS, Key: "k", Old: b(""), Value: b("3")}, `done "2"`},
		{Command{Op: Get, Key: "k"}, `done "2"`},
		{Command{Op: Add, Key: "k", Delta: 5}, `done "7"`},
		{Command{Op: Add, Key: "k", Delta: -9}, `done "-2"`},
		{Command{Op: Append, Key: "k", Value: b("x")}, "wrong type"},
		{Command{Op: Put, Key: "k", Value: nil}, "done"},
		{Command{Op: Get, Key: "k"}, `done ""`},
		{Command{Op: Add, Key: "k", Delta: 1}, "wrong type"},
		{Command{Op: Put, Key: "k", Value: b("9223372036854775807")}, "done"},
		{Command{Op: Add, Key: "k", Delta: 1}, "wrong type"},
		{Command{Op: Add, Key: "k", Delta: 0}, `done "9223372036854775807"`},
		{Command{Op: Put, Key: "k", Value: b("-9223372036854775808")}, "done"},
		{Command{Op: Add, Key: "k", Delta: -1}, "wrong type"},
		{Command{Op: Delete, Key: "k"}, "done"},
		{Command{Op: Add, Key: "k", Delta: 4}, `done "4"`},
		{Command{Op: Append, Key: "l", Value: b("x")}, `done "1"`},
		{Command{Op: Append, Key: "l", Value: b("")}, `done "2"`},
		{Command{Op: Get, Key: "l"}, `done ["x" ""]`},
		{Command{Op: Add, Key: "l", Delta: 4}, "wrong type"},
		{Command{Op: CAS, Key: "l", Old: b("x"), Value: b("y")}, "wrong type"},
		{Command{Op: Get, Key: "l"}, `done ["x" ""]`},
		{Command{Op: Put, Key: "l", Value: b("y")}, "done"},
		{Command{Op: Get, Key: "l"}, `done "y"`},
	}
	m := NewMachine()
	for i, test := range tests {
		test.c.Session, test.c.Sequence = 7, uint64(i+1)
		r := run(m, test.c)
		if got := show(r); got != test.want || r.Index != uint64(i+1) {
			t.Errorf("step %d, %s %s: %s at %d, want %s", i+1, test.c.Op, test.c.Key, got, r.Index, test.want)
		}
		if local := m.Get(test.c.Key); test.c.Op == Get && show(local) != test.want {
			t.Errorf("step %d: a local read gives %s, want %s", i+1, show(local), test.want)
		}
	}
}

func TestResultsNeverChange(t *testing.T) {
	m := NewMachine()
	run(m, Command{Session: 1, Sequence: 1, Op: Append, Key: "l", Value: []byte("a")})
	list := m.Get("l")
	run(m, Command{Session: 1, Sequence: 2, Op: Put, Key: "t", Value: []byte("old")})
	text := m.Get("t")
	for i := range uint64(50) {
		run(m, Command{Session: 1, Sequence: 3 + i, Op: Append, Key: "l", Value: []byte("b")})
	}
	run(m, Command{Session: 1, Sequence: 100, Op: Put, Key: "t", Value: []byte("new")})
	if show(list) != `done ["a"]` || show(text) != `done "old"` {
		t.Errorf("results changed after they were given: %s, %s", show(list), show(text))
	}
}

func TestListMax(t *testing.T) {
	m, element := NewMachine(), bytes.Repeat([]byte("x"), ValueMax)
	for i := range uint64(20) {
		c := Command{Session: 1, Sequence: i + 1, Op: Append, Key: "l", Value: element}
		r := run(m, c)
		size := len(AppendResult(nil, m.Get("l")))
		if size > ListMax+32 {
			t.Fatalf("after %d appends the list takes %d bytes of a reply", i+1, size)
		}
		if r.Status == TooLong {
			if i != 7 {
				t.Errorf("refused after %d elements of %d bytes; ListMax is %d", i, ValueMax, ListMax)
			}
			return
		}
	}
	t.Error("a list grew without bound")
}

func TestNoopChangesOnlyThePosition(t *testing.T) {
	m := NewMachine()
	run(m, Command{Session: 1, Sequence: 1, Op: Put, Key: "k", Value: []byte("v")})
	before := m.Hash()
	put := AppendCommand(nil, Command{Session: 1, Sequence: 2, Op: Put, Key: "k", Value: []byte("w")})
	for i, kind := range []consensus.Kind{consensus.Noop, consensus.Configure} {
		r := m.Apply(consensus.Entry{Index: uint64(2 + i), Kind: kind, Command: consensus.Command{Data: put}})
		if show(r) != "done" || show(m.Get("k")) != `done "v"` {
			t.Errorf("kind %d: %s, then k is %s", kind, show(r), show(m.Get("k")))
		}
	}
	if m.Applied() != 3 || m.Hash() == before {
		t.Errorf("applied %d, hash %x after %x", m.Applied(), m.Hash(), before)
	}
}

func TestGapPanics(t *testing.T) {
	for _, index := range []uint64{0, 2} {
		func() {
			defer func() {
				if s := fmt.Sprint(recover()); !strings.Contains(s, fmt.Sprintf("entry %d after entry 0", index)) {
					t.Errorf("entry %d first: %s", index, s)
				}
			}()
			NewMachine().Apply(consensus.Entry{Index: index})
		}()
	}
}

func TestBadCommandsDoNothing(t *testing.T) {
	good := Command{Session: 1, Sequence: 1, Op: Put, Key: "k", Value: []byte("v")}
	encoded := AppendCommand(nil, good)
	session0, sequence0 := good, good
	session0.Session, sequence0.Sequence = 0, 0
	m := NewMachine()
	for i, data := range [][]byte{nil, {}, {1}, {9, 1, 0}, encoded[:len(encoded)-1], append(slices.Clone(encoded), 0),
		AppendCommand(nil, session0), AppendCommand(nil, sequence0)} {
		r := m.Apply(consensus.Entry{Index: m.Applied() + 1, Command: consensus.Command{Data: data}})
		if r.Status != BadCommand || len(m.data) != 0 || len(m.sessions.at) != 0 {
			t.Errorf("case %d: %s, %d keys, %d sessions", i, show(r), len(m.data), len(m.sessions.at))
		}
	}
}

// naive is what the machine should be, written as plainly as possible.
type naive struct {
	texts  map[string]string
	lists  map[string][]string
	last   map[uint64]uint64
	answer map[uint64]string
	reads  map[uint64]bool
}

func (n *naive) apply(c Command) string {
	last := n.last[c.Session]
	switch {
	case last == 0 && c.Sequence > 1:
		return "unknown session"
	case c.Sequence < last:
		return "stale sequence"
	case c.Sequence == last && n.reads[c.Session] != (c.Op == Get):
		return "bad command"
	case c.Sequence == last && c.Op != Get:
		return n.answer[c.Session]
	}
	r := n.execute(c)
	n.last[c.Session], n.answer[c.Session], n.reads[c.Session] = c.Sequence, r, c.Op == Get
	return r
}

func (n *naive) execute(c Command) string {
	text, isText := n.texts[c.Key]
	list, isList := n.lists[c.Key]
	quoted := "done"
	if isText {
		quoted += fmt.Sprintf(" %q", text)
	}
	switch c.Op {
	case Get:
		if isList {
			return fmt.Sprintf("done %q", list)
		}
		return quoted
	case Put:
		delete(n.lists, c.Key)
		n.texts[c.Key] = string(c.Value)
		return "done"
	case Delete:
		delete(n.lists, c.Key)
		delete(n.texts, c.Key)
		return "done"
	case CAS:
		if isList {
			return "wrong type"
		}
		if c.OldAbsent == isText || (isText && text != string(c.Old)) {
			return quoted
		}
		n.texts[c.Key] = string(c.Value)
		return quoted + " swapped"
	case Add:
		old, err := strconv.Atoi(text)
		if isList || (isText && err != nil) {
			return "wrong type"
		}
		n.texts[c.Key] = strconv.Itoa(old + int(c.Delta))
		return fmt.Sprintf("done %q", n.texts[c.Key])
	}
	if isText {
		return "wrong type"
	}
	n.lists[c.Key] = append(list, string(c.Value))
	return fmt.Sprintf("done \"%d\"", len(list)+1)
}

// draw makes a command of few keys, sessions and values, often a repeated one.
func draw(r *rand.Rand) Command {
	c := Command{Session: 1 + r.Uint64N(4), Sequence: 1 + r.Uint64N(12), Op: Op(r.IntN(6))}
	c.Key = string('a' + rune(r.IntN(4)))
	value := strconv.AppendInt(nil, int64(r.IntN(4)), 10)
	switch c.Op {
	case Put, Append:
		c.Value = value
	case CAS:
		c.Value, c.Old = value, []byte("1")
		if c.OldAbsent = r.IntN(3) == 0; c.OldAbsent {
			c.Old = nil
		}
	case Add:
		c.Delta = int64(r.IntN(9)) - 4
	}
	return c
}

func TestMachineAgreesWithNaive(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := NewMachine()
		n := &naive{map[string]string{}, map[string][]string{}, map[uint64]uint64{}, map[uint64]string{}, map[uint64]bool{}}
		for range 150 {
			c := draw(r)
			if got, want := show(run(m, c)), n.apply(c); got != want {
				t.Fatalf("seed %d, entry %d, %+v: %s, want %s", seed, m.Applied(), c, got, want)
			}
		}
	}
}

// A machine that was restored half way is the same machine: equal answers,
// equal hash, equal bytes. It was given bytes that are then spoiled.
func TestSnapshotRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		a, b := NewMachine(), NewMachine()
		for range r.IntN(200) {
			run(a, draw(r))
		}
		snapshot := a.Snapshot()
		if err := b.Restore(snapshot); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		clear(snapshot)
		for range 100 {
			c := draw(r)
			if x, y := run(a, c), run(b, c); show(x) != show(y) || x.Index != y.Index {
				t.Fatalf("seed %d, entry %d: %s, restored %s", seed, a.Applied(), show(x), show(y))
			}
		}
		if a.HashString() != b.HashString() || !bytes.Equal(a.Snapshot(), b.Snapshot()) {
			t.Fatalf("seed %d: machines differ after a restore", seed)
		}
	}
}

func TestDamagedSnapshotsChangeNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	m := NewMachine()
	for range 200 {
		run(m, draw(r))
	}
	whole := m.Snapshot()
	for n := range whole {
		target := NewMachine()
		run(target, Command{Session: 9, Sequence: 1, Op: Put, Key: "k", Value: []byte("v")})
		before := target.Snapshot()
		if target.Restore(whole[:n]) == nil {
			t.Fatalf("the first %d of %d bytes passed as a snapshot", n, len(whole))
		}
		if !bytes.Equal(before, target.Snapshot()) {
			t.Fatalf("a snapshot cut at %d changed the machine", n)
		}
	}
	if NewMachine().Restore(append(whole, 0)) == nil {
		t.Error("a byte too many passed as a snapshot")
	}
}

// How long a list may still grow is state as well: else a node that was restored
// would accept what its peers refuse.
func TestListMaxAfterRestore(t *testing.T) {
	a, b := NewMachine(), NewMachine()
	element := bytes.Repeat([]byte("x"), ValueMax)
	c := Command{Session: 1, Op: Append, Key: "l", Value: element}
	for c.Sequence = 1; c.Sequence <= 4; c.Sequence++ {
		run(a, c)
	}
	if err := b.Restore(a.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for ; c.Sequence <= 10; c.Sequence++ {
		if x, y := run(a, c), run(b, c); x.Status != y.Status {
			t.Fatalf("append %d: %s, restored %s", c.Sequence, x.Status, y.Status)
		}
	}
}

// A snapshot names each key once, in order, so that equal machines have equal bytes.
func TestSnapshotOrder(t *testing.T) {
	m := NewMachine()
	for i, key := range []string{"a", "b"} {
		run(m, Command{Session: 1, Sequence: uint64(i + 1), Op: Put, Key: key})
	}
	whole := m.Snapshot()
	for _, second := range []string{"a", "0"} {
		other := bytes.Replace(whole, []byte("\x01b\x01"), []byte("\x01"+second+"\x01"), 1)
		if bytes.Equal(whole, other) || NewMachine().Restore(other) == nil {
			t.Errorf("key %s after key a passed", second)
		}
	}
}

func TestHashChain(t *testing.T) {
	entry := func(i uint64, kind consensus.Kind, data string) consensus.Entry {
		return consensus.Entry{Index: i, Kind: kind, Command: consensus.Command{Data: []byte(data)}}
	}
	logs := map[string][]consensus.Entry{
		"base":     {entry(1, 0, "12345678"), entry(2, 0, "b")},
		"swapped":  {entry(1, 0, "b"), entry(2, 0, "12345678")},
		"noop":     {entry(1, 0, "12345678"), entry(2, 1, "b")},
		"shorter":  {entry(1, 0, "12345678")},
		"longer":   {entry(1, 0, "12345678"), entry(2, 0, "b"), entry(3, 1, "")},
		"zeros":    {entry(1, 0, "12345678"), entry(2, 0, "b\x00")},
		"one bit":  {entry(1, 0, "12345679"), entry(2, 0, "b")},
		"grouping": {entry(1, 0, "12345678b"), entry(2, 0, "")},
	}
	seen := map[string]string{}
	for name, log := range logs {
		a, b := NewMachine(), NewMachine()
		for _, e := range log {
			a.Apply(e)
			e.Term, e.Command.Origin, e.Command.Serial = 9, 9, 9
			b.Apply(e)
		}
		if a.Hash() != b.Hash() {
			t.Errorf("%s: the same commands hash differently", name)
		}
		if other, twice := seen[a.HashString()]; twice {
			t.Errorf("%s and %s have the same hash %s", name, other, a.HashString())
		}
		seen[a.HashString()] = name
	}
}

func BenchmarkApply(b *testing.B) {
	for _, op := range []Op{Put, CAS, Add, Get} {
		b.Run(op.String(), func(b *testing.B) {
			m := NewMachine()
			c := Command{Session: 1, Op: op, Value: []byte("123456"), Old: []byte("7")}
			keys := make([]string, 64)
			for i := range keys {
				keys[i] = fmt.Sprintf("01234567/register/%d", i)
			}
			var data []byte
			b.ReportAllocs()
			for b.Loop() {
				c.Sequence++
				c.Session, c.Key = 1+c.Sequence%256, keys[c.Sequence%64]
				data = AppendCommand(data[:0], Command{Session: c.Session, Sequence: 1 + c.Sequence/256, Op: op, Key: c.Key, Value: c.Value, Old: c.Old})
				m.Apply(consensus.Entry{Index: m.Applied() + 1, Command: consensus.Command{Data: data}})
			}
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	m := NewMachine()
	for i := range uint64(100_000) {
		run(m, Command{Session: 1 + i%1000, Sequence: 1 + i/1000, Op: Put, Key: fmt.Sprintf("key/%d", i), Value: []byte("value")})
	}
	for b.Loop() {
		b.SetBytes(int64(len(m.Snapshot())))
	}
}
