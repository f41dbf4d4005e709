package workload

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
)

// A world answers operations without a cluster.
type world func(n int) history.Type

func perfect(int) history.Type { return history.Ok }
func allInfo(int) history.Type { return history.Info }
func allFail(int) history.Type { return history.Fail }
func alternating(n int) history.Type {
	return []history.Type{history.Ok, history.Info, history.Fail}[n%3]
}

// A fake runs workers against a world in virtual time: each operation takes a
// drawn time, and keys hold what the universal model says.
type fake struct {
	t       *testing.T
	g       Generator
	model   Workload
	o       Options
	r       *rand.Rand
	answer  world
	latency time.Duration
	now     time.Duration
	process []int
	ends    []time.Duration // of the operation under way, or of the wait
	ops     []*Op           // under way, by worker
	states  map[string]State
	all     []Op
	workers []int // of all
	times   []time.Duration
	count   map[string]int // by function
	swapped int
	writes  map[string]int // by key
	values  map[string]bool
	busyMax int // workers at one key at once
	waits   int
	see     func(worker int, op Op)
}

func newWorld(t *testing.T, w Workload, o Options, seed uint64, answer world) *fake {
	t.Helper()
	f := &fake{t: t, model: w, o: o.withDefaults(), r: rand.New(rand.NewPCG(seed, 99)), answer: answer, latency: time.Millisecond,
		states: map[string]State{}, count: map[string]int{}, writes: map[string]int{}, values: map[string]bool{}}
	f.g = w.New(o, rand.New(rand.NewPCG(seed, 1)))
	for i := range f.o.Workers {
		f.process = append(f.process, i)
		f.ends = append(f.ends, 0)
		f.ops = append(f.ops, nil)
	}
	return f
}

// run lets so many operations be invoked, always at the worker that is next.
func (f *fake) run(count int) {
	f.t.Helper()
	for len(f.all) < count {
		if f.waits > 20*count {
			f.t.Fatalf("%d waits for %d operations", f.waits, len(f.all))
		}
		f.one()
	}
}

// until runs up to a time.
func (f *fake) until(end time.Duration) {
	for slices.Min(f.ends) < end {
		f.one()
	}
	f.now = end
}

func (f *fake) one() {
	i := slices.Index(f.ends, slices.Min(f.ends))
	f.now = f.ends[i]
	if op := f.ops[i]; op != nil {
		f.ops[i] = nil
		f.complete(i, *op)
	}
	op, wait, ok := f.g.Next(f.now, i, f.process[i])
	if !ok {
		f.t.Fatal("the load has nothing left to do")
	}
	if wait > 0 {
		f.waits++
		f.ends[i] = f.now + wait
		return
	}
	f.check(i, op)
	f.g.Observe(history.Event{Time: f.now, Process: f.process[i], Type: history.Invoke, F: op.F, Key: op.Key, Value: op.Value})
	f.ops[i] = &op
	f.ends[i] = f.now + 1 + time.Duration(f.r.Int64N(int64(2*f.latency)))
	f.all, f.workers, f.times = append(f.all, op), append(f.workers, i), append(f.times, f.now)
}

// check looks at what holds for every operation of every workload.
func (f *fake) check(worker int, op Op) {
	f.count[op.F]++
	if op.Node < 0 || op.Node >= f.o.Nodes || op.Timeout <= 0 || op.Key == "" {
		f.t.Fatalf("%+v", op)
	}
	if op.F != history.Read {
		f.writes[op.Key]++
		f.unique(op)
	}
	busy := 1
	for _, other := range f.ops {
		if other != nil && other.Key == op.Key {
			busy++
		}
	}
	f.busyMax = max(f.busyMax, busy)
	if f.see != nil {
		f.see(worker, op)
	}
}

// unique wants every value to be a new one, but for deltas, and for a swap that
// must not happen.
func (f *fake) unique(op Op) {
	value, old := string(op.Value), op.F == history.Add || op.F == history.Delete
	if op.F == history.CAS {
		var from string
		from, value, _ = strings.Cut(strings.Trim(value, "[]"), ",")
		old = from == value+"1" || len(value) > 1 && from == value[:len(value)-1]
	}
	if f.values[value] && !old {
		f.t.Fatalf("value %s is written twice, the second time to %s", value, op.Key)
	}
	f.values[value] = f.values[value] || op.F != history.Add // deltas need not differ
}

// complete answers by the model; what is unknown happens half of the time.
func (f *fake) complete(worker int, op Op) {
	e := history.Event{Time: f.now, Process: f.process[worker], Type: f.answer(len(f.all)), F: op.F, Key: op.Key}
	if e.Type == history.Ok || e.Type == history.Info && f.r.IntN(2) == 0 {
		value := f.apply(op)
		if e.Type == history.Ok {
			e.Value = value
		}
	}
	if m, ok := ModelFor(op.Key, ""); !ok {
		f.t.Fatalf("key %s has no model", op.Key)
	} else if _, err := m.Parse(history.Operation{Invoke: history.Event{F: op.F, Value: op.Value}, Complete: e}); err != nil {
		f.t.Fatalf("%s: %v", op.Key, err)
	}
	f.g.Observe(e)
	if e.Type == history.Info {
		f.process[worker] += f.o.Workers
	}
}

func (f *fake) apply(op Op) json.RawMessage {
	c, err := Universal.Parse(history.Operation{Invoke: history.Event{F: op.F, Value: op.Value}, Complete: history.Event{Type: history.Info}})
	if err != nil {
		f.t.Fatal(err)
	}
	before := f.states[op.Key]
	_, after := Universal.Step(before, c)
	f.states[op.Key] = after
	switch op.F {
	case history.Read:
		return encode(before)
	case history.CAS:
		swapped := before.Equal(c.From)
		if swapped {
			f.swapped++
		}
		return json.RawMessage(fmt.Sprintf(`{"swapped":%v,"saw":%s}`, swapped, encode(before)))
	case history.Add:
		return encode(after)
	case history.Append:
		return encode(Num(int64(len(after.List))))
	}
	return encode(c.Arg)
}

func encode(v Value) json.RawMessage {
	var b []byte
	switch v.Kind {
	case Absent:
		b = null
	case Number:
		b, _ = json.Marshal(v.Number)
	default:
		b, _ = json.Marshal(v.List)
	}
	return b
}

func worlds() map[string]world {
	return map[string]world{"perfect": perfect, "all info": allInfo, "all fail": allFail, "alternating": alternating}
}

func TestEveryWorkloadInEveryWorld(t *testing.T) {
	for _, w := range All() {
		for name, answer := range worlds() {
			for _, o := range []Options{{Workers: 24, Nodes: 5}, {Workers: 1, Nodes: 1}, {Workers: 7, Nodes: 3, Modes: []string{"log", "index"}}} {
				f := newWorld(t, w, o, 5, answer)
				f.run(5000)
				if f.count[history.Read] < 500 || len(f.writes) == 0 {
					t.Errorf("%s, %s, %d workers: %v", w.Name, name, o.Workers, f.count)
				}
			}
		}
	}
}

func TestEqualSeedsAndCallsGiveEqualOperations(t *testing.T) {
	for _, w := range All() {
		var runs [2]string
		for i := range runs {
			f := newWorld(t, w, Options{Workers: 24, Nodes: 5, Modes: []string{"log", "index"}}, 8, alternating)
			f.run(3000)
			runs[i] = fmt.Sprintf("%+v", f.all)
		}
		if runs[0] != runs[1] {
			t.Errorf("%s: two runs of seed 8 differ", w.Name)
		}
	}
}

func TestGroupsAreSmallAndSpread(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		f := newWorld(t, Register(), Options{Workers: 24, Nodes: nodes}, 2, perfect)
		readers := map[int]map[int]bool{} // by node
		home := map[int]int{}
		f.see = func(worker int, op Op) {
			if n, ok := home[worker]; ok && n != op.Node {
				t.Fatalf("worker %d went from node %d to %d", worker, n, op.Node)
			}
			home[worker] = op.Node
			if op.F == history.Read {
				if readers[op.Node] == nil {
					readers[op.Node] = map[int]bool{}
				}
				readers[op.Node][worker] = true
			}
		}
		f.run(20_000)
		if f.busyMax > 6 {
			t.Errorf("%d workers at one key at once", f.busyMax)
		}
		for n := range nodes {
			if want := map[int]int{3: 4, 5: 3}[nodes]; len(readers[n]) < want {
				t.Errorf("%d nodes: node %d has %d readers, not %d", nodes, n, len(readers[n]), want)
			}
		}
		apartFrom(t, f.g.(*load))
	}
}

// apartFrom fails if a reader and a writer of one group are at one node.
func apartFrom(t *testing.T, l *load) {
	t.Helper()
	for i, a := range l.workers {
		for j, b := range l.workers {
			if a.group == b.group && a.role == reader && b.role == writer && a.node == b.node {
				t.Errorf("%d nodes: worker %d reads and %d writes at node %d", l.o.Nodes, i, j, a.node)
			}
		}
	}
}

func TestMixIsKept(t *testing.T) {
	f := newWorld(t, CAS(), Options{Workers: 24, Nodes: 3, Mix: map[string]int{"read": 1, "write": 3}}, 2, perfect)
	f.run(10_000)
	if f.count[history.CAS] > 0 || f.count[history.Read] < 2000 || f.count[history.Read] > 3500 {
		t.Errorf("one read to three writes became %v", f.count)
	}
	f = newWorld(t, Mixed(), Options{Workers: 8, Nodes: 3, Mix: map[string]int{"read": 1}}, 2, perfect)
	f.run(1000)
	if f.count[history.Read] != 1000 {
		t.Errorf("reads only became %v", f.count)
	}
}

func TestSends(t *testing.T) {
	o := Options{Workers: 24, Nodes: 5, Pause: 2 * time.Second, Election: 400 * time.Millisecond, Modes: []string{"log", "index"}}
	f := newWorld(t, Register(), o, 4, perfect)
	doubles, late, retries, writes, modes := 0, 0, 0, 0, map[string]int{}
	f.see = func(_ int, op Op) {
		if op.F == history.Read {
			if op.Timeout < 100*time.Millisecond || op.Timeout > 300*time.Millisecond || op.Retries != nil {
				t.Fatalf("read: %+v", op)
			}
			modes[op.Mode]++
			return
		}
		writes++
		if op.Timeout <= o.Pause+o.Election || op.Mode != "" {
			t.Fatalf("write: %+v", op)
		}
		before := op.Node
		for _, r := range op.Retries {
			switch {
			case r.Always:
				doubles++
				if r.After > 0 {
					late++
				}
				if r.After != 0 && (r.After < time.Second || r.After > 3*time.Second) {
					t.Fatalf("double: %+v", r)
				}
			case r.Node == before || r.After < 150*time.Millisecond || r.After > 300*time.Millisecond || r.Timeout < op.Timeout:
				t.Fatalf("retry: %+v", r)
			default:
				retries++
				before = r.Node
			}
		}
	}
	f.run(20_000)
	if doubles*20 < writes*3/4 || doubles*20 > writes*5/4 || late == 0 || late == doubles || retries*4 < writes {
		t.Errorf("of %d writes %d are doubled (%d late), with %d retries", writes, doubles, late, retries)
	}
	if modes["log"]*2 < modes["index"] || modes["index"]*2 < modes["log"] || len(modes) != 2 {
		t.Errorf("modes: %v", modes)
	}
}

func TestFinalReadsAreComplete(t *testing.T) {
	f := newWorld(t, Mixed(), Options{Workers: 24, Nodes: 5}, 4, perfect)
	f.run(10_000)
	used := f.g.(Keeper).UsedKeys()
	var first []string
	for _, op := range f.all {
		if !slices.Contains(first, op.Key) {
			first = append(first, op.Key)
		}
	}
	if !slices.Equal(used, first) {
		t.Fatalf("used keys are not those of the operations in order of first use:\n%v\n%v", used, first)
	}
	seen := map[string]int{}
	for _, op := range FinalReads(used, 5, []string{"log", "index"}) {
		if !op.Final || op.F != history.Read || op.Mode == "" || op.Timeout <= 0 {
			t.Fatalf("%+v", op)
		}
		seen[fmt.Sprint(op.Key, op.Node)]++
	}
	if len(seen) != 5*len(used) {
		t.Errorf("%d final reads of %d keys at 5 nodes", len(seen), len(used))
	}
}

func TestFindNamesTheNearest(t *testing.T) {
	for _, w := range All() {
		if got, err := Find(w.Name); err != nil || got.Name != w.Name || w.About == "" || w.Model.Parse == nil {
			t.Errorf("%s: %v", w.Name, err)
		}
	}
	if _, err := Find("registr"); err == nil || !strings.Contains(err.Error(), `mean "register"`) {
		t.Errorf("%v", err)
	}
}

func BenchmarkNextObserve(b *testing.B) {
	for _, w := range All() {
		b.Run(w.Name, func(b *testing.B) {
			g := w.New(Options{Workers: 24, Nodes: 5, Modes: []string{"log", "index"}}, rand.New(rand.NewPCG(1, 2)))
			b.ReportAllocs()
			var now time.Duration
			var n int
			value := json.RawMessage("12345")
			for b.Loop() {
				i := n % 24
				n++
				now += 40 * time.Microsecond
				op, _, _ := g.Next(now, i, i)
				e := history.Event{Time: now, Process: i, Type: history.Invoke, F: op.F, Key: op.Key, Value: op.Value}
				g.Observe(e)
				e.Type, e.Value = history.Ok, value
				g.Observe(e)
			}
		})
	}
}
