package linearizability

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"chaos/history"
)

// bigWorld has many keys of all kinds, with few clients on each, as real load has.
func bigWorld(seed uint64, keys, operations int) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 7)), processes: 12, operations: operations, info: 0.01, fail: 0.02, late: 0.1}
	for i := range keys {
		w.keys = append(w.keys, fmt.Sprintf("%s/k%d", []string{"any", "append", "any", "counter"}[i%4], i))
	}
	return w
}

// TestManyKeys uses the models that real runs use.
func TestManyKeys(t *testing.T) {
	h := bigWorld(1, 40, 4000).run()
	if v := Check(context.Background(), h, Options{}); v.Outcome != Valid {
		t.Fatalf("a linearizable history is %s: %s\n%s", v.Outcome, v.Reason, strings.Join(v.Story, "\n"))
	}
	// Without log indices the search has to find the order.
	for i := range h.Events {
		h.Events[i].At = 0
	}
	if v := Check(context.Background(), h, Options{}); v.Outcome != Valid {
		t.Fatalf("without indices it is %s: %s", v.Outcome, v.Reason)
	}
}

// TestLiesAreFound: one stale read among thousands of operations, whatever
// index it claims, and every violation told with events that show it.
func TestLiesAreFound(t *testing.T) {
	found := 0
	for seed := range uint64(30) {
		w := bigWorld(seed, 20, 1000)
		w.stale = 0.02
		h := w.run()
		v := Check(context.Background(), h, Options{})
		if v.Outcome == Unknown {
			t.Fatalf("seed %d: %s", seed, v.Reason)
		}
		if v.Outcome == Valid {
			continue
		}
		found++
		if v.Key == "" || len(v.Story) < 3 || len(v.Evidence) < 2 || len(v.Evidence) > 60 {
			t.Errorf("seed %d: a poor story of key %s, %d events\n%s", seed, v.Key, len(v.Evidence), strings.Join(v.Story, "\n"))
		}
		again := Check(context.Background(), h, Options{})
		if again.Key != v.Key || strings.Join(again.Story, "") != strings.Join(v.Story, "") {
			t.Errorf("seed %d: two checks tell two stories", seed)
		}
	}
	if found < 20 {
		t.Errorf("only %d of 30 lying worlds were found out", found)
	}
}

func TestPastTheTimeOutTheVerdictIsUnknown(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	h := bigWorld(1, 8, 400).run()
	v := Check(gone, h, Options{})
	if v.Outcome != Unknown || !strings.Contains(v.Reason, "0 of 8 keys are linearizable; undecided") {
		t.Errorf("got %s: %s", v.Outcome, v.Reason)
	}
}

// TestAStoppedSearchDecidesNothing: the way out of a search is to make every
// step illegal, which must never look like a violation.
func TestAStoppedSearchDecidesNothing(t *testing.T) {
	unknown := 0
	for seed := range uint64(300) {
		w := randomWorld(seed)
		w.operations, w.info = 60, 0.05
		k := oneKey(t, w.run())
		ops := prune(k.ops)
		truth := search(k.model, ops, forever)
		for _, limit := range []int{0, 1, 5, 50} {
			got := searchWithin(k.model, ops, forever, limit)
			if got != truth && got != Unknown {
				t.Fatalf("seed %d: with %d configurations the search says %s, but it is %s", seed, limit, got, truth)
			}
			if got == Unknown {
				unknown++
			}
		}
	}
	if unknown < 300 {
		t.Errorf("only %d searches met their bound", unknown)
	}
}

// TestAContextStopsASearch: a search in the middle of its work looks up.
func TestAContextStopsASearch(t *testing.T) {
	w := randomWorld(2)
	w.keys, w.operations, w.processes, w.info, w.fail = []string{"counter/k"}, 40, 12, 0.6, 0
	w.lie = 0.5
	k := oneKey(t, w.run())
	looks := 0
	if got := search(k.model, prune(k.ops), func() bool { looks++; return looks > 3 }); got != Unknown {
		t.Errorf("got %s after %d looks", got, looks)
	}
}

func TestVisualize(t *testing.T) {
	p := goodRun()
	p.do(history.Ok, history.Write, "cas/k", "n2", 2, 2)
	p.inject(true, cut("i2"))
	p.do(history.Ok, history.Read, "cas/k", "n1", nil, 1)
	p.heal(true, true, cut("i2"))
	var page bytes.Buffer
	if err := Visualize(context.Background(), p.history(), "cas/k", Options{}, &page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<html", "partition-one", "write 2"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if err := Visualize(context.Background(), p.history(), "cas/none", Options{}, &page); err == nil {
		t.Error("a key that is not there was drawn")
	}
	h := bigWorld(3, 4, 300).run()
	for i := range 4 {
		if err := Visualize(context.Background(), h, bigWorld(3, 4, 300).keys[i], Options{}, &page); err != nil {
			t.Error(err)
		}
	}
}

var update = flag.Bool("update", false, "write the kept histories anew")

const keptFolder = "../results/kept"

// TestKept judges the histories that are kept as examples, one of each outcome.
func TestKept(t *testing.T) {
	kept := map[string]struct {
		want Outcome
		make func() history.History
	}{
		"valid.jsonl":   {Valid, keptValid},
		"invalid.jsonl": {Invalid, keptInvalid},
		"unknown.jsonl": {Unknown, keptUnknown},
	}
	for name, k := range kept {
		path := filepath.Join(keptFolder, name)
		if *update {
			h := k.make()
			file := history.AppendHeader(nil, history.Header{System: "raft", Provider: "sim", Seed: 1})
			for _, e := range h.Events {
				file = history.AppendEvent(file, e)
			}
			if err := errors.Join(os.MkdirAll(keptFolder, 0o777), os.WriteFile(path, file, 0o666)); err != nil {
				t.Fatal(err)
			}
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		h, err := history.ReadAll(f, name)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		v, err := Judge(context.Background(), Input{History: h, Required: []string{"partition"}})
		if err != nil || v.Outcome != k.want {
			t.Errorf("%s: got %s (%s), %v; want %s", name, v.Outcome, v.Reason, err, k.want)
		}
	}
}

// keptRun is a partition in the middle of a small world, and final reads.
func keptRun(proven bool, during func(*tape)) history.History {
	w := bigWorld(11, 4, 60)
	p := newTape()
	p.events = w.run().Events
	p.next = 1000
	n := cut("i1")
	p.note(history.Info, history.Phase, history.Note{Phase: history.Storm})
	p.note(history.Info, history.Leader, history.Note{Leader: "n1", Term: 1})
	p.inject(true, n)
	p.failures(12, "n1")
	p.reads(12, "n2")
	p.note(history.Info, history.Leader, history.Note{Leader: "n2", Term: 2})
	during(p)
	p.heal(proven, true, n)
	p.note(history.Info, history.Phase, history.Note{Phase: history.Final})
	for _, key := range w.keys {
		p.do(history.Ok, history.Read, key, "n2", nil, rawValue(w.state[key]))
	}
	p.do(history.Ok, history.Read, "cas/x", "n2", nil, 902)
	p.reads(1, "n3")
	return history.History{Events: p.events}
}

func writeTwice(p *tape) {
	p.do(history.Ok, history.Write, "cas/x", "n2", 901, 901)
	p.do(history.Ok, history.CAS, "cas/x", "n2", []int{901, 902}, map[string]any{"swapped": true, "saw": 901})
}

func keptValid() history.History { return keptRun(true, writeTwice) }

// keptInvalid: the deposed leader answers a read alone.
func keptInvalid() history.History {
	return keptRun(true, func(p *tape) {
		writeTwice(p)
		p.do(history.Ok, history.Read, "cas/x", "n1", nil, 901)
	})
}

// keptUnknown: the partition was not proven to have held.
func keptUnknown() history.History { return keptRun(false, writeTwice) }

// FuzzJudge: no history that can be read makes judging panic, and none that
// breaks the rules gets a verdict.
func FuzzJudge(f *testing.F) {
	for _, name := range []string{"valid.jsonl", "invalid.jsonl", "unknown.jsonl"} {
		b, err := os.ReadFile(filepath.Join(keptFolder, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"index":1,"time":0,"process":0,"type":"invoke","f":"append","key":"k","value":1}` + "\n" +
		`{"index":2,"time":0,"process":0,"type":"info","f":"append","key":"k"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := history.ReadAll(bytes.NewReader(b), "h")
		if err != nil || len(h.Events) > 300 {
			return
		}
		_, err = Judge(context.Background(), Input{History: h})
		if (err == nil) != (history.Validate(h) == nil) && history.Validate(h) != nil {
			t.Fatalf("an ill-formed history got a verdict: %v", history.Validate(h))
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, indexed := range []bool{true, false} {
		name := map[bool]string{true: "witness", false: "porcupine"}[indexed]
		h := bigWorld(1, 300, 100_000).run()
		if !indexed {
			for i := range h.Events {
				h.Events[i].At = 0
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v := Check(context.Background(), h, Options{}); v.Outcome != Valid {
					b.Fatal(v.Reason)
				}
			}
		})
	}
}
