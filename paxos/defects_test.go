package paxos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// headFields are the fields of a defect's head, in their order.
var headFields = []string{"Defect", "Systems", "Breaks", "Happened", "Seen by", "Live"}

// splitPatch parts a defect's head from its diff. A field may go on in lines
// that begin with two spaces.
func splitPatch(text string) (head map[string]string, diff string, err error) {
	top, diff, found := strings.Cut(text, "\n\n")
	if !found {
		return nil, "", fmt.Errorf("no blank line ends the head")
	}
	head = map[string]string{}
	var names []string
	for line := range strings.Lines(top) {
		line = strings.TrimSuffix(line, "\n")
		if more, ok := strings.CutPrefix(line, "  "); ok && len(names) > 0 {
			head[names[len(names)-1]] += " " + more
			continue
		}
		name, value, _ := strings.Cut(line, ": ")
		names = append(names, name)
		head[name] = value
	}
	if !slices.Equal(names, headFields) {
		return nil, "", fmt.Errorf("the head has the fields %q; want %q", names, headFields)
	}
	return head, diff, nil
}

// checkHead tells what is wrong with a head.
func checkHead(name string, head map[string]string) error {
	for _, field := range headFields {
		if strings.TrimSpace(head[field]) == "" {
			return fmt.Errorf("%s is empty", field)
		}
	}
	if head["Defect"] != name {
		return fmt.Errorf("the file is of another name than the defect %s", head["Defect"])
	}
	for _, system := range strings.Split(head["Systems"], ", ") {
		if system != "paxos" && system != "paxos-classic" {
			return fmt.Errorf("no system is called %q", system)
		}
	}
	if live := head["Live"]; live != "yes" && !strings.HasPrefix(live, "yes: ") && !strings.HasPrefix(live, "no: ") {
		return fmt.Errorf("Live is %q; want yes, or no with the reason", live)
	}
	return nil
}

// checkDiff insists that a diff changes sources of this package, and that all
// lines which it expects there still stand there.
func checkDiff(diff string) error {
	source, before := "", ""
	hunk := func() error {
		if !strings.Contains(source, before) {
			return fmt.Errorf("the source does not hold these lines:\n%s", before)
		}
		before = ""
		return nil
	}
	for line := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(line, "diff ") || strings.HasPrefix(line, "+++ "):
		case strings.HasPrefix(line, "--- "):
			if err := hunk(); err != nil {
				return err
			}
			file, ok := strings.CutPrefix(strings.TrimSpace(line), "--- a/paxos/")
			if !ok || strings.HasSuffix(file, "_test.go") || strings.Contains(file, "/") {
				return fmt.Errorf("%q is not a source of this package", line)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			source = string(b)
		case strings.HasPrefix(line, "@@ "):
			if err := hunk(); err != nil {
				return err
			}
		case line[0] == ' ' || line[0] == '-':
			before += line[1:]
		}
	}
	if source == "" {
		return fmt.Errorf("nothing is changed")
	}
	return hunk()
}

// TestDefects holds every defect to its form. Whether it is found is for the
// hunt to tell, which builds and runs each.
func TestDefects(t *testing.T) {
	files, err := filepath.Glob("testdata/defects/*.patch")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d defects, want at least 15 (%v)", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, diff, err := splitPatch(string(text))
		if err == nil {
			err = checkHead(strings.TrimSuffix(filepath.Base(file), ".patch"), head)
		}
		if err == nil {
			err = checkDiff(diff)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
