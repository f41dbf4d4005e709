package sim

import (
	"fmt"

	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
)

// A ledger is what all state machines of one cluster must agree on: at each
// index one result, one hash, and each command of a session carried out once.
// The node that is first at an index sets what the others are held to.
type ledger struct {
	results []uint64 // by index: a fingerprint of what the entry came to; 0: nobody was there yet
	hashes  []uint64 // by index: the hash chain, where a step ended there
	once    map[command]uint64
	count   uint64 // entries applied, over all nodes

	answered uint64 // the highest index that an answer spoke of, once a client had it
}

// A command is one command of a session.
type command struct{ session, sequence uint64 }

func newLedger() ledger { return ledger{once: map[command]uint64{}} }

// An entered is what an entry came to at one node, until the world's time has
// come to it: a node that dies before that never applied it.
type entered struct {
	at    int64
	entry consensus.Entry
	print uint64
	once  bool // it was carried out here and now, and is no copy
}

// applied is called by a node for each entry that its state machine has applied.
func (h *host) applied(e consensus.Entry, r kv.Result) {
	once := e.Kind == consensus.Normal && r.Status == kv.Done && r.Index == e.Index
	h.entries = append(h.entries, entered{h.clock, e, fingerprint(r), once})
}

// enter holds what a host has applied until t to what others have; the rest never was.
func (h *host) enter(t int64) {
	for i := range h.entries {
		if e := &h.entries[i]; e.at <= t {
			h.world.check(h.world.ledger.enter(h.id, e))
		}
	}
	clear(h.entries)
	h.entries = h.entries[:0]
}

func (l *ledger) enter(id nodes.ID, e *entered) error {
	l.count++
	index := e.entry.Index
	for uint64(len(l.results)) <= index {
		l.results = append(l.results, 0)
	}
	switch seen := l.results[index]; {
	case seen == 0:
		l.results[index] = e.print
		if e.once {
			return l.first(id, e.entry)
		}
	case seen != e.print:
		return &consensus.Breach{Invariant: "result-agreement", Node: id,
			Detail: fmt.Sprintf("entry %d came to something else here than at another node", index)}
	}
	return nil
}

// first holds a command that is applied for the first time anywhere to its
// session: it is carried out once, whatever the number of its copies.
func (l *ledger) first(id nodes.ID, e consensus.Entry) error {
	op, session, sequence, err := kv.Identify(e.Command.Data)
	if err != nil || op == kv.Get {
		return nil
	}
	key := command{session, sequence}
	if at, twice := l.once[key]; twice {
		c, _ := kv.DecodeCommand(e.Command.Data)
		return &consensus.Breach{Invariant: "applied-once", Node: id,
			Detail: fmt.Sprintf("%s of %s, command %d of its session, was carried out at index %d and again at %d", c.Op, c.Key, c.Sequence, at, e.Index)}
	}
	l.once[key] = e.Index
	return nil
}

// answer holds a read without a log entry to what clients had seen when it was
// asked: it must come from a state at least as new (Raft dissertation, section
// 6.4), whatever its own key held. The clients' history alone shows an older one
// only where the key changed in between.
func (l *ledger) answer(id nodes.ID, index, floor uint64, mode kv.Mode) error {
	l.answered = max(l.answered, index)
	if mode == kv.ModeIndex && index < floor {
		return &consensus.Breach{Invariant: "read-fresh", Node: id,
			Detail: fmt.Sprintf("a read was answered from the state at index %d; when it was asked, a client had seen index %d", index, floor)}
	}
	return nil
}

// position compares the hash chain of a node with that of others at the index.
func (w *World) position(id nodes.ID, index, hash uint64) {
	l := &w.ledger
	for uint64(len(l.hashes)) <= index {
		l.hashes = append(l.hashes, 0)
	}
	switch seen := l.hashes[index]; {
	case index == 0 || seen == hash:
	case seen == 0:
		l.hashes[index] = hash
	default:
		w.check(&consensus.Breach{Invariant: "state-agreement", Node: id,
			Detail: fmt.Sprintf("the hash over the first %d entries is %016x here and %016x at another node", index, hash, seen)})
	}
}

// fingerprint is a number for a result; it is never 0.
func fingerprint(r kv.Result) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	add := func(b []byte) {
		for _, v := range b {
			h = (h ^ uint64(v)) * 1099511628211
		}
	}
	swapped := byte(0)
	if r.Swapped {
		swapped = 1
	}
	add([]byte{byte(r.Status), byte(r.Value.Kind), swapped, byte(len(r.Value.List)), byte(len(r.Value.List) >> 8)})
	add(r.Value.Text)
	if n := len(r.Value.List); n > 0 {
		add(r.Value.List[n-1])
	}
	return (h ^ r.Index*0x9e3779b97f4a7c15) | 1
}
