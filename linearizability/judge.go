package linearizability

import (
	"context"
	"fmt"

	"chaos/history"
)

// An Input is all that is known of a run.
type Input struct {
	History  history.History
	Audits   map[string][]history.Audit // by node, in file order; may be empty
	Required []string                   // faults that must have been proven: "kill", "partition" (any shape)
	Options  Options
}

// Judge judges a run in stages; the worst verdict of its parts wins. An error
// means that the history is ill-formed: that is a failure of the harness, and
// there is no verdict.
func Judge(ctx context.Context, in Input) (Verdict, error) {
	h := in.History
	if err := history.Validate(h); err != nil {
		return Verdict{}, err
	}
	all := history.Operations(h)
	keys, err := group(h.Header, all, in.Options)
	if err != nil {
		return Verdict{}, err
	}
	windows := history.Windows(h)
	parts := []Verdict{
		meaningful(h, windows, in.Required),
		checkKeys(ctx, h, all, keys, in.Options),
		freshKeys(all, keys),
		durable(h, keys),
		incidents(h),
		recovery(h, windows, in.Options.settle()),
	}
	if len(in.Audits) > 0 {
		parts = append(parts, audits(h, in.Audits))
	}
	return merge(parts), nil
}

// merge is the worst of the parts; of equally bad ones the first speaks.
func merge(parts []Verdict) Verdict {
	v := Verdict{Checker: "run", Parts: parts}
	worst := Verdict{}
	for i, p := range parts {
		if i == 0 || p.Outcome > worst.Outcome {
			worst = p
		}
	}
	v.Outcome, v.Key, v.Story, v.Evidence = worst.Outcome, worst.Key, worst.Story, worst.Evidence
	v.Reason = worst.Reason
	if v.Outcome != Valid {
		return v
	}
	for _, p := range parts {
		if p.Checker == "linearizable" {
			v.Reason = p.Reason
		}
	}
	return v
}

// freshKeys: before anything was written to a key, a read finds it absent. A
// key holds the nonce of its run, so a value there was made up, or the run met
// the data of another.
func freshKeys(all []history.Operation, keys []keyed) Verdict {
	for _, k := range keys {
		touched := never // the first invocation that may have written
		for _, o := range k.ops {
			if o.call.F != history.Read {
				touched = min(touched, o.invoke)
			}
		}
		for _, o := range k.ops {
			if o.call.F != history.Read || o.ret > touched {
				continue
			}
			if ok, _ := k.model.Step(k.model.Init, o.call); !ok {
				op := all[o.source]
				return Verdict{Checker: "fresh keys", Outcome: Invalid, Key: k.key, Evidence: []int{o.invoke, o.ret},
					Reason: fmt.Sprintf("%s answered %s on key %s at %s, before anything was written to it", node(op), describeCall(o.call), k.key, place(op.Complete))}
			}
		}
	}
	return Verdict{Checker: "fresh keys", Outcome: Valid, Reason: "every key was absent until it was written"}
}

// durable: each key that may have been written was read at the end; without
// that a loss could not have been seen. A history without phases is not asked.
func durable(h history.History, keys []keyed) Verdict {
	v := Verdict{Checker: "final reads", Outcome: Valid}
	phases, final := false, never
	for _, e := range h.Events {
		if e.Process != history.Nemesis || e.F != history.Phase {
			continue
		}
		phases = true
		if n, err := history.DecodeNote(e); err == nil && n.Phase == history.Final && final == never {
			final = e.Index
		}
	}
	switch {
	case !phases:
		v.Reason = "the history names no phases, so final reads were not asked for"
		return v
	case final == never:
		v.Outcome, v.Reason = Unknown, "the run never came to its final reads, so a lost write could not have been seen"
		return v
	}
	var unread []string
	for _, k := range keys {
		if !readAfter(k, final) {
			unread = append(unread, k.key)
		}
	}
	if len(unread) > 0 {
		v.Outcome, v.Key = Unknown, unread[0]
		v.Reason = fmt.Sprintf("%d of %d keys have no completed final read, so a loss there could not have been seen: %s", len(unread), len(keys), enumerate(unread, undecidedMax))
		return v
	}
	v.Reason = fmt.Sprintf("all %d keys were read at the end", len(keys))
	return v
}

// readAfter tells whether k was read after the event, or needs no reading.
func readAfter(k keyed, event int) bool {
	written := false
	for _, o := range k.ops {
		if o.call.F == history.Read && o.invoke > event {
			return true
		}
		written = written || o.call.F != history.Read
	}
	return !written
}
