package workload

import (
	"encoding/json"
	"testing"
	"time"

	"chaos/history"
)

// nemesis shows the load the beginning or the end of a fault.
func (f *fake) nemesis(fn string, n history.Note) {
	f.t.Helper()
	v, err := json.Marshal(n)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, typ := range []history.Type{history.Invoke, history.Ok} {
		f.g.Observe(history.Event{Time: f.now, Process: history.Nemesis, Type: typ, F: fn, Value: v})
	}
}

// spans tells when each key was first and last used by a change.
func (f *fake) spans() (first, last map[string]time.Duration, order []string) {
	first, last = map[string]time.Duration{}, map[string]time.Duration{}
	for i, op := range f.all {
		if op.F == history.Read {
			continue
		}
		if _, known := first[op.Key]; !known {
			first[op.Key] = f.times[i]
			order = append(order, op.Key)
		}
		last[op.Key] = f.times[i]
	}
	return first, last, order
}

func TestKeysRotateByOperations(t *testing.T) {
	f := newWorld(t, Register(), Options{Workers: 24, Nodes: 5}, 1, perfect)
	f.run(60_000)
	count := map[string]int{}
	for _, op := range f.all {
		count[op.Key]++
	}
	keys := f.g.(Keeper).UsedKeys()
	if len(keys) < 100 || len(keys) > 250 {
		t.Errorf("60000 operations used %d keys", len(keys))
	}
	for k, n := range count {
		if n > 700+200 {
			t.Errorf("%s took %d operations", k, n)
		}
	}
	old := 0
	_, last, _ := f.spans()
	for i, op := range f.all {
		if op.F == history.Read && last[op.Key] < f.times[i]-100*time.Millisecond {
			old++
		}
	}
	if old < 500 {
		t.Errorf("only %d of 60000 operations read an old key", old)
	}
}

func TestKeysRotateByAgeStaggered(t *testing.T) {
	f := newWorld(t, Register(), Options{Workers: 24, Nodes: 5, KeyOps: -1}, 1, perfect)
	f.latency = 20 * time.Millisecond
	f.until(20 * time.Second)
	first, _, order := f.spans()
	if len(order) < 20 || len(order) > 45 {
		t.Fatalf("20 s used %d keys", len(order))
	}
	starts := map[time.Duration]int{}
	for _, k := range order[6:] {
		starts[first[k]/(250*time.Millisecond)]++
	}
	for at, n := range starts {
		if n > 3 {
			t.Errorf("%d keys of 6 lanes begin within the %d. quarter of a second", n, at)
		}
	}
}

func TestKeysOutliveAFaultButNotForEver(t *testing.T) {
	o := Options{Workers: 24, Nodes: 5, KeyLife: time.Second, KeyOps: -1}
	f := newWorld(t, Register(), o, 1, perfect)
	f.latency = 40 * time.Millisecond
	f.until(5 * time.Second)
	f.nemesis(history.Inject, history.Note{ID: "kill-1"})
	f.until(8 * time.Second)
	f.nemesis(history.Heal, history.Note{ID: "kill-1"})
	f.until(30 * time.Second)
	first, last, order := f.spans()
	hot := 0
	for _, k := range order {
		if first[k] < 5*time.Second && last[k] > 6*time.Second {
			hot++
			if last[k] < 10*time.Second-200*time.Millisecond || last[k] > 11500*time.Millisecond {
				t.Errorf("%s was hot when the fault struck, and is used until %s; the heal was at 8s", k, last[k])
			}
		}
		if life := last[k] - first[k]; life > keyAgeMax+time.Second {
			t.Errorf("%s lives %s", k, life)
		}
	}
	if hot < 5 {
		t.Errorf("only %d keys of 6 outlived the fault", hot)
	}
	f.nemesis(history.Inject, history.Note{ID: "kill-2"})
	f.until(60 * time.Second)
	first, last, order = f.spans()
	for _, k := range order {
		if life := last[k] - first[k]; life > keyAgeMax+2*time.Second {
			t.Errorf("%s lives %s under a fault without an end", k, life)
		}
	}
}

// At full speed a key's operations are spent long before the fault is healed;
// some go on being used now and then.
func TestSpentKeysAreKeptThroughAFault(t *testing.T) {
	f := newWorld(t, Register(), Options{Workers: 24, Nodes: 5}, 1, perfect)
	f.until(500 * time.Millisecond)
	f.nemesis(history.Inject, history.Note{ID: "kill-1"})
	f.until(1500 * time.Millisecond)
	f.nemesis(history.Heal, history.Note{ID: "kill-1"})
	f.until(2500 * time.Millisecond)
	first, last, order := f.spans()
	long := 0
	for _, k := range order {
		if first[k] < 500*time.Millisecond && last[k] > 1500*time.Millisecond {
			long++
		}
	}
	if long < 4 {
		t.Errorf("%d keys that were hot at the fault are written after its heal", long)
	}
}

func TestBackgroundKeepsNoKeys(t *testing.T) {
	f := newWorld(t, Register(), Options{Workers: 24, Nodes: 5, KeyLife: time.Second}, 1, perfect)
	f.latency = 40 * time.Millisecond
	f.nemesis(history.Inject, history.Note{ID: "background-1", Recipe: "background"})
	f.until(10 * time.Second)
	first, last, order := f.spans()
	for _, k := range order {
		if last[k]-first[k] > 2*time.Second {
			t.Errorf("%s lives %s", k, last[k]-first[k])
		}
	}
}

func TestOpenWritesRetireAKey(t *testing.T) {
	for _, w := range All() {
		f := newWorld(t, w, Options{Workers: 24, Nodes: 5}, 1, allInfo)
		f.latency = 10 * time.Millisecond
		f.nemesis(history.Inject, history.Note{ID: "kill-1"})
		f.run(20_000)
		for k, n := range f.writes {
			if n > openMax+4 { // the group's other writers may be under way
				t.Errorf("%s: %s has %d open writes", w.Name, k, n)
			}
		}
	}
}

// Such a key goes at once, even in a window; where no other key can take its
// place it is only read.
func TestKeyWithOpenWritesIsNeitherHotNorWritten(t *testing.T) {
	f := newWorld(t, Register(), Options{Workers: 24, Nodes: 5, KeyLife: time.Hour}, 1, perfect)
	f.run(100)
	g := f.g.(*load)
	n := &g.lanes[0]
	k := g.key(n, f.now)
	k.open = openMax - 1
	if g.spent(k, f.now) {
		t.Error("goes too early")
	}
	k.open = openMax
	g.keys = KeysMax
	if g.key(n, f.now) != k {
		t.Error("a new key beyond the bound")
	}
	for i := range g.workers {
		if got := g.function(&g.workers[i], k); got != history.Read {
			t.Errorf("worker %d is to %s", i, got)
		}
	}
	g.keys = 10
	f.nemesis(history.Inject, history.Note{ID: "kill-1"})
	if g.key(n, f.now) == k || len(n.kept) != 0 {
		t.Error("stays hot, or is kept")
	}
}

func TestRetiredProcessesAreForgotten(t *testing.T) {
	f := newWorld(t, Register(), Options{Workers: 24, Nodes: 5}, 1, allInfo)
	f.run(5000)
	if n := len(f.g.(*load).process); n > 24 {
		t.Errorf("%d processes are remembered", n)
	}
}

func TestKeysAreBounded(t *testing.T) {
	f := newWorld(t, Set(), Options{Workers: 24, Nodes: 5, KeyOps: 1}, 1, perfect)
	f.run(300_000)
	if n := len(f.g.(Keeper).UsedKeys()); n > KeysMax || n < KeysMax/4 {
		t.Errorf("%d keys of at most %d", n, KeysMax)
	}
}

func TestMoreLanesThanGroups(t *testing.T) {
	for _, keys := range []int{1, 2, 12, 13} {
		f := newWorld(t, Register(), Options{Workers: 24, Nodes: 5, Keys: keys, KeyOps: -1, KeyLife: time.Hour}, 1, perfect)
		f.run(5000)
		if n := len(f.g.(Keeper).UsedKeys()); n != keys {
			t.Errorf("%d keys asked for, %d used", keys, n)
		}
	}
}

// A writer rests after a write with an unknown end; a reader asks again at once,
// unless it was refused in no time.
func TestRests(t *testing.T) {
	slow := newWorld(t, Register(), Options{Workers: 4, Nodes: 3}, 1, allInfo)
	slow.latency = 100 * time.Millisecond
	slow.until(20 * time.Second)
	if r, w := slow.count[history.Read], slow.count[history.Write]; r < 3*w || w > 2*20*3 {
		t.Errorf("%d reads, %d writes, all with an unknown end", r, w)
	}
	quickly := newWorld(t, Register(), Options{Workers: 4, Nodes: 3}, 1, allFail)
	quickly.until(10 * time.Second)
	if n := len(quickly.all); n > 4*1000 {
		t.Errorf("%d operations in 10 s at nodes that refuse at once", n)
	}
}
