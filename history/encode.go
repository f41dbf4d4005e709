package history

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// AppendEvent appends e to b as one line of JSON, newline included. It means
// what encoding/json makes of the struct, without reflection or allocation:
// recording must cost less than what it records. A Value that is not JSON is
// written as a string, so that the line stays one and the reader can complain.
func AppendEvent(b []byte, e Event) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), int64(e.Index), 10)
	b = strconv.AppendInt(append(b, `,"time":`...), int64(e.Time), 10)
	b = strconv.AppendInt(append(b, `,"process":`...), int64(e.Process), 10)
	b = appendString(append(b, `,"type":`...), e.Type.String())
	b = appendString(append(b, `,"f":`...), e.F)
	b = appendText(b, `,"key":`, e.Key)
	if len(e.Value) > 0 {
		b = appendValue(append(b, `,"value":`...), e.Value)
	}
	b = appendText(b, `,"node":`, e.Node)
	b = appendText(b, `,"mode":`, e.Mode)
	b = appendCount(b, `,"session":`, e.Session)
	b = appendCount(b, `,"sequence":`, e.Sequence)
	if e.Attempts != 0 {
		b = strconv.AppendInt(append(b, `,"attempts":`...), int64(e.Attempts), 10)
	}
	b = appendCount(b, `,"at":`, e.At)
	b = appendText(b, `,"error":`, e.Error)
	return append(b, '}', '\n')
}

// AppendHeader appends h to b as the first line of a history, newline
// included. A header without a version gets [Version].
func AppendHeader(b []byte, h Header) []byte {
	if h.History == 0 {
		h.History = Version
	}
	b = strconv.AppendInt(append(b, `{"history":`...), int64(h.History), 10)
	b = appendText(b, `,"system":`, h.System)
	b = appendText(b, `,"provider":`, h.Provider)
	b = appendCount(b, `,"seed":`, h.Seed)
	b = appendText(b, `,"nonce":`, h.Nonce)
	b = appendText(b, `,"workload":`, h.Workload)
	return append(b, '}', '\n')
}

// appendText leaves an empty field out.
func appendText(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendString(append(b, name...), s)
}

// appendCount leaves a zero field out.
func appendCount(b []byte, name string, n uint64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendUint(append(b, name...), n, 10)
}

const hexDigits = "0123456789abcdef"

// appendString quotes s. Bytes that are not UTF-8 become U+FFFD, as in
// encoding/json.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}

// appendValue appends JSON that must stay on one line.
func appendValue(b []byte, v json.RawMessage) []byte {
	if plain(v) {
		return append(b, v...)
	}
	if !json.Valid(v) || !utf8.Valid(v) {
		return appendString(b, string(v))
	}
	quoted, escaped := false, false
	for _, c := range v {
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		b = append(b, c)
	}
	return b
}

// plain tells cheaply whether v is null, an integer or a list of integers
// without blanks: nearly every value is. False means: look closer.
func plain(v []byte) bool {
	if string(v) == "null" {
		return true
	}
	if len(v) >= 2 && v[0] == '[' && v[len(v)-1] == ']' {
		v = v[1 : len(v)-1]
		for len(v) > 0 {
			_, n := integer(v)
			if n == 0 || (n < len(v) && (v[n] != ',' || n+1 == len(v))) {
				return false
			}
			v = v[min(n+1, len(v)):]
		}
		return true
	}
	_, n := integer(v)
	return n > 0 && n == len(v)
}

// integerDigitsMax keeps integer away from overflow.
const integerDigitsMax = 18

// integer reads the JSON integer that v begins with, and its length: 0 where
// there is none, or where it is too long to be read without care.
func integer(v []byte) (value int64, length int) {
	i, negative := 0, false
	if len(v) > 0 && v[0] == '-' {
		i, negative = 1, true
	}
	start := i
	for ; i < len(v) && '0' <= v[i] && v[i] <= '9'; i++ {
		if i-start == integerDigitsMax {
			return 0, 0
		}
		value = value*10 + int64(v[i]-'0')
	}
	if i == start || (v[start] == '0' && i > start+1) {
		return 0, 0
	}
	if negative {
		value = -value
	}
	return value, i
}
