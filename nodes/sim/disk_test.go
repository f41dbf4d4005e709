package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"chaos/nodes"
	"chaos/nodes/nodestest"
	"chaos/nodes/replica"
)

// A machine is a disk with the two clocks that it needs: the world's, and that
// of a host which is ahead of it. Its power can go at a call.
type machine struct {
	*disk
	now, clock int64
	r          *rand.Rand
	calls      int
	failAt     int // the call at which power goes; 0: never
	lostAt     int64
}

func newMachine(seed uint64) *machine {
	m := &machine{r: rand.New(rand.NewPCG(seed, 9)), clock: 1, now: 1}
	m.disk = newDisk(&m.now, func() int64 { return 1 + m.r.Int64N(1000) })
	m.disk.clock = &m.clock
	return m
}

// call lets time pass, and the world follow now and then. When the power goes
// the call takes effect, in a world in which that has not quite ended.
func (m *machine) call(do func() error) error {
	if m.lostAt > 0 {
		return replica.ErrPowerLost
	}
	m.calls++
	m.clock += m.r.Int64N(3)
	if m.r.IntN(3) == 0 {
		m.now = m.clock
	}
	began := m.clock
	err := do()
	if m.failAt > 0 && m.calls >= m.failAt {
		m.lostAt = began + m.r.Int64N(m.clock-began+1)
		return replica.ErrPowerLost
	}
	return err
}

func (m *machine) CutAfter(n int) { m.failAt = m.calls + n }

// restored loses the power and gives it back.
func (m *machine) restored(r *rand.Rand) *machine {
	at := m.lostAt
	if at == 0 {
		at = m.clock
	}
	m.disk.lost(at, r)
	m.now, m.clock, m.lostAt, m.failAt = at, at, 0, 0
	return m
}

func (m *machine) Open(name string, create bool) (f replica.File, err error) {
	err = m.call(func() (err error) { f, err = m.disk.Open(name, create); return err })
	if f != nil {
		f = machineFile{m, f}
	}
	return f, err
}
func (m *machine) Rename(from, to string) error {
	return m.call(func() error { return m.disk.Rename(from, to) })
}
func (m *machine) Remove(name string) error {
	return m.call(func() error { return m.disk.Remove(name) })
}
func (m *machine) List() (names []string, err error) {
	err = m.call(func() (err error) { names, err = m.disk.List(); return err })
	return names, err
}
func (m *machine) SyncDir() error { return m.call(m.disk.SyncDir) }

type machineFile struct {
	m *machine
	replica.File
}

func (f machineFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.m.call(func() (err error) { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}
func (f machineFile) Preallocate(size int64) error {
	return f.m.call(func() error { return f.File.Preallocate(size) })
}
func (f machineFile) Sync() error { return f.m.call(f.File.Sync) }

// A journal on a simulated disk is a journal, though processes are killed
// between any two uses of it.
func TestJournal(t *testing.T) {
	nodestest.Journal(t, func(*testing.T) replica.Disk { return killing{newMachine(1)} })
}

// killing is a machine whose process is killed whenever somebody lists its files,
// as every start does.
type killing struct{ *machine }

func (k killing) List() ([]string, error) {
	k.disk.killed(k.clock)
	k.now = k.clock
	return k.machine.List()
}

func TestJournalPower(t *testing.T) {
	seed := uint64(0)
	open := func() *machine { seed++; return newMachine(seed) }
	nodestest.JournalPower(t, 12, open, (*machine).restored)
}

// Names and files of the model. A done is what a call did, with the time at
// which it did so, and for syncs that at which it ended.
type done struct {
	kind     string // write, sync, name, syncdir
	file     *modelFile
	off      int64
	data     []byte
	from, to string
	at, end  int64
}

type modelFile struct{ base []byte } // what was there before all that is in the log

// A model says what a disk may hold after a kill or a loss of power: all from
// a list of what was done.
type model struct {
	names map[string]*modelFile // before all that is in the log
	log   []done
}

// killed takes away what had not happened, and the syncs that had not ended.
func (m *model) killed(t int64) {
	m.log = slices.DeleteFunc(m.log, func(d done) bool { return d.at > t || d.end > t })
}

// durable tells whether a later sync of what i wrote ended.
func (m *model) durable(i int) bool {
	d := m.log[i]
	for _, s := range m.log[i+1:] {
		if d.kind == "write" && s.kind == "sync" && s.file == d.file && s.at >= d.at ||
			d.kind == "name" && s.kind == "syncdir" && s.at >= d.at {
			return true
		}
	}
	return false
}

func (d *done) apply(names map[string]*modelFile) {
	delete(names, d.from)
	if d.file != nil {
		names[d.to] = d.file
	}
}

// now is what the running system sees.
func (m *model) now() (names map[string]*modelFile, contents func(f *modelFile) []byte) {
	names = maps.Clone(m.names)
	for i := range m.log {
		if m.log[i].kind == "name" {
			m.log[i].apply(names)
		}
	}
	return names, func(f *modelFile) []byte {
		b := slices.Clone(f.base)
		for _, d := range m.log {
			if d.kind == "write" && d.file == f {
				b = put(b, d.data, d.off)
			}
		}
		return b
	}
}

func put(b, p []byte, off int64) []byte {
	if grow := off + int64(len(p)) - int64(len(b)); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[off:], p)
	return b
}

// sector is the n-th one of b, filled up with zeros.
func sector(b []byte, n int) []byte {
	out := make([]byte, sectorSize)
	if from := n * sectorSize; from < len(b) {
		copy(out, b[from:])
	}
	return out
}

// legalFile tells what is wrong with a file after a loss of power: every sector
// must be what some moment since its last durable write left.
func (m *model) legalFile(f *modelFile, got []byte) error {
	last := -1 // the last durable write to f
	for i, d := range m.log {
		if d.kind == "write" && d.file == f && m.durable(i) {
			last = i
		}
	}
	states := [][]byte{slices.Clone(f.base)}
	for i, d := range m.log {
		if d.kind != "write" || d.file != f {
			continue
		}
		next := put(slices.Clone(states[len(states)-1]), d.data, d.off)
		if i <= last {
			states = states[:0]
		}
		states = append(states, next)
	}
	for n := 0; n*sectorSize < max(len(got), len(states[len(states)-1])); n++ {
		if !slices.ContainsFunc(states, func(s []byte) bool { return bytes.Equal(sector(s, n), sector(got, n)) }) {
			return fmt.Errorf("sector %d holds %.40q, and never did in %d states since its last sync", n, sector(got, n), len(states))
		}
	}
	return nil
}

// legalNames tells whether names are all that was synced, with any of the rest.
func (m *model) legalNames(same func(map[string]*modelFile) bool) bool {
	durable := maps.Clone(m.names)
	var open []*done
	for i := range m.log {
		switch d := &m.log[i]; {
		case d.kind != "name":
		case m.durable(i):
			d.apply(durable)
		default:
			open = append(open, d)
		}
	}
	for choice := range 1 << len(open) {
		names := maps.Clone(durable)
		for i, d := range open {
			if choice>>i&1 == 1 {
				d.apply(names)
			}
		}
		if same(names) {
			return true
		}
	}
	return false
}

// A rig does the same to a disk and to its model.
type rig struct {
	*machine
	model  model
	files  map[*file]*modelFile
	fresh  int
	worked int64 // when the background's last work ends
}

func newRig(seed uint64) *rig {
	return &rig{machine: newMachine(seed), model: model{names: map[string]*modelFile{}}, files: map[*file]*modelFile{}}
}

// names that a rig uses; few, so that they collide.
var rigNames = []string{"a", "b", "c", "d"}

// step does one thing with the disk, on whatever clock that has.
func (g *rig) step(t *testing.T, names []string) {
	d, clock := g.disk, *g.disk.clock
	name := names[g.r.IntN(len(names))]
	switch g.r.IntN(10) {
	case 0:
		if d.names[name] != nil && g.unsynced() < 6 {
			check(t, d.Remove(name))
			g.model.log = append(g.model.log, done{kind: "name", from: name, at: clock})
		}
	case 1:
		to := names[g.r.IntN(len(names))]
		if f := d.names[name]; f != nil && to != name && g.unsynced() < 6 {
			check(t, d.Rename(name, to))
			g.model.log = append(g.model.log, done{kind: "name", from: name, to: to, file: g.files[f], at: clock})
		}
	case 2:
		check(t, d.SyncDir())
		g.model.log = append(g.model.log, done{kind: "syncdir", at: clock, end: *d.clock})
	case 3, 4:
		if f := d.names[name]; f != nil {
			check(t, (&handle{d, f}).Sync())
			g.model.log = append(g.model.log, done{kind: "sync", file: g.files[f], at: clock, end: *d.clock})
		}
	default:
		g.write(t, name)
	}
	*d.clock += g.r.Int64N(30)
}

// unsynced is how many changes of names may or may not survive.
func (g *rig) unsynced() (n int) {
	for i := range g.model.log {
		if g.model.log[i].kind == "name" && !g.model.durable(i) {
			n++
		}
	}
	return n
}

func (g *rig) write(t *testing.T, name string) {
	d, clock := g.disk, *g.disk.clock
	fresh := d.names[name] == nil
	if fresh && g.unsynced() >= 6 {
		return
	}
	h, err := d.Open(name, true)
	check(t, err)
	f := d.names[name]
	if fresh {
		g.files[f] = &modelFile{}
		g.model.log = append(g.model.log, done{kind: "name", to: name, file: g.files[f], at: clock})
		if g.r.IntN(2) == 0 {
			check(t, h.Preallocate(1+g.r.Int64N(8000)))
		}
	}
	g.fresh++
	p := bytes.Repeat([]byte{byte(1 + g.fresh%250), byte(g.fresh)}, 1+g.r.IntN(700))
	off := g.r.Int64N(3000)
	_, err = h.WriteAt(p, off)
	check(t, err)
	g.model.log = append(g.model.log, done{kind: "write", file: g.files[f], off: off, data: p, at: clock})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read is a file's bytes without the zeros at its end, which mean nothing.
func read(t *testing.T, f *file) []byte {
	t.Helper()
	b := make([]byte, f.size)
	if n, err := (&handle{file: f}).ReadAt(b, 0); err != nil && err != io.EOF || n != len(b) {
		t.Fatalf("read %d of %d bytes: %v", n, len(b), err)
	}
	return bytes.TrimRight(b, "\x00")
}

// same tells whether the disk has these names, for these files.
func (g *rig) same(names map[string]*modelFile) bool {
	if len(names) != len(g.disk.names) {
		return false
	}
	for name, f := range g.disk.names {
		if names[name] != g.files[f] {
			return false
		}
	}
	return true
}

// intact holds the disk to what the model's running system sees.
func (g *rig) intact(t *testing.T, when string) {
	t.Helper()
	names, contents := g.model.now()
	if !g.same(names) {
		t.Fatalf("%s: the disk holds %v, the model %v", when, slices.Sorted(maps.Keys(g.disk.names)), slices.Sorted(maps.Keys(names)))
	}
	for name, f := range g.disk.names {
		if got, want := read(t, f), bytes.TrimRight(contents(g.files[f]), "\x00"); !bytes.Equal(got, want) {
			t.Fatalf("%s: %s holds %d bytes %.40q, want %d bytes %.40q", when, name, len(got), got, len(want), want)
		}
	}
}

// legal holds the disk to what the model allows after a loss of power, and goes
// on from what is there.
func (g *rig) legal(t *testing.T, when string) {
	t.Helper()
	if !g.model.legalNames(g.same) {
		t.Fatalf("%s: no set of the changes makes the names %v", when, slices.Sorted(maps.Keys(g.disk.names)))
	}
	for name, f := range g.disk.names {
		if err := g.model.legalFile(g.files[f], read(t, f)); err != nil {
			t.Fatalf("%s: %s: %v", when, name, err)
		}
	}
	g.model = model{names: map[string]*modelFile{}}
	files := map[*file]*modelFile{}
	for name, f := range g.disk.names {
		if files[f] == nil {
			files[f] = &modelFile{base: read(t, f)}
		}
		g.model.names[name] = files[f]
	}
	g.files = files
}

// A disk that is killed or loses its power at any moment, with its host ahead of
// the world, holds what a real one would: all that had happened, or all that was
// synced before, and of the rest each name and each sector as it once was.
func TestDiskAgainstModel(t *testing.T) {
	for seed := range uint64(400) {
		g := newRig(seed)
		for round := range 12 {
			g.now = g.clock // a step begins
			for range 1 + g.r.IntN(12) {
				if g.r.IntN(6) == 0 {
					g.background(t)
				} else {
					g.step(t, rigNames)
				}
				g.follow()
			}
			at := g.now + g.r.Int64N(g.clock-g.now+1)
			when := fmt.Sprintf("seed %d, round %d, at %d of [%d, %d]", seed, round, at, g.now, g.clock)
			switch g.r.IntN(3) {
			case 0:
				g.intact(t, when)
				continue
			case 1:
				g.model.killed(at)
				g.disk.killed(at)
				g.intact(t, when+", killed")
			case 2:
				g.model.killed(at)
				g.disk.lost(at, g.r)
				g.legal(t, when+", power lost")
			}
			g.now, g.clock, g.worked = at, at, at
		}
	}
}

// follow has the world's time come after the host's now and then, not quite up to it.
func (g *rig) follow() {
	if g.r.IntN(8) == 0 {
		g.now += g.r.Int64N(g.clock - g.now + 1)
	}
}

// background does some steps on a clock of its own, with names of its own, unless
// such work is still under way.
func (g *rig) background(t *testing.T) {
	clock := g.clock
	if clock < g.worked {
		return
	}
	g.disk.clock = &clock
	for range 1 + g.r.IntN(4) {
		g.step(t, []string{"x", "y"})
	}
	g.disk.clock = &g.clock
	g.worked = clock
}

// A disk that fails answers errors and changes nothing; then it works again.
func TestDiskFails(t *testing.T) {
	m := newMachine(1)
	d := m.disk
	h, err := d.Open("a", true)
	check(t, err)
	_, err = h.WriteAt([]byte("before"), 0)
	check(t, err)
	d.failing = true
	for what, err := range map[string]error{
		"create": second(d.Open("b", true)), "write": second(h.WriteAt([]byte("x"), 0)), "sync": h.Sync(),
		"sync of names": d.SyncDir(), "preallocate": h.Preallocate(100),
	} {
		if !errors.Is(err, errDiskFails) {
			t.Errorf("%s on a failing disk: %v", what, err)
		}
	}
	if _, err := d.Open("a", false); err != nil {
		t.Errorf("reading a failing disk: %v", err)
	}
	if got := read(t, d.names["a"]); string(got) != "before" || d.names["b"] != nil {
		t.Errorf("the failing disk holds %q and %v", got, d.names)
	}
	d.failing = false
	check(t, h.Sync())
	check(t, d.SyncDir())
	m.disk.lost(m.clock, m.r)
	if got := read(t, d.names["a"]); string(got) != "before" {
		t.Errorf("after it worked again and lost its power it holds %q", got)
	}
}

func second[T any](_ T, err error) error { return err }

// What is preallocated reads as zeros and has its size at once; what lies behind is the end.
func TestPreallocate(t *testing.T) {
	d := newMachine(1).disk
	h, err := d.Open("a", true)
	check(t, err)
	check(t, h.Preallocate(1000))
	b := bytes.Repeat([]byte{7}, 1200)
	if n, err := h.ReadAt(b, 0); n != 1000 || err != io.EOF || !bytes.Equal(b[:1000], make([]byte, 1000)) {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	_, err = h.WriteAt([]byte("mid"), 500)
	check(t, err)
	if size, _ := h.Size(); size != 1000 {
		t.Errorf("a write inside made the size %d", size)
	}
	if n, err := h.ReadAt(b[:503], 0); n != 503 || err != nil || string(b[500:503]) != "mid" || b[499] != 0 {
		t.Errorf("read %d bytes %q, %v", n, b[495:503], err)
	}
	if n, err := h.ReadAt(b, 1000); n != 0 || err != io.EOF {
		t.Errorf("behind the end %d bytes, %v", n, err)
	}
	if _, err := d.Open("b", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, err := range []error{d.Remove("b"), d.Rename("b", "c")} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of a file that is not there: %v", err)
		}
	}
}

// What no ended sync covers may be lost, and may be kept: both happen.
func TestDiskForgets(t *testing.T) {
	write := func(t *testing.T, m *machine) *handle {
		h, err := m.disk.Open("a", true)
		check(t, err)
		_, err = h.WriteAt([]byte("data"), 0)
		check(t, err)
		return h.(*handle)
	}
	synced := func(t *testing.T, m *machine) *handle {
		h := write(t, m)
		check(t, m.disk.SyncDir())
		m.now = m.clock
		return h
	}
	kept := func(m *machine) bool {
		f := m.disk.names["a"]
		return f != nil && string(f.data) == "data"
	}
	for name, do := range map[string]func(t *testing.T, m *machine) (at int64){
		"a write without a sync":           func(t *testing.T, m *machine) int64 { synced(t, m); return m.clock },
		"a name without a sync":            func(t *testing.T, m *machine) int64 { check(t, write(t, m).Sync()); return m.clock },
		"a write whose sync had not ended": func(t *testing.T, m *machine) int64 { check(t, synced(t, m).Sync()); return m.clock - 1 },
		"a write whose sync was ended by a kill": func(t *testing.T, m *machine) int64 {
			check(t, synced(t, m).Sync())
			m.disk.killed(m.clock - 1)
			return 2 * m.clock
		},
		"a name whose sync had not ended": func(t *testing.T, m *machine) int64 {
			check(t, write(t, m).Sync())
			check(t, m.disk.SyncDir())
			return m.clock - 1
		},
		"a name whose sync was ended by a kill": func(t *testing.T, m *machine) int64 {
			check(t, write(t, m).Sync())
			check(t, m.disk.SyncDir())
			m.disk.killed(m.clock - 1)
			return 2 * m.clock
		},
		"a write that came while the sync was under way": func(t *testing.T, m *machine) int64 {
			h, err := m.disk.Open("a", true)
			check(t, err)
			check(t, m.disk.SyncDir())
			m.now = m.clock
			later := m.clock + 1
			m.disk.clock = &later
			_, err = h.WriteAt([]byte("data"), 0)
			check(t, err)
			m.disk.clock = &m.clock
			check(t, h.Sync())
			return max(later, m.clock)
		},
		"a name that came while the sync was under way": func(t *testing.T, m *machine) int64 {
			later := m.clock + 1
			m.disk.clock = &later
			check(t, write(t, m).Sync())
			m.disk.clock = &m.clock
			check(t, m.disk.SyncDir())
			return max(later, m.clock)
		},
	} {
		seen := map[bool]int{}
		for seed := range uint64(60) {
			m := newMachine(seed)
			at := do(t, m)
			if !m.disk.lost(at, m.r) {
				t.Errorf("%s: there is said to be nothing to lose", name)
			}
			seen[kept(m)]++
		}
		if seen[false] == 0 || seen[true] == 0 {
			t.Errorf("%s was kept %d times and lost %d times; both must happen", name, seen[true], seen[false])
		}
	}
}

// Where all is durable a loss of power takes nothing, and says so.
func TestDiskKeeps(t *testing.T) {
	m := newMachine(1)
	h, err := m.disk.Open("a", true)
	check(t, err)
	_, err = h.WriteAt([]byte("data"), 0)
	check(t, err)
	check(t, h.Sync())
	check(t, m.disk.SyncDir())
	if m.disk.lost(m.clock, m.r) || string(read(t, m.disk.names["a"])) != "data" {
		t.Errorf("something was lost: %v", m.disk.names)
	}
}

// A write that no sync covers is lost, kept, or torn: then each sector of 512
// bytes is kept or lost as a whole, in every mixture.
func TestDiskTears(t *testing.T) {
	const size = 512
	seen := map[string]int{}
	for seed := range uint64(400) {
		m := newMachine(seed)
		h, err := m.disk.Open("a", true)
		check(t, err)
		check(t, h.Preallocate(4*size))
		check(t, m.disk.SyncDir())
		m.now = m.clock
		_, err = h.WriteAt(bytes.Repeat([]byte{1}, 3*size), 0)
		check(t, err)
		m.disk.lost(m.clock, m.r)
		b := make([]byte, 3*size)
		_, err = (&handle{m.disk, m.disk.names["a"]}).ReadAt(b, 0)
		check(t, err)
		shape := ""
		for n := range 3 {
			sector := b[n*size : (n+1)*size]
			if !bytes.Equal(sector, bytes.Repeat(sector[:1], size)) {
				t.Fatalf("seed %d: sector %d is torn in itself", seed, n)
			}
			shape += fmt.Sprint(sector[0])
		}
		seen[shape]++
	}
	if len(seen) != 8 || seen["111"] < 100 || seen["000"] < 100 {
		t.Errorf("kept (1) and lost (0) sectors of 400 writes: %v; want all mixtures, and each end in a third", seen)
	}
}

// The starts of a file are those of its writes, but for what was written over or
// taken back by a kill.
func TestDiskStarts(t *testing.T) {
	m := newMachine(1)
	h, err := m.disk.Open("a", true)
	check(t, err)
	for i, c := range []struct {
		off  int64
		want []int64
	}{{0, []int64{0}}, {100, []int64{0, 100}}, {200, []int64{0, 100, 200}}, {100, []int64{0, 100}}, {150, []int64{0, 100, 150}}} {
		_, err = h.WriteAt([]byte("x"), c.off)
		check(t, err)
		if got := m.disk.names["a"].starts; !slices.Equal(got, c.want) {
			t.Errorf("after write %d the starts are %v, want %v", i, got, c.want)
		}
	}
	at := m.clock
	m.clock++
	_, err = h.WriteAt([]byte("x"), 300)
	check(t, err)
	m.disk.killed(at)
	if got := m.disk.names["a"].starts; !slices.Equal(got, []int64{0, 100, 150}) {
		t.Errorf("after a kill the starts are %v", got)
	}
}

// A machine that goes down loses its power; a process that is killed does so
// only where the settings say it.
func TestMachinesLosePower(t *testing.T) {
	for _, c := range []struct {
		kind         nodes.EffectKind
		power, loses bool
	}{{nodes.Down, false, false}, {nodes.Down, true, true}, {nodes.MachineDown, false, true}, {nodes.MachineDown, true, true}} {
		lost := 0
		for seed := range uint64(20) {
			s := Defaults()
			s.Power = c.power
			w, _ := toyWorld(t, seed, 3, s, nil)
			run(t, w, 50*ms)
			d := w.hosts[2].disk
			w.hosts[2].clock = w.now
			h, err := d.Open("a", true)
			check(t, err)
			_, err = h.WriteAt([]byte("data"), 0)
			check(t, err)
			w.Apply(ctx, "down", []nodes.Effect{{Kind: c.kind, Node: 2}})
			if f := d.names["a"]; f == nil || string(f.data) != "data" {
				lost++
			}
		}
		if (lost > 0) != c.loses || lost == 20 {
			t.Errorf("%s, power %t: of 20 files that were not synced %d were lost", c.kind, c.power, lost)
		}
	}
}

// A sync takes as long as the settings say, from the least to the most.
func TestSyncTime(t *testing.T) {
	w, _ := toyWorld(t, 1, 3, Settings{Latency: 100, Sync: 300, SyncBy: 700, Segment: segmentMin}, nil)
	least, most := never, int64(0)
	for range 2000 {
		took := w.syncTime(w.hosts[1])
		least, most = min(least, took), max(most, took)
	}
	if least < 300_000 || least > 310_000 || most > 1_000_000 || most < 990_000 {
		t.Errorf("syncs take %d to %d ns, want 300000 to 1000000", least, most)
	}
}
