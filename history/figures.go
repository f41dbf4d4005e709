package history

import (
	"cmp"
	"slices"
	"time"
)

// Outcomes counts operations by how they ended.
type Outcomes struct {
	Ok   int `json:"ok"`
	Fail int `json:"fail"`
	Info int `json:"info"`
}

// Total is all of them.
func (o Outcomes) Total() int { return o.Ok + o.Fail + o.Info }

// A FunctionFigure counts the operations of one function.
type FunctionFigure struct {
	F string `json:"f"`
	Outcomes
}

// A FaultFigure counts the injections of one fault.
type FaultFigure struct {
	Fault    string `json:"fault"`
	Injected int    `json:"injected"`
	Proven   int    `json:"proven"`
}

// Figures are the numbers of a run for people; judging uses none of them.
type Figures struct {
	All       Outcomes         `json:"operations"`
	Functions []FunctionFigure `json:"functions"` // by name
	Faults    []FaultFigure    `json:"faults"`    // by name

	Span time.Duration `json:"span"` // from the first invocation to the last event of a client
	Rate float64       `json:"rate"` // ok operations a second over Span
	P50  time.Duration `json:"p50"`  // latency of ok operations
	P99  time.Duration `json:"p99"`

	// Unavailable is the longest time without an ok while operations were
	// attempted, and UnavailableAt when it began, since the run began.
	Unavailable   time.Duration `json:"unavailable"`
	UnavailableAt time.Duration `json:"unavailable_at"`
	// Recovery is the time from the last proven heal to the first ok of an
	// operation invoked after it; meaningful where Recovered is set.
	Recovery  time.Duration `json:"recovery"`
	Recovered bool          `json:"recovered"`

	LeaderChanges int `json:"leader_changes"` // from one known leader to another, or to the same in a later term
}

// Measure computes the figures of a well-formed history.
func Measure(h History) Figures {
	f := Figures{LeaderChanges: leaderChanges(h)}
	f.measureOperations(Operations(h))
	f.measureFaults(Windows(h))
	f.measureGaps(h)
	f.Recovery, f.Recovered = recovery(h)
	return f
}

func (f *Figures) measureOperations(ops []Operation) {
	byF := make(map[string]*Outcomes)
	var latencies []time.Duration
	for _, op := range ops {
		o := byF[op.Invoke.F]
		if o == nil {
			o = new(Outcomes)
			byF[op.Invoke.F] = o
		}
		o.add(op.Complete.Type)
		f.All.add(op.Complete.Type)
		if op.Complete.Type == Ok {
			latencies = append(latencies, op.Complete.Time-op.Invoke.Time)
		}
	}
	for name, o := range byF {
		f.Functions = append(f.Functions, FunctionFigure{name, *o})
	}
	slices.SortFunc(f.Functions, func(a, b FunctionFigure) int { return cmp.Compare(a.F, b.F) })
	slices.Sort(latencies)
	f.P50, f.P99 = percentile(latencies, 50), percentile(latencies, 99)
}

func (o *Outcomes) add(t Type) {
	switch t {
	case Ok:
		o.Ok++
	case Fail:
		o.Fail++
	default:
		o.Info++
	}
}

// percentile is the smallest value that p per cent of the sorted list do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func (f *Figures) measureFaults(windows []Window) {
	byFault := make(map[string]*FaultFigure)
	for _, w := range windows {
		g := byFault[w.Fault]
		if g == nil {
			g = &FaultFigure{Fault: w.Fault}
			byFault[w.Fault] = g
		}
		g.Injected++
		if w.Proven() {
			g.Proven++
		}
	}
	for _, g := range byFault {
		f.Faults = append(f.Faults, *g)
	}
	slices.SortFunc(f.Faults, func(a, b FaultFigure) int { return cmp.Compare(a.Fault, b.Fault) })
}

// measureGaps finds span, rate and the longest time without an ok. That time
// begins with an invocation, or with an ok that left others open; a client
// that is refused and waits before it tries again does not end it.
func (f *Figures) measureGaps(h History) {
	var first, last, since time.Duration
	begun, trying := false, false
	open := 0
	for _, e := range h.Events {
		if e.Process == Nemesis {
			continue
		}
		if !begun {
			begun, first = true, e.Time
		}
		last = e.Time
		switch e.Type {
		case Invoke:
			open++
			if !trying {
				trying, since = true, e.Time
			}
		case Ok:
			open--
			f.gap(trying, since, e.Time)
			trying, since = open > 0, e.Time
		default:
			open--
		}
	}
	f.gap(trying, since, last)
	f.Span = last - first
	if f.Span > 0 {
		f.Rate = float64(f.All.Ok) / f.Span.Seconds()
	}
}

func (f *Figures) gap(trying bool, from, to time.Duration) {
	if trying && to-from > f.Unavailable {
		f.Unavailable, f.UnavailableAt = to-from, from
	}
}

// recovery is the time from the last proven heal to the first ok of an
// operation that was invoked after it.
func recovery(h History) (time.Duration, bool) {
	healed := -1
	for i, e := range h.Events {
		if e.Process == Nemesis && e.F == Heal && e.Type == Ok {
			healed = i
		}
	}
	if healed < 0 {
		return 0, false
	}
	fresh := make(map[int]bool) // processes whose open operation began after the heal
	for _, e := range h.Events[healed+1:] {
		switch {
		case e.Process == Nemesis:
		case e.Type == Invoke:
			fresh[e.Process] = true
		case e.Type == Ok && fresh[e.Process]:
			return e.Time - h.Events[healed].Time, true
		}
	}
	return 0, false
}

func leaderChanges(h History) int {
	changes := 0
	var leader string
	var term uint64
	for _, e := range h.Events {
		if e.Process != Nemesis || e.F != Leader {
			continue
		}
		n, err := DecodeNote(e)
		if err != nil || n.Leader == "" || n.Leader == "-" {
			continue
		}
		if leader != "" && (n.Leader != leader || n.Term > term) {
			changes++
		}
		leader, term = n.Leader, n.Term
	}
	return changes
}
