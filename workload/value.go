package workload

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Num is the value of a number.
func Num(n int64) Value { return Value{Kind: Number, Number: n} }

// Equal tells whether two values are the same.
func (v Value) Equal(w Value) bool {
	return v.Kind == w.Kind && v.Number == w.Number && slices.Equal(v.List, w.List)
}

// Hash is equal for equal values (Fowler, Noll and Vo's FNV-1a over whole words).
func (v Value) Hash() uint64 {
	const basis, prime = 14695981039346656037, 1099511628211
	h := (basis ^ uint64(v.Kind)) * prime
	h = (h ^ uint64(v.Number)) * prime
	for _, e := range v.List {
		h = (h ^ uint64(e)) * prime
	}
	return h
}

// String reads "absent", "41" or "[1 2 3]".
func (v Value) String() string {
	switch v.Kind {
	case Absent:
		return "absent"
	case Number:
		return strconv.FormatInt(v.Number, 10)
	}
	return fmt.Sprint(v.List)
}

// ParseValue reads a JSON value: null, a whole number that 64 bits hold, or a
// list of such numbers. No bytes at all mean null.
func ParseValue(b []byte) (Value, error) {
	s := scanner{b: b}
	v := s.value()
	if !s.end() {
		return Value{}, fmt.Errorf("%.80q is not null, a whole number or a list of them", b)
	}
	return v, nil
}

// A scanner reads the few forms of JSON that values have, without reflection:
// it runs once for each event, under the history's lock. After something
// unexpected bad is set, and the rest means nothing.
type scanner struct {
	b   []byte
	at  int
	bad bool
}

// space skips white space and returns the next byte, 0 at the end.
func (s *scanner) space() byte {
	for s.at < len(s.b) {
		switch c := s.b[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// end tells whether all was read, and as expected.
func (s *scanner) end() bool {
	s.space()
	return !s.bad && s.at == len(s.b)
}

// take reads c if it comes next.
func (s *scanner) take(c byte) bool {
	if s.space() != c || s.at == len(s.b) {
		return false
	}
	s.at++
	return true
}

// must reads c.
func (s *scanner) must(c byte) {
	if !s.take(c) {
		s.bad = true
	}
}

// word reads a word if it comes next.
func (s *scanner) word(w string) bool {
	s.space()
	if len(s.b)-s.at < len(w) || string(s.b[s.at:s.at+len(w)]) != w {
		return false
	}
	s.at += len(w)
	return true
}

func (s *scanner) value() Value {
	switch c := s.space(); {
	case c == 0 && s.at == 0 && len(s.b) == 0:
		return Value{}
	case c == '[':
		return s.list()
	case s.word("null"):
		return Value{}
	}
	return Num(s.number())
}

func (s *scanner) list() Value {
	v := Value{Kind: List, List: []int64{}}
	s.must('[')
	if s.take(']') {
		return v
	}
	for !s.bad {
		v.List = append(v.List, s.number())
		if s.take(']') {
			return v
		}
		s.must(',')
	}
	return v
}

// number reads a whole number.
func (s *scanner) number() int64 {
	negative := s.take('-')
	if !negative {
		s.space()
	}
	start := s.at
	var n uint64
	for ; s.at < len(s.b) && s.b[s.at] >= '0' && s.b[s.at] <= '9'; s.at++ {
		digit := uint64(s.b[s.at] - '0')
		if n > (math.MaxInt64+1-digit)/10 {
			s.bad = true // more than 64 bits hold
			return 0
		}
		n = n*10 + digit
	}
	if s.at == start || !negative && n > math.MaxInt64 || s.b[start] == '0' && s.at > start+1 {
		s.bad = true
	}
	if negative {
		return int64(-n) // n is at most 2^63, whose negative is itself
	}
	return int64(n)
}
