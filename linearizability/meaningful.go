package linearizability

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"chaos/history"
)

const (
	// attemptsMin is how many invocations a fault window must have met.
	attemptsMin = 10
	// answersMin is how many operations must have succeeded away from the
	// victims, where a quorum could be reached.
	answersMin = 10
	// answersAfter is how long the windows of a group must have lasted for
	// successes to be expected: a shorter one may lie within an election.
	answersAfter = time.Second
	// answersInWeather is the same where packets get lost or wait for their turn:
	// an election, and what was asked meanwhile, then takes some retransmissions.
	answersInWeather = 3 * time.Second
	moreLoad         = " (more clients, a higher rate or a longer run give more)"
)

// meaningful: the run could have failed. Something succeeded, every required
// fault was proven at both its ends at least once, and clients were at work
// in every required window that was proven.
func meaningful(h history.History, windows []history.Window, required []string) Verdict {
	v := Verdict{Checker: "meaningful", Outcome: Valid}
	oks := 0
	for _, e := range h.Events {
		if e.Process != history.Nemesis && e.Type == history.Ok {
			oks++
		}
	}
	if oks == 0 {
		v.Outcome, v.Reason = Unknown, "no operation succeeded, so nothing could have been seen to be wrong"
		return v
	}
	if !changed(h) {
		v.Outcome, v.Reason = Unknown, "no write was acknowledged, so no answer could have been seen to be wrong"
		return v
	}
	groups := groupWindows(windows)
	var doubts []string
	for _, name := range requiredFaults(windows, required) {
		doubts = append(doubts, doubt(h, windows, groups, name)...)
	}
	if len(doubts) > 0 {
		v.Outcome, v.Reason, v.Story = Unknown, doubts[0], doubts
		return v
	}
	v.Reason = fmt.Sprintf("%d operations succeeded, and every required fault was proven while clients were at work", oks)
	return v
}

// changed tells whether a command that may change a key was acknowledged. Only
// the record of a whole run, which names its phases, has to show one.
func changed(h history.History) bool {
	phases := false
	for _, e := range h.Events {
		phases = phases || e.Process == history.Nemesis && e.F == history.Phase
		if e.Process != history.Nemesis && e.Type == history.Ok && e.F != history.Read {
			return true
		}
	}
	return !phases
}

// requiredFaults are the names asked for, and those that the record requires.
func requiredFaults(windows []history.Window, asked []string) []string {
	names := slices.Clone(asked)
	for _, w := range windows {
		covered := slices.ContainsFunc(names, func(n string) bool { return isFault(w, n) })
		if w.Required && !covered {
			names = append(names, w.Fault)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// isFault tells whether a window is of the fault name: of it, of a shape of
// it ("partition-ring" of "partition"), or of the recipe of that name.
func isFault(w history.Window, name string) bool {
	return w.Fault == name || strings.HasPrefix(w.Fault, name+"-") || w.Recipe == name
}

// groupWindows joins the windows of one recipe, which count as one.
func groupWindows(windows []history.Window) [][]history.Window {
	var groups [][]history.Window
	byRecipe := make(map[string]int)
	for _, w := range windows {
		i, ok := byRecipe[w.Recipe]
		if w.Recipe == "" || !ok {
			i = len(groups)
			groups = append(groups, nil)
			byRecipe[w.Recipe] = i
		}
		groups[i] = append(groups[i], w)
	}
	return groups
}

// doubt lists why a required fault proves nothing; nil where it does.
func doubt(h history.History, windows []history.Window, groups [][]history.Window, name string) []string {
	injected, proven := 0, 0
	var doubts []string
	for _, g := range groups {
		if !slices.ContainsFunc(g, func(w history.Window) bool { return isFault(w, name) }) {
			continue
		}
		injected++
		if slices.ContainsFunc(g, func(w history.Window) bool { return !w.Proven() }) {
			continue // a gap: it does not count
		}
		proven++
		if why := idle(h, windows, g); why != "" {
			doubts = append(doubts, why)
		}
	}
	switch {
	case injected == 0:
		return []string{fmt.Sprintf("the required fault %s was never injected", name)}
	case proven == 0:
		return []string{fmt.Sprintf("the required fault %s was injected but never proven at both its ends (0 of %d)", name, injected)}
	}
	return doubts
}

// idle tells why too little was going on in the windows of a group: at the
// victims, where they could be asked, and elsewhere, where a quorum was.
func idle(h history.History, windows, group []history.Window) string {
	var atVictims, anywhere, okElsewhere int
	apart := separates(h, group)
	for i := range h.Events { // events and windows are long: copies of them would cost more than all else here
		e := &h.Events[i]
		if e.Process == history.Nemesis {
			continue
		}
		in, victim := false, false
		for g := range group {
			if w := &group[g]; w.Contains(e.Index) {
				in, victim = true, victim || slices.Contains(w.Victims, e.Node)
			}
		}
		switch {
		case !in:
		case e.Type == history.Invoke:
			anywhere++
			if victim {
				atVictims++
			}
		case e.Type == history.Ok && !(victim && apart):
			okElsewhere++
		}
	}
	w := group[0]
	name := fmt.Sprintf("fault %s (%s, from event %d)", w.Fault, w.ID, w.From)
	switch {
	case anywhere < attemptsMin:
		return fmt.Sprintf("%s met %d invocations; %d are needed%s", name, anywhere, attemptsMin, moreLoad)
	case reachable(group) && atVictims < attemptsMin:
		return fmt.Sprintf("%s met %d invocations at its victims %s; %d are needed%s", name, atVictims, strings.Join(w.Victims, ", "), attemptsMin, moreLoad)
	case quorate(windows, group) && lasted(group) >= answersDue(windows, group) && okElsewhere < answersMin:
		where := ""
		if apart {
			where = " away from its victims"
		}
		return fmt.Sprintf("%s met %d successes%s while a majority was connected; %d are needed%s", name, okElsewhere, where, answersMin, moreLoad)
	}
	return ""
}

// reachable tells whether victims run on under the fault, cut off or frozen,
// so that asking them is the point of it.
func reachable(group []history.Window) bool {
	for _, w := range group {
		hurt := slices.Contains(w.Kinds, "cut") || slices.Contains(w.Kinds, "frozen") ||
			isFault(w, "partition") || isFault(w, "pause")
		if !hurt || len(w.Victims) == 0 {
			return false
		}
	}
	return true
}

// separates tells whether the fault sets its victims apart from others, so that
// answers must come from those: all do but what only slows or what TCP mends,
// and what hurts every node alike, as a ring does.
func separates(h history.History, group []history.Window) bool {
	if !slices.ContainsFunc(group, parts) {
		return false
	}
	return slices.ContainsFunc(h.Events, func(e history.Event) bool {
		return e.Process != history.Nemesis && e.Node != "" &&
			!slices.ContainsFunc(group, func(w history.Window) bool { return slices.Contains(w.Victims, e.Node) })
	})
}

// mended are the kinds of effects through which connections go on.
var mended = []string{"delayed", "lossy", "duplicated", "reordered", "limited"}

// parts tells whether a window has effects that stop connections.
func parts(w history.Window) bool {
	return len(w.Kinds) == 0 || slices.ContainsFunc(w.Kinds, func(k string) bool { return !slices.Contains(mended, k) })
}

// answersDue is how long a group must have lasted for successes to be expected.
func answersDue(windows, group []history.Window) time.Duration {
	for _, w := range windows {
		weather := slices.Contains(w.Kinds, "lossy") || slices.Contains(w.Kinds, "limited") || slices.Contains(w.Kinds, "reordered")
		if weather && slices.ContainsFunc(group, func(g history.Window) bool { return w.From < g.To && g.From < w.To }) {
			return answersInWeather
		}
	}
	return answersAfter
}

// lasted is the time that the windows of a group took together.
func lasted(group []history.Window) (sum time.Duration) {
	for _, w := range group {
		sum += w.End - w.Start
	}
	return sum
}

// quorate tells whether a majority was up and connected throughout: as each
// window of the group began, and as any that overlaps it later did.
func quorate(windows, group []history.Window) bool {
	for _, g := range group {
		if !g.Quorum || len(g.Victims) == 0 {
			return false
		}
		for _, w := range windows {
			if w.From > g.From && w.From < g.To && !w.Quorum {
				return false
			}
		}
	}
	return true
}

// incidents: a node that ended in a panic found its own invariant broken, and one
// that refuses what its disk holds lost what it had promised, since no fault of a
// live run hurts a disk. Any other end that nobody asked for leaves the run in
// doubt: a disk may be full, a port taken.
func incidents(h history.History) Verdict {
	v := Verdict{Checker: "incidents", Outcome: Valid, Reason: "no node ended unasked"}
	for _, e := range h.Events {
		if e.Process != history.Nemesis || e.F != history.Incident {
			continue
		}
		n, err := history.DecodeNote(e)
		if err != nil || strings.HasPrefix(n.Detail, starved) || strings.HasPrefix(n.Detail, lapsed) ||
			strings.HasPrefix(n.Detail, history.CrashPoint) {
			continue
		}
		outcome := Unknown
		reason := fmt.Sprintf("%s had an incident at %s: %s", cmp.Or(n.Node, "the cluster"), place(e), n.Detail)
		if broken, is := strings.CutPrefix(n.Detail, history.Invariant); is {
			return Verdict{Checker: invariants, Outcome: Invalid, Evidence: []int{e.Index}, Reason: broken}
		}
		if text, is := panicText(n.Detail); is {
			outcome = Invalid
			reason = fmt.Sprintf("%s ended in a panic at %s: %s", n.Node, place(e), text)
		}
		if _, text, is := strings.Cut(n.Detail, history.Damage); is {
			outcome = Invalid
			text, _, _ = strings.Cut(text, "\n")
			reason = fmt.Sprintf("%s lost what it had made durable, and ended at %s: %s", n.Node, place(e), text)
		}
		v.Story = append(v.Story, reason)
		if outcome == Invalid && v.Outcome != Invalid { // the first tells enough
			v.Story = append(v.Story, faultsBetween(h, e.Index, e.Index)...)
			v.Story = append(v.Story, "Key "+enumerate(keysBetween(h, e.Index, e.Index), keysTold)+": in use meanwhile.")
		}
		if outcome > v.Outcome {
			v.Outcome, v.Reason, v.Evidence = outcome, reason, []int{e.Index}
		}
	}
	return v
}

// invariants is the checker that a breach is told by which a simulation saw.
const invariants = "invariants"

// panicTold is how much of a panic's text is told, bytes; its stacks are in the node's log.
const panicTold = 300

// panicText is what a node said last, from the detail of an incident.
func panicText(detail string) (text string, is bool) {
	_, rest, is := strings.Cut(detail, panicked)
	lines := strings.Split(rest, "\n")
	text = lines[0]
	for _, line := range lines[1:] {
		if strings.HasPrefix(line, panicked) || strings.HasPrefix(line, "fatal error: ") {
			text = strings.TrimPrefix(line, panicked)
			break
		}
	}
	return text[:min(len(text), panicTold)], is
}

// How the Detail of an incident begins, or what it contains. Any other is an
// end that nobody asked for.
const (
	starved  = "starved" // the harness's own beat had gaps: the machine was too busy
	lapsed   = "lapse"   // a fault did not hold: its window does not count, as verify tells
	ended    = "exit: "  // a node's process ended by itself
	panicked = "panic: " // a node's log ends in a panic, whose text follows
)

// recovery: after the last proven heal an operation invoked since succeeds
// within the bound. That it did not is a violation only where every heal is
// proven and the machine was not starved.
func recovery(h history.History, windows []history.Window, bound time.Duration) Verdict {
	v := Verdict{Checker: "recovery", Outcome: Valid, Reason: "nothing was hurt"}
	if len(windows) == 0 {
		return v
	}
	healed, from := time.Duration(0), -1
	for _, w := range windows {
		if !w.Healed {
			v.Outcome = Unknown
			v.Reason = fmt.Sprintf("the heal of fault %s (%s) was never proven, so recovery can't be judged", w.Fault, w.ID)
			return v
		}
		healed, from = max(healed, w.HealedAt), max(from, w.HealedIndex)
	}
	a := attemptsAfter(h, from)
	// Clients may have paused at the heal: the bound runs from their first attempt.
	since := max(healed, a.first)
	switch {
	case a.ok && a.end-since <= bound:
		v.Reason = fmt.Sprintf("an operation succeeded %s after the last heal", seconds(a.end-healed))
	case a.tried == 0 || !a.ok && a.ended == 0:
		v.Outcome, v.Reason = Unknown, "no operation was tried to its end after the last heal"
	case !a.ok && a.end-since < bound:
		v.Outcome = Unknown
		v.Reason = fmt.Sprintf("clients tried for only %s after the last heal, too short to tell whether the cluster recovers", seconds(a.end-since))
	case endedUnasked(h) != "":
		v.Outcome = Unknown
		v.Reason = fmt.Sprintf("no operation succeeded within %s of the last heal, but %s had ended unasked, and nobody starts it again", seconds(bound), endedUnasked(h))
	case starvedAfter(h, from):
		v.Outcome, v.Reason = Unknown, fmt.Sprintf("no operation succeeded within %s of the last heal, but the machine was starved", seconds(bound))
	default:
		v.Outcome = Invalid
		v.Reason = fmt.Sprintf("no operation succeeded within %s of the last heal at event %d, though %d were tried", seconds(bound), from, a.tried)
		v.Evidence = []int{from}
	}
	return v
}

// attempts are the operations invoked after an event, up to the first that succeeded.
type attempts struct {
	tried, ended int           // ended: otherwise than ok
	ok           bool          // one succeeded
	first, end   time.Duration // of the first invocation; of the success, or of the last event of a client
}

func attemptsAfter(h history.History, from int) (a attempts) {
	fresh := make(map[int]bool)
	for _, e := range h.Events {
		if e.Index <= from || e.Process == history.Nemesis {
			continue
		}
		a.end = e.Time
		switch {
		case e.Type == history.Invoke:
			if a.tried == 0 {
				a.first = e.Time
			}
			fresh[e.Process] = true
			a.tried++
		case fresh[e.Process] && e.Type == history.Ok:
			a.ok = true
			return a
		case fresh[e.Process]:
			a.ended++
		}
	}
	return a
}

// endedUnasked names a node that ended by itself without a panic, "" if none
// did: a full disk ends nodes, and a cluster without them need not recover.
func endedUnasked(h history.History) string {
	for _, e := range h.Events {
		if e.Process != history.Nemesis || e.F != history.Incident {
			continue
		}
		if n, err := history.DecodeNote(e); err == nil && strings.HasPrefix(n.Detail, ended) {
			return n.Node
		}
	}
	return ""
}

// starvedAfter tells whether the harness missed its own beat after the event.
func starvedAfter(h history.History, from int) bool {
	for _, e := range h.Events {
		if e.Process != history.Nemesis || e.F != history.Incident || e.Index <= from {
			continue
		}
		if n, err := history.DecodeNote(e); err == nil && strings.HasPrefix(n.Detail, starved) {
			return true
		}
	}
	return false
}
