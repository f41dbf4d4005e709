package results

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// add puts something into a layer.
func (s *sequence) add(layer int, top, bottom float64, id int, format string, args ...any) {
	s.elements[layer] = append(s.elements[layer], element{top, bottom, id, fmt.Sprintf(format, args...)})
}

// draw makes the sheets, from top to bottom.
func (s *sequence) draw() []string {
	s.drawLanes()
	s.drawTimes()
	s.drawFaults()
	for i, m := range s.marks { // before the arrows: these labels have the first choice
		if !m.message() && m.Kind != MarkFault && m.Kind != MarkViolation {
			s.drawChip(i, m)
		}
	}
	s.aim()
	for _, a := range s.arrows {
		s.drawArrow(a)
	}
	for _, a := range s.arrows {
		s.drawLabel(a)
	}
	for i, m := range s.marks {
		if m.Kind == MarkViolation {
			s.drawViolation(i, m)
		}
	}
	return s.sheets()
}

// head is the row of names above every sheet.
func (s *sequence) head() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="head" width="%d" height="%d" viewBox="0 0 %d %d" aria-hidden="true"><text class="unit" x="%d" y="19">ms</text>`,
		s.width, headHigh, s.width, headHigh, timeEdge)
	for i, name := range s.names {
		x := s.x(i)
		if s.faults && i == 0 {
			x = faultsX + faultsWide/2 - 8
		}
		fmt.Fprintf(&b, `<text class="name" x="%.0f" y="20">%s</text>`, x, html.EscapeString(name))
	}
	b.WriteString(`</svg>`)
	return b.String()
}

// A span of a lane, in the same state from top to bottom.
type stretch struct {
	lane        int
	top, bottom float64
	laneState
}

// stretches are all spans of all lanes, and the spans in which more than one leads.
func (s *sequence) stretches() (all, two []stretch) {
	now := make([]stretch, len(s.names))
	for i := range now {
		now[i] = stretch{lane: i, laneState: s.states[i]}
	}
	leaders, since := count(now), 0.0
	for _, r := range s.rows {
		for _, p := range r.points {
			m := s.marks[p.mark]
			if m.From < 0 || p.class != change {
				continue
			}
			lane := &now[m.From]
			if next := lane.after(m); next != lane.laneState {
				all = append(all, stretch{m.From, lane.top, r.y, lane.laneState})
				*lane = stretch{m.From, r.y, 0, next}
			}
		}
		if n := count(now); n != leaders {
			if leaders > 1 {
				two = append(two, stretch{lane: leaders, top: since, bottom: r.y})
			}
			leaders, since = n, r.y
		}
	}
	if leaders > 1 {
		two = append(two, stretch{lane: leaders, top: since, bottom: s.height})
	}
	for _, l := range now {
		l.bottom = s.height
		all = append(all, l)
	}
	return all, two
}

// count is how many lead, of those that can do something.
func count(lanes []stretch) (n int) {
	for _, l := range lanes {
		if l.leads && !l.frozen {
			n++
		}
	}
	return n
}

func (s *sequence) drawLanes() {
	all, two := s.stretches()
	for _, l := range all {
		switch x := s.x(l.lane); {
		case l.lane < s.first() || l.bottom == l.top:
		case l.down:
			s.add(layerLane, l.top, l.bottom, 0, `<path class="end" d="M%.0f %.1fh12"/>`, x-6, l.top)
			if l.bottom < s.height {
				s.add(layerLane, l.top, l.bottom, 0, `<path class="end" d="M%.0f %.1fh12"/>`, x-6, l.bottom)
			}
		default:
			class := "life"
			if l.leads {
				class += " leads"
			}
			if l.frozen {
				class += " frozen"
			}
			s.add(layerLane, l.top, l.bottom, 0, `<path class="%s" d="M%.0f %.1fV%.1f"/>`, class, x, l.top, l.bottom)
		}
	}
	for _, t := range two {
		s.add(layerBand, t.top, t.bottom, 0, `<g><rect class="two wide" x="%d" y="%.1f" width="%d" height="%.1f"/><rect class="two" x="%d" y="%.1f" width="%d" height="%.1f"/><title>%d lead at once</title></g>`,
			twoX, t.top, s.width-twoX, t.bottom-t.top, twoX, t.top, twoWide, t.bottom-t.top, t.lane)
	}
}

// drawTimes writes the time of rows where there is room, and the length of gaps.
func (s *sequence) drawTimes() {
	free := 0.0
	for i, r := range s.rows {
		if i > 0 {
			if size := jumpSize(r.at - s.rows[i-1].at); size >= jumpTold {
				y := r.y - rowMessage/2 - size/2 + 4
				s.add(layerLabel, y-9, y+3, 0, `<text class="passes" x="%d" y="%.1f">+%s</text>`, timeEdge, y, millis(r.at-s.rows[i-1].at))
			}
			if r.at == s.rows[i-1].at {
				continue
			}
		}
		if r.y >= free {
			free = r.y + labelHigh
			s.add(layerLabel, r.y-9, r.y+3, 0, `<text class="time" x="%d" y="%.1f">%s</text>`, timeEdge, r.y+3.5, millis(r.at))
		}
	}
}

// ends are the heights between which a mark is.
func (s *sequence) ends(i int) (top, bottom float64) {
	bottom = s.height
	if s.top[i] >= 0 {
		top = s.rows[s.top[i]].y
	}
	if s.bottom[i] >= 0 {
		bottom = s.rows[s.bottom[i]].y
	}
	return top, bottom
}

// drawFaults draws how long each lasts, and a banner where it begins and ends.
func (s *sequence) drawFaults() {
	var places [faultSlots]float64 // free from here on
	for i, m := range s.marks {
		if m.Kind != MarkFault {
			continue
		}
		top, bottom := s.ends(i)
		text := html.EscapeString(m.Text)
		class, x, wide, line := "fault there", s.x(m.From)-13, 26.0, s.edge()
		if m.From < s.first() {
			place := slices.IndexFunc(places[:], func(free float64) bool { return free <= top })
			if place < 0 {
				place = faultSlots - 1
			}
			places[place] = bottom + 1
			class, x, wide = "fault", faultsX+float64(place*(faultBar+2)), faultBar
			line = x
		}
		s.add(layerBand, top, bottom, i+1, `<g><rect class="%s" x="%.0f" y="%.1f" width="%.0f" height="%.1f"/><title>%s</title></g>`,
			class, x, top, wide, bottom-top, text)
		for _, at := range []int{s.top[i], s.bottom[i]} {
			if at >= 0 {
				s.drawFaultLine(line, s.rows[at], at == s.top[i])
			}
		}
	}
}

func (s *sequence) drawFaultLine(x float64, r step, begins bool) {
	arrow := "▲"
	if begins {
		arrow = "▼"
	}
	s.add(layerBand, r.y-9, r.y+9, 0, `<rect class="edge" x="%.0f" y="%.1f" width="%.0f" height="16"/>`, x, r.y-8, float64(s.width)-x)
	s.add(layerTop, r.y-9, r.y+9, 0, `<text class="says" x="%.0f" y="%.1f">%s %s</text>`, s.edge()+8, r.y+4, arrow, html.EscapeString(r.lines[0]))
}

// room is how wide a label beside a lane may be.
func (s *sequence) room() float64 { return s.lane - 26 }

// drawChip writes what a node is now, or what happened to it.
func (s *sequence) drawChip(i int, m Mark) {
	y := s.rows[s.top[i]].y
	x := s.x(m.From) + 9
	text := cut(m.Text, int((s.room()-8)/letter))
	wide := float64(len([]rune(text)))*letter + 8
	if text == "" {
		wide = 0
	}
	s.labels[m.From] = append(s.labels[m.From], box{x, x + wide, y - 8, y + 8})
	s.add(layerLabel, y-9, y+9, i+1, `<g class="chip %s"><rect x="%.0f" y="%.1f" width="%.1f" height="15" rx="3"/><circle cx="%.0f" cy="%.1f" r="3.5"/><text x="%.0f" y="%.1f">%s</text><title>%s %s: %s</title></g>`,
		m.Kind, x, y-7.5, wide, s.x(m.From), y, x+4, y+3.5, html.EscapeString(text), millis(m.At), html.EscapeString(s.names[m.From]), html.EscapeString(m.Text))
}

// drawViolation draws a red line through everything, what it says, and where.
func (s *sequence) drawViolation(i int, m Mark) {
	r := s.rows[s.bottom[i]]
	top := r.y - rowBanner/2 + 2
	high := float64(len(r.lines))*lineBanner + 4
	var b strings.Builder
	fmt.Fprintf(&b, `<rect x="0" y="%.1f" width="%d" height="%.1f"/>`, top, s.width, high)
	fmt.Fprintf(&b, `<text class="when" x="%d" y="%.1f">%s</text>`, timeEdge, r.y+4.5, millis(m.known()))
	for n, line := range r.lines {
		fmt.Fprintf(&b, `<text x="%.0f" y="%.1f">%s</text>`, s.edge()+8, r.y+4.5+float64(n*lineBanner), html.EscapeString(line))
	}
	from := top
	if m.From >= s.first() {
		x := s.x(m.From)
		fmt.Fprintf(&b, `<path d="M%.0f %.1fl8 -9l8 9z"/>`, x-8, top+0.5)
		if s.top[i] >= 0 && m.Until > m.At {
			from = s.rows[s.top[i]].y
			fmt.Fprintf(&b, `<path class="since" d="M%.0f %.1fV%.1f"/><circle cx="%.0f" cy="%.1f" r="5"/>`, x, from, top, x, from)
		}
	}
	s.add(layerTop, min(from, top-9)-6, top+high, i+1, `<g class="violation">%s<title>%s</title></g>`, b.String(), html.EscapeString(m.Text))
}
