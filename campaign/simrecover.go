package campaign

import "time"

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
