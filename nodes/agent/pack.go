package agent

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of a folder that is fetched.
const (
	packBytes = 256 << 20 // of all files
	packFiles = 10_000
)

var errPackFull = fmt.Errorf("not all was fetched: the folder has more than %d files or %d MiB", packFiles, packBytes>>20)

// pack writes a folder's plain files as a compressed tar file; logs and audits
// first, so that it is journals which don't fit.
func pack(w io.Writer, dir string) error {
	names, err := packed(dir)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, name := range names {
		if err := packFile(t, dir, name); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func packed(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.Type().IsRegular() && len(names) <= packFiles {
			name, relErr := filepath.Rel(dir, path)
			names, err = append(names, name), relErr
		}
		return err
	})
	slices.SortStableFunc(names, func(a, b string) int { return packRank(a) - packRank(b) })
	return names, err
}

func packRank(name string) int {
	if strings.HasSuffix(name, ".txt") || strings.HasSuffix(name, ".jsonl") {
		return 0
	}
	return 1
}

func packFile(t *tar.Writer, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: info.Size(), ModTime: info.ModTime()}); err != nil {
		return err
	}
	_, err = io.CopyN(t, f, info.Size())
	return err
}

// unpack writes what pack made into a folder, and nothing outside of it.
func unpack(r io.Reader, dir string) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	return Untar(z, dir, 0)
}

// Untar writes the plain files of a tar file into a folder, each without the
// first strip elements of its name, and nothing else and nothing outside of it.
// It writes as much as a [Door] fetches; what is left out on top is an error.
func Untar(r io.Reader, dir string, strip int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left, t := int64(packBytes), tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if left -= h.Size; left < 0 || n >= packFiles {
			return errPackFull
		}
		name := h.Name
		for range strip {
			_, name, _ = strings.Cut(name, "/")
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the name %q leads out of the folder", h.Name)
		}
		if err := untarFile(root, filepath.FromSlash(name), t); err != nil {
			return err
		}
	}
}

func untarFile(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
