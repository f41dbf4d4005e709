package results

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"time"

	"chaos/history"
)

// The geometry of the time line, in pixels of its own view box.
const (
	plotWidth   = 1100
	leftMargin  = 92
	plotHeight  = 220
	laneHeight  = 16
	labelHalf   = 8   // what the topmost label stands above its line
	columns     = 250 // buckets of time
	bands       = 44  // buckets of latency, on a logarithmic scale
	latencyLow  = 50 * time.Microsecond
	latencyHigh = 10 * time.Second
	lanesMax    = 60   // fault windows drawn apart; more share the last lane
	spansMax    = 1000 // drawn of each kind; how many more there are is said
)

// drawTimeline draws the run as SVG: operations by outcome and latency, the
// windows of the faults, phases and leaders.
// A red line marks each event of marks: those that show a violation.
func drawTimeline(h history.History, marks map[int]bool) string {
	if len(h.Events) == 0 {
		return ""
	}
	d := drawing{end: max(h.Events[len(h.Events)-1].Time, time.Millisecond)}
	d.operations(h)
	d.axes()
	drawn := 0
	for _, e := range h.Events {
		if marks[e.Index] && drawn < eventsShown {
			drawn++
			d.add(`<line class="mark" x1="%.1f" x2="%.1f" y1="0" y2="%d"><title>event %d: %s %s of %s</title></line>`,
				d.x(e.Time), d.x(e.Time), plotHeight, e.Index, e.Type, html.EscapeString(e.F), html.EscapeString(e.Key))
		}
	}
	d.y = plotHeight + 30
	d.notes(h)
	return fmt.Sprintf(`<svg viewBox="0 %d %d %d" role="img" aria-label="time line of the run">%s</svg>`,
		-labelHalf, leftMargin+plotWidth+10, d.y+24+labelHalf, d.b.String())
}

type drawing struct {
	b   strings.Builder
	end time.Duration
	y   int // where the next lane goes
}

func (d *drawing) x(t time.Duration) float64 {
	return leftMargin + plotWidth*float64(min(max(t, 0), d.end))/float64(d.end)
}

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

// cell counts what ended in one bucket of time and latency, by outcome.
type cell [4]int

// operations draws a heat map: a hundred thousand operations stay one small page.
func (d *drawing) operations(h history.History) {
	var grid [columns][bands]cell
	most := 1
	for _, o := range history.Operations(h) {
		if o.Complete.Index < 0 {
			continue
		}
		c := int(float64(o.Complete.Time) / float64(d.end) * (columns - 1))
		cell := &grid[min(max(c, 0), columns-1)][band(o.Complete.Time-o.Invoke.Time)]
		cell[o.Complete.Type]++
		most = max(most, cell[history.Ok])
	}
	w, high := float64(plotWidth)/columns, float64(plotHeight)/bands
	for c := range grid {
		for b, counts := range grid[c] {
			for t, n := range counts {
				if n == 0 {
					continue
				}
				opacity := 0.25 + 0.75*math.Log1p(float64(n))/math.Log1p(float64(most))
				d.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" opacity="%.2f"><title>%d %s</title></rect>`,
					history.Type(t), leftMargin+float64(c)*w, plotHeight-float64(b+1)*high, w, high, min(opacity, 1), n, history.Type(t))
			}
		}
	}
}

// band is the bucket of a latency.
func band(latency time.Duration) int {
	l := min(max(latency, latencyLow), latencyHigh)
	part := math.Log(float64(l)/float64(latencyLow)) / math.Log(float64(latencyHigh)/float64(latencyLow))
	return min(int(part*bands), bands-1)
}

func (d *drawing) axes() {
	for _, l := range []time.Duration{100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second} {
		y := plotHeight - float64(band(l)+1)*plotHeight/bands
		d.add(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`,
			leftMargin, leftMargin+plotWidth, y, y, leftMargin-6, y+4, l)
	}
	step := niceStep(d.end)
	for t := time.Duration(0); t <= d.end; t += step {
		d.add(`<line class="grid" x1="%.1f" x2="%.1f" y1="0" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`,
			d.x(t), d.x(t), plotHeight, d.x(t), plotHeight+14, t)
	}
}

func niceStep(end time.Duration) time.Duration {
	for _, s := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
		time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour} {
		if end/s <= 20 {
			return s
		}
	}
	step := 24 * time.Hour
	for end/step > 20 {
		step *= 2
	}
	return step
}

// notes draws phases, leaders and fault windows, each in lanes of its own.
func (d *drawing) notes(h history.History) {
	var phases, leaders, windows []span
	open := map[string]int{}
	for _, e := range h.Events {
		if e.Process != history.Nemesis {
			continue
		}
		n, err := history.DecodeNote(e)
		if err != nil {
			continue
		}
		switch {
		case e.F == history.Phase:
			phases = follow(phases, span{e.Time, d.end, n.Phase, "phase", n.Detail})
		case e.F == history.Leader:
			leaders = follow(leaders, span{e.Time, d.end, fmt.Sprintf("%s·%d", n.Leader, n.Term), "leader", ""})
		case e.F == history.Inject && e.Type == history.Invoke:
			open[n.ID] = len(windows)
			windows = append(windows, span{e.Time, d.end, n.ID + " " + strings.Join(n.Victims, " "), "fault", ""})
		case e.F == history.Heal && e.Type != history.Invoke:
			if i, ok := open[n.ID]; ok {
				windows[i].to = e.Time
			}
		}
	}
	d.lanes("phase", phases)
	d.lanes("leader·term", leaders)
	d.lanes("faults", windows)
}

// A span is something that lasted.
type span struct {
	from, to   time.Duration
	text, kind string
	more       string // for who points at it; may be empty
}

// follow ends the last span where the next begins.
func follow(all []span, next span) []span {
	if n := len(all); n > 0 {
		all[n-1].to = next.from
	}
	return append(all, next)
}

// lanes draws spans so that none overlaps another, using as few lanes as it can.
func (d *drawing) lanes(name string, spans []span) {
	if len(spans) == 0 {
		return
	}
	d.add(`<text x="%d" y="%d" text-anchor="end">%s</text>`, leftMargin-6, d.y+12, name)
	if more := len(spans) - spansMax; more > 0 {
		d.add(`<text x="%d" y="%d" text-anchor="end">+%d later</text>`, leftMargin-6, d.y+26, more)
		spans = spans[:spansMax]
	}
	var ends []time.Duration
	for _, s := range spans {
		lane := slices.IndexFunc(ends, func(end time.Duration) bool { return end <= s.from })
		switch {
		case lane < 0 && len(ends) < lanesMax:
			lane, ends = len(ends), append(ends, s.to)
		case lane < 0:
			lane = len(ends) - 1
		default:
			ends[lane] = s.to
		}
		x, y := d.x(s.from), d.y+lane*(laneHeight+2)
		width := max(d.x(s.to)-x, 1.5)
		text := html.EscapeString(s.text)
		more := ""
		if s.more != "" {
			more = "; " + html.EscapeString(s.more)
		}
		d.add(`<g><rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/><title>%s: %s to %s%s</title>`,
			s.kind, x, y, width, laneHeight, text, s.from.Round(time.Millisecond), s.to.Round(time.Millisecond), more)
		if room := int(width / 6.2); room >= 3 {
			d.add(`<text class="in" x="%.1f" y="%d">%s</text>`, x+3, y+12, html.EscapeString(cut(s.text, room)))
		}
		d.add(`</g>`)
	}
	d.y += len(ends)*(laneHeight+2) + 8
}

func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
