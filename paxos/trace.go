package paxos

import (
	"fmt"

	"chaos/nodes/consensus"
)

// String writes m as a trace shows it: "accept 3.n1 slot 7 +2 mark 6". What is
// zero is left out, but an accept request without commands says "no-op"; +2 is
// how many commands come with it.
func (m Message) String() string {
	text := m.Kind.String()
	if !m.Ballot.IsZero() {
		text += " " + m.Ballot.String()
	}
	number := func(name string, n uint64) {
		if n != 0 {
			text += fmt.Sprintf(" %s %d", name, n)
		}
	}
	number("slot", m.Slot)
	if m.Kind == Accept || len(m.Commands) > 0 {
		text += " " + describeSize(m.Commands)
	}
	for i := range m.Proposals {
		text += " " + m.Proposals[i].String()
	}
	number("end", m.End)
	number("mark", m.Mark)
	number("tag", m.Tag)
	number("index", m.Index)
	if m.Kind == Chunk {
		text += fmt.Sprintf(" bytes %d to %d of %d", m.Offset, m.Offset+uint64(len(m.Data)), m.Total)
	} else {
		number("from byte", m.Offset)
	}
	return text
}

// String writes p as "[7 3.n1 +2]"; without a ballot where p is a decision.
func (p Proposal) String() string {
	if p.Ballot.IsZero() {
		return fmt.Sprintf("[%d %s]", p.Slot, describeSize(p.Commands))
	}
	return fmt.Sprintf("[%d %s %s]", p.Slot, p.Ballot, describeSize(p.Commands))
}

// describeSize tells how many commands a batch holds.
func describeSize(commands []consensus.Command) string {
	if len(commands) == 0 {
		return "no-op"
	}
	return fmt.Sprintf("+%d", len(commands))
}

// describeValue writes a batch by who asked for its commands and their serials:
// "n1/4,n1/5".
func describeValue(commands []consensus.Command) string {
	if len(commands) == 0 {
		return "a no-op"
	}
	text := ""
	for i := range commands {
		text += fmt.Sprintf(",%s/%d", commands[i].Origin, commands[i].Serial)
	}
	return text[1:]
}
