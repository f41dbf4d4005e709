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
// paths from the root of the sources. The sources stay as they are. Every hunk
// must fit exactly where it says.
func (s Source) Apply(d Defect) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, f := range d.changes {
		before, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(f.NewName)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.File, err)
		}
		var b bytes.Buffer
		if err := gitdiff.Apply(&b, bytes.NewReader(before), f); err != nil {
			return nil, misfit(d, f, err)
		}
		out[f.NewName] = b.Bytes()
	}
	return out, nil
}

// misfit says which hunk does not fit, and what to do.
func misfit(d Defect, f *gitdiff.File, err error) error {
	where := ""
	var apply *gitdiff.ApplyError
	if errors.As(err, &apply) && apply.Fragment > 0 && apply.Fragment <= len(f.TextFragments) {
		where = fmt.Sprintf("hunk %d, %s, ", apply.Fragment, strings.TrimSpace(f.TextFragments[apply.Fragment-1].Header()))
		if apply.Line > 0 {
			where += fmt.Sprintf("near line %d, ", apply.Line)
		}
	}
	return fmt.Errorf("%s: %s: %sdoes not fit: %w; the sources have changed: apply it by hand (git apply --3way), look whether it still breaks what its head says, and make it anew with git diff",
		d.File, f.NewName, where, err)
}
