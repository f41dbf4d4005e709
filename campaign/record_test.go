package campaign

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"chaos/history"
	"chaos/workload"
)

// TestMain makes this test binary a harness that records for ever, too.
func TestMain(m *testing.M) {
	if name := os.Getenv("CHAOS_RECORD_FOR_EVER"); name != "" {
		recordForEver(name)
	}
	os.Exit(m.Run())
}

// steady is a generator of writes without end; every worker may always go on.
type steady struct{ seen []history.Event }

func (s *steady) Next(_ time.Duration, _, process int) (workload.Op, time.Duration, bool) {
	return workload.Op{F: history.Write, Key: "register/1", Value: []byte(strconv.Itoa(len(s.seen))), Timeout: time.Second}, 0, true
}
func (s *steady) Observe(e history.Event) { s.seen = append(s.seen, e) }

func record(t *testing.T) (*recorder, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "history.jsonl")
	r, err := newRecorder(name, history.Header{History: history.Version, System: "memory", Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	return r, name
}

func readBack(t *testing.T, name string) history.History {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := history.ReadAll(f, name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// fakeLoad is enough of a load for workers that only record.
func fakeLoad(r *recorder, workers int) *load {
	w := newWorld()
	w.count = 3
	l := newLoad(r, w, memoryCluster{w}, loadTestOptions, "nonce", Spec{Concurrency: workers})
	return l
}

// Many workers record at once: the index is the place, time never goes back, no
// process has two operations open, the generator saw every event in order, and
// the file holds what memory holds.
func TestRecorderKeepsOneOrder(t *testing.T) {
	r, name := record(t)
	g := &steady{}
	r.use(g)
	const workers, each = 12, 300
	l := fakeLoad(r, workers)
	defer l.close()
	var all sync.WaitGroup
	for _, w := range l.workers {
		all.Go(func() {
			for i := range each {
				_, e, _, ok := r.next(w)
				if !ok {
					t.Error("the generator never ends")
					return
				}
				e.Type = history.Type(1 + (i+w.number)%3)
				r.complete(e)
				w.account(workload.Op{F: history.Write}, e)
				if i%100 == 0 {
					r.note(history.Info, history.Incident, history.Note{Node: "n1", Detail: "something"})
				}
			}
		})
	}
	all.Wait()
	c := r.counts()
	events, err := r.close()
	if err != nil {
		t.Fatal(err)
	}
	if want := workers * (2*each + 3); len(events) != want || len(g.seen) != want {
		t.Fatalf("%d events, %d shown to the generator, want %d", len(events), len(g.seen), want)
	}
	for i, e := range events {
		if e.Index != i || i > 0 && e.Time < events[i-1].Time || !reflect.DeepEqual(e, g.seen[i]) {
			t.Fatalf("event %d is %+v after time %s; the generator saw %+v", i, e, events[max(i-1, 0)].Time, g.seen[i])
		}
	}
	if err := history.Validate(history.History{Events: events}); err != nil {
		t.Error(err)
	}
	if c.ok+c.fail+c.info != workers*each || c.ok != workers*each/3 {
		t.Errorf("counted %d ok, %d fail, %d info of %d", c.ok, c.fail, c.info, workers*each)
	}
	h := readBack(t, name)
	if h.Torn || h.Header.System != "memory" || h.Header.Seed != 7 {
		t.Errorf("header %+v, torn %v", h.Header, h.Torn)
	}
	if len(h.Events) != len(events) {
		t.Fatalf("the file holds %d events of %d", len(h.Events), len(events))
	}
	for i := range events {
		if string(history.AppendEvent(nil, events[i])) != string(history.AppendEvent(nil, h.Events[i])) {
			t.Fatalf("event %d in the file: %+v, in memory: %+v", i, h.Events[i], events[i])
		}
	}
}

// A recorder never writes into a history that is there already.
func TestRecorderRefusesAnOldFile(t *testing.T) {
	r, name := record(t)
	defer r.close()
	if _, err := newRecorder(name, history.Header{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second recorder on the same file: %v", err)
	}
}

// A file that can't be written is told while the run goes on, and at the end;
// what memory holds is still there.
func TestRecorderTellsOfABrokenFile(t *testing.T) {
	r, _ := record(t)
	r.file.Close()
	r.note(history.Info, history.Phase, history.Note{Phase: history.Storm})
	for r.counts().broken == nil {
		time.Sleep(time.Millisecond)
	}
	events, err := r.close()
	if err == nil || len(events) != 1 {
		t.Errorf("%d events, error %v", len(events), err)
	}
}

// recordForEver records a write and its end every half millisecond, and says so
// on standard output: the time of the event, not buffered.
func recordForEver(name string) {
	r, err := newRecorder(name, history.Header{History: history.Version, System: "memory"})
	if err != nil {
		panic(err)
	}
	r.use(&steady{})
	l := fakeLoad(r, 1)
	for {
		_, e, _, _ := r.next(l.workers[0])
		e.Type = history.Ok
		r.complete(e)
		r.mu.Lock()
		fmt.Println(int64(r.all()[len(r.all())-1].Time), len(r.all()))
		r.mu.Unlock()
		time.Sleep(500 * time.Microsecond)
	}
}

// A harness that is killed leaves a file that can be read and judged. The
// median over some kills keeps a busy machine from failing the test.
func TestRecordOutlivesKill(t *testing.T) {
	var lost []time.Duration
	for range 5 {
		name := filepath.Join(t.TempDir(), "history.jsonl")
		last, recorded := killWhileRecording(t, name)
		h := readBack(t, name)
		if err := history.Validate(h); err != nil {
			t.Fatal(err)
		}
		if len(h.Events) == 0 || len(h.Events) > recorded+2 {
			t.Fatalf("%d events in the file, %d recorded", len(h.Events), recorded)
		}
		for i, e := range h.Events {
			if e.Index != i {
				t.Fatalf("the file holds event %d at place %d", e.Index, i)
			}
		}
		lost = append(lost, last-h.Events[len(h.Events)-1].Time)
	}
	slices.Sort(lost)
	if lost[len(lost)/2] > 2*flushEvery {
		t.Errorf("killed harnesses lost %v of their histories; at most %s may be lost", lost, 2*flushEvery)
	}
}

// killWhileRecording returns the time of the last event known to be recorded,
// and how many there were.
func killWhileRecording(t *testing.T, name string) (last time.Duration, events int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHAOS_RECORD_FOR_EVER="+name)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var ns int64
		if _, err := fmt.Sscan(lines.Text(), &ns, &events); err != nil {
			break // the kill tore the line
		}
		last = time.Duration(ns)
		if events == 400 {
			cmd.Process.Kill()
		}
	}
	io.Copy(io.Discard, out)
	cmd.Wait()
	return last, events
}

// A file that ends within a line is the record of a writer that died.
func TestTornRecordIsRead(t *testing.T) {
	r, name := record(t)
	for range 20 {
		r.note(history.Info, history.Phase, history.Note{Phase: history.Storm})
	}
	if _, err := r.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < 60; cut++ {
		if err := os.WriteFile(name, whole[:len(whole)-cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if h := readBack(t, name); len(h.Events) < 19 || len(h.Events) < 20 && !h.Torn {
			t.Fatalf("with %d bytes cut off: %d events, torn %v", cut, len(h.Events), h.Torn)
		}
	}
}
