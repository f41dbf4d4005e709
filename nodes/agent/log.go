package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

const (
	maxLog       = 64 << 20 // bytes of one node's log over all its starts
	tailLines    = 40       // kept for the report of an exit
	tailLineSize = 512      // bytes of each of them
	panicLines   = 20       // kept from the first line of a panic on
)

// A pump copies what a node prints into its log, up to maxLog bytes, and keeps
// its last lines. It always reads on, so that a full log never blocks the node.
type pump struct {
	mu       sync.Mutex
	file     *os.File
	room     int64 // bytes that still fit
	cut      bool
	line     []byte   // the one being read, at most tailLineSize bytes
	tail     []string // the last lines
	panicked []string // from the first line of a panic on
}

func openPump(path string) (*pump, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &pump{file: f, room: maxLog - info.Size()}, nil
}

// run copies until the last writer has gone.
func (p *pump) run(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		p.take(buf[:n])
		if err != nil {
			return
		}
	}
}

func (p *pump) take(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.store(b)
	for len(b) > 0 {
		part, rest, ended := bytes.Cut(b, []byte{'\n'})
		p.line = append(p.line, part[:min(len(part), tailLineSize-len(p.line))]...)
		b = rest
		if ended {
			p.endLine()
		}
	}
}

func (p *pump) store(b []byte) {
	if fit := min(int64(len(b)), max(p.room, 0)); fit > 0 {
		p.file.Write(b[:fit]) // a full disk must not end the node's life
		p.room -= fit
		b = b[fit:]
	}
	if len(b) > 0 && !p.cut {
		p.cut = true
		fmt.Fprintf(p.file, "\n[the log was cut here: it had reached %d bytes]\n", int64(maxLog))
	}
}

func (p *pump) endLine() {
	line := string(p.line)
	p.line = p.line[:0]
	if p.tail = append(p.tail, line); len(p.tail) > tailLines {
		p.tail = slices.Delete(p.tail, 0, 1)
	}
	if len(p.panicked) > 0 || startsPanic(line) {
		if len(p.panicked) < panicLines {
			p.panicked = append(p.panicked, line)
		}
	}
}

// startsPanic knows how the Go runtime begins its last words.
func startsPanic(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") ||
		strings.HasPrefix(line, "unexpected fault address ")
}

// last is what to tell of an exit: the beginning of a panic, else the last lines.
func (p *pump) last() (lines []string, panicked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) > 0 {
		p.endLine()
	}
	if len(p.panicked) > 0 {
		return slices.Clone(p.panicked), true
	}
	return slices.Clone(p.tail[max(0, len(p.tail)-panicLines):]), false
}

func (p *pump) close() { p.file.Close() }
