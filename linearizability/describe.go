package linearizability

import (
	"fmt"
	"time"

	"chaos/history"
	"chaos/workload"
)

// listMax is how many elements of a list are spelled out.
const listMax = 8

// describeValue is "absent", "41", "[1 2 3]" or "a list of 57 that ends in [7 8 9]".
func describeValue(v workload.Value) string {
	if len(v.List) <= listMax {
		return v.String()
	}
	return fmt.Sprintf("a list of %d that ends in %v", len(v.List), v.List[len(v.List)-listMax/2:])
}

// describeAsk is what was asked for: "read", "write 57", "cas 3 to 4".
func describeAsk(c workload.Call) string {
	switch c.F {
	case history.Read, history.Delete:
		return c.F
	case history.CAS:
		return fmt.Sprintf("cas %s to %s", describeValue(c.From), describeValue(c.Arg))
	}
	return fmt.Sprintf("%s %s", c.F, describeValue(c.Arg))
}

// describeCall is what was asked for and answered: "read → 41".
func describeCall(c workload.Call) string {
	ask := describeAsk(c)
	switch {
	case !c.Known:
		return ask + " (end unknown)"
	case c.F == history.CAS && c.Swapped:
		return ask + " → swapped"
	case c.F == history.CAS && !c.Revealed:
		return ask + " → not swapped"
	case c.F == history.CAS:
		return fmt.Sprintf("%s → not swapped, saw %s", ask, describeValue(c.Out))
	case c.F == history.Write || c.F == history.Delete || !c.Revealed:
		return ask
	}
	return fmt.Sprintf("%s → %s", ask, describeValue(c.Out))
}

func seconds(t time.Duration) string { return fmt.Sprintf("%.3f s", t.Seconds()) }

// place is "event 812, 3.204 s".
func place(e history.Event) string { return fmt.Sprintf("event %d, %s", e.Index, seconds(e.Time)) }

// node names who was asked, where that is known.
func node(op history.Operation) string {
	switch {
	case op.Complete.Node != "":
		return op.Complete.Node
	case op.Invoke.Node != "":
		return op.Invoke.Node
	}
	return "the cluster"
}
