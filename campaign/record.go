package campaign

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"chaos/history"
	"chaos/workload"
)

// Bounds of a record.
const (
	flushEvery  = 50 * time.Millisecond // at most twice this much is lost when the harness is killed
	eventsMax   = 20_000_000            // in one run; past it the storm ends
	starvedGap  = time.Second           // a flusher this late means that the machine gave us no time
	eventBytes  = 160                   // what an event takes in the file, about; sizes buffers
	encodeBatch = 256                   // events encoded before each write
	blockEvents = 8192                  // events in one block: a history that grows is never copied
)

// A recorder owns the history and the generator: both sit behind one lock, and
// the index given under it is the order that judging uses. Nothing does I/O
// while it holds the lock; a flusher writes to the file.
type recorder struct {
	start time.Time

	mu sync.Mutex
	book
	written int // events that the flusher has taken
	full    bool

	file    *os.File
	broken  error // the first error of writing; guarded by mu
	stop    chan struct{}
	stopped chan struct{}
}

// newRecorder starts a history file with its header.
func newRecorder(name string, h history.Header) (*recorder, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(history.AppendHeader(nil, h)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r := &recorder{start: time.Now(), file: f, stop: make(chan struct{}), stopped: make(chan struct{})}
	go r.flushLoop()
	return r, nil
}

func (r *recorder) now() time.Duration { return time.Since(r.start) }

// use puts another generator in place.
func (r *recorder) use(g workload.Generator) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gen = g
}

// next asks the generator for the worker's next operation and records its
// invocation. The caller sends only after next has returned.
func (r *recorder) next(w *worker) (op workload.Op, e history.Event, wait time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.bound()
	return r.book.next(r.now(), &w.identity, w.load.name)
}

// complete records how an operation ended.
func (r *recorder) complete(e history.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.bound()
	r.book.complete(e, r.now())
}

// note records a nemesis event.
func (r *recorder) note(t history.Type, f string, n history.Note) history.Event {
	e := noteEvent(t, f, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.bound()
	return r.add(e, r.now())
}

// bound notes that the history is as long as it may get. The lock is held.
func (r *recorder) bound() { r.full = r.count >= eventsMax }

// counts is what the live line shows.
type counts struct {
	ok, fail, info int
	lastOk         time.Duration
	full           bool
	broken         error
}

func (r *recorder) counts() counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return counts{r.ok, r.fail, r.info, r.lastOk, r.full, r.broken}
}

// flushLoop writes what was recorded, and notes when the machine starved us.
func (r *recorder) flushLoop() {
	defer close(r.stopped)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	buf := make([]byte, 0, 4096*eventBytes)
	for last := time.Now(); ; {
		select {
		case <-r.stop:
			r.flush(buf)
			return
		case <-tick.C:
		}
		if gap := time.Since(last); gap > starvedGap {
			r.note(history.Info, history.Incident, history.Note{
				Detail: fmt.Sprintf("starved: the harness got no time for %s", gap.Round(time.Millisecond))})
		}
		last = time.Now()
		buf = r.flush(buf)
	}
}

// flush encodes outside the lock: events that have an index never change.
func (r *recorder) flush(buf []byte) []byte {
	for {
		batch := r.unwritten()
		if len(batch) == 0 {
			return buf
		}
		buf = buf[:0]
		for _, e := range batch {
			buf = history.AppendEvent(buf, e)
		}
		if _, err := r.file.Write(buf); err != nil {
			r.fault(err)
			return buf
		}
	}
}

// unwritten takes the next events that are not in the file, a batch at most.
func (r *recorder) unwritten() []history.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.written == r.count || r.broken != nil {
		return nil
	}
	block, at := r.blocks[r.written/blockEvents], r.written%blockEvents
	batch := block[at:min(len(block), at+encodeBatch)]
	r.written += len(batch)
	return batch
}

func (r *recorder) fault(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = fmt.Errorf("history: %w", err)
	}
}

// close flushes, makes the file durable and returns the history.
func (r *recorder) close() ([]history.Event, error) {
	close(r.stop)
	<-r.stopped
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all(), errors.Join(r.broken, r.file.Sync(), r.file.Close())
}
