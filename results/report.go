package results

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"chaos/history"
	"chaos/linearizability"
)

//go:embed page/report.html
var reportPage string

var reportTemplate = template.Must(template.New("report").Parse(reportPage))

// eventsShown is how many events of a violation the page prints.
const eventsShown = 60

// A page is what the template shows.
type page struct {
	Summary
	Word      string
	Headline  string
	Rows      [][2]string
	Parts     []part
	Timeline  template.HTML
	Events    []shownEvent
	Porcupine string
	Plan      string
	History   string
}

// A part is one checker's verdict, flattened for the page.
type part struct {
	Checker, Outcome, Reason string
	Story                    []string
}

type shownEvent struct {
	Index, Process           int
	Time, Type, F, Key, Node string
	Value, Error             string
}

// Report draws report.html: one page that needs no other file.
func Report(s Summary, h history.History) ([]byte, error) {
	p := page{Summary: s, Word: s.Word(), Headline: s.Verdict.Reason, Plan: PlanFile, History: HistoryFile,
		Timeline: template.HTML(drawTimeline(h, marked(s.Verdict)))}
	for _, r := range rows {
		p.Rows = append(p.Rows, [2]string{r.name, r.cell(s)})
	}
	p.Parts = flatten(s.Verdict)
	if Violated(s.Verdict) != "" {
		p.Porcupine = PorcupineFile
	}
	p.Events = evidence(s.Verdict, h)
	var b bytes.Buffer
	if err := reportTemplate.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Violated is the key that shows the violation, "" where none does: then there
// is no page of Porcupine's.
func Violated(v linearizability.Verdict) string {
	if v.Outcome == linearizability.Invalid && v.Key != "" {
		return v.Key
	}
	for _, p := range v.Parts {
		if k := Violated(p); k != "" {
			return k
		}
	}
	return ""
}

func flatten(v linearizability.Verdict) (out []part) {
	if len(v.Parts) == 0 {
		p := part{v.Checker, v.Outcome.String(), v.Reason, v.Story}
		if len(v.Story) == 1 && strings.TrimSuffix(v.Story[0], ".") == strings.TrimSuffix(v.Reason, ".") {
			p.Story = nil // the reason has told it
		}
		return []part{p}
	}
	for _, p := range v.Parts {
		out = append(out, flatten(p)...)
	}
	return out
}

// evidence lists the events that the verdict points to.
func evidence(v linearizability.Verdict, h history.History) (out []shownEvent) {
	wanted := marked(v)
	for _, e := range h.Events {
		if wanted[e.Index] && len(out) < eventsShown {
			out = append(out, shownEvent{e.Index, e.Process, fmt.Sprintf("%.3f s", e.Time.Seconds()), e.Type.String(),
				e.F, e.Key, e.Node, clip(string(e.Value)), e.Error})
		}
	}
	return out
}

// marked is the set of events that a verdict points to.
func marked(v linearizability.Verdict) map[int]bool {
	out := map[int]bool{}
	collect(v, out)
	return out
}

func collect(v linearizability.Verdict, into map[int]bool) {
	for _, i := range v.Evidence {
		into[i] = true
	}
	for _, p := range v.Parts {
		collect(p, into)
	}
}

// valueShown is how much of a value the page prints, in bytes.
const valueShown = 200

func clip(s string) string {
	if len(s) <= valueShown {
		return s
	}
	return strings.ToValidUTF8(s[:valueShown], "") + "…"
}
