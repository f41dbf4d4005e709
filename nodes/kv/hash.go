package kv

import (
	"encoding/binary"
	"fmt"

	"chaos/nodes/consensus"
)

// chain extends the hash chain over applied entries by one: its index, kind and
// command bytes. Machines with equal chains at equal indices applied the same
// entries, but for a chance of 2^-64; nobody forges entries here.
func chain(h uint64, e consensus.Entry) uint64 {
	h = mix(h ^ mix(e.Index))
	h = mix(h ^ uint64(e.Kind)<<56 ^ uint64(len(e.Command.Data)))
	b := e.Command.Data
	for ; len(b) >= 8; b = b[8:] {
		h = mix(h ^ binary.LittleEndian.Uint64(b))
	}
	var last [8]byte
	copy(last[:], b)
	return mix(h ^ binary.LittleEndian.Uint64(last[:]))
}

// mix spreads every bit of x over all bits; it is one to one, so that no step
// of the chain forgets anything.
func mix(x uint64) uint64 {
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93 // odd, with bits spread evenly
	x ^= x >> 29
	x *= 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, made odd
	return x ^ x>>32
}

// Hash is the hash chain over all applied entries.
func (m *Machine) Hash() uint64 { return m.hash }

// HashString is the hash chain as files show it: 16 hexadecimal digits.
func (m *Machine) HashString() string { return fmt.Sprintf("%016x", m.hash) }
