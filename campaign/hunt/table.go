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
		if r.Interrupted && l.Tries == 0 {
			continue
		}
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
	for _, short := range r.CutShort {
		fmt.Fprintln(w, short)
	}
	if len(r.CutShort) > 0 {
		fmt.Fprintln(w, "remedy for tries cut short: --jobs 1, a larger --budget, or a quieter machine")
	}
	if all := len(r.Lines) * r.Tries; r.Interrupted {
		fmt.Fprintf(w, "not tried to the end: %d of %s\n", r.untried(), counted(all, "try", "tries"))
	}
	_, err := fmt.Fprintln(w, r.Verdict())
	return err
}

// untried is how many tries did not come to an end of any kind.
func (r Report) untried() int {
	n := -len(r.Failures) - len(r.CutShort)
	for _, l := range r.Lines {
		n += l.Lacking
	}
	return n
}
