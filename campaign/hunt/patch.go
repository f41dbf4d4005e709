package hunt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// mayTouch lists the folders that a defect may change: the nodes, and not what
// judges them.
var mayTouch = []string{"raft", "paxos", "nodes/kv", "nodes/replica", "nodes/consensus"}

// readPatch reads a git-style patch; errors name the line.
func readPatch(text string) ([]*gitdiff.File, error) {
	files, _, err := gitdiff.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	hunks, seen := 0, map[string]bool{}
	for _, f := range files {
		if err := checkChange(f); err != nil {
			return nil, err
		}
		if seen[f.NewName] {
			return nil, fmt.Errorf("%s is changed in two places of the patch; put its hunks together", f.NewName)
		}
		seen[f.NewName] = true
		hunks += len(f.TextFragments)
	}
	if hunks == 0 {
		return nil, errors.New("there is no patch behind the head: a unified diff with paths from the root of the sources")
	}
	if n := strings.Count("\n"+text, "\n@@ "); n != hunks {
		return nil, fmt.Errorf("%d lines look like the head of a hunk, and %d hunks can be read: one has lost its form", n, hunks)
	}
	return files, nil
}

// checkChange refuses what is not a change of one of the nodes' own sources.
func checkChange(f *gitdiff.File) error {
	name := f.NewName
	switch {
	case f.IsDelete || f.IsRename || f.IsCopy || f.IsBinary || f.IsNew || f.OldName != name:
		return fmt.Errorf("%s: a defect changes files; it neither adds, removes nor renames any", f.OldName+f.NewName)
	case !filepath.IsLocal(name) || filepath.ToSlash(filepath.Clean(name)) != name:
		return fmt.Errorf("%q is no path from the root of the sources", name)
	case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
		return fmt.Errorf("%s: a defect changes Go files that are no tests", name)
	case !slices.Contains(mayTouch, filepath.ToSlash(filepath.Dir(name))):
		return fmt.Errorf("%s: a defect is in the nodes, below %s", name, strings.Join(mayTouch, ", "))
	case len(f.TextFragments) == 0:
		return fmt.Errorf("%s: nothing in it is changed", name)
	}
	return nil
}

// Apply returns the files that the defect changes, as they are with it, by their
// paths from the root of the sources. The sources stay as they are. Every line
// of a hunk must stand in the file as the hunk says, and where the file has
// moved on, in one place only. An error names each hunk that does not fit.
func (s Source) Apply(d Defect) (map[string][]byte, error) {
	out, misfits := s.fit(d)
	if len(misfits) > 0 {
		return nil, refit(misfits)
	}
	return out, nil
}

// Fit tells of every hunk of the defects that does not fit the sources, by file
// and line; it builds nothing.
func (s Source) Fit(defects ...Defect) error {
	var all []error
	for _, d := range defects {
		_, misfits := s.fit(d)
		all = append(all, misfits...)
	}
	return refit(all)
}

// refit says what to do about changes that don't fit.
func refit(misfits []error) error {
	if len(misfits) == 0 {
		return nil
	}
	return fmt.Errorf("%w\nthe sources have changed: apply such a patch by hand (git apply --3way), look\nwhether it still breaks what its head says, and make it anew with git diff", errors.Join(misfits...))
}

func (s Source) fit(d Defect) (out map[string][]byte, misfits []error) {
	out = map[string][]byte{}
	lines := hunkLines(d.Text)
	for _, f := range d.changes {
		at := lines[:len(f.TextFragments)]
		lines = lines[len(at):]
		before, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(f.NewName)))
		if err != nil {
			misfits = append(misfits, fmt.Errorf("%s:%d: %w", d.File, at[0], err))
			continue
		}
		placed, wrong := place(f, strings.SplitAfter(string(before), "\n"))
		var b bytes.Buffer
		if len(wrong) == 0 {
			if err := gitdiff.Apply(&b, bytes.NewReader(before), placed); err != nil {
				wrong = map[int]error{0: err}
			}
		}
		for i := range f.TextFragments {
			if wrong[i] != nil {
				misfits = append(misfits, fmt.Errorf("%s:%d: %s does not fit: %w", d.File, at[i], f.NewName, wrong[i]))
			}
		}
		out[f.NewName] = b.Bytes()
	}
	return out, misfits
}

// hunkLines are the numbers of the lines with which hunks begin; [readPatch] saw
// that there are no others like them.
func hunkLines(text []byte) (out []int) {
	number := 0
	for line := range bytes.Lines(text) {
		if number++; bytes.HasPrefix(line, []byte("@@ ")) {
			out = append(out, number)
		}
	}
	return out
}

// place returns a copy of a change with each hunk where its lines are, and what
// is wrong with those that have no place, by their order.
func place(f *gitdiff.File, lines []string) (*gitdiff.File, map[int]error) {
	placed := *f
	placed.TextFragments = nil
	wrong := map[int]error{}
	for i, hunk := range f.TextFragments {
		at, err := find(hunk, lines)
		if err != nil {
			wrong[i] = fmt.Errorf("hunk %d: %w", i+1, err)
			continue
		}
		moved := *hunk
		moved.OldPosition, moved.NewPosition = int64(at+1), hunk.NewPosition+int64(at+1)-hunk.OldPosition
		placed.TextFragments = append(placed.TextFragments, &moved)
	}
	return &placed, wrong
}

// find looks for the lines that a hunk expects: where it says, else anywhere.
func find(hunk *gitdiff.TextFragment, lines []string) (int, error) {
	var want []string
	for _, l := range hunk.Lines {
		if l.Op != gitdiff.OpAdd {
			want = append(want, l.Line)
		}
	}
	var at []int
	for i := range len(lines) - len(want) + 1 {
		if slices.Equal(lines[i:i+len(want)], want) {
			at = append(at, i)
		}
	}
	switch said := int(hunk.OldPosition) - 1; {
	case len(want) == 0:
		return 0, errors.New("it has no line of the file around it, so nobody can tell where it belongs")
	case slices.Contains(at, said):
		return said, nil
	case len(at) == 0:
		return 0, errors.New("its lines are not in the file any more")
	case len(at) > 1:
		return 0, fmt.Errorf("the file has moved on, and its lines are there %d times", len(at))
	}
	return at[0], nil
}
