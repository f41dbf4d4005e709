package results

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// The geometry of the diagram, in pixels.
const (
	timeEdge    = 76 // where times end
	twoX        = 84 // the strip that shows more than one leader
	twoWide     = 8
	faultsX     = 100
	faultsWide  = 70 // of the lane of faults
	faultBar    = 9
	faultSlots  = 6    // faults side by side; more share the last place
	lanesWide   = 1060 // of all lanes together, if that suits their number
	laneMin     = 132
	laneMost    = 240
	laneInset   = 30 // of the first lane
	rightEdge   = 18
	rowMessage  = 13
	rowChange   = 17
	rowBanner   = 22
	lineBanner  = 16 // each further line
	bannerLines = 5
	endShown    = 50               // runes of a fault that ends: its beginning has told all
	jumpFrom    = time.Millisecond // times further apart than this stand further apart
	jumpStep    = 7.0              // for each doubling
	jumpWide    = 42.0
	jumpTold    = 20.0 // from here on, the length is written
	headHigh    = 30
	sheetShape  = 0.66 // height of a sheet and its head by their width: a landscape page
	sheetLeast  = 0.8  // of that height, if a good place to cut is there
	cutBelow    = 12.0 // a row: its labels end there
	cutAbove    = 6.0
	letter      = 6.05 // of the labels
	letterBold  = 7.3  // of the banners
)

// A sequence is a page being laid out and drawn.
type sequence struct {
	names    []string
	faults   bool // the first lane is that of the faults
	marks    []Mark
	earlier  []Mark        // not shown but for what they leave behind
	left     int           // how many are not shown at all
	start    time.Duration // of what is shown
	states   []laneState   // of each lane at start
	rows     []step
	top      []int // row of each mark's beginning, -1 if none is shown
	bottom   []int // and of its end
	lane     float64
	width    int
	height   float64
	elements [layers][]element
	arrows   []arrow
	labels   [][]box // by the lane to the left
}

// A box is where a label is.
type box struct{ x0, x1, y0, y1 float64 }

// An element is a part of the drawing that may reach over several sheets.
type element struct {
	top, bottom float64
	id          int // of its mark, if it is the place to jump to; else 0
	body        string
}

// The layers of the drawing, from behind to front.
const (
	layerBand = iota
	layerLane
	layerArrow
	layerLabel
	layerTop
	layers
)

func newSequence(lanes []string, marks []Mark) *sequence {
	s := &sequence{faults: lanes[0] == FaultsLane, states: make([]laneState, len(lanes)), labels: make([][]box, len(lanes))}
	for _, l := range lanes {
		s.names = append(s.names, cut(plain(l), 14))
	}
	more := max(0, len(marks)-marksMax)
	s.earlier, s.marks = marks[:more], marks[more:]
	if more > 0 {
		s.start = s.marks[0].At
		open := s.carried()
		s.left = more - len(open)
		s.marks = append(open, s.marks...)
	}
	s.top, s.bottom = unplaced(len(s.marks)), unplaced(len(s.marks))
	nodes := max(1, len(lanes)-s.first())
	s.lane = min(max(math.Floor(lanesWide/float64(nodes)), laneMin), laneMost)
	s.width = int(s.edge() + float64(nodes)*s.lane + rightEdge)
	s.inRows()
	s.place()
	return s
}

func unplaced(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = -1
	}
	return out
}

// carried follows what is left out: how it leaves the lanes, and which faults still last.
func (s *sequence) carried() (open []Mark) {
	for _, m := range s.earlier {
		if m.Kind == MarkFault && (m.Until < m.At || m.Until >= s.start) {
			open = append(open, m)
		} else if m.From >= 0 {
			s.states[m.From] = s.states[m.From].after(m)
		}
	}
	return open[max(0, len(open)-carriedMax):]
}

// first is the first lane of a node.
func (s *sequence) first() int {
	if s.faults {
		return 1
	}
	return 0
}

// edge is where the lanes of nodes begin.
func (s *sequence) edge() float64 {
	if s.faults {
		return faultsX + faultsWide
	}
	return faultsX
}

// x is the middle of a node's lane.
func (s *sequence) x(lane int) float64 {
	return s.edge() + laneInset + float64(lane-s.first())*s.lane
}

// banner tells whether points of a class take the width of the page.
func (c class) banner() bool { return c == trouble || c == breach }

// A point is a mark's beginning or its end: what a row of the page is for.
type point struct {
	at    time.Duration
	class class
	mark  int
	end   bool
}

// A class says in which order points stand if their times are equal: what
// arrives, or a fault, changes a node, which then sends.
type class int

const (
	arrival class = iota
	trouble       // a fault begins or ends
	change
	breach // a violation is known
	departure
	instant // arrival of what left at the same time
)

// A step is one row of the page.
type step struct {
	at     time.Duration
	class  class
	lanes  int // which have a point here, as bits
	points []point
	lines  []string // of a banner
	y      float64
}

// points are the beginnings and ends of all marks, in the order of the page.
func (s *sequence) points() (out []point) {
	for i, m := range s.marks {
		switch {
		case m.message():
			out = append(out, point{m.At, departure, i, false})
			if m.Until == m.At {
				out = append(out, point{m.At, instant, i, true})
			} else if m.Until > m.At {
				out = append(out, point{m.Until, arrival, i, true})
			}
		case m.Kind == MarkFault:
			if m.At >= s.start {
				out = append(out, point{m.At, trouble, i, false})
			}
			if m.Until >= max(m.At, s.start) {
				out = append(out, point{m.Until, trouble, i, true})
			}
		case m.Kind == MarkViolation:
			if m.Until > m.At {
				out = append(out, point{m.At, change, i, false})
			}
			out = append(out, point{m.known(), breach, i, true})
		default:
			out = append(out, point{m.At, change, i, false})
		}
	}
	slices.SortStableFunc(out, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.class, b.class))
	})
	return out
}

// inRows puts points into rows. Two share one if they are at the same time and of
// the same class, and no lane has two; what leaves one node at once may share too.
func (s *sequence) inRows() {
	for _, p := range s.points() {
		m := s.marks[p.mark]
		lane := 0
		switch {
		case p.end && m.message():
			lane = 1 << m.To
		case m.From >= 0:
			lane = 1 << m.From
		}
		n := len(s.rows) - 1
		if n < 0 || s.rows[n].at != p.at || s.rows[n].class != p.class || p.class.banner() ||
			p.class != departure && s.rows[n].lanes&lane != 0 {
			s.rows, n = append(s.rows, step{at: p.at, class: p.class}), n+1
		}
		r := &s.rows[n]
		r.lanes |= lane
		r.points = append(r.points, p)
		if p.end {
			s.bottom[p.mark] = n
		} else {
			s.top[p.mark] = n
		}
	}
}

// place gives every row its height. Time is not to scale; where much of it
// passes, a gap says so.
func (s *sequence) place() {
	y := 6.0
	for i := range s.rows {
		r := &s.rows[i]
		if i > 0 {
			y += jumpSize(r.at - s.rows[i-1].at)
		}
		half := rowMessage / 2.0
		switch r.class {
		case change:
			half = rowChange / 2.0
		case trouble, breach:
			r.lines = s.bannerText(r.points[0])
			half = rowBanner / 2.0
		}
		y += half
		r.y = y
		if r.class.banner() {
			s.keepClear(*r)
		}
		y += half + float64(max(0, len(r.lines)-1))*lineBanner
	}
	s.height = math.Ceil(y + 12)
}

// keepClear keeps labels of messages out of a banner.
func (s *sequence) keepClear(r step) {
	for i := range s.labels {
		s.labels[i] = append(s.labels[i], box{0, float64(s.width), r.y - rowBanner/2, r.y + rowBanner/2 + float64(len(r.lines)-1)*lineBanner})
	}
}

// jumpSize is how much further apart two rows stand for the time between them.
func jumpSize(d time.Duration) float64 {
	if d < jumpFrom {
		return 0
	}
	return min(jumpStep*math.Floor(math.Log2(float64(d)/float64(jumpFrom))+1), jumpWide)
}

// bannerText is what a banner says, in lines.
func (s *sequence) bannerText(p point) []string {
	m := s.marks[p.mark]
	text := m.Text
	if m.Kind == MarkFault && p.end {
		text = cut("ends: "+text, endShown)
	}
	room := int((float64(s.width) - s.edge() - 16) / letterBold)
	if m.Kind == MarkFault {
		return []string{cut(text, room)}
	}
	return breakLines(text, room, bannerLines)
}

// breakLines makes at most so many lines of so many runes.
func breakLines(text string, room, most int) []string {
	lines := strings.Split(wrap(text, room), "\n")
	if len(lines) > most {
		lines = lines[:most]
		lines[most-1] += " …"
	}
	for i := range lines {
		lines[i] = cut(lines[i], room)
	}
	return lines
}

// sheets cuts the drawing between rows, rather where time passes.
func (s *sequence) sheets() (out []string) {
	high := math.Floor(float64(s.width)*sheetShape - headHigh)
	seen := map[int]bool{}
	for from := 0.0; from < s.height; {
		to := s.height
		if s.height-from > high {
			to = s.cutBefore(from+sheetLeast*high, from+high)
		}
		var b strings.Builder
		fmt.Fprintf(&b, `<svg class="sheet" width="%d" height="%.0f" viewBox="0 %.0f %d %.0f" role="group" aria-label="part %d of the diagram">`,
			s.width, to-from, from, s.width, to-from, len(out)+1)
		for _, layer := range s.elements {
			for _, e := range layer {
				if e.bottom < from || e.top > to {
					continue
				}
				if e.id > 0 && !seen[e.id] {
					seen[e.id] = true
					fmt.Fprintf(&b, `<g id="m%d">%s</g>`, e.id, e.body)
					continue
				}
				b.WriteString(e.body)
			}
		}
		b.WriteString(`</svg>`)
		out = append(out, b.String())
		from = to
	}
	return out
}

// cutBefore is the best place to cut between two heights: not above a
// violation, which belongs to what shows it.
func (s *sequence) cutBefore(from, to float64) float64 {
	best, at := 0.0, to
	for i := 1; i < len(s.rows); i++ {
		a, b := s.rows[i-1], s.rows[i]
		end := a.y + float64(max(0, len(a.lines)-1))*lineBanner
		if y := math.Floor(min(end+cutBelow, b.y-cutAbove)); y >= from && y <= to && b.y-end >= best && b.class != breach {
			best, at = b.y-end, y
		}
	}
	return at
}
