package campaign

import (
	"fmt"
	"slices"
	"time"

	"chaos/history"
	"chaos/linearizability"
	"chaos/nemesis"
)

// carriedOut holds the record to the plan: each injection that came due within
// the storm was commanded. One that the harness left out would otherwise only be
// missing, and nobody would miss it.
func carriedOut(p Plan, h history.History) linearizability.Verdict {
	v := linearizability.Verdict{Checker: "plan", Outcome: linearizability.Valid, Reason: "every injection that came due was made"}
	made := map[string]bool{}
	for _, e := range h.Events {
		if e.Process != history.Nemesis || e.F != history.Inject {
			continue
		}
		if n, err := history.DecodeNote(e); err == nil {
			made[n.ID] = true
		}
	}
	var missed []string
	waits := map[string]time.Duration{} // by recipe: how much later its steps may come
	for _, st := range p.Schedule {
		waits[st.Recipe] += st.Within
		late := waits[st.Recipe]
		if st.Recipe == "" {
			late = st.Within
		}
		if st.Action == nemesis.Inject && !made[st.ID] && st.At+late < time.Duration(p.Spec.Duration)-dueMargin {
			missed = append(missed, st.ID)
		}
	}
	if len(missed) > 0 {
		slices.Sort(missed)
		v.Outcome = linearizability.Unknown
		v.Reason = fmt.Sprintf("%d injections of the plan were never made although they came due, %s the first (the machine was too busy, or so many faults need a longer --duration)", len(missed), missed[0])
	}
	return v
}

// dueMargin is how long before the end of the storm a step must be due to be missed.
const dueMargin = time.Second

// holdToPlan adds that verdict. It never makes a violation less.
func holdToPlan(v *linearizability.Verdict, p Plan, h history.History) {
	part := carriedOut(p, h)
	v.Parts = append(v.Parts, part)
	if part.Outcome > v.Outcome {
		v.Outcome, v.Reason = part.Outcome, part.Reason
	}
}
