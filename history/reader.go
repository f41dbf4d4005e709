package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// LineMax is the longest line of a history or an audit, in bytes.
	LineMax = 1 << 20
	// EventsMax is the most events that one history may hold.
	EventsMax = 50_000_000
)

// A SyntaxError says where a file is malformed, and how. It fits on one line.
type SyntaxError struct {
	Name    string // of the file
	Line    int    // from 1
	Problem string
}

// Error is "history.jsonl:12: field "index" is missing".
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Problem)
}

// A lineReader reads bounded lines and knows their numbers.
type lineReader struct {
	r    *bufio.Reader
	name string
	line int
	torn bool
}

func newLineReader(r io.Reader, name string) lineReader {
	return lineReader{r: bufio.NewReaderSize(r, LineMax+1), name: name}
}

// next returns the next line that is not blank, valid until the call after it,
// and whether a newline ended it. At the end it returns io.EOF.
func (l *lineReader) next() (line []byte, ended bool, err error) {
	for {
		line, err = l.r.ReadSlice('\n')
		l.line++
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, false, l.problem(fmt.Sprintf("the line is longer than %d bytes", LineMax))
		}
		if err != nil && err != io.EOF {
			return nil, false, fmt.Errorf("%s:%d: %w", l.name, l.line, err)
		}
		ended = err == nil
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, ended, nil
		}
		if !ended {
			return nil, false, io.EOF
		}
	}
}

func (l *lineReader) problem(text string) error {
	return &SyntaxError{Name: l.name, Line: l.line, Problem: text}
}

// bad judges a line that could not be read: the unfinished last line of a
// writer that died is the end of the file, any other is an error.
func (l *lineReader) bad(line []byte, ended bool, problem error) error {
	if !ended && !json.Valid(line) {
		l.torn = true
		return io.EOF
	}
	return l.problem(problem.Error())
}

// A Reader reads a history event by event.
type Reader struct {
	lines  lineReader
	parser parser
	header Header
	begun  bool
	events int
}

// NewReader reads from r; name is what errors call it.
func NewReader(r io.Reader, name string) *Reader {
	return &Reader{lines: newLineReader(r, name), parser: newParser()}
}

// Header is the file's header once Next was called; zero where the file has none.
func (r *Reader) Header() Header { return r.header }

// Torn tells, once Next returned io.EOF, whether the file ended within a line:
// its writer died while writing it.
func (r *Reader) Torn() bool { return r.lines.torn }

// Next returns the next event. At the end of the file, or of its last whole
// line, the error is io.EOF; a malformed line gives a *SyntaxError. The event
// does not change later.
func (r *Reader) Next() (Event, error) {
	for {
		line, ended, err := r.lines.next()
		if err != nil {
			return Event{}, err
		}
		if !r.begun {
			r.begun = true
			if found, err := r.readHeader(line); err != nil {
				return Event{}, r.lines.problem(err.Error())
			} else if found {
				continue
			}
		}
		e, err := r.parser.event(line)
		if err != nil {
			return Event{}, r.lines.bad(line, ended, err)
		}
		if r.events++; r.events > EventsMax {
			return Event{}, r.lines.problem(fmt.Sprintf("more than %d events", EventsMax))
		}
		return e, nil
	}
}

// readHeader takes line as the header if it is one.
func (r *Reader) readHeader(line []byte) (bool, error) {
	var probe struct{ History *int }
	if json.Unmarshal(line, &probe) != nil || probe.History == nil {
		return false, nil
	}
	if *probe.History != Version {
		return false, fmt.Errorf("the history has format version %d; this program reads version %d", *probe.History, Version)
	}
	if err := json.Unmarshal(line, &r.header); err != nil {
		return false, plainError(err)
	}
	return true, nil
}

// ReadAll reads a whole history; name is what errors call the file. An
// unfinished last line sets History.Torn.
func ReadAll(r io.Reader, name string) (History, error) {
	reader := NewReader(r, name)
	var events []Event
	for {
		e, err := reader.Next()
		if err == io.EOF {
			return History{Header: reader.header, Events: events, Torn: reader.Torn()}, nil
		}
		if err != nil {
			return History{}, err
		}
		events = append(events, e)
	}
}

// ReadAudit reads a node's audit; name is what errors call the file. An
// unfinished last line is left out: the node was killed while it wrote.
func ReadAudit(r io.Reader, name string) ([]Audit, error) {
	lines := newLineReader(r, name)
	var audits []Audit
	for {
		line, ended, err := lines.next()
		if err == nil {
			var a Audit
			if err = json.Unmarshal(line, &a); err == nil {
				audits = append(audits, a)
				continue
			}
			err = lines.bad(line, ended, plainError(err))
		}
		if err == io.EOF {
			return audits, nil
		}
		return nil, err
	}
}

// wire is an event whose required fields can be seen to be missing.
type wire struct {
	Index   *int           `json:"index"`
	Time    *time.Duration `json:"time"`
	Process *int           `json:"process"`
	Type    *Type          `json:"type"`
	F       *string        `json:"f"`
	Event
}

// slowEvent reads any JSON spelling of an event, and says what is wrong with
// what is none.
func slowEvent(line []byte) (Event, error) {
	var w wire
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return Event{}, plainError(err)
	}
	if d.InputOffset() < int64(len(line)) {
		return Event{}, errors.New("there is more on the line than one event")
	}
	required := []struct {
		name    string
		missing bool
	}{
		{"index", w.Index == nil}, {"time", w.Time == nil}, {"process", w.Process == nil},
		{"type", w.Type == nil}, {"f", w.F == nil},
	}
	for _, r := range required {
		if r.missing {
			return Event{}, fmt.Errorf("field %q is missing", r.name)
		}
	}
	e := w.Event
	e.Index, e.Time, e.Process, e.Type, e.F = *w.Index, *w.Time, *w.Process, *w.Type, *w.F
	return e, nil
}

// plainError says what encoding/json found in words about the file.
func plainError(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("the line is a JSON %s, not an object", kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("field %q is a JSON %s, where %s is expected", kind.Field, kind.Value, kind.Type)
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d: %v", syntax.Offset, syntax)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return errors.New("not JSON: the line ends too early")
	}
	return fmt.Errorf("%s", bytes.TrimPrefix([]byte(err.Error()), []byte("json: ")))
}
