package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
)

// A Traced is one thing that happened, for people.
type Traced struct {
	At     time.Duration
	Node   nodes.ID // where
	To     nodes.ID // of a message: where it goes; else 0
	Number int32    // of a message: tells its departure and arrival from others'
	Kind   string   // one of those below
	Text   string
}

// The kinds of what is traced.
const (
	TraceSend   = "send"   // a message leaves
	TraceLost   = "lost"   // one leaves into a cut link
	TraceArrive = "arrive" // one arrives
	TraceState  = "state"  // role, term, leader or commit index changed
	TraceNote   = "note"
	TraceDown   = "down" // the process ended
	TraceUp     = "up"   // it started, or goes on
	TraceFrozen = "frozen"
	TraceFault  = "fault"  // an injection begins
	TraceHealed = "healed" // and ends
	TraceBroken = "broken" // a promise was broken
)

// String is the line of a trace: time in milliseconds, node, and what happened.
func (t Traced) String() string {
	at := fmt.Sprintf("%10.3f  %-3s ", float64(t.At)/1e6, t.Node)
	switch t.Kind {
	case TraceSend:
		return at + "→ " + t.To.String() + "  " + t.Text
	case TraceLost:
		return at + "✗ " + t.To.String() + "  " + t.Text
	case TraceArrive:
		return fmt.Sprintf("%10.3f  %-3s ← %s  %s", float64(t.At)/1e6, t.To, t.Node, t.Text)
	}
	return at + "· " + t.Text
}

// trace tells of something at a node.
func (w *World) trace(id nodes.ID, kind, format string, args ...any) {
	if w.options.Trace != nil {
		w.options.Trace(Traced{At: w.Now(), Node: id, Kind: kind, Text: fmt.Sprintf(format, args...)})
	}
}

// describe writes a message for people. One that holds commands says so by a
// method that lets us, who know what they are, put them into words.
func describe(message any) string {
	if m, ok := message.(interface {
		Describe(command func(data []byte) string) string
	}); ok {
		return m.Describe(commandText)
	}
	return fmt.Sprint(message)
}

// textMax is how much of a key or a value a trace shows, in characters.
const textMax = 40

// commandText writes a command as "put(sim/3,17)".
func commandText(data []byte) string {
	c, err := kv.DecodeCommand(data)
	if err != nil {
		return fmt.Sprintf("%.40q", data)
	}
	s := c.Op.String() + "(" + printable(c.Key)
	switch c.Op {
	case kv.Put, kv.Append:
		s += "," + printable(string(c.Value))
	case kv.CAS:
		old := "nothing"
		if !c.OldAbsent {
			old = printable(string(c.Old))
		}
		s += "," + old + "," + printable(string(c.Value))
	case kv.Add:
		s += fmt.Sprintf(",%+d", c.Delta)
	}
	return s + ")"
}

// printable is a text as it is, or quoted where that could not be printed.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return fmt.Sprintf("%.*q", textMax, s)
	}
	return fmt.Sprintf("%.*s", textMax, s)
}

func (w *World) traceMessage(h *host, to nodes.ID, slot int32, l *link) {
	if w.options.Trace == nil {
		return
	}
	kind := TraceSend
	if l.Cut || l.CutData {
		kind = TraceLost
	}
	w.options.Trace(Traced{At: time.Duration(h.clock), Node: h.id, To: to, Number: slot, Kind: kind, Text: w.crew.describe(slot)})
}

func (w *World) traceArrival(e *event) {
	if w.options.Trace != nil {
		w.options.Trace(Traced{At: w.Now(), Node: nodes.ID(e.a), To: nodes.ID(e.b), Number: e.slot, Kind: TraceArrive, Text: w.crew.describe(e.slot)})
	}
}

// note looks at a node after a step: at what changed for the trace, and at the
// shape of the cluster, of which different ones are counted.
func (w *World) note(h *host) {
	s := h.node.core()
	if w.options.Trace != nil && (s.Role != h.last.Role || s.Term != h.last.Term || s.Leader != h.last.Leader || s.Commit != h.last.Commit) {
		w.options.Trace(Traced{At: w.Now(), Node: h.id, Kind: TraceState,
			Text: fmt.Sprintf("%s term %d leader %s commit %d last %d", s.Role, s.Term, s.Leader, s.Commit, s.Last)})
	}
	w.noticeRole(h, s)
	changed := s.Role != h.last.Role || s.Term != h.last.Term || s.Leader != h.last.Leader
	h.last = s
	if changed {
		w.fingerprint()
	}
}

// shape tells roughly how a node stands to the first one: who leads, in a
// newer or older term, how far ahead or behind.
func shape(s, first consensus.Status, up bool) uint64 {
	if !up {
		return 1
	}
	role := uint64(len(s.Role)) // roles have names of different lengths
	return role | uint64(s.Leader)<<8 | apart(s.Term, first.Term)<<16 | apart(s.Commit, first.Commit)<<24 | apart(s.Last, first.Last)<<32
}

// apart is the difference of two numbers, the coarser the larger it is.
func apart(a, b uint64) uint64 {
	d, sign := a-b, uint64(0)
	if b > a {
		d, sign = b-a, 16
	}
	n := uint64(0)
	for ; d > 0; d >>= 1 {
		n++
	}
	return n | sign
}

// fingerprint counts the cluster's present shape among those seen.
func (w *World) fingerprint() {
	if len(w.states) >= statesMax {
		return
	}
	f := uint64(14695981039346656037)
	first := w.hosts[1].last
	for _, h := range w.hosts[1:] {
		f = (f ^ shape(h.last, first, h.node != nil && !h.frozen)) * 1099511628211
		f ^= f >> 29
	}
	w.states[f] = struct{}{}
}

// statesMax bounds the shapes that one world counts.
const statesMax = 1 << 14

// States are the shapes that the cluster had, as fingerprints.
func (w *World) States() map[uint64]struct{} { return w.states }
