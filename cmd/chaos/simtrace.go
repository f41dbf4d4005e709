package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"chaos/campaign"
	"chaos/history"
	"chaos/nodes"
	"chaos/nodes/sim"
	"chaos/results"
)

// A tracer writes what happens in a simulation: every line into a text, and the
// last of it into a page.
type tracer struct {
	name  string
	plan  campaign.Plan
	file  *os.File
	text  *bufio.Writer
	marks []results.Mark
	sent  map[int32]int       // marks of messages under way, by their number
	live  map[string]int      // marks of faults, by injection
	roles map[nodes.ID]string // to tell a change of role from one of the commit index
	first int                 // place of marks[0] among all
}

// marksKept is how many marks are kept for the page: twice what it shows, since
// not all that is traced is drawn.
const marksKept = 8000

func newTracer(name string, p campaign.Plan) (*tracer, error) {
	file, err := os.Create(name + ".txt")
	if err != nil {
		return nil, usageError{fmt.Errorf("--trace: %w", err)}
	}
	return &tracer{name: name, plan: p, file: file, text: bufio.NewWriter(file), sent: map[int32]int{}, live: map[string]int{}, roles: map[nodes.ID]string{}}, nil
}

// see takes one thing that happened.
func (t *tracer) see(e sim.Traced) {
	fmt.Fprintln(t.text, e)
	switch e.Kind {
	case sim.TraceSend, sim.TraceLost:
		kind := results.MarkMessage
		if e.Kind == sim.TraceLost {
			kind = results.MarkLost
		} else {
			t.sent[e.Number] = t.first + len(t.marks)
		}
		t.add(results.Mark{At: e.At, Until: -1, From: int(e.Node), To: int(e.To), Kind: kind, Text: e.Text})
	case sim.TraceArrive:
		if m := t.at(t.sent[e.Number]); m != nil {
			m.Until = e.At
		}
		delete(t.sent, e.Number)
	case sim.TraceFault, sim.TraceHealed:
		t.fault(e)
	case sim.TraceState:
		t.state(e)
	default:
		kind := map[string]string{sim.TraceDown: results.MarkDown, sim.TraceUp: results.MarkUp, sim.TraceFrozen: results.MarkFrozen,
			sim.TraceBroken: results.MarkViolation}[e.Kind]
		if kind == "" {
			kind = results.MarkNote
		}
		m := results.Mark{At: e.At, Until: e.At, From: int(e.Node), To: -1, Kind: kind, Text: e.Text}
		if e.Node == 0 {
			m.From = -1
		}
		t.add(m)
	}
}

func (t *tracer) fault(e sim.Traced) {
	name, _, _ := strings.Cut(strings.TrimSuffix(e.Text, " ends"), ":")
	if e.Kind == sim.TraceFault {
		t.live[name] = t.first + len(t.marks)
		t.add(results.Mark{At: e.At, Until: -1, To: -1, Kind: results.MarkFault, Text: e.Text})
	} else if m := t.at(t.live[name]); m != nil && m.Kind == results.MarkFault {
		m.Until = e.At
	}
}

// state draws changes of role and term; the commit index moves too often.
func (t *tracer) state(e sim.Traced) {
	what, _, _ := strings.Cut(e.Text, " commit ")
	if t.roles[e.Node] == what {
		return
	}
	t.roles[e.Node] = what
	kind := results.MarkState
	if strings.HasPrefix(what, "leader ") || strings.HasPrefix(what, "proposer ") {
		kind = results.MarkLeads
	}
	t.add(results.Mark{At: e.At, Until: e.At, From: int(e.Node), To: -1, Kind: kind, Text: what})
}

func (t *tracer) add(m results.Mark) {
	if len(t.marks) >= 2*marksKept {
		t.first += marksKept
		t.marks = append(t.marks[:0], t.marks[marksKept:]...)
	}
	t.marks = append(t.marks, m)
}

// at is a mark that is still kept; nil if it is not.
func (t *tracer) at(place int) *results.Mark {
	if place -= t.first; place >= 0 && place < len(t.marks) {
		return &t.marks[place]
	}
	return nil
}

// accuse marks what clients saw and should not have: the last event that shows it.
func (t *tracer) accuse(h history.History, evidence []int, reason string) {
	if len(evidence) == 0 || slices.ContainsFunc(t.marks, func(m results.Mark) bool { return m.Kind == results.MarkViolation }) {
		return
	}
	last := slices.Max(evidence)
	if last < 0 || last >= len(h.Events) {
		return
	}
	e := h.Events[last]
	m := results.Mark{At: e.Time, Until: e.Time, From: -1, To: -1, Kind: results.MarkViolation, Text: reason}
	if id, err := nodes.ParseID(e.Node); err == nil && id != 0 {
		m.From = int(id)
	}
	t.marks = slices.DeleteFunc(t.marks, func(m results.Mark) bool { return m.At > e.Time })
	t.add(m)
}

// finish completes both files. What came after the violation is not drawn.
func (t *tracer) finish(verdict string) error {
	page := results.SequencePage{Title: fmt.Sprintf("%s, seed %d", t.plan.Spec.System, t.plan.Seed),
		Subtitle: fmt.Sprintf("%s; %s", t.plan.Describe(), verdict), Lanes: []string{results.FaultsLane}, Marks: t.marks}
	for i := range t.plan.Spec.Nodes {
		page.Lanes = append(page.Lanes, nodes.ID(i+1).String())
	}
	for i := len(t.marks) - 1; i >= 0; i-- {
		if t.marks[i].Kind == results.MarkViolation {
			page.Marks = t.marks[:i+1]
			break
		}
	}
	b, err := results.Sequence(page)
	if err == nil {
		err = os.WriteFile(t.name+".html", b, 0o644)
	}
	return errors.Join(err, t.text.Flush(), t.file.Close())
}
