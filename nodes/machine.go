package nodes

// The effects on a node's whole machine: on its container, the agent included.
const (
	MachineDown   EffectKind = "machine-down"   // the machine is killed and stays so
	MachineFrozen EffectKind = "machine-frozen" // all of the machine is frozen
)

// A MachineState is what holds for a node's machine.
type MachineState struct{ Down, Frozen bool }

// Well tells that nothing is wrong with the machine.
func (s MachineState) Well() bool { return s == MachineState{} }

// OnMachine tells whether the effect speaks of a machine.
func (e Effect) OnMachine() bool { return e.Kind == MachineDown || e.Kind == MachineFrozen }

// Machine sums what holds for a node's machine.
func (w *Wanted) Machine(id ID) (s MachineState) {
	for _, effects := range w.injections {
		for _, e := range effects {
			if e.Node == id {
				s.Down = s.Down || e.Kind == MachineDown
				s.Frozen = s.Frozen || e.Kind == MachineFrozen
			}
		}
	}
	return s
}
