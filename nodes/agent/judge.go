package agent

import (
	"fmt"
	"time"

	"chaos/nodes"
)

// judge compares what a probe showed with what is wanted of the link.
func judge(s nodes.LinkState, o nodes.Observation) nodes.Proof {
	p := nodes.Proof{What: linkName(o.Link) + " " + stateName(s), How: o.How}
	switch {
	case s.Cut || s.CutData:
		p.Holds = !o.Passed && o.Dropped > 0
	case s.Delay > 0:
		p.Holds = o.Passed && o.Took >= time.Duration(s.Delay-s.Jitter)
	default:
		p.Holds = o.Passed
	}
	return p
}

func stateName(s nodes.LinkState) string {
	switch {
	case s.Cut:
		return string(nodes.Cut)
	case s.CutData:
		return string(nodes.CutData)
	case s.Delay > 0 || s.Jitter > 0:
		return fmt.Sprintf("%s %s±%s", nodes.Delayed, time.Duration(s.Delay), time.Duration(s.Jitter))
	case s.Reset:
		return string(nodes.Reset)
	}
	return "well"
}
