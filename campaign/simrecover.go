package campaign

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/sim"
)

// takeOverStream feeds when a leader is cut off that is being replaced.
const takeOverStream = 8

// takeOver has the leader hand over to a node of the majority that will be left
// whole, which it is no part of, and comes back in the middle of it: what the
// old one knew and told only half is what the new one must do without. It is
// false after a breach.
func (r *simRun) takeOver() bool {
	settings, leader := r.Plan.Spec.settings(), r.seen.current(r.world.Now())
	if !settings.TakeOver || leader == 0 || r.Plan.Spec.Nodes < 3 {
		return true
	}
	r.outgoing = leader
	core, dice := r.core(), stream(r.Plan.Seed^r.chance(), takeOverStream)
	r.world.Transfer(leader, core[dice.IntN(len(core))])
	trips := 4 * (settings.Latency + settings.Spread + settings.Sync + settings.SyncBy) // µs, of question and answer
	return r.until(r.world.Now() + time.Duration(1+dice.Int64N(trips))*time.Microsecond)
}

// recover heals a majority and demands that it answers again, with no other
// load, while the rest stays as it is; then the same of all nodes. Only after
// that clients go on.
func (r *simRun) recover() bool {
	if !r.takeOver() {
		return false
	}
	broken, err := r.leaveBroken()
	if err != nil {
		r.storm.trouble = append(r.storm.trouble, err.Error())
	}
	r.begin(history.Note{Phase: history.Healing, Detail: leftBroken(broken)})
	if err := r.storm.healAll(context.Background()); err != nil {
		r.storm.trouble = append(r.storm.trouble, err.Error())
	}
	core := r.core()
	r.world.Spare()
	r.restartAll()
	if rest := r.others(core); r.transfer > 0 && len(rest) > 0 { // the one who is to take over may be gone
		r.world.Transfer(r.seen.current(r.world.Now()), rest[r.dice.IntN(len(rest))])
	}
	r.loading = false
	r.world.Calm(core)
	if !r.answering(core, stuckAfter) {
		return r.stuck(core)
	}
	if _, err := r.world.Revert(context.Background(), restOf); err != nil {
		r.storm.trouble = append(r.storm.trouble, err.Error())
	}
	r.world.Calm(r.all())
	r.enter(history.Settle)
	if !r.answering(r.all(), stuckAfter) {
		return r.stuck(r.all())
	}
	r.load()
	return r.until(r.world.Now()+settleMin) && r.rest()
}

// rest stops the load; what is under way may end in a moment of grace.
func (r *simRun) rest() bool {
	r.loading = false
	if !r.until(r.world.Now() + graceTime) {
		return false
	}
	r.hurried = true
	for _, w := range r.workers {
		w.hurry()
	}
	return r.world.Breach() == nil
}

// stuck names the breach of a majority that does not answer, unless another came first.
func (r *simRun) stuck(of []nodes.ID) bool {
	if r.world.Breach() == nil {
		for _, id := range of {
			if p := r.probes[id-1]; !p.ok {
				r.world.Accuse(&sim.Breach{Invariant: Stuck, Node: id,
					Detail: fmt.Sprintf("%s does not answer %s after it was healed together with %v: %s", id, stuckAfter, of, p.why)})
				break
			}
		}
	}
	return false
}

// restOf is the injection that keeps everything outside the core as the storm left it.
const restOf = "rest"

// core is the majority that is healed first: drawn, and with those that run before others.
func (r *simRun) core() []nodes.ID {
	ids := r.all()
	dice := stream(r.Plan.Seed^r.chance(), coreStream)
	dice.Shuffle(len(ids), func(a, b int) { ids[a], ids[b] = ids[b], ids[a] })
	if r.outgoing != 0 {
		ids = append(slices.DeleteFunc(ids, func(id nodes.ID) bool { return id == r.outgoing }), r.outgoing)
	}
	ids = ids[:len(ids)/2+1]
	slices.Sort(ids)
	return ids
}

// others are the nodes outside the core.
func (r *simRun) others(core []nodes.ID) []nodes.ID {
	return slices.DeleteFunc(r.all(), func(id nodes.ID) bool { return slices.Contains(core, id) })
}

const coreStream = 4

// leaveBroken keeps what is wrong outside the core, under a name of its own, and
// breaks more of it: what is down, frozen or half cut off must not matter.
func (r *simRun) leaveBroken() (kept []nodes.Effect, err error) {
	core := r.core()
	inside := func(id nodes.ID) bool { return id == nodes.Clients || slices.Contains(core, id) }
	for _, i := range r.storm.live {
		for _, e := range i.effects {
			if e.OnLink() && !(inside(e.From) && inside(e.To)) || !e.OnLink() && !inside(e.Node) {
				kept = append(kept, e)
			}
		}
	}
	kept = append(kept, evened(kept, core)...)
	for _, id := range r.others(core) {
		kept = append(kept, r.breakage(id, core)...)
	}
	_, err = r.world.Apply(context.Background(), restOf, kept)
	return kept, err
}

// leftBroken says in the note of the healing what it does not heal yet; no
// injection of the plan did that, so none of their notes tells of it.
func leftBroken(kept []nodes.Effect) string {
	var told []string
	for _, e := range kept {
		if s := e.String(); !slices.Contains(told, s) {
			told = append(told, s)
		}
	}
	if len(told) == 0 {
		return ""
	}
	return history.LeftBroken + strings.Join(told, ", ")
}

// evened makes cuts that part an outsider from some of the core part it from all
// of it. A leader that only some of the core hear keeps the others without one
// for as long as it lives, and no algorithm here promises to overcome that.
func evened(kept []nodes.Effect, core []nodes.ID) (out []nodes.Effect) {
	for _, e := range kept {
		from, to := slices.Contains(core, e.From), slices.Contains(core, e.To)
		if e.Kind != nodes.Cut && e.Kind != nodes.CutData || from == to || e.From == nodes.Clients || e.To == nodes.Clients {
			continue
		}
		for _, id := range core {
			if from {
				e.From = id
			} else {
				e.To = id
			}
			out = append(out, e)
		}
	}
	return out
}

// breakage draws what else is wrong with a node outside the core.
func (r *simRun) breakage(id nodes.ID, core []nodes.ID) (out []nodes.Effect) {
	switch what := r.dice.IntN(6); what {
	case 0:
	case 1:
		out = append(out, nodes.Effect{Kind: nodes.Down, Node: id})
	case 2:
		out = append(out, nodes.Effect{Kind: nodes.Frozen, Node: id})
	default:
		for _, c := range core {
			if what != 3 {
				out = append(out, nodes.Effect{Kind: nodes.Cut, From: id, To: c})
			}
			if what != 4 {
				out = append(out, nodes.Effect{Kind: nodes.Cut, From: c, To: id})
			}
		}
	}
	return out
}
