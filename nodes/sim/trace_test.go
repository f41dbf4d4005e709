package sim

import (
	"strings"
	"testing"

	"chaos/nodes/kv"
)

// Commands stand in a trace in words; whatever they hold can be printed.
func TestCommandText(t *testing.T) {
	for want, c := range map[string]kv.Command{
		"get(sim/3)":             {Op: kv.Get, Key: "sim/3"},
		"put(sim/3,17)":          {Op: kv.Put, Key: "sim/3", Value: []byte("17")},
		"append(l,5)":            {Op: kv.Append, Key: "l", Value: []byte("5")},
		"cas(k,1,2)":             {Op: kv.CAS, Key: "k", Old: []byte("1"), Value: []byte("2")},
		"cas(k,nothing,2)":       {Op: kv.CAS, Key: "k", OldAbsent: true, Value: []byte("2")},
		"add(k,-4)":              {Op: kv.Add, Key: "k", Delta: -4},
		"delete(k)":              {Op: kv.Delete, Key: "k"},
		`put("a\x00b","\xff\n")`: {Op: kv.Put, Key: "a\x00b", Value: []byte("\xff\n")},
		"put(k," + strings.Repeat("x", textMax) + ")": {Op: kv.Put, Key: "k", Value: []byte(strings.Repeat("x", 3*textMax))},
	} {
		c.Session, c.Sequence = 9, 1
		if got := commandText(kv.AppendCommand(nil, c)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got, want := commandText([]byte("\x01\x02no")), `"\x01\x02no"`; got != want {
		t.Errorf("what is no command is %s, want %s", got, want)
	}
}
