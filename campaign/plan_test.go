package campaign

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/workload"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const goldenPlan = "testdata/plan.json"

func drawn(t testing.TB, s Spec, seed uint64) Plan {
	t.Helper()
	p, err := Draw(s, seed)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A plan is the same on every machine and at every time. A change of this file
// is a change of what every seed means.
func TestGoldenPlan(t *testing.T) {
	got := drawn(t, DefaultSpec(), 42).Encode()
	if *update {
		if err := os.WriteFile(goldenPlan, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenPlan)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the plan of seed 42 is another than in %s; go test -update rewrites it\n%s", goldenPlan, got)
	}
}

// someSpec draws a spec that is right.
func someSpec(r *rand.Rand) Spec {
	s := DefaultSpec()
	s.System = []string{"raft", "paxos", "paxos-classic"}[r.IntN(3)]
	s.Network = []string{"", "namespaces", "relay"}[r.IntN(3)]
	s.Nodes = 3 + r.IntN(NodesMax-2)
	s.Duration = Duration(DurationMin + time.Duration(r.IntN(120_000))*time.Millisecond)
	s.Faults = [][]string{nil, {"kill"}, {"pause", "partition-ring"}, {"partition"}, {"kill", "pause", "partition", "slow"}}[r.IntN(5)]
	s.Workload = []string{"mixed", "register", "cas", "append", "set", "counter"}[r.IntN(6)]
	s.Concurrency, s.Rate, s.Keys, s.KeyOps = 1+r.IntN(ConcurrencyMax), r.IntN(10_000), r.IntN(100), r.IntN(1000)
	if r.IntN(2) == 0 {
		w, _ := workload.Find(s.Workload)
		s.Mix = map[string]int{"read": r.IntN(5), w.Functions[1]: 1 + r.IntN(5)}
	}
	s.Knobs.SnapshotEntries = r.IntN(3) * 50
	if r.IntN(4) == 0 {
		s.Knobs.CrashAt = "n1:sync:40"
	}
	return s
}

// Equal specs and seeds draw equal bytes, and a plan that is written and read
// is the same plan.
func TestPlanRoundTrip(t *testing.T) {
	plans := map[string]uint64{}
	for seed := range uint64(300) {
		s := someSpec(rand.New(rand.NewPCG(seed, 99)))
		p := drawn(t, s, seed)
		b := p.Encode()
		if again := drawn(t, s, seed).Encode(); !bytes.Equal(b, again) {
			t.Fatalf("seed %d: drawn twice, two plans:\n%s\n%s", seed, b, again)
		}
		q, err := ParsePlan(b)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, b)
		}
		if !bytes.Equal(q.Encode(), b) {
			t.Fatalf("seed %d: written, read and written again:\n%s\n%s", seed, b, q.Encode())
		}
		if len(p.Schedule) > 0 && !reflect.DeepEqual(p.Schedule, q.Schedule) || !reflect.DeepEqual(p.Spec, q.Spec) {
			t.Fatalf("seed %d: %+v was read as %+v", seed, p, q)
		}
		if other, twice := plans[string(b)]; twice {
			t.Errorf("seeds %d and %d draw the same", seed, other)
		}
		plans[string(b)] = seed
	}
}

// Seeds decide the schedule and, in half of the runs, frequent snapshots; what
// a person set stays.
func TestSeedsDecide(t *testing.T) {
	often, schedules, first := 0, map[string]bool{}, ""
	for seed := range uint64(200) {
		p := drawn(t, DefaultSpec(), seed)
		if seed < 16 {
			first += strconv.Itoa(p.Spec.Knobs.SnapshotEntries / snapshotsOften)
		}
		if p.Spec.Knobs.SnapshotEntries == snapshotsOften {
			often++
		}
		b, err := json.Marshal(p.Schedule)
		if err != nil {
			t.Fatal(err)
		}
		schedules[string(b)] = true
	}
	if often < 60 || often > 140 || len(schedules) != 200 {
		t.Errorf("%d of 200 runs have frequent snapshots, and there are %d schedules", often, len(schedules))
	}
	if first != "0001101111111110" {
		t.Errorf("the first seeds draw frequent snapshots as %s", first)
	}
	s := DefaultSpec()
	s.Knobs.SnapshotEntries = 77
	if p := drawn(t, s, 3); p.Spec.Knobs.SnapshotEntries != 77 {
		t.Errorf("a distance of snapshots that was asked for became %d", p.Spec.Knobs.SnapshotEntries)
	}
}

// What is wrong is said with the flag, or with the line and the field.
func TestWrongPlans(t *testing.T) {
	good := string(drawn(t, DefaultSpec(), 42).Encode())
	if _, err := ParsePlan([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"plan": 1`, `"plan": 2`, "plan version 2; this program reads version 1"},
		{`"plan": 1`, `"plan": "one"`, "line 2: plan can't hold a string"},
		{`"plan": 1,`, ``, `no "plan" version`},
		{`"seed": 42,`, `"seed": 42`, "line 4"},
		{`"seed": 42`, `"seed": -1`, "line 3: seed can't hold a number"},
		{`"nodes": 5`, `"nodes": "five"`, "line 7: spec.nodes can't hold a string"},
		{`"nodes": 5`, `"nodes": 0`, "--nodes is 0; it must be from 1 to 9"},
		{`"nodes": 5`, `"nodes": 5, "colour": 1`, "colour"},
		{`"duration": "25s"`, `"duration": "soon"`, `"soon" is not a duration; write 30s or 1m30s`},
		{`"duration": "25s"`, `"duration": "10ms"`, "--duration"},
		{`"workload": "mixed"`, `"workload": "mixt"`, `did you mean "mixed"`},
		{`"pause",`, `"puase",`, `did you mean "pause"`},
		{`"action": "heal"`, `"action": "hael"`, "hael"},
		{`"action": "inject"`, `"action": "inject", "why": 1`, "why"},
		{`"concurrency": 24`, `"concurrency": 5000`, "--concurrency is 5000"},
		{`"lease": "15s"`, `"lease": "0s"`, "--lease"},
		{`"tick": "10ms"`, `"tick": "0s"`, "tick"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("the plan has no %s", c.old)
		}
		_, err := ParsePlan([]byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s instead of %s: error %v, want %s", c.new, c.old, err, c.want)
		}
	}
	for _, b := range []string{"", "null", "[]", "{}", "7", good[:len(good)/2], good + "x", good + good} {
		if _, err := ParsePlan([]byte(b)); err == nil {
			t.Errorf("%.40q was read as a plan", b)
		}
	}
}

func TestReadPlan(t *testing.T) {
	name := filepath.Join(t.TempDir(), "plan.json")
	if _, err := ReadPlan(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(name, drawn(t, DefaultSpec(), 5).Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := ReadPlan(name); err != nil || p.Seed != 5 {
		t.Errorf("seed %d, %v", p.Seed, err)
	}
	if err := os.WriteFile(name, bytes.Repeat([]byte(" "), planBytesMax+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPlan(name); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("an endless file: %v", err)
	}
}

// A fault that a machine can't do refuses the plan, also where only a step of
// the schedule asks for it.
func TestRefuse(t *testing.T) {
	able := func(not nodes.EffectKind) nodes.Abilities {
		a := memoryPlace{newWorld()}.Probe(t.Context(), nodes.Options{})
		if not != "" {
			a.Effects[not] = fmt.Errorf("there is no %s here; install one", not)
		}
		return a
	}
	p := drawn(t, DefaultSpec(), 42)
	if err := p.Refuse(able("")); err != nil {
		t.Errorf("refused where all is possible: %v", err)
	}
	for _, kind := range []nodes.EffectKind{nodes.Down, nodes.Frozen, nodes.Cut, nodes.Delayed} {
		if err := p.Refuse(able(kind)); err == nil || !strings.Contains(err.Error(), "install one") {
			t.Errorf("without %s: %v", kind, err)
		}
	}
	p.Spec.Faults = nil
	if err := p.Refuse(able(nodes.Down)); err == nil {
		t.Error("a step that kills was not refused where nothing can be killed")
	}
	p.Schedule = nil
	if err := p.Refuse(able(nodes.Down)); err != nil {
		t.Errorf("a plan without faults was refused: %v", err)
	}
	missing := able("")
	delete(missing.Effects, nodes.Down)
	if err := drawn(t, DefaultSpec(), 42).Refuse(missing); err == nil {
		t.Error("a kind of which nothing is known was not refused")
	}
}

func TestDuration(t *testing.T) {
	var d Duration
	if err := d.UnmarshalText([]byte("1m30s")); err != nil || time.Duration(d) != 90*time.Second {
		t.Errorf("%s, %v", time.Duration(d), err)
	}
	if b, err := d.MarshalText(); err != nil || string(b) != "1m30s" {
		t.Errorf("%s, %v", b, err)
	}
}

// Whatever a file holds, it is refused or it is a plan that can be written and
// read again.
func FuzzParsePlan(f *testing.F) {
	b, err := os.ReadFile(goldenPlan)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"plan":1}`))
	f.Add([]byte(`{"plan":1,"seed":18446744073709551615,"spec":{"duration":"1s","faults":null},"schedule":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePlan(b)
		if err != nil {
			return
		}
		again, err := ParsePlan(p.Encode())
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Encode())
		}
		if !bytes.Equal(again.Encode(), p.Encode()) {
			t.Fatalf("not the same:\n%s\n%s", p.Encode(), again.Encode())
		}
	})
}
