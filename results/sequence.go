package results

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
	"unicode"
)

//go:embed page/sequence.html
var sequencePage string

var sequenceTemplate = template.Must(template.New("sequence").Parse(sequencePage))

// Bounds of a sequence page.
const (
	marksMax     = 2000 // drawn, the last ones; how many more there were is said
	lanesOfMarks = 10   // nine nodes and the faults
	carriedMax   = 20   // faults that began before the first mark drawn, and still last
	jumpsMax     = 40   // links at the top of the page
	jumpMax      = 60   // runes of their texts
	textMax      = 200  // runes of a mark's text
	breachMax    = 600  // runes of a violation's
)

// FaultsLane is the name of the lane that is no node: if the first lane has
// it, it is narrow, and shows how long each fault lasted.
const FaultsLane = "faults"

// A SequencePage is what the page of a message sequence shows: what nodes told
// each other, as in Lamport's diagrams.
type SequencePage struct {
	Title    string
	Subtitle string   // seed, system, verdict
	Lanes    []string // from left to right: perhaps [FaultsLane], then a lane for each node
	Marks    []Mark   // in any order; of marks at the same time, causes before effects
}

// A Mark is one thing that happened.
type Mark struct {
	At, Until time.Duration // Until before At: of a message, nobody knows its end; of a fault, it has none
	From, To  int           // lanes; To is -1 if it is not a message; From is -1 if a violation is in no lane
	Kind      string
	Text      string
}

// The kinds of marks. After MarkLeads the lane of From is thick, until
// MarkState or MarkDown; between MarkDown and MarkUp or a state there is none;
// between MarkFrozen and MarkUp it is dotted.
const (
	MarkMessage   = "message"   // leaves From at At, and arrives at To at Until
	MarkLost      = "lost"      // leaves From at At, and never arrives
	MarkState     = "state"     // From is now this, and does not lead
	MarkLeads     = "leads"     // From is now this, and leads
	MarkNote      = "note"      // something else at From
	MarkDown      = "down"      // the process of From ends
	MarkFrozen    = "frozen"    // the process of From stands still
	MarkUp        = "up"        // it starts or goes on
	MarkFault     = "fault"     // lasts from At to Until; From is the lane of faults or its victim
	MarkViolation = "violation" // known at Until, or at At if that is later; it began at At
)

// kinds are all of them, and what the list of the page calls them.
var kinds = map[string]string{MarkMessage: "message", MarkLost: "lost", MarkState: "state", MarkLeads: "leads", MarkNote: "note",
	MarkDown: "down", MarkFrozen: "frozen", MarkUp: "runs", MarkFault: "fault", MarkViolation: "violation"}

func (m Mark) message() bool { return m.Kind == MarkMessage || m.Kind == MarkLost }

// known is when a violation was known: where its line is.
func (m Mark) known() time.Duration { return max(m.At, m.Until) }

// A sequenceView is what the template shows.
type sequenceView struct {
	Title, Subtitle, Left string
	Violations            []jump
	Jumps                 []jump
	More                  int
	Width                 int
	Head                  template.HTML
	Sheets                []template.HTML
	List                  []jump
}

// A jump is one mark in words, with the place where it is drawn: none if it is left out.
type jump struct {
	Number                  int
	Time, Where, Kind, Text string
}

// Sequence draws sequence pages: each is one HTML file that needs no other.
// Equal input makes equal bytes.
func Sequence(p SequencePage) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	marks := tidyMarks(p.Marks)
	s := newSequence(p.Lanes, marks)
	v := sequenceView{Title: plain(p.Title), Subtitle: plain(p.Subtitle), Width: s.width, Head: template.HTML(s.head())}
	if s.left > 0 {
		v.Left = fmt.Sprintf("The last %d of %d marks are shown; %d earlier ones are left out.", len(s.marks), len(marks), s.left)
	}
	for _, m := range s.earlier {
		if m.Kind == MarkViolation && len(v.Violations) < jumpsMax {
			v.Violations = append(v.Violations, s.words(0, m))
		}
	}
	for i, m := range s.marks {
		j := s.words(i+1, m)
		v.List = append(v.List, j)
		switch {
		case m.Kind == MarkViolation && len(v.Violations) < jumpsMax:
			v.Violations = append(v.Violations, j)
		case m.Kind != MarkLeads && m.Kind != MarkFault && m.Kind != MarkDown && m.Kind != MarkFrozen:
		case len(v.Jumps) < jumpsMax:
			j.Text = cut(j.Text, jumpMax)
			v.Jumps = append(v.Jumps, j)
		default:
			v.More++
		}
	}
	for _, sheet := range s.draw() {
		v.Sheets = append(v.Sheets, template.HTML(sheet))
	}
	var b bytes.Buffer
	if err := sequenceTemplate.Execute(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// check refuses marks that have no place on the page.
func (p SequencePage) check() error {
	if len(p.Lanes) == 0 || len(p.Lanes) > lanesOfMarks {
		return fmt.Errorf("results: a sequence of %d lanes; there are 1 to %d", len(p.Lanes), lanesOfMarks)
	}
	first := 0
	if p.Lanes[0] == FaultsLane {
		first = 1
	}
	for i, m := range p.Marks {
		from, to := first, first
		switch m.Kind {
		case MarkFault:
			from = 0
		case MarkViolation:
			from = -1
		}
		if !m.message() {
			to = -1
		}
		switch {
		case kinds[m.Kind] == "":
			return fmt.Errorf("results: mark %d is of no known kind: %q", i, m.Kind)
		case m.From < from || m.From >= len(p.Lanes) || m.To < to || m.To >= len(p.Lanes):
			return fmt.Errorf("results: mark %d, a %s from lane %d to lane %d; there are %d lanes", i, m.Kind, m.From, m.To, len(p.Lanes))
		}
	}
	return nil
}

// tidyMarks sorts a copy by time, with texts that can be shown.
func tidyMarks(marks []Mark) []Mark {
	marks = slices.Clone(marks)
	for i := range marks {
		most := textMax
		if marks[i].Kind == MarkViolation {
			most = breachMax
		}
		marks[i].Text = cut(plain(marks[i].Text), most)
	}
	slices.SortStableFunc(marks, func(a, b Mark) int { return cmp.Compare(a.At, b.At) })
	return marks
}

// plain replaces each run of what has no shape of its own, such as controls,
// marks of direction and broken UTF-8, and makes one blank of several.
func plain(s string) string {
	var b strings.Builder
	gap := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			b.WriteByte(' ')
			gap = false
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			b.WriteRune(r)
			gap = false
		case !gap:
			b.WriteRune('·')
			gap = true
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// words tells a mark as a line of the page's list.
func (s *sequence) words(number int, m Mark) jump {
	j := jump{Number: number, Time: millis(m.At), Kind: kinds[m.Kind], Text: m.Text}
	if m.Until > m.At {
		j.Time += " to " + millis(m.Until)
	}
	if m.From >= s.first() {
		j.Where = s.names[m.From]
	}
	if m.message() {
		j.Where += " → " + s.names[m.To]
	}
	return j
}

func millis(t time.Duration) string { return fmt.Sprintf("%.3f", float64(t)/1e6) }

// A lane's state, as its marks tell it.
type laneState struct{ leads, down, frozen bool }

// after is the state that a mark leaves behind.
func (l laneState) after(m Mark) laneState {
	switch m.Kind {
	case MarkLeads:
		return laneState{leads: true}
	case MarkState:
		return laneState{}
	case MarkDown:
		return laneState{down: true}
	case MarkFrozen:
		l.frozen = true
	case MarkUp:
		l.down, l.frozen = false, false
	}
	return l
}
