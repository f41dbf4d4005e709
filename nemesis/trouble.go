package nemesis

import (
	"fmt"
	"strconv"

	"chaos/nodes"
)

// Clock makes the victims' clocks run too fast or too slow. Time-outs of a
// node with such a clock come early or late; one that trusts its clock, as a
// lease does, is wrong by as much.
type Clock struct{}

const clockDefault = 300 // per mille

// Name is "clock".
func (Clock) Name() string { return "clock" }

// About is the line of help.
func (Clock) About() string { return "run the victims' clocks faster or slower (rate=+300 per mille)" }

// Kinds is skewed.
func (Clock) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Skewed} }

// Victims is one.
func (Clock) Victims() string { return "one" }

// Effects skews every victim's clock.
func (Clock) Effects(i Injection) ([]nodes.Effect, error) {
	if err := i.Args.only("rate"); err != nil {
		return nil, err
	}
	rate := clockDefault
	if i.Pick%2 == 1 {
		rate = -rate
	}
	if s, ok := i.Args["rate"]; ok {
		n, err := strconv.Atoi(s)
		if err != nil || n == 0 || n < -nodes.SkewMax || n > nodes.SkewMax {
			return nil, fmt.Errorf("args: rate: %.64q is not a number of parts in a thousand from -%d to %d, and not 0", s, nodes.SkewMax, nodes.SkewMax)
		}
		rate = n
	}
	var out []nodes.Effect
	for _, v := range i.Victims {
		out = append(out, nodes.Effect{Kind: nodes.Skewed, Node: v, PerMille: rate})
	}
	return out, nil
}

// DiskFails has every write and sync of the victims' disks answer an error. A
// node must end then, and starts again when the disk is mended.
type DiskFails struct{}

// Name is "disk-fails".
func (DiskFails) Name() string { return "disk-fails" }

// About is the line of help.
func (DiskFails) About() string { return "fail every write and sync of the victims' disks" }

// Kinds is disk-fails.
func (DiskFails) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.DiskFails} }

// Victims is one.
func (DiskFails) Victims() string { return "one" }

// Effects spoils every victim's disk. There are no arguments.
func (DiskFails) Effects(i Injection) ([]nodes.Effect, error) { return onNodes(nodes.DiskFails, i) }

// Damage kills the victims, turns one bit of a synced batch of their journals
// over, and has them try to start, which they must refuse to; the heal turns
// the bit back and starts them.
type Damage struct{}

// Name is "damage".
func (Damage) Name() string { return "damage" }

// About is the line of help.
func (Damage) About() string { return "kill the victims and turn over a bit of their journals" }

// Kinds is damaged.
func (Damage) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.Damaged} }

// Victims is one.
func (Damage) Victims() string { return "one" }

// Effects damages every victim's journal. There are no arguments.
func (Damage) Effects(i Injection) ([]nodes.Effect, error) { return onNodes(nodes.Damaged, i) }
