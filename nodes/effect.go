package nodes

import (
	"fmt"
	"strconv"
	"time"
)

// An EffectKind is one way in which a node or a directed link can be wrong.
type EffectKind string

// The kinds of effects. Down and Frozen speak of a Node, the others of the
// directed link From → To, where [Clients] stands for every client.
const (
	Down       EffectKind = "down"       // the node's process group is killed and stays so
	Frozen     EffectKind = "frozen"     // the node's process group is stopped (SIGSTOP)
	Cut        EffectKind = "cut"        // every packet is dropped, established connections too
	CutData    EffectKind = "cut-data"   // packets that carry data or open a connection are dropped; bare acknowledgements pass
	Delayed    EffectKind = "delayed"    // every packet waits Delay, give or take Jitter
	Lossy      EffectKind = "lossy"      // PerMille of the packets are lost
	Duplicated EffectKind = "duplicated" // PerMille of the packets arrive twice
	Reordered  EffectKind = "reordered"  // PerMille of the packets wait Delay longer, and those after them overtake them
	Limited    EffectKind = "limited"    // Rate bytes pass in a second, one packet after the other; what finds the queue full is lost
	Reset      EffectKind = "reset"      // connections are reset once; new ones are reset too
	Skewed     EffectKind = "skewed"     // the node's clock runs PerMille faster (slower: below 0)
	DiskFails  EffectKind = "disk-fails" // writes and syncs of the node's disk answer an error
	Damaged    EffectKind = "damaged"    // a bit of the node's journal is turned over while it is down
)

// The bounds of weather: what lies outside can't be brought about or proven in
// a time that a run can spare.
const (
	PerMilleMin = 5
	PerMilleMax = 1000
	RateMin     = 32_000     // bytes a second
	RateMax     = 10_000_000 // bytes a second
	HoldMin     = time.Millisecond
	HoldMax     = 50 * time.Millisecond // of what is reordered
	SkewMax     = 500                   // per mille
)

// An Effect is one thing wrong with one node or one directed link.
type Effect struct {
	Kind     EffectKind    `json:"kind"`
	Node     ID            `json:"node"`
	From     ID            `json:"from"`
	To       ID            `json:"to"`
	Delay    time.Duration `json:"delay,omitempty"`
	Jitter   time.Duration `json:"jitter,omitempty"`    // uniform in [Delay-Jitter, Delay+Jitter]
	PerMille int           `json:"per_mille,omitempty"` // of packets, each by a draw of its own
	Rate     int64         `json:"rate,omitempty"`      // bytes of packets a second, their IP headers included
}

// OnLink tells whether the effect speaks of a link rather than of a node.
func (e Effect) OnLink() bool {
	switch e.Kind {
	case Cut, CutData, Delayed, Lossy, Duplicated, Reordered, Limited, Reset:
		return true
	}
	return false
}

// Bounded tells whether the effect's numbers are within their bounds. Weather
// stays between nodes: clients answer no trains of probes, which prove it.
func (e Effect) Bounded() bool {
	inside := e.From != Clients && e.To != Clients
	chance := inside && e.PerMille >= PerMilleMin && e.PerMille <= PerMilleMax
	switch e.Kind {
	case Lossy, Duplicated:
		return chance
	case Reordered:
		return chance && e.Delay >= HoldMin && e.Delay <= HoldMax
	case Skewed:
		return e.PerMille >= -SkewMax && e.PerMille <= SkewMax && e.PerMille != 0
	case Limited:
		return inside && e.Rate >= RateMin && e.Rate <= RateMax
	}
	return e.Delay >= 0 && e.Jitter >= 0
}

// String reads "n3 frozen", "n1→n2 cut", "clients→n2 delayed 20ms±5ms",
// "n1→n2 lossy 2.5%", "n1→n2 reordered 10% by 5ms", "n1→n2 limited 100kB/s".
func (e Effect) String() string {
	if e.Kind == Skewed {
		return fmt.Sprintf("%s %s by %+d‰", e.Node, e.Kind, e.PerMille)
	}
	if !e.OnLink() {
		return fmt.Sprintf("%s %s", e.Node, e.Kind)
	}
	return fmt.Sprintf("%s→%s %s", end(e.From), end(e.To), LinkState{}.with(e))
}

func end(id ID) string {
	if id == Clients {
		return "clients"
	}
	return id.String()
}

// A Proof is one observation that an effect holds, or no longer does.
type Proof struct {
	What  string `json:"what"`  // the effect: "n1→n2 cut"
	Holds bool   `json:"holds"` // as was asked for: holding after Apply, gone after Revert
	How   string `json:"how"`   // what was read: "probe lost, drop counter 3→4", "/proc/812/stat: T"
}

// Evidence is independent proof that an injection took effect, or was healed.
type Evidence struct {
	Proofs []Proof       `json:"proofs"`
	Gaps   []string      `json:"gaps,omitempty"` // when and where the effect had lapsed
	Took   time.Duration `json:"took"`           // from command to proof
}

// Proven is true if there are proofs, all of them hold, and nothing lapsed.
func (e Evidence) Proven() bool {
	for _, p := range e.Proofs {
		if !p.Holds {
			return false
		}
	}
	return len(e.Proofs) > 0 && len(e.Gaps) == 0
}

// Failures lists, in words, what is missing for a proof.
func (e Evidence) Failures() []string {
	var out []string
	if len(e.Proofs) == 0 {
		out = append(out, "nothing was observed")
	}
	for _, p := range e.Proofs {
		if !p.Holds {
			out = append(out, p.What+": "+p.How)
		}
	}
	return append(out, e.Gaps...)
}

func itoa(n int) string { return strconv.Itoa(n) }
