package campaign

import (
	"testing"
	"time"

	"chaos/history"
	"chaos/workload"
)

// Every final read is asked for until it is answered, after a pause, and then
// the phase ends for all workers.
func TestFinalReads(t *testing.T) {
	ops := workload.FinalReads([]string{"register/1", "append/2"}, 2, []string{"index", "log"})
	f := newFinal(ops)
	now, answered, failures := time.Duration(0), map[string]int{}, 5
	for asks := 0; ; asks++ {
		if asks > 1000 {
			t.Fatal("final reads never end")
		}
		op, wait, ok := f.Next(now, 0, asks)
		if !ok {
			break
		}
		if wait > 0 {
			now += wait
			continue
		}
		e := history.Event{Process: asks, F: op.F, Key: op.Key, Time: now}
		f.Observe(history.Event{Process: asks, Type: history.Invoke, Time: now})
		f.Observe(history.Event{Process: 99999, Type: history.Ok, Time: now}) // somebody else's
		if failures > 0 {
			failures--
			e.Type = []history.Type{history.Fail, history.Info}[failures%2]
			f.Observe(e)
			if _, wait, ok := f.Next(now, 1, 7); !ok || wait != finalPause {
				t.Errorf("after a failure: wait %s, %v", wait, ok)
			}
			continue
		}
		e.Type = history.Ok
		answered[op.Key+string(rune('0'+op.Node))]++
		f.Observe(e)
	}
	for _, op := range ops {
		if n := answered[op.Key+string(rune('0'+op.Node))]; n != 1 {
			t.Errorf("%s at member %d was answered %d times", op.Key, op.Node, n)
		}
	}
}

// While the last read is under way the other workers wait: it may come back.
func TestFinalReadsWaitForTheLast(t *testing.T) {
	f := newFinal(workload.FinalReads([]string{"register/1"}, 1, nil))
	if _, wait, ok := f.Next(0, 0, 1); !ok || wait != 0 {
		t.Fatal("the only read is not handed out")
	}
	if _, wait, ok := f.Next(0, 1, 2); !ok || wait == 0 {
		t.Error("the phase ended while a read was open")
	}
	f.Observe(history.Event{Process: 1, Type: history.Info})
	if _, wait, ok := f.Next(time.Second, 1, 2); !ok || wait != 0 {
		t.Error("the read did not come back")
	}
	f.Observe(history.Event{Process: 2, Type: history.Ok})
	if _, _, ok := f.Next(time.Second, 1, 3); ok {
		t.Error("the phase does not end")
	}
}
