package hunt

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table writes the report for people.
func (r Report) Table(w io.Writer) error {
	unit := "s"
	if r.In == "sim" {
		unit = "CPU s"
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "defect\tsystem\tfound\tseen by\tmedian\tp90 %s\tseed\n", unit)
	for _, l := range r.Lines {
		seed := "-"
		if l.Found > 0 {
			seed = fmt.Sprint(l.Seed)
		}
		word := fmt.Sprintf("%d/%d", l.Found, l.Tries)
		if v := l.Word(); v != "found" {
			word += " " + v
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Defect, l.System, word, orNone(strings.Join(l.By, ", ")), figure(l.Median), figure(l.P90), seed)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, l := range r.Lines {
		for _, d := range l.Details {
			fmt.Fprintf(w, "the sound build of %s is accused: %s\n", l.System, d)
		}
	}
	for _, n := range r.NotHunted {
		fmt.Fprintf(w, "not hunted: %s: %s\n", n.Defect, n.Why)
	}
	for _, failure := range r.Failures {
		fmt.Fprintf(w, "failed: %s\n", failure)
	}
	_, err := fmt.Fprintln(w, r.Verdict())
	return err
}
