package replica

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// zeroChunk is how many bytes of zeros one write carries.
const zeroChunk = 256 << 10

// OSDisk is a Disk in a folder of the operating system.
type OSDisk struct{ root string }

// OpenDisk makes the folder if it is missing and returns its Disk.
func OpenDisk(root string) (*OSDisk, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	return &OSDisk{root: root}, nil
}

// Open implements Disk.
func (d *OSDisk) Open(name string, create bool) (File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(filepath.Join(d.root, name), flags, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename implements Disk.
func (d *OSDisk) Rename(from, to string) error {
	return os.Rename(filepath.Join(d.root, from), filepath.Join(d.root, to))
}

// Remove implements Disk.
func (d *OSDisk) Remove(name string) error { return os.Remove(filepath.Join(d.root, name)) }

// List implements Disk.
func (d *OSDisk) List() ([]string, error) {
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir implements Disk.
func (d *OSDisk) SyncDir() error {
	f, err := os.Open(d.root)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Preallocate reserves the space first, which finds a full disk early and keeps
// the file in one piece, and then writes the zeros: space that is reserved only
// would cost a metadata commit at the first write of every block.
func (f osFile) Preallocate(size int64) error {
	if err := allocate(f.File, size); err != nil {
		return fmt.Errorf("reserving %d bytes for %s: %w", size, f.Name(), err)
	}
	zeros := make([]byte, zeroChunk)
	for off := int64(0); off < size; off += zeroChunk {
		if _, err := f.WriteAt(zeros[:min(zeroChunk, size-off)], off); err != nil {
			return err
		}
	}
	return nil
}

func (f osFile) Sync() error {
	if err := datasync(f.File); err != nil {
		return fmt.Errorf("syncing %s: %w", f.Name(), err)
	}
	return nil
}
