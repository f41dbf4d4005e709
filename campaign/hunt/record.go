package hunt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// RecordFile is where a source tree keeps its track record.
const RecordFile = "docs/track-record.md"

const recordHead = `# Track record

Deliberate bugs in our own nodes, and what found them. Each is a small patch ([how to read and
add one](defects.md)); ` + "`chaos hunt`" + ` builds it and looks for it. A try ends with the first violation or with
its budget. The sound build gets the same budget from the same first seeds and must stay silent.
This file is written by ` + "`chaos hunt --record`" + `; do not edit it.
`

// sections are the parts of the record, in their order.
var sections = []struct{ in, title string }{{"sim", "## In simulation\n"}, {"local", "## On real processes\n"}}

// Record renders the track record: the report's own part anew, and the other
// part as the record before has it. Equal reports make equal bytes.
func Record(before string, r Report) string {
	var b strings.Builder
	b.WriteString(recordHead)
	for i, s := range sections {
		if s.in == r.In {
			b.WriteString("\n" + s.title + "\n")
			r.record(&b)
		} else if _, kept, ok := strings.Cut(before, "\n"+s.title); ok {
			if i+1 < len(sections) {
				kept, _, _ = strings.Cut(kept, "\n"+sections[i+1].title)
			}
			b.WriteString("\n" + s.title + kept)
		}
	}
	return b.String()
}

// record writes one part.
func (r Report) record(b *strings.Builder) {
	unit := "seconds of the clock"
	if r.In == "sim" {
		unit = "CPU seconds"
	}
	fmt.Fprintf(b, "%s.\n\nEach was tried %d times; %s. Median and p90 (nearest rank) are %s until the violation\nwas seen, over all tries; one that saw nothing counts as endless (–).\n\n", r.Verdict(), r.Tries, r.Settings, unit)
	b.WriteString("| defect | system | found | seen by | median | p90 | shown again by |\n|---|---|---|---|---:|---:|---|\n")
	for _, l := range r.Lines {
		if !l.sound() {
			fmt.Fprintf(b, "| %s | %s | %d/%d | %s | %s | %s | %s |\n", l.Defect, l.System, l.Found, l.Tries, orNone(strings.Join(l.By, ", ")), figure(l.Median), figure(l.P90), l.shown(r.In))
		}
	}
	b.WriteString("\n| sound build | tries | accused | seeds looked at | seconds |\n|---|---:|---:|---:|---:|\n")
	for _, l := range r.Lines {
		if l.sound() {
			fmt.Fprintf(b, "| %s | %d | %d | %d | %.0f |\n", l.System, l.Tries, l.Found, l.Seeds, l.Seconds)
		}
	}
	list(b, "What the missed ones take in a live run", r.Needs)
	list(b, "Not hunted here, since a live run can hardly show them", r.NotHunted)
}

func list(b *strings.Builder, what string, all []Skipped) {
	if len(all) > 0 {
		b.WriteString("\n" + what + ":\n\n")
	}
	for _, n := range all {
		fmt.Fprintf(b, "- %s: %s\n", n.Defect, n.Why)
	}
}

// shown is the command that shows a find again.
func (l Line) shown(in string) string {
	if l.Found == 0 {
		return "–"
	}
	return fmt.Sprintf("`chaos hunt replay %s --in %s --system %s --seed %d`", l.Defect, in, l.System, l.Seed)
}

func orNone(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// figure writes seconds, or a dash for none.
func figure(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f", *v)
}

// SaveRecord renews the track record of a source tree.
func (s Source) SaveRecord(r Report) error {
	if !r.Finished() { // also where it missed something already
		return errors.New("the track record stays as it was: not every try was finished")
	}
	name := s.root + "/" + RecordFile
	before, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := name + ".new"
	if err := os.WriteFile(fresh, []byte(Record(string(before), r)), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, name)
}
