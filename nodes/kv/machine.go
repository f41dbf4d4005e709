package kv

import (
	"bytes"
	"fmt"
	"strconv"

	"chaos/nodes/consensus"
)

// A Machine is the replicated state: equal entries in equal order make equal
// machines. One owner calls it serially. What it hands out it never changes.
type Machine struct {
	applied  uint64
	hash     uint64
	data     map[string]*item
	sessions sessions
	scratch  []byte // formats numbers
}

// An item is what one key holds.
type item struct {
	value Value
	size  int // of a list: its bytes in a reply
}

// NewMachine makes the machine before the first entry.
func NewMachine() *Machine {
	return &Machine{data: map[string]*item{}, sessions: newSessions()}
}

// Applied is the index of the last entry applied.
func (m *Machine) Applied() uint64 { return m.applied }

// Apply carries out the next entry. Its index must be Applied()+1. The result of
// a no-op is Done; anybody's bytes may be in a command, and never panic.
func (m *Machine) Apply(e consensus.Entry) Result {
	if e.Index != m.applied+1 {
		panic(fmt.Sprintf("kv: applying entry %d after entry %d; entries come without a gap", e.Index, m.applied))
	}
	m.applied = e.Index
	m.hash = chain(m.hash, e)
	if e.Kind != consensus.Normal {
		return Result{Index: e.Index}
	}
	c, err := view(e.Command.Data)
	if err != nil || c.Session == 0 || c.Sequence == 0 {
		return Result{Status: BadCommand, Index: e.Index}
	}
	return m.once(c)
}

// Get reads a key at the applied index.
func (m *Machine) Get(key string) Result {
	r := Result{Index: m.applied}
	if it := m.data[key]; it != nil {
		r.Value = it.value
	}
	return r
}

// execute carries out a command that its session admits.
func (m *Machine) execute(c viewed) Result {
	it := m.data[string(c.key)]
	switch c.Op {
	case Get:
		return m.found(it)
	case Put:
		m.put(it, c.key, c.Value)
		return Result{Index: m.applied}
	case CAS:
		return m.cas(it, c)
	case Delete:
		delete(m.data, string(c.key))
		return Result{Index: m.applied}
	case Add:
		return m.add(it, c)
	case Append:
		return m.append(it, c)
	}
	panic(fmt.Sprintf("kv: operation %d passed decoding", c.Op))
}

func (m *Machine) found(it *item) Result {
	r := Result{Index: m.applied}
	if it != nil {
		r.Value = it.value
	}
	return r
}

// put stores a copy of text: what an entry's bytes are part of must not stay in memory.
func (m *Machine) put(it *item, key, text []byte) {
	if it == nil {
		it = &item{}
		m.data[string(key)] = it
	}
	*it = item{value: Value{Kind: Text, Text: bytes.Clone(text)}}
	if it.value.Text == nil {
		it.value.Text = []byte{}
	}
}

func (m *Machine) cas(it *item, c viewed) Result {
	r := m.found(it)
	switch {
	case r.Value.Kind == List:
		return Result{Status: WrongType, Index: m.applied}
	case r.Value.Kind == Absent:
		r.Swapped = c.OldAbsent
	default:
		r.Swapped = !c.OldAbsent && bytes.Equal(r.Value.Text, c.Old)
	}
	if r.Swapped {
		m.put(it, c.key, c.Value)
	}
	return r
}

// add works on decimal numbers; an absent key counts as 0. A sum that overflows
// is refused like a text that is no number.
func (m *Machine) add(it *item, c viewed) Result {
	var n int64
	if it != nil {
		var err error
		if n, err = strconv.ParseInt(string(it.value.Text), 10, 64); err != nil || it.value.Kind != Text {
			return Result{Status: WrongType, Index: m.applied}
		}
	}
	sum := n + c.Delta
	if (sum > n) != (c.Delta > 0) && c.Delta != 0 {
		return Result{Status: WrongType, Index: m.applied}
	}
	m.scratch = strconv.AppendInt(m.scratch[:0], sum, 10)
	m.put(it, c.key, m.scratch)
	return m.found(m.data[string(c.key)])
}

func (m *Machine) append(it *item, c viewed) Result {
	if it == nil {
		it = &item{value: Value{Kind: List}}
	}
	size := it.size + encodedLen(len(c.Value))
	switch {
	case it.value.Kind != List:
		return Result{Status: WrongType, Index: m.applied}
	case size > ListMax:
		return Result{Status: TooLong, Index: m.applied}
	case len(it.value.List) == 0:
		m.data[string(c.key)] = it
	}
	it.value.List = append(it.value.List, append([]byte{}, c.Value...))
	it.size = size
	length := strconv.AppendInt(nil, int64(len(it.value.List)), 10)
	return Result{Value: Value{Kind: Text, Text: length}, Index: m.applied}
}

// encodedLen is how many bytes an element of n bytes takes in a reply.
func encodedLen(n int) int {
	head := 1
	for v := n; v >= 0x80; v >>= 7 {
		head++
	}
	return head + n
}
