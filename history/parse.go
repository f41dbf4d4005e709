package history

import (
	"encoding/json"
	"math"
	"time"
)

const (
	arenaBytes = 1 << 16 // values are cut from blocks of this size
	namesMax   = 1 << 20 // distinct strings that a parser shares between events
)

// A parser reads event lines. Histories repeat their strings (keys, nodes,
// functions), so it shares them; values are cut from large blocks.
type parser struct {
	names map[string]string
	arena []byte
}

func newParser() parser { return parser{names: make(map[string]string)} }

// event reads one line: quickly when it is spelled as AppendEvent spells it,
// by encoding/json otherwise.
func (p *parser) event(line []byte) (Event, error) {
	if e, ok := p.fast(line); ok {
		return e, nil
	}
	return slowEvent(line)
}

// Required fields, as bits of what a line has shown.
const (
	sawIndex = 1 << iota
	sawTime
	sawProcess
	sawType
	sawF
	sawAll = 1<<iota - 1
)

// fast reads the spelling of AppendEvent. False means: not that spelling,
// which tells nothing about the line.
func (p *parser) fast(line []byte) (e Event, ok bool) {
	if len(line) < 2 || line[0] != '{' || line[len(line)-1] != '}' {
		return e, false
	}
	saw, i := 0, 0
	for line[i] != '}' {
		if i > 0 && line[i] != ',' { // i == 0: the opening brace
			return e, false
		}
		i++
		name, n := text(line[i:])
		if i += n; n == 0 || line[i] != ':' { // the last byte is '}', so i is inside
			return e, false
		}
		i++
		bit, n := p.field(&e, name, line[i:])
		if n == 0 || i+n >= len(line) {
			return e, false
		}
		saw, i = saw|bit, i+n
	}
	return e, i == len(line)-1 && saw == sawAll
}

// field reads the value of one field and tells its length; 0 means that it
// must be read with more care.
func (p *parser) field(e *Event, name, b []byte) (saw, length int) {
	switch string(name) {
	case "index", "time", "process", "attempts":
		v, length := integer(b)
		return setInteger(e, string(name), v), length
	case "session", "sequence", "at":
		v, length := unsigned(b)
		setUnsigned(e, string(name), v)
		return 0, length
	case "value":
		length = extent(b)
		if length == 0 || !plain(b[:length]) && !json.Valid(b[:length]) {
			return 0, 0
		}
		e.Value = p.keep(b[:length])
		return 0, length
	}
	s, length := text(b)
	if length == 0 {
		return 0, 0
	}
	return p.setText(e, string(name), s, length)
}

func setInteger(e *Event, name string, v int64) (saw int) {
	switch name {
	case "index":
		e.Index, saw = int(v), sawIndex
	case "time":
		e.Time, saw = time.Duration(v), sawTime
	case "process":
		e.Process, saw = int(v), sawProcess
	case "attempts":
		e.Attempts = int(v)
	}
	return saw
}

func setUnsigned(e *Event, name string, v uint64) {
	switch name {
	case "session":
		e.Session = v
	case "sequence":
		e.Sequence = v
	case "at":
		e.At = v
	}
}

func (p *parser) setText(e *Event, name string, s []byte, n int) (saw, length int) {
	switch name {
	case "type":
		if e.Type.UnmarshalText(s) != nil {
			return 0, 0
		}
		return sawType, n
	case "f":
		e.F, saw = p.share(s), sawF
	case "key":
		e.Key = p.share(s)
	case "node":
		e.Node = p.share(s)
	case "mode":
		e.Mode = p.share(s)
	case "error":
		e.Error = p.share(s)
	default:
		return 0, 0
	}
	return saw, n
}

// unsigned reads the JSON integer that b begins with, which may use all 64
// bits as sessions do, and its length; 0 where there is none.
func unsigned(b []byte) (value uint64, length int) {
	i := 0
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		digit := uint64(b[i] - '0')
		if value > (math.MaxUint64-digit)/10 {
			return 0, 0
		}
		value = value*10 + digit
	}
	if i == 0 || (b[0] == '0' && i > 1) {
		return 0, 0
	}
	return value, i
}

// text reads a quoted string of plain ASCII without escapes, and its length
// with the quotes; 0 where it is anything else.
func text(b []byte) (s []byte, length int) {
	if len(b) == 0 || b[0] != '"' {
		return nil, 0
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[1:i], i + 1
		case c < ' ' || c == '\\' || c >= 0x80:
			return nil, 0
		}
	}
	return nil, 0
}

// extent is the length of the JSON value that b begins with, found by its
// brackets alone; 0 where it has no end.
func extent(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case depth == 0 && (c == ',' || c == '}' || c == ']'):
			return i
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
	}
	return 0
}

// keep copies v out of the line buffer.
func (p *parser) keep(v []byte) json.RawMessage {
	if len(p.arena)+len(v) > cap(p.arena) {
		p.arena = make([]byte, 0, max(arenaBytes, len(v)))
	}
	start := len(p.arena)
	p.arena = append(p.arena, v...)
	return json.RawMessage(p.arena[start:len(p.arena):len(p.arena)])
}

// share returns s as a string that equal ones share.
func (p *parser) share(s []byte) string {
	if known, ok := p.names[string(s)]; ok {
		return known
	}
	fresh := string(s)
	if len(p.names) < namesMax {
		p.names[fresh] = fresh
	}
	return fresh
}
