package agent

import (
	"fmt"
	"time"

	"chaos/nodes"
)

// How exact a limited link has to be. It can't be too fast at all: no machine,
// however busy, makes it so. It may be slower by as much as a busy one makes it.
const (
	rateSlack   = 100 * time.Millisecond
	ratePercent = 125  // of the time that its bytes take, at most
	roomPercent = 90   // of its room that must be taken before it refuses
	roomPacket  = 1500 // bytes, for which there may be no room although less is free
)

// judge compares what a probe, or a train of them, showed with what is wanted of
// the link, and with the weather that was there before: what is gone must not
// show any more.
func judge(s nodes.LinkState, o nodes.Observation) nodes.Proof {
	p := nodes.Proof{What: linkName(o.Link) + " " + stateName(s), How: o.How}
	if s.Cut || s.CutData || s.Reset || s.Lossy == nodes.PerMilleMax {
		p.Holds = !o.Passed && o.Dropped > 0
		return p
	}
	p.Holds = o.Passed && (s.Delay == 0 || o.Took >= time.Duration(s.Delay-s.Jitter))
	if s.Weather() && o.Train.Sent == 0 {
		p.Holds, p.How = false, p.How+"; one probe tells nothing of a chance or a rate"
	}
	for _, m := range append(undelayed(s, o), measures(s, o)...) {
		p.How += "; " + m.String()
		p.Holds = p.Holds && m.holds
	}
	return p
}

func stateName(s nodes.LinkState) string { return s.String() }

// A measure is one number of a train, and whether it is what it should be.
type measure struct {
	text  string
	holds bool
}

func (m measure) String() string {
	if m.holds {
		return m.text
	}
	return "not " + m.text
}

// measures judges all that the train can tell. A train of which nothing arrived
// tells nothing; that it did not pass is seen elsewhere.
func measures(s nodes.LinkState, o nodes.Observation) (out []measure) {
	t := o.Train
	if t.Arrived == 0 {
		return nil
	}
	count := t.Sent - t.Refused - t.Busy // the others tell nothing of a chance
	out = append(out, share("lost", count-t.Arrived, count, s.Lossy, o.Was.Lossy, 0)...)
	out = append(out, share("doubled", t.Doubled, t.Arrived, s.Duplicated, o.Was.Duplicated, t.Busy)...)
	// The last one before a pause in the train is not overtaken, and packets of
	// several processors pass each other by themselves.
	out = append(out, share("late", t.Late, t.Arrived, s.Reordered, o.Was.Reordered, t.Arrived/25+t.Busy)...)
	if s.Rate > 0 {
		out = append(out, limited(s, t))
	} else if o.Was.Rate > 0 {
		out = append(out, unlimited(o.Was, t))
	}
	return out
}

// undelayed judges that a link which is not to hold anything back any more is
// quicker than its former delay allowed.
func undelayed(s nodes.LinkState, o nodes.Observation) []measure {
	least := time.Duration(o.Was.Delay - o.Was.Jitter)
	if !o.Passed || least <= 0 || s.Delay > 0 || s.Jitter > 0 || s.Rate > 0 {
		return nil
	}
	return []measure{{fmt.Sprintf("held for less than %s (delayed %s±%s before)", least, time.Duration(o.Was.Delay), time.Duration(o.Was.Jitter)), o.Took < least}}
}

// share judges how many of n met a fate whose chance is asked, and was another.
func share(what string, got, n, asked, was, slack int) []measure {
	switch {
	case asked > 0:
		least, most := bounds(n, asked)
		least, most = max(1, least-slack), most+slack
		return []measure{{fmt.Sprintf("%d to %d of %d %s (%s)", least, most, n, what, nodes.Percent(asked)), got >= least && got <= most}}
	case was > 0:
		least, _ := bounds(n, was)
		return []measure{{fmt.Sprintf("less than %d of %d %s (%s before)", least, n, what, nodes.Percent(was)), got < least}}
	}
	return nil
}

// limited judges the time that a train took, and whether what was refused found
// the queue full. It can't be less than its own bytes take; the rest of the
// link's bytes explain more of it, as do those that were ahead of the first probe.
func limited(s nodes.LinkState, t nodes.Train) measure {
	least := spent(t.Bytes, s.Rate) - time.Millisecond
	most := spent(t.Load+t.Ahead, s.Rate)*ratePercent/100 + time.Duration(s.Delay+2*s.Jitter+s.Hold) + rateSlack
	text := fmt.Sprintf("%s to %s for %d bytes (%s)", round(least), round(most), t.Bytes, nodes.Rate(s.Rate))
	full := int64(room(s.Rate)*time.Duration(s.Rate)/time.Second)*roomPercent/100 - roomPacket
	if t.Refused > 0 {
		text += fmt.Sprintf(" and %d refused for %d bytes or more ahead", t.Refused, full)
	}
	return measure{text, t.Span >= least && t.Span <= most && (t.Refused == 0 || t.Load+t.Ahead >= full)}
}

// unlimited judges that a train was quicker than the former rate allowed.
func unlimited(was nodes.LinkState, t nodes.Train) measure {
	most := spent(t.Bytes, was.Rate)
	return measure{fmt.Sprintf("less than %s for %d bytes (%s before)", round(most), t.Bytes, nodes.Rate(was.Rate)), t.Span < most}
}

// spent is how long so many bytes take at that rate.
func spent(bytes, rate int64) time.Duration {
	return time.Duration(bytes) * time.Second / time.Duration(rate)
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
