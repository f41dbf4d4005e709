package sim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"

	"chaos/nodes/replica"
)

// sectorSize is what a disk writes as a whole or not at all, in bytes.
const sectorSize = 512

// errDiskFails is what writes and syncs answer while a fault wants them to fail.
var errDiskFails = errors.New("input/output error")

// never is a time that does not come.
const never = int64(1) << 62

// A disk is one host's folder of files. Every change is stamped with the time
// on the host's clock at which it happens, and with the time from which it is
// durable, so that a kill or a loss of power at any moment leaves what a real
// disk would have kept.
type disk struct {
	now     *int64 // of the world: what lies behind it can't be taken back any more
	clock   *int64 // of whoever uses it now: the node, or its background work
	sync    func() int64
	names   map[string]*file
	durable map[string]*file // names after the last SyncDir that has ended
	changes []renaming       // since then
	failing bool
}

// A renaming binds to to file (nil: nothing) and takes from away.
type renaming struct {
	from, to    string
	file        *file
	before      *file // what from or to was bound to, for taking it back
	replaced    *file
	at, settled int64
}

// A file's bytes behind data are zeros up to size.
type file struct {
	data    []byte
	size    int64
	pending []write // those not durable for certain, oldest first
	starts  []int64 // where each write began that was not taken back, ascending
}

// A write is n bytes at off; old is what stood there.
type write struct {
	off         int64
	n           int
	old         []byte
	at, settled int64
}

func newDisk(now *int64, sync func() int64) *disk {
	return &disk{now: now, sync: sync, names: map[string]*file{}, durable: map[string]*file{}}
}

// Open implements replica.Disk.
func (d *disk) Open(name string, create bool) (replica.File, error) {
	f := d.names[name]
	if f == nil {
		if !create {
			return nil, fmt.Errorf("opening %s: %w", name, fs.ErrNotExist)
		}
		if d.failing {
			return nil, errDiskFails
		}
		f = &file{}
		d.change(renaming{to: name, file: f})
	}
	return &handle{d, f}, nil
}

// Rename implements replica.Disk.
func (d *disk) Rename(from, to string) error {
	f := d.names[from]
	if f == nil {
		return fmt.Errorf("renaming %s: %w", from, fs.ErrNotExist)
	}
	d.change(renaming{from: from, to: to, file: f})
	return nil
}

// Remove implements replica.Disk.
func (d *disk) Remove(name string) error {
	if d.names[name] == nil {
		return fmt.Errorf("removing %s: %w", name, fs.ErrNotExist)
	}
	d.change(renaming{from: name})
	return nil
}

// List implements replica.Disk.
func (d *disk) List() ([]string, error) { return slices.Sorted(maps.Keys(d.names)), nil }

// SyncDir implements replica.Disk.
func (d *disk) SyncDir() error {
	if d.failing {
		return errDiskFails
	}
	began := *d.clock
	d.settle(*d.now)
	*d.clock += d.sync()
	for i := range d.changes {
		if c := &d.changes[i]; c.at <= began {
			c.settled = min(c.settled, *d.clock)
		}
	}
	return nil
}

func (d *disk) change(c renaming) {
	c.at, c.settled = *d.clock, never
	c.before, c.replaced = d.names[c.from], d.names[c.to]
	c.apply(d.names)
	d.changes = append(d.changes, c)
}

func (c *renaming) apply(names map[string]*file) {
	delete(names, c.from)
	if c.file != nil {
		names[c.to] = c.file
	}
}

// undo is the opposite of apply.
func (c *renaming) undo(names map[string]*file) {
	bind := func(name string, f *file) {
		switch {
		case name == "":
		case f == nil:
			delete(names, name)
		default:
			names[name] = f
		}
	}
	bind(c.to, c.replaced)
	bind(c.from, c.before)
}

// settle makes durable what has been so since before t.
func (d *disk) settle(t int64) {
	d.changes = slices.DeleteFunc(d.changes, func(c renaming) bool {
		if c.settled <= t {
			c.apply(d.durable)
		}
		return c.settled <= t
	})
}

func (f *file) settle(t int64) {
	f.pending = slices.DeleteFunc(f.pending, func(w write) bool { return w.settled <= t })
}

// killed takes back what had not happened at t: the process is gone, and the
// machine goes on.
func (d *disk) killed(t int64) {
	for _, f := range d.all() {
		for n := len(f.pending) - 1; n >= 0; n-- {
			switch w := &f.pending[n]; {
			case w.at > t:
				f.revert(w, 0, int64(w.n))
				f.forget(w.off)
				f.pending = slices.Delete(f.pending, n, n+1)
			case w.settled > t:
				w.settled = never // its sync never ended
			}
		}
	}
	for n := len(d.changes) - 1; n >= 0; n-- {
		switch c := &d.changes[n]; {
		case c.at > t:
			c.undo(d.names)
			d.changes = slices.Delete(d.changes, n, n+1)
		case c.settled > t:
			c.settled = never
		}
	}
}

// forget takes the last write that began at off out of the list of starts.
func (f *file) forget(off int64) {
	if i := slices.Index(f.starts, off); i >= 0 {
		f.starts = slices.Delete(f.starts, i, i+1)
	}
}

// lost is what the loss of power at t leaves: all that was durable, and of the
// rest whatever r draws, sector by sector and name by name. It tells whether
// there was anything to draw.
func (d *disk) lost(t int64, r *rand.Rand) (any bool) {
	d.killed(t)
	d.settle(t)
	for _, f := range d.all() {
		f.settle(t)
		any = any || len(f.pending) > 0
		f.tear(r)
	}
	names := d.durable
	any = any || len(d.changes) > 0
	for i := range d.changes {
		if r.IntN(2) == 0 {
			d.changes[i].apply(names)
		}
	}
	d.changes = d.changes[:0]
	d.names, d.durable = names, maps.Clone(names)
	return any
}

// all lists every file that has a name now or had one, in an order that does
// not depend on maps.
func (d *disk) all() (out []*file) {
	seen := map[*file]bool{}
	add := func(f *file) {
		if f != nil && !seen[f] {
			seen[f] = true
			out = append(out, f)
		}
	}
	for _, names := range []map[string]*file{d.names, d.durable} {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			add(names[name])
		}
	}
	for i := range d.changes {
		add(d.changes[i].file)
		add(d.changes[i].before)
		add(d.changes[i].replaced)
	}
	return out
}

// tear takes back what r draws of the writes that no sync made durable: all,
// none, or each sector by itself. Where a sector keeps a write it keeps those
// before it, too: a disk writes it as it is at one moment.
func (f *file) tear(r *rand.Rand) {
	keep := r.IntN(3)
	kept := map[int64]bool{}
	for n := len(f.pending) - 1; n >= 0 && keep > 0; n-- {
		w := &f.pending[n]
		for at := w.off; at < w.off+int64(w.n); {
			end := min(at-at%sectorSize+sectorSize, w.off+int64(w.n))
			if sector := at / sectorSize; keep != 2 && r.IntN(2) != 0 {
				kept[sector] = true
			} else if !kept[sector] {
				f.revert(w, at-w.off, end-w.off)
			}
			at = end
		}
	}
	f.pending = f.pending[:0]
}

// revert puts back what stood in part of a write.
func (f *file) revert(w *write, from, to int64) {
	for i := from; i < to; i++ {
		b := byte(0)
		if i < int64(len(w.old)) {
			b = w.old[i]
		}
		f.data[w.off+i] = b
	}
}

// A handle is an open file.
type handle struct {
	disk *disk
	file *file
}

// WriteAt implements replica.File.
func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	if h.disk.failing {
		return 0, errDiskFails
	}
	f, end := h.file, off+int64(len(p))
	w := write{off: off, n: len(p), at: *h.disk.clock, settled: never}
	if have := int64(len(f.data)); off < have {
		w.old = slices.Clone(f.data[off:min(end, have)])
	}
	if end > int64(len(f.data)) {
		f.grow(end)
	}
	copy(f.data[off:], p)
	f.size = max(f.size, end)
	f.pending = append(f.pending, w)
	for len(f.starts) > 0 && f.starts[len(f.starts)-1] >= off {
		f.starts = f.starts[:len(f.starts)-1]
	}
	f.starts = append(f.starts, off)
	return len(p), nil
}

// grow makes room up to end, and at once for a good part of what was
// preallocated. What lies between is zeros: data never shrinks.
func (f *file) grow(end int64) {
	if int64(cap(f.data)) < end {
		room := max(end, min(f.size, 2*end))
		f.data = append(make([]byte, 0, room), f.data...)
	}
	f.data = f.data[:end]
}

// ReadAt implements replica.File.
func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	f := h.file
	if off >= f.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.size-off))
	copied := 0
	if off < int64(len(f.data)) {
		copied = copy(p[:n], f.data[off:])
	}
	clear(p[copied:n])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Size implements replica.File.
func (h *handle) Size() (int64, error) { return h.file.size, nil }

// Preallocate implements replica.File. The zeros are taken for durable from the
// start: a fresh file means nothing before it is synced and renamed.
func (h *handle) Preallocate(size int64) error {
	if h.disk.failing {
		return errDiskFails
	}
	h.file.size = size
	return nil
}

// Sync implements replica.File.
func (h *handle) Sync() error {
	if h.disk.failing {
		return errDiskFails
	}
	d, f := h.disk, h.file
	began := *d.clock
	f.settle(*d.now)
	*d.clock += d.sync()
	for i := range f.pending {
		if w := &f.pending[i]; w.at <= began {
			w.settled = min(w.settled, *d.clock)
		}
	}
	return nil
}

// Close implements replica.File.
func (h *handle) Close() error { return nil }
