// Package hunt looks for deliberate bugs. A defect is a small patch with a head
// in prose; it is applied to a copy, built, and looked for in simulation or on
// real processes, as the sound build is, which must stay silent. It decides
// whether the harness sees what it claims to see.
package hunt

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// Sound is the name of the build without a defect; no defect may have it.
const Sound = "sound"

// Bounds of a defect.
const (
	nameMax  = 48       // bytes of a name: tables have a column for it
	patchMax = 64 << 10 // bytes of a patch: more is no small defect
)

// Systems are the systems of our own that a defect may be in, in the order in
// which they are hunted.
var Systems = []string{"raft", "paxos", "paxos-classic"}

// A Defect is a deliberate bug in our own nodes: the head of a patch, and the patch.
type Defect struct {
	Name     string   `json:"name"`
	File     string   `json:"file"` // from the root of the source tree, with slashes
	Systems  []string `json:"systems"`
	Breaks   string   `json:"breaks"`           // the rule that it breaks
	Happened string   `json:"happened"`         // where it happened in the real world
	SeenBy   string   `json:"seen_by"`          // which invariant or checker should see it
	Hidden   string   `json:"hidden,omitempty"` // why a live run can hardly show it; "" if it can
	Needs    string   `json:"needs,omitempty"`  // what a live run that shows it takes
	Text     []byte   `json:"-"`                // the whole file
	Diff     string   `json:"-"`                // what stands behind the head

	changes []*gitdiff.File
}

// Live tells whether a live run can be expected to show the defect.
func (d Defect) Live() bool { return d.Hidden == "" }

// headFields are the fields of a head, in their order.
var headFields = []string{"Defect", "Systems", "Breaks", "Happened", "Seen by", "Live"}

var namePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Parse reads a defect; file is its path from the root of the source tree. An
// error names file and line.
func Parse(file string, text []byte) (Defect, error) {
	d := Defect{File: file, Text: text}
	fail := func(line int, format string, args ...any) (Defect, error) {
		return Defect{}, fmt.Errorf("%s:%d: %s", file, line, fmt.Sprintf(format, args...))
	}
	switch {
	case len(text) > patchMax:
		return fail(1, "%d bytes; a defect has at most %d", len(text), patchMax)
	case !utf8.Valid(text):
		return fail(1, "it is not UTF-8")
	case strings.ContainsRune(string(text), '\r'):
		return fail(1, "its lines end in CR LF; they must end in LF, or no hunk would fit")
	}
	values, lines, body, err := readHead(string(text))
	if err != nil {
		return fail(body, "%v", err)
	}
	for i, set := range []func(string) error{d.setName, d.setSystems, setText(&d.Breaks), setText(&d.Happened), setText(&d.SeenBy), d.setLive} {
		if err := set(values[i]); err != nil {
			return fail(lines[i], "%s: %v", headFields[i], err)
		}
	}
	d.Diff = after(string(text), body-1)
	// Empty lines in the head's place keep the numbers of the lines.
	if d.changes, err = readPatch(strings.Repeat("\n", body-1) + d.Diff); err != nil {
		return Defect{}, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// readHead reads the fields up to the blank line; body is the number of the line
// behind it, or of the line that is wrong.
func readHead(text string) (values []string, lines []int, body int, err error) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		more, isMore := strings.CutPrefix(line, "  ")
		switch {
		case line == "":
			if len(values) < len(headFields) {
				return nil, nil, number, fmt.Errorf("the head ends without the field %q; its fields are %s", headFields[len(values)], strings.Join(headFields, ", "))
			}
			return values, lines, number + 1, nil
		case isMore && len(values) > 0:
			values[len(values)-1] += " " + strings.TrimSpace(more)
		case len(values) == len(headFields):
			return nil, nil, number, fmt.Errorf("%q stands behind the last field; a blank line ends the head, and lines that go on begin with two spaces", line)
		default:
			value, ok := strings.CutPrefix(line, headFields[len(values)]+":")
			if !ok {
				return nil, nil, number, fmt.Errorf("%q stands where the field %q belongs; the fields are %s", line, headFields[len(values)], strings.Join(headFields, ", "))
			}
			values, lines = append(values, strings.TrimSpace(value)), append(lines, number)
		}
	}
	return nil, nil, max(number, 1), fmt.Errorf("no blank line ends the head")
}

// after is text without its first n lines.
func after(text string, n int) string {
	for range n {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}

func (d *Defect) setName(v string) error {
	d.Name = v
	switch {
	case !namePattern.MatchString(v) || len(v) > nameMax:
		return fmt.Errorf("%q is no name: small letters, digits and single hyphens, at most %d", v, nameMax)
	case v == Sound:
		return fmt.Errorf("%q is the name of the build without a defect", v)
	case v+".patch" != path.Base(d.File):
		return fmt.Errorf("%q belongs in a file %s.patch", v, v)
	}
	return nil
}

func (d *Defect) setSystems(v string) error {
	for name := range strings.SplitSeq(v, ",") {
		name = strings.TrimSpace(name)
		switch {
		case !slices.Contains(Systems, name):
			return fmt.Errorf("there is no system %q; there are %s", name, strings.Join(Systems, ", "))
		case slices.Contains(d.Systems, name):
			return fmt.Errorf("%s stands twice", name)
		}
		d.Systems = append(d.Systems, name)
	}
	return nil
}

func setText(to *string) func(string) error {
	return func(v string) error {
		if *to = v; v == "" {
			return fmt.Errorf("it says nothing")
		}
		return nil
	}
}

func (d *Defect) setLive(v string) error {
	end := strings.IndexAny(v, ":,")
	if v == "yes" {
		return nil
	}
	if end < 0 || strings.TrimSpace(v[end+1:]) == "" {
		end = 0
	}
	switch v[:end] {
	case "yes":
		d.Needs = strings.TrimSpace(v[end+1:])
		return nil
	case "no":
		d.Hidden = strings.TrimSpace(v[end+1:])
		return nil
	}
	return fmt.Errorf("%q: it is yes, yes: and what it takes, or no: and why a live run can hardly show it", v)
}
