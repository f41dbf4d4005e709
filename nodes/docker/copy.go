package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
)

// Bounds of what is copied out of a container that can't be asked any more.
const (
	copyBytes = 256 << 20
	copyFiles = 10_000
)

// copyOut has the engine copy the node's folder, running or not. That there is
// no such folder is no error.
func (b *box) copyOut(ctx context.Context, into string) error {
	r, err := b.e.CopyFromContainer(ctx, b.id, client.CopyFromContainerOptions{SourcePath: b.dir})
	if absent(err) {
		return os.MkdirAll(into, 0o755)
	}
	if err != nil {
		return fmt.Errorf("docker: copying %s out of %s: %w", b.dir, b.name, err)
	}
	defer r.Content.Close()
	if err := untar(r.Content, into); err != nil {
		return fmt.Errorf("docker: copying %s out of %s: %w", b.dir, b.name, err)
	}
	return nil
}

// untar writes the plain files of a tar file whose names begin with one folder
// more than is wanted, and nothing outside of dir.
func untar(r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left, t := int64(copyBytes), tar.NewReader(r)
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
		if left -= h.Size; left < 0 || n >= copyFiles {
			return fmt.Errorf("not all was copied: there are more than %d files or %d MiB", copyFiles, copyBytes>>20)
		}
		_, name, _ := strings.Cut(h.Name, "/")
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
