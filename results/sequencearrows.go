package results

import (
	"fmt"
	"html"
	"math"
	"slices"
)

// An arrow is where a message is drawn: from (x0, y0) to (x1, y1).
type arrow struct {
	box
	mark int
	way  float64 // 1 to the right, -1 to the left
}

// aim finds the places of all arrows.
func (s *sequence) aim() {
	for i, m := range s.marks {
		if !m.message() {
			continue
		}
		a := arrow{mark: i, way: 1}
		if m.To < m.From {
			a.way = -1
		}
		a.y0 = s.rows[s.top[i]].y
		a.x0, a.x1 = s.x(m.From)+a.way*2, s.x(m.To)-a.way*reach
		if m.From == m.To {
			a.x1 = a.x0 + selfWide
		}
		if m.Kind == MarkLost {
			a.x1 -= a.way * crossAway
		}
		switch {
		case s.bottom[i] >= 0:
			a.y1 = s.rows[s.bottom[i]].y
		case m.Kind == MarkMessage:
			a.x1, a.y1 = (a.x0+a.x1)/2, a.y0+rowMessage
		default:
			a.y1 = a.y0 + rowMessage
		}
		s.arrows = append(s.arrows, a)
	}
}

// The geometry of arrows and their labels, in pixels.
const (
	reach      = 5 // arrows end so far from the middle of a lane
	selfWide   = 30
	crossAway  = 12 // of a cross, from there
	tipLong    = 8
	tipWide    = 0.4 // half of it, by its length
	labelHigh  = 12.0
	crossedMax = 1 // arrows through a label; where there are more, it is left out
)

// drawArrow draws a message: to where it arrives, or to the cross where it is lost.
func (s *sequence) drawArrow(a arrow) {
	m := s.marks[a.mark]
	class := m.Kind
	if m.Kind == MarkMessage && s.bottom[a.mark] < 0 {
		class += " under-way"
	}
	end := a.tip()
	if m.Kind == MarkLost {
		end = fmt.Sprintf(`<path class="cross" d="M%.1f %.1fl9 9m0 -9l-9 9"/>`, a.x1-4.5, a.y1-4.5)
	}
	d := fmt.Sprintf("M%.1f %.1fL%.1f %.1f", a.x0, a.y0, a.x1, a.y1)
	s.add(layerArrow, a.y0-6, a.y1+6, a.mark+1, `<a class="%s" href="#t%d"><path class="hit" d="%s"/><path d="%s"/>%s<title>%s</title></a>`,
		class, a.mark+1, d, d, end, html.EscapeString(s.told(m)))
}

// told is what a message says when a pointer rests on it.
func (s *sequence) told(m Mark) string {
	w := s.words(0, m)
	return w.Time + " " + w.Where + ": " + m.Text
}

// tip is the small triangle at an arrow's end.
func (a arrow) tip() string {
	x, y := a.x1-a.x0, a.y1-a.y0
	long := math.Sqrt(x*x+y*y) / tipLong
	x, y = x/long, y/long
	return fmt.Sprintf(`<path class="tip" d="M%.1f %.1fL%.1f %.1fL%.1f %.1fz"/>`,
		a.x1, a.y1, a.x1-x-y*tipWide, a.y1-y+x*tipWide, a.x1-x+y*tipWide, a.y1-y-x*tipWide)
}

// A label is the text of a message, beside a lane.
type label struct {
	box
	lane   int // left of it
	anchor string
	x      float64
}

// beside is where a text of some width would be: below an arrow's end or above
// its beginning.
func (s *sequence) beside(a arrow, wide float64, end bool) label {
	m := s.marks[a.mark]
	l, y := label{lane: m.From, anchor: "start", x: a.x0 + a.way*8}, a.y0-6
	if end {
		l.lane, l.x, y = m.To, a.x1-a.way*9, a.y1+6
	}
	l.box = box{l.x, l.x + wide, y - labelHigh/2, y + labelHigh/2}
	if (a.way > 0) == end {
		l.x0, l.x1, l.anchor = l.x-wide, l.x, "end"
		l.lane--
	}
	return l
}

// drawLabel writes a message's text where no other text is, and few arrows are.
func (s *sequence) drawLabel(a arrow) {
	m := s.marks[a.mark]
	text := cut(m.Text, int(s.room()/letter))
	if text == "" || m.From == m.To {
		return
	}
	least, best := crossedMax+1, label{}
	for _, end := range []bool{true, false} {
		l := s.beside(a, float64(len([]rune(text)))*letter, end)
		if !s.free(l.lane, l.box) {
			continue
		}
		if n := s.crossings(l.box); n < least {
			least, best = n, l
		}
	}
	if least > crossedMax {
		return
	}
	s.labels[best.lane] = append(s.labels[best.lane], best.box)
	s.add(layerLabel, best.y0, best.y1, 0, `<text class="label %s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`,
		m.Kind, best.anchor, best.x, best.y0+labelHigh/2+3.5, html.EscapeString(text))
}

// free tells whether no other label right of a lane is where this one would be.
func (s *sequence) free(lane int, b box) bool {
	return !slices.ContainsFunc(s.labels[lane], func(o box) bool {
		return b.x0 < o.x1+4 && o.x0 < b.x1+4 && b.y0 < o.y1 && o.y0 < b.y1
	})
}

// crossings counts the arrows that go through a box.
func (s *sequence) crossings(b box) (n int) {
	for _, a := range s.arrows {
		if a.y0 < b.y1 && b.y0 < a.y1 {
			if x0, x1 := a.at(b.y0), a.at(b.y1); max(x0, x1) > b.x0 && min(x0, x1) < b.x1 {
				n++
			}
		}
	}
	return n
}

// at is how far to the right an arrow is at some height, or its nearer end.
func (a arrow) at(y float64) float64 {
	return a.x0 + (a.x1-a.x0)*(min(max(y, a.y0), a.y1)-a.y0)/(a.y1-a.y0)
}
