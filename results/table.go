package results

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
)

// The geometry of the table, in columns of a terminal.
const (
	tableWidth = 80
	namesWidth = 24 // of the first column, with its borders
	cellBorder = 3
	cellMin    = 12
)

// Table writes runs as a result table, one run a column: one run, or two side
// by side, fit 80 columns.
func Table(w io.Writer, runs ...Summary) error {
	room := max(cellMin, (tableWidth-namesWidth)/max(1, len(runs))-cellBorder)
	t := tablewriter.NewTable(w,
		tablewriter.WithRendition(tw.Rendition{Symbols: tw.NewSymbols(tw.StyleLight)}),
		tablewriter.WithRowAlignment(tw.AlignLeft))
	for _, row := range rows {
		line := []string{row.name}
		for _, s := range runs {
			line = append(line, wrap(row.cell(s), room))
		}
		if err := t.Append(line); err != nil {
			return err
		}
	}
	return t.Render()
}

// wrap breaks lines at blanks so that none is longer than width, where words allow.
func wrap(text string, width int) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		now := ""
		for _, word := range strings.Fields(line) {
			switch {
			case now == "":
				now = word
			case utf8.RuneCountInString(now)+1+utf8.RuneCountInString(word) <= width:
				now += " " + word
			default:
				out, now = append(out, now), word
			}
		}
		out = append(out, now)
	}
	return strings.Join(out, "\n")
}

// A row is one line of the table.
type row struct {
	name string
	cell func(Summary) string
}

var rows = []row{
	{"system", system},
	{"provider", provider},
	{"seed", func(s Summary) string { return fmt.Sprint(s.Seed) }},
	{"operations", operations},
	{"rate", func(s Summary) string { return fmt.Sprintf("%.0f ok/s", s.Figures.Rate) }},
	{"latency", func(s Summary) string {
		return fmt.Sprintf("p50 %s, p99 %s", Short(s.Figures.P50), Short(s.Figures.P99))
	}},
	{"faults proven", faults},
	{"worst unavailability", func(s Summary) string { return Short(s.Figures.Unavailable) }},
	{"recovery after heal", recovery},
	{"verdict", Summary.Word},
}

// system names it, and its nodes where a plan tells how many they were.
func system(s Summary) string {
	if s.Nodes == 0 {
		return s.System
	}
	return s.System + ", " + Counted(s.Nodes, "node")
}

// provider names it, and how it hurts links where that is known.
func provider(s Summary) string {
	if s.Network == "" {
		return s.Provider
	}
	return s.Provider + ", network " + s.Network
}

func operations(s Summary) string {
	all := s.Figures.All
	return fmt.Sprintf("%d: %d ok, %d fail, %d info", all.Total(), all.Ok, all.Fail, all.Info)
}

func recovery(s Summary) string {
	if !s.Figures.Recovered {
		return "none seen"
	}
	return Short(s.Figures.Recovery)
}

// faults lists kinds with proven/injected, a few to a line, in order of name.
func faults(s Summary) string {
	var out []string
	for _, f := range s.Figures.Faults {
		out = append(out, fmt.Sprintf("%s %d/%d", f.Fault, f.Proven, f.Injected))
	}
	if len(out) == 0 {
		return "none injected"
	}
	return strings.Join(out, "\n")
}

// Short writes a duration with three significant digits at most.
func Short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// Counted is a number of things: "1 seed", "2 seeds".
func Counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
