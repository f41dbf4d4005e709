package nodes

// A Trouble is what is wrong with a node's clock and disk.
type Trouble struct {
	Skew      int // per mille that its clock runs too fast
	DiskFails bool
	Damaged   bool
}

// Trouble sums what holds for a node's clock and disk.
func (w *Wanted) Trouble(id ID) (t Trouble) {
	for _, name := range w.Injections() {
		for _, e := range w.injections[name] {
			if e.Node != id {
				continue
			}
			t.DiskFails = t.DiskFails || e.Kind == DiskFails
			t.Damaged = t.Damaged || e.Kind == Damaged
			if e.Kind == Skewed {
				t.Skew = max(-SkewMax, min(SkewMax, t.Skew+e.PerMille))
			}
		}
	}
	return t
}
