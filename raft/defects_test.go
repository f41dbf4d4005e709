package raft

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// defectHead is what the head of a defect tells, in this order.
var defectHead = []string{"Defect", "Systems", "Breaks", "Happened", "Seen by", "Live"}

// TestDefects: every defect has a complete head, changes files of this package
// and nothing else, and still fits them.
func TestDefects(t *testing.T) {
	files, err := filepath.Glob("testdata/defects/*.patch")
	if err != nil || len(files) < 18 {
		t.Fatalf("there are %d defects, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".patch"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, diff, _ := strings.Cut(string(text), "\n\n")
			checkHead(t, strings.TrimSuffix(filepath.Base(file), ".patch"), head)
			checkDiff(t, diff)
		})
	}
}

// checkHead wants every field once, in order, with something behind it.
func checkHead(t *testing.T, name, head string) {
	var fields []string
	for line := range strings.SplitSeq(head, "\n") {
		if strings.HasPrefix(line, "  ") && len(fields) > 0 {
			continue
		}
		field, value, ok := strings.Cut(line, ": ")
		if !ok || strings.TrimSpace(value) == "" {
			t.Errorf("%q is no field of a head", line)
		}
		fields = append(fields, field)
		switch {
		case field == "Defect" && value != name:
			t.Errorf("it is called %q", value)
		case field == "Systems" && value != "raft":
			t.Errorf("it is about %q", value)
		case field == "Live" && !strings.HasPrefix(value, "yes") && !strings.HasPrefix(value, "no: "):
			t.Errorf("a live run shows it: %q; yes, or no and why", value)
		}
	}
	if !slices.Equal(fields, defectHead) {
		t.Errorf("its head has the fields %q; they are %q", fields, defectHead)
	}
}

// checkDiff wants the old side of each hunk to stand in the file that it names.
func checkDiff(t *testing.T, diff string) {
	var source, old string
	hunks := 0
	fits := func() {
		if old != "" && strings.Count(source, old) != 1 {
			t.Errorf("a hunk fits %d places:\n%s", strings.Count(source, old), old)
		}
		old = ""
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(diff, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "diff --git "), strings.HasPrefix(line, "index "), strings.HasPrefix(line, "+++ "):
			fits()
		case strings.HasPrefix(line, "--- "):
			name, ours := strings.CutPrefix(line, "--- a/raft/")
			text, err := os.ReadFile(name)
			if !ours || err != nil || strings.ContainsAny(name, "/\\") {
				t.Fatalf("%q is no file of this package (%v)", line, err)
			}
			source = string(text)
		case strings.HasPrefix(line, "@@ "):
			fits()
			hunks++
		case strings.HasPrefix(line, "-"), strings.HasPrefix(line, " "):
			old += line[1:] + "\n"
		case line == "":
			old += "\n"
		}
	}
	fits()
	if hunks == 0 {
		t.Error("it changes nothing")
	}
}
