package campaign

import (
	"context"
	"fmt"
	"strings"
	"time"

	"chaos/history"
	"chaos/nodes"
)

// crashPause is how long a node that ended at its crash point stays down.
const crashPause = 300 * time.Millisecond

// crashedAsAsked tells whether an incident is the crash that the plan armed.
func (r *run) crashedAsAsked(i nodes.Incident) bool {
	node, _, armed := strings.Cut(r.Plan.Spec.Knobs.CrashAt, ":")
	return armed && i.Kind == "exit" && i.Node.String() == node && strings.Contains(firstLine(i.Detail), "killed") &&
		r.phase.Load().name != history.WarmUp && r.crashed.CompareAndSwap(false, true)
}

// revive starts a node again that ended at its crash point. A node does so once.
func (r *run) revive(ctx context.Context, id nodes.ID) {
	if !sleep(ctx, crashPause) {
		return
	}
	bounded, cancel := whole(ctx, 2*effectTimeout)
	defer cancel()
	const name = "crash-point"
	_, err := r.cluster.Apply(bounded, name, []nodes.Effect{{Kind: nodes.Down, Node: id}})
	if err == nil {
		_, err = r.cluster.Revert(bounded, name)
	}
	if err != nil {
		r.rec.note(history.Info, history.Incident, history.Note{Node: id.String(), Detail: "exit: starting it again after its crash point: " + err.Error()})
	}
}

// missedCrash notes that a crash point which the plan armed was never passed
// often enough: the run does not show what it was made for.
func (r *run) missedCrash() {
	if note, missed := missedCrash(r.Plan.Spec.Knobs.CrashAt, r.crashed.Load()); missed {
		r.rec.note(history.Info, history.Incident, note)
	}
}

func missedCrash(armed string, reached bool) (note history.Note, missed bool) {
	node, point, _ := strings.Cut(armed, ":")
	return history.Note{Node: node, Detail: fmt.Sprintf("the crash point %s was never reached; a smaller count or a longer run reaches it", point)},
		armed != "" && !reached
}
