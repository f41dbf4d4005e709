package campaign

import (
	"time"

	"chaos/history"
)

func (r *simRun) enter(phase string) { r.begin(history.Note{Phase: phase}) }

// begin enters the phase of a note that says more of it.
func (r *simRun) begin(n history.Note) {
	r.phase, r.since = n.Phase, r.world.Now()
	r.note(history.Info, history.Phase, n)
	r.show(true)
}

// show tells who watches where the run is: at each phase, and now and then. What
// it looks at are the machine's clock and the run; it changes nothing in it.
func (r *simRun) show(fresh bool) {
	if r.Progress == nil || !fresh && time.Since(r.shown) < progressEvery {
		return
	}
	r.shown = time.Now()
	p := Progress{Phase: r.phase, Simulated: true, Elapsed: r.world.Now() - r.since, Ok: r.book.ok, Fail: r.book.fail, Info: r.book.info,
		Active: *r.storm.active.Load(), Leader: r.seen.current(r.world.Now()).String()}
	if r.phase == history.Storm {
		p.Left = max(0, time.Duration(r.Plan.Spec.Duration)-p.Elapsed)
	}
	r.Progress(p)
}
