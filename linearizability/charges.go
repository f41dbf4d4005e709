package linearizability

import (
	"fmt"
	"slices"
	"strings"

	"chaos/history"
)

// Bounds of what is told around a charge.
const (
	chargesTold = 3 // charges that get their circumstances told
	keysTold    = 6 // keys that a divergence names
)

// A charge is one contradiction in what the nodes wrote of themselves.
type charge struct {
	text     string
	node     string
	line     history.Audit // that shows it
	diverged bool          // the state machines differ, up to line.Applied
}

// convict makes the verdict on charges: what they are and, for the first of
// them, which faults had been active and which keys they concern. Audit lines
// carry no time; restarts, terms and log indices tie them to the history.
func convict(h history.History, charges []charge) Verdict {
	v := Verdict{Checker: "audits", Outcome: Invalid, Reason: charges[0].text}
	windows := history.Windows(h)
	charges, alike := firstOfEach(charges)
	for i, c := range charges[:min(len(charges), storyMax)] {
		v.Story = append(v.Story, c.text+".")
		if i >= chargesTold {
			continue
		}
		if c.diverged {
			keys, lines := divergence(h, c.line.Applied)
			v.Story = append(v.Story, lines...)
			if v.Key == "" && len(keys) > 0 {
				v.Key = keys[0]
			}
			continue
		}
		v.Story = append(v.Story, circumstances(h, windows, c)...)
	}
	if alike > 0 {
		v.Story = append(v.Story, fmt.Sprintf("After the first of them state machines differ at %d more places.", alike))
	}
	return v
}

// firstOfEach keeps the first divergence alone, which all others follow from, and
// counts those.
func firstOfEach(charges []charge) (kept []charge, alike int) {
	diverged := false
	for _, c := range charges {
		if c.diverged && diverged {
			alike++
			continue
		}
		diverged = diverged || c.diverged
		kept = append(kept, c)
	}
	return kept, alike
}

// circumstances names the fault that a restart followed, and those that were
// active when the term was first seen to have a leader.
func circumstances(h history.History, windows []history.Window, c charge) (lines []string) {
	var kills []history.Window
	for _, w := range windows {
		if slices.Contains(w.Kinds, "down") && slices.Contains(w.Victims, c.node) {
			kills = append(kills, w)
		}
	}
	if n := int(c.line.Incarnation) - 2; c.line.Start && n >= 0 && n < len(kills) {
		w := kills[n]
		lines = append(lines, fmt.Sprintf("Fault %s (%s) on %s, from event %d (%s) to event %d (%s), was followed by incarnation %d of %s.",
			w.Fault, w.ID, strings.Join(w.Victims, ", "), w.From, seconds(w.Start), w.To, seconds(w.End), c.line.Incarnation, c.node),
			"Key "+enumerate(keysBetween(h, w.From, w.To), keysTold)+": in use meanwhile.")
	}
	for _, e := range h.Events {
		if e.Process != history.Nemesis || e.F != history.Leader {
			continue
		}
		if n, err := history.DecodeNote(e); err == nil && n.Term == c.line.Term {
			lines = append(lines, fmt.Sprintf("%s was seen to lead in term %d from %s.", n.Leader, n.Term, place(e)))
			return append(lines, faultsBetween(h, e.Index, e.Index)...)
		}
	}
	return lines
}

// keysBetween lists the keys that clients were using: those with an operation
// that began among these events, or else the last that did before them.
func keysBetween(h history.History, from, to int) (keys []string) {
	before := ""
	for _, e := range h.Events {
		switch {
		case e.Index > to:
		case e.Key == "" || e.Type != history.Invoke || slices.Contains(keys, e.Key):
		case e.Index < from:
			before = e.Key
		default:
			keys = append(keys, e.Key)
		}
	}
	if len(keys) == 0 && before != "" {
		keys = []string{before}
	}
	return keys
}

// divergence names the keys and the faults around the log indices in which two
// state machines came apart, as far as answers claimed such an index.
func divergence(h history.History, applied uint64) (keys, lines []string) {
	from, to := never, -1
	for _, e := range h.Events {
		if e.At == 0 || e.At > applied || e.At+history.AuditEvery <= applied || e.F == history.Read {
			continue
		}
		from, to = min(from, e.Index), max(to, e.Index)
		if !slices.Contains(keys, e.Key) {
			keys = append(keys, e.Key)
		}
	}
	if to < 0 {
		return nil, []string{fmt.Sprintf("No answer claimed an index from %d to %d.", applied-min(applied, history.AuditEvery-1), applied)}
	}
	lines = append(lines, fmt.Sprintf("Key %s: their commands lie between index %d and %d (events %d to %d).",
		enumerate(keys, keysTold), applied-min(applied, history.AuditEvery-1), applied, from, to))
	return keys, append(lines, faultsBetween(h, from, to)...)
}
