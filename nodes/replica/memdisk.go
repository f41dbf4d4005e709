package replica

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// sectorSize is what a disk writes as a whole or not at all, in bytes.
const sectorSize = 512

// MemDisk is a Disk in memory that knows what is durable and what is not.
// After [MemDisk.Cut], or once its budget of calls is used up, every call
// answers ErrPowerLost; [MemDisk.Restored] is what the next start finds.
// Its zero value is an empty disk.
type MemDisk struct {
	mu      sync.Mutex
	names   map[string]*memFile // as the running system sees them
	durable map[string]*memFile // after the last SyncDir
	changes []nameChange        // since then
	off     bool
	calls   int // so far
	failAt  int // the call at which power goes; 0: never
}

// A nameChange binds to to file (nil: nothing) and takes from away.
type nameChange struct {
	from, to string
	file     *memFile
}

type memFile struct {
	data    []byte // as the running system sees it
	durable []byte
	writes  []memWrite // since the last Sync
}

type memWrite struct {
	off  int64
	data []byte
}

// NewMemDisk is an empty disk.
func NewMemDisk() *MemDisk { return &MemDisk{} }

// CutAfter makes the power go at the n-th call from now; that call may have
// taken effect in part.
func (d *MemDisk) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt = d.calls + n
}

// Cut takes the power away now.
func (d *MemDisk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// Calls counts the calls so far.
func (d *MemDisk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Killed is what a restart finds when the process was killed and the machine
// stayed up: all that was written.
func (d *MemDisk) Killed() *MemDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := &MemDisk{names: map[string]*memFile{}, durable: map[string]*memFile{}}
	copies := map[*memFile]*memFile{}
	clone := func(f *memFile) *memFile {
		if f != nil && copies[f] == nil {
			copies[f] = &memFile{data: slices.Clone(f.data), durable: slices.Clone(f.durable), writes: slices.Clone(f.writes)}
		}
		return copies[f]
	}
	for name, f := range d.names {
		n.names[name] = clone(f)
	}
	for name, f := range d.durable {
		n.durable[name] = clone(f)
	}
	for _, c := range d.changes {
		n.changes = append(n.changes, nameChange{c.from, c.to, clone(c.file)})
	}
	return n
}

// Restored is what a restart finds after power loss: all that was synced, and of
// the rest whatever r draws, sector by sector and name by name.
func (d *MemDisk) Restored(r *rand.Rand) *MemDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := maps.Clone(d.durable)
	if names == nil {
		names = map[string]*memFile{}
	}
	for _, c := range d.changes {
		if r.IntN(2) == 0 {
			c.apply(names)
		}
	}
	n := &MemDisk{names: map[string]*memFile{}, durable: map[string]*memFile{}}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		data := names[name].torn(r)
		f := &memFile{data: data, durable: slices.Clone(data)}
		n.names[name], n.durable[name] = f, f
	}
	return n
}

func (c nameChange) apply(names map[string]*memFile) {
	delete(names, c.from)
	if c.file != nil {
		names[c.to] = c.file
	}
}

// torn draws which sectors of the unsynced writes arrived: all, none, or each by itself.
func (f *memFile) torn(r *rand.Rand) []byte {
	data := slices.Clone(f.durable)
	keep := r.IntN(3)
	for _, w := range f.writes {
		for at := w.off; at < w.off+int64(len(w.data)); {
			end := min(at-at%sectorSize+sectorSize, w.off+int64(len(w.data)))
			if keep == 0 || (keep == 1 && r.IntN(2) == 0) {
				data = put(data, w.data[at-w.off:end-w.off], at)
			}
			at = end
		}
	}
	return data
}

func put(data, p []byte, off int64) []byte {
	if grow := off + int64(len(p)) - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[off:], p)
	return data
}

// call counts a call and tells whether it may take effect, and whether power is
// gone when it returns.
func (d *MemDisk) call() (effect bool, err error) {
	if d.off {
		return false, ErrPowerLost
	}
	d.calls++
	if d.failAt != 0 && d.calls >= d.failAt {
		d.off = true
		return true, ErrPowerLost
	}
	return true, nil
}

// Open implements Disk.
func (d *MemDisk) Open(name string, create bool) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	effect, err := d.call()
	if !effect {
		return nil, err
	}
	f := d.names[name]
	if f == nil {
		if !create {
			return nil, fmt.Errorf("opening %s: %w", name, fs.ErrNotExist)
		}
		f = &memFile{}
		d.change(nameChange{to: name, file: f})
	}
	return &memHandle{disk: d, file: f}, err
}

func (d *MemDisk) change(c nameChange) {
	if d.names == nil {
		d.names = map[string]*memFile{}
	}
	c.apply(d.names)
	d.changes = append(d.changes, c)
}

// Rename implements Disk.
func (d *MemDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	effect, err := d.call()
	if !effect {
		return err
	}
	f := d.names[from]
	if f == nil {
		return fmt.Errorf("renaming %s: %w", from, fs.ErrNotExist)
	}
	d.change(nameChange{from: from, to: to, file: f})
	return err
}

// Remove implements Disk.
func (d *MemDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	effect, err := d.call()
	if !effect {
		return err
	}
	if d.names[name] == nil {
		return fmt.Errorf("removing %s: %w", name, fs.ErrNotExist)
	}
	d.change(nameChange{from: name})
	return err
}

// List implements Disk.
func (d *MemDisk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if effect, err := d.call(); !effect || err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(d.names)), nil
}

// SyncDir implements Disk. When power goes during it, nothing new is durable for certain.
func (d *MemDisk) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.call(); err != nil {
		return err
	}
	d.durable, d.changes = maps.Clone(d.names), nil
	return nil
}

type memHandle struct {
	disk *MemDisk
	file *memFile
}

func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	effect, err := h.disk.call()
	if !effect {
		return 0, err
	}
	h.file.data = put(h.file.data, p, off)
	h.file.writes = append(h.file.writes, memWrite{off, slices.Clone(p)})
	return len(p), err
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if effect, err := h.disk.call(); !effect || err != nil {
		return 0, err
	}
	if off >= int64(len(h.file.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.file.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) Size() (int64, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	_, err := h.disk.call()
	return int64(len(h.file.data)), err
}

func (h *memHandle) Preallocate(size int64) error {
	_, err := h.WriteAt(make([]byte, size), 0)
	return err
}

func (h *memHandle) Sync() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if _, err := h.disk.call(); err != nil {
		return err
	}
	for _, w := range h.file.writes {
		h.file.durable = put(h.file.durable, w.data, w.off)
	}
	h.file.writes = nil
	return nil
}

func (h *memHandle) Close() error { return nil }
