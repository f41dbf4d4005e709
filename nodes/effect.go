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
	Down    EffectKind = "down"     // the node's process group is killed and stays so
	Frozen  EffectKind = "frozen"   // the node's process group is stopped (SIGSTOP)
	Cut     EffectKind = "cut"      // every packet is dropped, established connections too
	CutData EffectKind = "cut-data" // packets that carry data or open a connection are dropped; bare acknowledgements pass
	Delayed EffectKind = "delayed"  // every packet waits Delay, give or take Jitter
	Reset   EffectKind = "reset"    // connections are reset once; new ones are reset too
)

// An Effect is one thing wrong with one node or one directed link.
type Effect struct {
	Kind   EffectKind    `json:"kind"`
	Node   ID            `json:"node"`
	From   ID            `json:"from"`
	To     ID            `json:"to"`
	Delay  time.Duration `json:"delay,omitempty"`
	Jitter time.Duration `json:"jitter,omitempty"` // uniform in [Delay-Jitter, Delay+Jitter]
}

// OnLink tells whether the effect speaks of a link rather than of a node.
func (e Effect) OnLink() bool { return e.Kind != Down && e.Kind != Frozen && !e.OnMachine() }

// Bounded tells whether the effect's numbers make sense.
func (e Effect) Bounded() bool { return e.Delay >= 0 && e.Jitter >= 0 }

// String reads "n3 frozen", "n1→n2 cut", "clients→n2 delayed 20ms±5ms".
func (e Effect) String() string {
	if !e.OnLink() {
		return fmt.Sprintf("%s %s", e.Node, e.Kind)
	}
	s := fmt.Sprintf("%s→%s %s", end(e.From), end(e.To), e.Kind)
	if e.Kind == Delayed {
		s += fmt.Sprintf(" %s±%s", e.Delay, e.Jitter)
	}
	return s
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
