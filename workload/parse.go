package workload

import (
	"fmt"
	"slices"
	"strings"

	"chaos/history"
)

// parser returns a Model's Parse for the functions that it knows.
func parser(model string, functions []string) func(history.Operation) (Call, error) {
	return func(op history.Operation) (Call, error) {
		if !slices.Contains(functions, op.Invoke.F) {
			return Call{}, fmt.Errorf("function %.40q is not one of %s, which are %s", op.Invoke.F, model, strings.Join(functions, ", "))
		}
		return parse(op)
	}
}

// parse reads an operation's values. An operation that did not complete ok is
// not Known, whether it failed for certain or may still happen.
func parse(op history.Operation) (Call, error) {
	c := Call{F: op.Invoke.F}
	s := scanner{b: op.Invoke.Value}
	switch c.F {
	case history.Read, history.Delete:
		if s.value().Kind != Absent {
			s.bad = true
		}
	case history.Write, history.Append, history.Add:
		c.Arg = Num(s.number())
	case history.CAS:
		s.must('[')
		c.From = s.value()
		s.must(',')
		c.Arg = Num(s.number())
		s.must(']')
		s.bad = s.bad || c.From.Kind == List
	}
	if !s.end() {
		return Call{}, fmt.Errorf("%s is invoked with %.80q, which is no %s", c.F, op.Invoke.Value, asks[c.F])
	}
	if op.Complete.Type != history.Ok {
		return c, nil
	}
	c.Known = true
	if !c.answer(op.Complete.Value) {
		return Call{}, fmt.Errorf("%s is answered with %.80q, which is no %s", c.F, op.Complete.Value, answers[c.F])
	}
	return c, nil
}

// What values are, for errors.
var (
	asks = map[string]string{
		history.Read: "null", history.Delete: "null", history.CAS: "[from,to]",
		history.Write: "whole number", history.Append: "whole number", history.Add: "whole number",
	}
	answers = map[string]string{
		history.Read: "null, whole number or list of them", history.Delete: "null", history.CAS: `{"swapped":bool,"saw":value}`,
		history.Write: "null or the number written", history.Append: "null or length", history.Add: "null or new value",
	}
)

// answer reads the value of an ok completion, and tells whether it is one.
func (c *Call) answer(b []byte) bool {
	s := scanner{b: b}
	if c.F == history.CAS {
		c.swap(&s)
		return s.end()
	}
	c.Out = s.value()
	switch c.F {
	case history.Read:
		c.Revealed = true
	case history.Delete:
		s.bad = s.bad || c.Out.Kind != Absent
	case history.Write:
		s.bad = s.bad || c.Out.Kind == List || c.Out.Kind == Number && c.Out.Number != c.Arg.Number
	case history.Add, history.Append:
		c.Revealed = c.Out.Kind == Number
		s.bad = s.bad || c.Out.Kind == List
	}
	return s.end()
}

// swap reads {"swapped":true,"saw":v}, in any order; swapped must be there.
// A swap that says not what it saw saw what it expected.
func (c *Call) swap(s *scanner) {
	told, saw := false, false
	s.must('{')
	for !s.bad {
		switch {
		case !told && s.word(`"swapped"`):
			told = true
			s.must(':')
			c.Swapped = s.word("true")
			s.bad = s.bad || !c.Swapped && !s.word("false")
		case !saw && s.word(`"saw"`):
			saw = true
			s.must(':')
			c.Out = s.value()
		default:
			s.bad = true
		}
		if s.take('}') {
			break
		}
		s.must(',')
	}
	s.bad = s.bad || !told
	if c.Swapped && !saw {
		c.Out, saw = c.From, true
	}
	c.Revealed = saw
}
