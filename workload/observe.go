package workload

import (
	"encoding/json"
	"time"

	"chaos/history"
)

// How long workers rest.
const (
	quick     = 20 * time.Millisecond  // a refusal that came sooner is not asked for again at once
	afterFail = 10 * time.Millisecond  // a node that is down refuses in no time
	afterInfo = 200 * time.Millisecond // a writer whose write has no known end; doubled each time in a row
	infoMax   = time.Second
)

// backgroundRecipe marks a fault that lasts for the whole storm; its window
// keeps no keys.
const backgroundRecipe = "background"

// Observe learns what keys hold, which processes have retired and which faults live.
func (l *load) Observe(e history.Event) {
	if e.Process == history.Nemesis {
		l.weather(e)
		return
	}
	n, mine := l.process[e.Process]
	if !mine || e.Type == history.Invoke {
		return
	}
	w := &l.workers[n]
	if !w.open {
		return
	}
	w.open = false
	w.rest = e.Time + w.pause(e)
	if w.key != nil {
		w.key.learn(w, e)
	}
}

// pause is how long the worker rests after a completion. Readers go on at once,
// unless the answer came so quickly that they would only spin.
func (w *worker) pause(e history.Event) time.Duration {
	unknown := e.Type == history.Info && w.f != history.Read
	if unknown {
		w.doubts++
		return min(afterInfo<<min(w.doubts-1, 8), infoMax)
	}
	w.doubts = 0
	if e.Type != history.Ok && e.Time-w.asked < quick {
		return afterFail
	}
	return 0
}

// learn takes in what a completion tells of the key.
func (k *key) learn(w *worker, e history.Event) {
	change := w.f != history.Read
	switch {
	case change && e.Type == history.Info:
		k.open++
	case change && e.Type == history.Fail && k.m.once:
		k.written = false // it certainly was not: another value may be
	case e.Type == history.Ok && k.m.name == cas.name:
		k.see(w, e.Value)
	}
}

// see remembers the value that the next swap will expect. What can't be read
// is left for the judge to refuse.
func (k *key) see(w *worker, value []byte) {
	c := Call{F: w.f, Arg: Num(w.written)}
	if !c.answer(value) {
		return
	}
	switch {
	case w.f == history.Read || w.f == history.CAS && !c.Swapped:
		if c.Revealed && c.Out.Kind != List {
			k.seen = c.Out
		}
	case w.f == history.Delete:
		k.seen = Value{}
	default:
		k.seen = c.Arg
	}
}

// weather follows the windows of faults.
func (l *load) weather(e history.Event) {
	var n history.Note
	if e.F != history.Inject && e.F != history.Heal || json.Unmarshal(e.Value, &n) != nil || n.Recipe == backgroundRecipe {
		return
	}
	switch {
	case e.F == history.Inject:
		l.windows[n.ID] = true
	case e.Type != history.Invoke:
		delete(l.windows, n.ID)
		l.healed = e.Time
	}
}
