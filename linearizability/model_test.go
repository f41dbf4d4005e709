package linearizability

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"chaos/history"
	"chaos/workload"
)

// The models of these tests are their own, so that a mistake in a workload's
// model does not hide one here.

func testModels(key, fallback string) (workload.Model, bool) {
	kind, _, found := strings.Cut(key, "/")
	if !found {
		kind = fallback
	}
	switch kind {
	case "cas", "any":
		return workload.Model{Name: "cas", Parse: parseCall, Step: stepRegister}, true
	case "append":
		return workload.Model{Name: "append", Parse: parseCall, Step: stepList}, true
	case "counter":
		return workload.Model{Name: "counter", Parse: parseCall, Step: stepCounter}, true
	}
	return workload.Model{}, false
}

func testOptions() Options { return Options{ModelFor: testModels} }

func num(n int64) workload.Value { return workload.Value{Kind: workload.Number, Number: n} }

func parseValue(raw json.RawMessage) (workload.Value, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return workload.Value{}, nil
	}
	var n int64
	if json.Unmarshal(raw, &n) == nil {
		return num(n), nil
	}
	var l []int64
	if err := json.Unmarshal(raw, &l); err != nil {
		return workload.Value{}, fmt.Errorf("%s is no value", raw)
	}
	return workload.Value{Kind: workload.List, List: l}, nil
}

func parseCall(op history.Operation) (c workload.Call, err error) {
	c.F, c.Known = op.Invoke.F, op.Complete.Type == history.Ok
	if c.F == history.CAS {
		var pair [2]json.RawMessage
		if err := json.Unmarshal(op.Invoke.Value, &pair); err != nil {
			return c, err
		}
		if c.From, err = parseValue(pair[0]); err != nil {
			return c, err
		}
		c.Arg, err = parseValue(pair[1])
	} else {
		c.Arg, err = parseValue(op.Invoke.Value)
	}
	if err != nil || !c.Known {
		return c, err
	}
	switch c.F {
	case history.CAS:
		var out struct {
			Swapped bool
			Saw     json.RawMessage
		}
		if err := json.Unmarshal(op.Complete.Value, &out); err != nil {
			return c, err
		}
		c.Swapped, c.Revealed = out.Swapped, len(out.Saw) > 0
		c.Out, err = parseValue(out.Saw)
	case history.Read, history.Add:
		c.Revealed = true
		c.Out, err = parseValue(op.Complete.Value)
	case history.Append:
		c.Out, err = parseValue(op.Complete.Value)
		c.Revealed = c.Out.Kind == workload.Number
	}
	return c, err
}

func stepRegister(s workload.State, c workload.Call) (bool, workload.State) {
	switch c.F {
	case history.Read:
		return !c.Known || s.Equal(c.Out), s
	case history.Write:
		return true, c.Arg
	case history.Delete:
		return true, workload.Value{}
	}
	match := s.Equal(c.From)
	switch {
	case c.Known && c.Swapped != match, c.Known && c.Revealed && !c.Out.Equal(s):
		return false, s
	case match:
		return true, c.Arg
	}
	return true, s
}

func stepList(s workload.State, c workload.Call) (bool, workload.State) {
	if c.F == history.Read {
		return !c.Known || s.Equal(c.Out), s
	}
	next := workload.Value{Kind: workload.List, List: append(slices.Clip(s.List), c.Arg.Number)}
	return !c.Known || !c.Revealed || c.Out.Number == int64(len(next.List)), next
}

func stepCounter(s workload.State, c workload.Call) (bool, workload.State) {
	if c.F == history.Read {
		return !c.Known || s.Number == c.Out.Number, s
	}
	next := num(s.Number + c.Arg.Number)
	return !c.Known || next.Equal(c.Out), next
}

// brute tells by trying every order whether ops are linearizable. An open
// operation may take effect at any time after its invocation, or never.
func brute(m workload.Model, ops []operation) bool {
	placed := make([]bool, len(ops))
	var try func(s workload.State) bool
	try = func(s workload.State) bool {
		done, earliest := true, never
		for i, o := range ops {
			if !placed[i] && o.ret != never {
				done, earliest = false, min(earliest, o.ret)
			}
		}
		if done {
			return true
		}
		for i, o := range ops {
			if placed[i] || o.invoke > earliest {
				continue
			}
			if ok, next := m.Step(s, o.call); ok {
				placed[i] = true
				if try(next) {
					return true
				}
				placed[i] = false
			}
		}
		return false
	}
	return try(m.Init)
}

func describeOperation(o operation) string {
	return fmt.Sprintf("[%d, %d] %s at %d", o.invoke, o.ret, describeCall(o.call), o.at)
}
