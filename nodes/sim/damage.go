package sim

import (
	"fmt"
	"strings"

	"chaos/nodes/consensus"
)

// A flip is one bit of one file turned over.
type flip struct {
	file *file
	name string
	at   int64
	bit  byte
}

// harm turns a bit of a synced batch of a node's journal over, with the node
// down, and has it try to start: it must stop with its error. When the harm is
// mended the bit is turned back. The last batch is spared: damage there can't
// be told from a write that power loss cut short.
func (h *host) harm(wanted bool) {
	w := h.world
	switch {
	case wanted && h.damaged == nil:
		if h.node != nil {
			h.kill(w.options.Settings.Power)
		}
		if h.damaged = h.pick(); h.damaged == nil {
			return
		}
		h.damaged.turn()
		w.trace(h.id, TraceNote, "bit %d of byte %d of %s is turned over", h.damaged.bit, h.damaged.at, h.damaged.name)
		h.start()
		if h.node != nil {
			w.check(&consensus.Breach{Invariant: "damage-noticed", Node: h.id,
				Detail: fmt.Sprintf("it started although bit %d of byte %d of %s, which is synced, was turned over", h.damaged.bit, h.damaged.at, h.damaged.name)})
		}
	case !wanted && h.damaged != nil:
		h.damaged.turn()
		h.damaged = nil
	}
}

func (f *flip) turn() { f.file.data[f.at] ^= 1 << f.bit }

// spared is how many batches at the end of a journal are never damaged: the last
// may be torn, and then the one before it is the last.
const spared = 2

// pick draws a bit of the newest segment of the journal before its last batches;
// nil where it has too few. What older segments hold may be garbage by now.
func (h *host) pick() *flip {
	newest := ""
	for name := range h.disk.names {
		if strings.HasPrefix(name, "journal-") {
			newest = max(newest, name)
		}
	}
	if newest == "" {
		return nil
	}
	f := h.disk.names[newest]
	n := len(f.starts) - spared
	if n < 0 || f.starts[n] == 0 {
		return nil
	}
	return &flip{file: f, name: newest, at: h.rand.Int64N(f.starts[n]), bit: byte(h.rand.IntN(8))}
}

func (h *host) damage() string {
	if h.damaged == nil {
		return "no bit is turned over"
	}
	s := fmt.Sprintf("byte %d of %s is wrong", h.damaged.at, h.damaged.name)
	if h.refused != nil {
		s += ": " + h.refused.Error()
	}
	return s
}
