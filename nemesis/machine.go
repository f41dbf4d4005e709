package nemesis

import "chaos/nodes"

// MachineKill takes the victims' whole machines down, their agents included, as
// a loss of power does to those who look on; the heal starts the machines again
// with the same disks and addresses. What was not synced is not lost: the disk
// belongs to the provider.
type MachineKill struct{}

// Name is "machine-kill".
func (MachineKill) Name() string { return "machine-kill" }

// About is the line of help.
func (MachineKill) About() string {
	return "kill the victims' containers; start them again at the heal"
}

// Kinds is machine-down.
func (MachineKill) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.MachineDown} }

// Victims is one.
func (MachineKill) Victims() string { return "one" }

// Effects takes every victim's machine down. There are no arguments.
func (MachineKill) Effects(i Injection) ([]nodes.Effect, error) { return onNodes(nodes.MachineDown, i) }

// MachinePause freezes the victims' whole machines, their agents included.
type MachinePause struct{}

// Name is "machine-pause".
func (MachinePause) Name() string { return "machine-pause" }

// About is the line of help.
func (MachinePause) About() string { return "freeze the victims' containers; thaw them at the heal" }

// Kinds is machine-frozen.
func (MachinePause) Kinds() []nodes.EffectKind { return []nodes.EffectKind{nodes.MachineFrozen} }

// Victims is one.
func (MachinePause) Victims() string { return "one" }

// Effects freezes every victim's machine. There are no arguments.
func (MachinePause) Effects(i Injection) ([]nodes.Effect, error) {
	return onNodes(nodes.MachineFrozen, i)
}
