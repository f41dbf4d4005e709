package linearizability

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"chaos/history"
	"chaos/workload"
)

const (
	// searchBytes bounds the memory of one search: each configuration that
	// Porcupine remembers holds one bit for every operation.
	searchBytes = 256 << 20
	// configurationBytes is what a configuration costs beside those bits and
	// the list that its state may be.
	configurationBytes = 320
	// pollSteps is how many steps a search takes between looks at its context.
	pollSteps = 256
)

// searchAll decides each key: Valid, Invalid, or Unknown where the bounds of
// time or memory came first. Witnesses come first, for all keys: a search that
// takes long must not keep others from being decided. Then the rest is
// searched, small ones first. Once a key is found Invalid, those that stand
// behind it in that order are given up, so that the key that is told of,
// guilty, does not depend on the machine; it is -1 where no key is Invalid.
func searchAll(ctx context.Context, keys []keyed) (results []Outcome, guilty int) {
	results = make([]Outcome, len(keys))
	parallel(len(keys), func(i int) {
		results[i] = Unknown
		if ctx.Err() == nil && witness(keys[i].model, prune(keys[i].ops)) {
			results[i] = Valid
		}
	})
	var order []int
	for i, r := range results {
		if r != Valid {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(keys[a].ops), len(keys[b].ops)) })
	var worst atomic.Int64
	worst.Store(int64(len(order)))
	parallel(len(order), func(place int) {
		k := keys[order[place]]
		stop := func() bool { return ctx.Err() != nil || worst.Load() < int64(place) }
		if stop() {
			return
		}
		results[order[place]] = search(k.model, prune(k.ops), stop)
		if results[order[place]] == Invalid {
			lower(&worst, int64(place))
		}
	})
	if w := worst.Load(); w < int64(len(order)) {
		return results, order[w]
	}
	return results, -1
}

// parallel calls do for 0 to n-1, begun in that order, on as many goroutines
// as there are processors, and returns when all have ended.
func parallel(n int, do func(int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		}()
	}
	wait.Wait()
}

// lower sets a to v unless it is lower already.
func lower(a *atomic.Int64, v int64) {
	for old := a.Load(); v < old && !a.CompareAndSwap(old, v); old = a.Load() {
	}
}

// decide judges one key, cheaply where it can. It is Unknown when stop said so
// or memory ran out.
func decide(m workload.Model, ops []operation, stop func() bool) Outcome {
	if stop() {
		return Unknown
	}
	ops = prune(ops)
	if witness(m, ops) {
		return Valid
	}
	return search(m, ops, stop)
}

// search asks Porcupine.
func search(m workload.Model, ops []operation, stop func() bool) Outcome {
	return searchWithin(m, ops, stop, configurationsMax(ops))
}

// searchWithin remembers at most left configurations. Our own bounds end a
// search by making every further step illegal: it then unwinds at once, and
// its answer is thrown away.
func searchWithin(m workload.Model, ops []operation, stop func() bool, left int) Outcome {
	s := &bounded{model: m, stop: stop, left: left}
	pm := porcupineModel(m)
	pm.StepContext = s.step
	ok := porcupine.CheckOperations(pm, porcupineOperations(ops))
	switch {
	case ok:
		return Valid
	case s.stopped:
		return Unknown
	}
	return Invalid
}

// configurationsMax is how many configurations of ops fit into searchBytes.
func configurationsMax(ops []operation) int {
	each := len(ops)/8 + configurationBytes
	if shapeOf(ops) != register {
		each += 8 * len(ops)
	}
	return searchBytes / each
}

// bounded is a model's step function with an end.
type bounded struct {
	model   workload.Model
	stop    func() bool
	left    int // configurations that may still be remembered
	steps   int
	stopped bool
}

func (s *bounded) step(ctx context.Context, state, input, _ any) (bool, any) {
	if s.steps++; s.steps%pollSteps == 0 && (ctx.Err() != nil || s.stop()) || s.left <= 0 {
		s.stopped = true
	}
	if s.stopped {
		return false, state
	}
	ok, next := s.model.Step(state.(workload.State), input.(*operation).call)
	if ok {
		s.left--
	}
	return ok, next
}

// porcupineModel translates a model. Inputs are *operation, states are
// workload.State, outputs are unused: a call holds both.
func porcupineModel(m workload.Model) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return m.Init },
		Step: func(state, input, _ any) (bool, any) {
			return m.Step(state.(workload.State), input.(*operation).call)
		},
		Equal: func(a, b any) bool { return a.(workload.State).Equal(b.(workload.State)) },
		Hash:  func(s any) uint64 { return s.(workload.State).Hash() },
		DescribeOperation: func(input, _ any) string {
			return describeCall(input.(*operation).call)
		},
		DescribeState: func(s any) string { return describeValue(s.(workload.State)) },
	}
}

func porcupineOperations(ops []operation) []porcupine.Operation {
	list := make([]porcupine.Operation, len(ops))
	for i := range ops {
		list[i] = porcupine.Operation{Input: &ops[i], Call: int64(ops[i].invoke), Return: int64(ops[i].ret)}
	}
	return list
}

const (
	// pageOperations is the most operations that a page draws: the last ones
	// would be too slow to look at.
	pageOperations = 2000
	// pageTimeout bounds the search behind a page.
	pageTimeout = 10 * time.Second
)

// Visualize writes Porcupine's page about one key to w: its operations, the
// longest orders that are legal, and the fault windows as annotations. Where
// the key is not linearizable, the page ends with the answer that made it so.
func Visualize(ctx context.Context, h history.History, key string, o Options, w io.Writer) error {
	all := history.Operations(h)
	keys, err := group(h.Header, slices.DeleteFunc(slices.Clone(all), func(op history.Operation) bool { return op.Invoke.Key != key }), o)
	if err != nil {
		return err
	}
	if len(keys) == 0 || len(keys[0].ops) == 0 {
		return fmt.Errorf("linearizability: the history has no operation on key %q that can be drawn", key)
	}
	limited, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	stop := func() bool { return limited.Err() != nil }
	ops := keys[0].ops
	if decide(keys[0].model, ops, stop) == Invalid {
		ops = shortestBeginning(ops, func(part []operation) bool { return decide(keys[0].model, part, stop) == Invalid })
	}
	ops = prune(ops)
	if len(ops) > pageOperations {
		return fmt.Errorf("linearizability: key %q has %d operations; a page can draw %d", key, len(ops), pageOperations)
	}
	s := &bounded{model: keys[0].model, stop: stop, left: configurationsMax(ops)}
	bound := porcupineModel(keys[0].model)
	bound.StepContext = s.step
	_, info := porcupine.CheckOperationsVerbose(bound, pageRows(h, ops), 0)
	info.AddAnnotations(annotations(h, ops))
	return porcupine.Visualize(porcupineModel(keys[0].model), info, w)
}

// pageRows gives each process a row, in order of appearance.
func pageRows(h history.History, ops []operation) []porcupine.Operation {
	processes := make(map[int]int) // by event index
	for _, e := range h.Events {
		if e.Type == history.Invoke {
			processes[e.Index] = e.Process
		}
	}
	rows := make(map[int]int)
	list := porcupineOperations(ops)
	for i, o := range ops {
		p := processes[o.invoke]
		if _, ok := rows[p]; !ok {
			rows[p] = len(rows)
		}
		list[i].ClientId = rows[p]
	}
	return list
}

// annotations are the fault windows that overlap the operations drawn.
func annotations(h history.History, ops []operation) []porcupine.Annotation {
	from, to := story{few: ops}.span()
	var list []porcupine.Annotation
	for _, w := range history.Windows(h) {
		if w.From > to || w.To < from {
			continue
		}
		list = append(list, porcupine.Annotation{
			Tag: "faults", Start: int64(max(w.From, from)), End: int64(min(w.To, to)),
			Description: w.Fault, BackgroundColor: "#f4c7c3",
			Details: fmt.Sprintf("%s on %s, %s to %s", w.ID, strings.Join(w.Victims, ", "), seconds(w.Start), seconds(w.End)),
		})
	}
	return list
}
