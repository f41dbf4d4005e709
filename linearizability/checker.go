package linearizability

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"chaos/history"
	"chaos/workload"
)

const (
	// CheckTimeout is how long a check may take where Options name no time.
	CheckTimeout = 60 * time.Second
	// SettleBound is how soon after the last heal an operation must succeed,
	// where Options name no time.
	SettleBound = 10 * time.Second
)

// Options of a check.
type Options struct {
	Timeout time.Duration // of the whole search for an order; 0: CheckTimeout
	Settle  time.Duration // bound of recovery; 0: SettleBound
	// ModelFor names the model of a key; fallback is the header's workload. nil:
	// workload.ModelFor, and where that knows none, the universal model.
	ModelFor func(key, fallback string) (workload.Model, bool)
}

func (o Options) modelFor(key, fallback string) (workload.Model, bool) {
	if o.ModelFor != nil {
		return o.ModelFor(key, fallback)
	}
	m, _ := workload.ModelFor(key, fallback)
	return m, true
}

func (o Options) timeout() time.Duration {
	if o.Timeout > 0 {
		return o.Timeout
	}
	return CheckTimeout
}

func (o Options) settle() time.Duration {
	if o.Settle > 0 {
		return o.Settle
	}
	return SettleBound
}

// never is the return of an operation that may still take effect after every
// recorded event.
const never = math.MaxInt

// An operation is what an order must explain: a call with its place in the
// history. The interval is closed, and its bounds are event indices: equal
// time stamps would hide stale reads.
type operation struct {
	call   workload.Call
	invoke int // event index
	ret    int // event index; never: open
	at     uint64
	source int // index into the history's operations
}

// opened is o as it was before its completion was known.
func (o operation) opened() operation {
	c := o.call
	o.call = workload.Call{F: c.F, Arg: c.Arg, From: c.From}
	o.ret, o.at = never, 0
	return o
}

// A keyed is all that happened to one key, in order of invocation.
type keyed struct {
	key   string
	model workload.Model
	ops   []operation
}

// group parses the operations of a well-formed history and sorts them by key.
// Operations that certainly had no effect and reads without an answer say
// nothing and are left out. An error means that the history is ill-formed.
func group(header history.Header, all []history.Operation, o Options) ([]keyed, error) {
	byKey := make(map[string]*keyed)
	for i, op := range all {
		k := byKey[op.Invoke.Key]
		if k == nil {
			m, ok := o.modelFor(op.Invoke.Key, header.Workload)
			if !ok {
				return nil, &history.RuleError{Index: op.Invoke.Index, Rule: fmt.Sprintf("no workload has a model for key %q", op.Invoke.Key)}
			}
			k = &keyed{key: op.Invoke.Key, model: m}
			byKey[k.key] = k
		}
		parsed, use, err := convert(k.model, op, i)
		if err != nil {
			return nil, err
		}
		if use {
			k.ops = append(k.ops, parsed)
		}
	}
	list := make([]keyed, 0, len(byKey))
	for _, name := range slices.Sorted(maps.Keys(byKey)) {
		list = append(list, *byKey[name])
	}
	return list, nil
}

// convert parses one operation; use is false where it constrains no order.
func convert(m workload.Model, op history.Operation, source int) (o operation, use bool, err error) {
	call, err := m.Parse(op)
	if err != nil {
		return o, false, &history.RuleError{Index: op.Invoke.Index, Rule: err.Error()}
	}
	if op.Complete.Type == history.Fail || op.Open() && call.F == history.Read {
		return o, false, nil
	}
	o = operation{call: call, invoke: op.Invoke.Index, ret: op.Complete.Index, at: op.Complete.At, source: source}
	if op.Open() {
		o.ret, o.at = never, 0
	}
	return o, true, nil
}

// Linearizable is the checker that asks whether each key's operations have an
// order that respects real time and the key's model (Herlihy and Wing,
// "Linearizability: A Correctness Condition for Concurrent Objects").
type Linearizable struct{ Options Options }

// Name is "linearizable".
func (Linearizable) Name() string { return "linearizable" }

// Check judges h; see [Check].
func (l Linearizable) Check(ctx context.Context, h history.History) Verdict {
	return Check(ctx, h, l.Options)
}

// Check judges whether h is linearizable, key by key: first by the order that
// the log indices propose, which is then verified; where that proves nothing,
// by Porcupine's search. Past the time-out the verdict is Unknown and says
// what was decided. An ill-formed history is Unknown with the rule it breaks.
func Check(ctx context.Context, h history.History, o Options) Verdict {
	if err := history.Validate(h); err != nil {
		return illFormed(err)
	}
	all := history.Operations(h)
	keys, err := group(h.Header, all, o)
	if err != nil {
		return illFormed(err)
	}
	return checkKeys(ctx, h, all, keys, o)
}

func illFormed(err error) Verdict {
	return Verdict{Checker: "linearizable", Outcome: Unknown, Reason: "the history is ill-formed: " + err.Error()}
}

func checkKeys(ctx context.Context, h history.History, all []history.Operation, keys []keyed, o Options) Verdict {
	limited, cancel := context.WithTimeout(ctx, o.timeout())
	defer cancel()
	results, guilty := searchAll(limited, keys)
	if guilty >= 0 {
		return tell(ctx, h, all, keys[guilty])
	}
	return summarize(keys, results)
}

// undecidedMax is how many undecided keys a reason names.
const undecidedMax = 5

func summarize(keys []keyed, results []Outcome) Verdict {
	v := Verdict{Checker: "linearizable", Outcome: Valid}
	ops, decided := 0, 0
	var undecided []string
	for i, k := range keys {
		if results[i] == Valid {
			decided++
			ops += len(k.ops)
		} else {
			undecided = append(undecided, k.key)
		}
	}
	switch {
	case len(keys) == 0:
		v.Outcome, v.Reason = Unknown, "the history holds no operation"
	case len(undecided) == 0:
		v.Reason = fmt.Sprintf("all %d keys with %d operations are linearizable", decided, ops)
	default:
		v.Outcome, v.Key = Unknown, undecided[0]
		v.Reason = fmt.Sprintf("%d of %d keys are linearizable; undecided within the bounds of time and memory: %s",
			decided, len(keys), enumerate(undecided, undecidedMax))
	}
	return v
}

// enumerate lists at most limit names, and how many more there are.
func enumerate(names []string, limit int) string {
	text := ""
	for i, n := range names {
		if i == limit {
			return fmt.Sprintf("%s and %d more", text, len(names)-limit)
		}
		if i > 0 {
			text += ", "
		}
		text += n
	}
	return text
}
