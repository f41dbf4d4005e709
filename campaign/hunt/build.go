package hunt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Bounds of building.
const (
	buildsKept  = 7 * 24 * time.Hour // how long a build that nobody uses is kept
	killWait    = 30 * time.Second   // how long a child may take to heal what it hurt
	programName = "chaos"
	workPrefix  = "chaos-building-" // of a folder in which something is being built
)

// A Builder builds cmd/chaos with and without defects, once for each state of
// the sources and of the patch. It may be used by several goroutines.
type Builder struct {
	source Source
	folder string
	mu     sync.Mutex      // one build at a time: each uses all cores anyway
	broken map[string]bool // by key: builds that failed
}

// NewBuilder makes a Builder that keeps its builds in folder, and takes those
// away that were not used for long.
func NewBuilder(s Source, folder string) (*Builder, error) {
	folder, err := filepath.Abs(folder)
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err != nil {
		return nil, err
	}
	if err := prune(folder); err != nil {
		return nil, err
	}
	return &Builder{source: s, folder: folder, broken: map[string]bool{}}, nil
}

// buildFolder is what the folder of a build is called.
var buildFolder = regexp.MustCompile(`-[0-9a-f]{16}$`)

// prune removes builds that were not used for long, and what builds left that
// were cut off. It touches nothing that goes by other names.
func prune(folder string) error {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		name := filepath.Join(folder, e.Name())
		program := filepath.Join(name, programName)
		switch {
		case strings.HasPrefix(e.Name(), workPrefix) && unused(name):
			err = errors.Join(err, os.RemoveAll(name))
		case buildFolder.MatchString(e.Name()) && unused(program):
			err = errors.Join(err, os.Remove(program), os.Remove(name))
		}
	}
	return err
}

func unused(name string) bool {
	info, err := os.Stat(name)
	return err == nil && time.Since(info.ModTime()) > buildsKept
}

// Key names a build of the defect: it changes with the sources and the diff, and
// not with the head, which only tells of it.
func (b *Builder) Key(d Defect) string {
	sum := sha256.Sum256([]byte(b.source.sum + "\n" + d.Diff))
	return hex.EncodeToString(sum[:])[:16]
}

// Build builds chaos with the defect, or without any of the zero Defect, and
// returns the program's path. What was built before is used again; what failed
// to build is not tried again, and only the first error tells why.
func (b *Builder) Build(ctx context.Context, d Defect) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	folder := filepath.Join(b.folder, nameOf(d)+"-"+b.Key(d))
	program := filepath.Join(folder, programName)
	if _, err := os.Stat(program); err == nil {
		now := time.Now()
		return program, os.Chtimes(program, now, now)
	}
	if b.broken[b.Key(d)] {
		return "", fmt.Errorf("building %s failed before", nameOf(d))
	}
	work, err := os.MkdirTemp(b.folder, workPrefix) // on the file system of the builds
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	overlay, err := b.source.Overlay(d, work)
	if err != nil {
		return "", err
	}
	fresh := filepath.Join(work, programName)
	if err := b.compile(ctx, overlay, fresh); err != nil {
		b.broken[b.Key(d)] = ctx.Err() == nil
		return "", fmt.Errorf("building %s: %w", nameOf(d), err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	return program, os.Rename(fresh, program)
}

func (b *Builder) compile(ctx context.Context, overlay, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-overlay", overlay, "-o", out, "./cmd/chaos")
	cmd.Dir, cmd.Env = b.source.root, append(os.Environ(), "CGO_ENABLED=0")
	words, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("there is no go in the path: defects are built from source")
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w\n%s", err, clipped(words))
	}
	return nil
}

// nameOf is the defect's name, or Sound.
func nameOf(d Defect) string {
	if d.Name == "" {
		return Sound
	}
	return d.Name
}

// Overlay writes the files that the defect changes into the folder work, and a
// file for go build -overlay beside them, whose path it returns.
func (s Source) Overlay(d Defect, work string) (string, error) {
	changed, err := s.Apply(d)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name, text := range changed {
		copied := filepath.Join(work, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(copied, text, 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(s.root, filepath.FromSlash(name))] = copied
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(work, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644)
}
