package campaign

import (
	"time"

	"chaos/history"
	"chaos/workload"
)

// finalPause is how long a worker waits before it asks for a read that failed again.
const finalPause = 10 * time.Millisecond

// A final hands out final reads, each until it is answered.
type final struct {
	todo []workload.Op
	open map[int]workload.Op // by process
	at   time.Duration       // not before, after a failure
}

func newFinal(todo []workload.Op) *final { return &final{todo: todo, open: map[int]workload.Op{}} }

// Next hands out the next read.
func (f *final) Next(now time.Duration, _, process int) (workload.Op, time.Duration, bool) {
	switch {
	case len(f.todo) == 0 && len(f.open) == 0:
		return workload.Op{}, 0, false
	case len(f.todo) == 0:
		return workload.Op{}, finalPause, true // one that is under way may come back
	case now < f.at:
		return workload.Op{}, f.at - now, true
	}
	op := f.todo[0]
	f.todo = f.todo[1:]
	f.open[process] = op
	return op, 0, true
}

// Observe puts a read that was not answered back.
func (f *final) Observe(e history.Event) {
	op, mine := f.open[e.Process]
	if !mine || e.Type == history.Invoke {
		return
	}
	delete(f.open, e.Process)
	if e.Type != history.Ok {
		f.todo = append(f.todo, op)
		f.at = e.Time + finalPause
	}
}

// once hands out one operation.
type once struct {
	op    workload.Op
	given bool
}

// Next hands it out to who asks first.
func (o *once) Next(time.Duration, int, int) (workload.Op, time.Duration, bool) {
	given := o.given
	o.given = true
	return o.op, 0, !given
}

// Observe learns nothing.
func (o *once) Observe(history.Event) {}
