package hunt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// redrawEvery is how often progress is told while nothing ends.
const redrawEvery = time.Second

// A Hunt looks for defects, each in each of its systems, several times, and
// looks as hard at the sound build.
type Hunt struct {
	Defects  []Defect
	Builds   Builds
	Runner   Runner
	Tries    int            // of each defect in each system
	Jobs     int            // tries at a time
	State    *State         // nil: nothing is kept
	Progress func(Progress) // called by the caller of Run; may be nil
}

// Builds are what programs are taken from; a Builder is one.
type Builds interface {
	Build(ctx context.Context, d Defect) (program string, err error)
	Key(d Defect) string
}

// Progress is where a hunt is.
type Progress struct {
	Done, All int      // tries
	Found     int      // among those done
	Running   []string // "defect in system, try 2, 4s" or "building defect, 4s", oldest first
	News      string   // a line that stays; ""
}

// A job is a try to be made.
type job struct {
	defect   Defect
	try      Try
	err      error
	building string    // the build that it waits for; "": none
	at       time.Time // when it began to wait, or to look
	ended    bool
}

// Run hunts until all is done or ctx ends, and reports what there is. An error
// is one of keeping the state; failures of single tries are in the report.
func (h Hunt) Run(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all, todo := h.jobs()
	book := book{hunt: h, all: len(all), tell: h.Progress}
	if book.tell == nil {
		book.tell = func(Progress) {}
	}
	for _, j := range all {
		if t, done := h.State.Find(j.try); done {
			book.count(t)
		}
	}
	events := make(chan job)
	h.start(ctx, todo, events)
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	var broken error
	for left := len(todo); left > 0; {
		select {
		case j := <-events:
			if j.ended {
				left--
			}
			if err := book.note(ctx, j); err != nil && broken == nil {
				broken = err
				cancel()
			}
		case <-tick.C:
			book.show("")
		}
	}
	r := h.report(all, &book)
	r.Interrupted = ctx.Err() != nil
	return r, broken
}

// jobs lists every try, defects first, and those that no state knows.
func (h Hunt) jobs() (all, todo []job) {
	add := func(d Defect, system string) {
		for n := range h.Tries {
			j := job{defect: d, try: Try{Defect: nameOf(d), System: system, Key: h.Builds.Key(d), Number: n + 1}}
			all = append(all, j)
			if _, done := h.State.Find(j.try); !done {
				todo = append(todo, j)
			}
		}
	}
	used := map[string]bool{}
	for _, d := range h.Defects {
		if !h.Runner.Expects(d) {
			continue
		}
		for _, system := range d.Systems {
			used[system] = true
			add(d, system)
		}
	}
	for _, system := range Systems {
		if used[system] {
			add(Defect{}, system)
		}
	}
	return all, todo
}

// start lets workers take jobs in order. Each job is sent to events when it
// begins to build, when it begins to look, and when it ends.
func (h Hunt) start(ctx context.Context, todo []job, events chan<- job) {
	queue := make(chan job, len(todo))
	for _, j := range todo {
		queue <- j
	}
	close(queue)
	for range max(1, h.Jobs) {
		go func() {
			for j := range queue {
				h.do(ctx, &j, func(building string) {
					j.building, j.at = building, time.Now()
					events <- j
				})
				j.ended = true
				events <- j
			}
		}()
	}
}

func (h Hunt) do(ctx context.Context, j *job, tell func(building string)) {
	if j.err = ctx.Err(); j.err != nil {
		return
	}
	program, err := h.build(ctx, j.defect, tell)
	if err != nil {
		j.err = err
		return
	}
	t, err := h.Runner.Try(ctx, program, j.try.System, j.try.Number)
	t.Defect, t.System, t.Key, t.Number = j.try.Defect, j.try.System, j.try.Key, j.try.Number
	if err == nil && t.Found && j.defect.Name != "" {
		t.Accused, err = h.control(ctx, t, tell)
		t.Found = t.Accused == ""
	}
	j.try, j.err = t, err
}

// build tells what is being built, and when that is over: a try's time is that
// of looking.
func (h Hunt) build(ctx context.Context, d Defect, tell func(building string)) (string, error) {
	tell(nameOf(d))
	defer tell("")
	return h.Builds.Build(ctx, d)
}

// control asks the sound build about a seed that showed something.
func (h Hunt) control(ctx context.Context, t Try, tell func(building string)) (string, error) {
	program, err := h.build(ctx, Defect{}, tell)
	if err != nil {
		return "", err
	}
	return h.Runner.Control(ctx, program, t.System, t.Seed)
}

// A book keeps what has ended and what runs; its owner is Run.
type book struct {
	hunt     Hunt
	tell     func(Progress)
	all      int
	done     int
	found    int
	running  []job
	tries    []Try
	failures []string
	short    []string // tries that were cut short
}

// note takes down what a job does now, or how it ended.
func (b *book) note(ctx context.Context, j job) error {
	at := slices.IndexFunc(b.running, func(r job) bool { return r.try.same(j.try) })
	switch {
	case !j.ended && at < 0:
		b.running = append(b.running, j)
	case !j.ended:
		b.running[at] = j
	case at >= 0:
		b.running = slices.Delete(b.running, at, at+1)
	}
	if !j.ended {
		b.show("")
		return nil
	}
	var short cutShort
	switch {
	case j.err != nil && (ctx.Err() != nil || errors.Is(j.err, context.Canceled)):
		return nil
	case errors.As(j.err, &short):
		b.short = append(b.short, fmt.Sprintf("%s: %v", j.try.what(), j.err))
		b.show("UNFINISHED " + b.short[len(b.short)-1])
		return nil
	case j.err != nil:
		b.done++
		failure := fmt.Sprintf("%s: %v", j.try.what(), j.err)
		b.failures = append(b.failures, failure)
		b.show("FAILED " + failure)
		return nil
	}
	b.count(j.try)
	b.tries = append(b.tries, j.try)
	err := b.hunt.State.Add(j.try)
	b.show(j.try.news(b.hunt.Runner.In()))
	return err
}

// count counts a try that has ended, in this hunt or in one that it goes on with.
func (b *book) count(t Try) {
	b.done++
	if t.Found && t.Defect != Sound {
		b.found++
	}
}

func (b *book) show(news string) {
	p := Progress{Done: b.done, All: b.all, Found: b.found, News: news}
	for _, j := range b.running {
		text := j.try.what()
		if j.building != "" {
			text = "building " + j.building // for all tries that wait for it
		}
		text = fmt.Sprintf("%s, %s", text, time.Since(j.at).Round(time.Second))
		if !slices.Contains(p.Running, text) {
			p.Running = append(p.Running, text)
		}
	}
	b.tell(p)
}

// same tells whether u is the same search as t.
func (t Try) same(u Try) bool {
	return t.Defect == u.Defect && t.System == u.System && t.Key == u.Key && t.Number == u.Number
}

func (t Try) what() string { return fmt.Sprintf("%s in %s, try %d", t.Defect, t.System, t.Number) }

// news is a try in one line.
func (t Try) news(in string) string {
	unit, one := "s", "run"
	if in == "sim" {
		unit, one = " CPU s", "seed"
	}
	spent := fmt.Sprintf("%s, %.1f%s", counted(int(t.Seeds), one, one+"s"), t.Seconds, unit)
	switch {
	case t.Accused != "":
		return fmt.Sprintf("ACCUSED the sound build, with the seed found for %s: seed %d: %s", t.what(), t.Seed, t.Accused)
	case t.Found && t.Defect == Sound:
		return fmt.Sprintf("ACCUSED %s: by %s at seed %d (%s): %s", t.what(), t.By, t.Seed, spent, t.Detail)
	case t.Found:
		return fmt.Sprintf("found %s: by %s at seed %d (%s)", t.what(), t.By, t.Seed, spent)
	case t.Defect == Sound:
		return fmt.Sprintf("silent %s (%s)", t.what(), spent)
	}
	return fmt.Sprintf("MISSED %s (%s)", t.what(), spent)
}
