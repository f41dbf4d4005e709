package hunt

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Source is the source tree of chaos.
type Source struct {
	root string
	sum  string
}

// Root is the tree's folder, as an absolute path.
func (s Source) Root() string { return s.root }

// Sum is a hash over everything that is built, defects aside.
func (s Source) Sum() string { return s.sum }

var moduleLine = regexp.MustCompile(`(?m)^module chaos$`)

// Open finds the source tree at root.
func Open(root string) (Source, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return Source{}, err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real // go build knows files of an overlay by their real paths only
	}
	mod, err := os.ReadFile(filepath.Join(abs, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !moduleLine.Match(mod) {
		return Source{}, fmt.Errorf("%s is not the source tree of chaos: defects are patches to the sources and are built from them; name the folder that holds its go.mod with --source DIR", abs)
	}
	if err != nil {
		return Source{}, err
	}
	s := Source{root: abs}
	s.sum, err = sumOf(abs)
	return s, err
}

// sumOf hashes the names and contents of what a build reads: Go files that are
// no tests, what they embed, and the module's files.
func sumOf(root string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"testdata", "runs", "kept", "docs"}, d.Name())) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || strings.HasSuffix(name, "_test.go") || !slices.Contains(builtFrom, filepath.Ext(name)) {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		below, _ := filepath.Rel(root, name)
		fmt.Fprintf(h, "%s %d\n%s", filepath.ToSlash(below), len(b), b)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

// builtFrom lists the endings of the files that a build may read.
var builtFrom = []string{".go", ".mod", ".sum", ".yml", ".html"}

// Load finds every defect of the source tree at root, in the order of files.
// An error tells of all that are wrong.
func Load(root string) (Source, []Defect, error) {
	s, err := Open(root)
	if err != nil {
		return s, nil, err
	}
	var names []string
	err = filepath.WalkDir(s.root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != s.root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case isDefect(filepath.ToSlash(name)) && d.Type().IsRegular():
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return s, nil, err
	}
	defects, err := s.parse(names)
	return s, defects, err
}

var defectFile = regexp.MustCompile(`/testdata/defects/[^/]+\.patch$`)

func isDefect(name string) bool { return defectFile.MatchString(name) }

func (s Source) parse(names []string) (out []Defect, err error) {
	var errs []error
	at := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		below, _ := filepath.Rel(s.root, name)
		d, err := Parse(filepath.ToSlash(below), text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if at[d.Name] != "" {
			errs = append(errs, fmt.Errorf("%s:1: %s has a defect of that name too", d.File, at[d.Name]))
		}
		at[d.Name] = d.File
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Defect) int { return cmp.Compare(a.File, b.File) })
	return out, errors.Join(errs...)
}
