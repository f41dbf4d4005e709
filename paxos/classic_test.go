package paxos

import (
	"math/rand/v2"
	"testing"

	"chaos/nodes/consensus"
)

// firstOfThree is a classic node without a past.
func firstOfThree() *Core {
	voters := consensus.Configuration{Voters: []consensus.ID{1, 2, 3}}
	c := New(consensus.Options{ID: 1, Voters: voters, HeartbeatTicks: 2, ElectionTicks: 10, MaxInflight: 9, MaxBatchBytes: 99, Rand: rand.New(rand.NewPCG(1, 1))}, Classic)
	c.Restore(nil, nil)
	return c
}

// TestRoundsAreReservedFirst has a classic proposer try twice before its owner
// carried anything out: no request may leave before a record that reserves its
// round is known to be durable.
func TestRoundsAreReservedFirst(t *testing.T) {
	c := firstOfThree()
	gathered := c.Propose(consensus.Command{Origin: 1, Serial: 1})
	for _, from := range []consensus.ID{2, 3} {
		gathered.Append(c.Receive(Envelope{From: from, To: 1, Message: Message{Kind: Refuse, Ballot: Ballot{5, 3}, Slot: 1}}))
	}
	for c.proposer.phase == idle {
		gathered.Append(c.Tick())
	}
	if len(gathered.Early) != 0 || len(gathered.Messages) != 4 {
		t.Fatalf("%d requests leave early and %d after the sync; want 0 and 4", len(gathered.Early), len(gathered.Messages))
	}
	ballot := c.proposer.ballot
	for _, from := range []consensus.ID{2, 3} {
		c.Receive(Envelope{From: from, To: 1, Message: Message{Kind: Promise, Ballot: ballot, Slot: 1}})
	}
	if c.contention.reserved <= ballot.Round {
		t.Fatalf("rounds up to %d are reserved although %s was answered", c.contention.reserved, ballot)
	}
	for _, from := range []consensus.ID{2, 3} {
		c.Receive(Envelope{From: from, To: 1, Message: Message{Kind: Accepted, Ballot: ballot, Slot: 1}})
	}
	if o := c.Propose(consensus.Command{Origin: 1, Serial: 2}); len(o.Early) != 2 || o.Early[0].Message.Kind != Prepare {
		t.Fatalf("the next attempt sends %d early messages; want 2 prepare requests", len(o.Early))
	}
}

// TestDecidedAboveAGap has a proposer that missed five slots get its command
// decided in the sixth: it must not propose it again while it catches up.
func TestDecidedAboveAGap(t *testing.T) {
	c := firstOfThree()
	c.Propose(consensus.Command{Origin: 1, Serial: 1})
	ballot := c.proposer.ballot
	c.Receive(Envelope{From: 2, To: 1, Message: Message{Kind: Promise, Ballot: ballot, Slot: 1, Mark: 5}})
	o := c.Receive(Envelope{From: 2, To: 1, Message: Message{Kind: Accepted, Ballot: ballot, Slot: 6}})
	if !c.learner.isDecided(6) || c.learner.mark != 0 {
		t.Fatalf("slot 6 decided: %v, mark %d", c.learner.isDecided(6), c.learner.mark)
	}
	for _, e := range append(o.Early, o.Messages...) {
		if e.Message.Kind == Prepare {
			t.Fatalf("%s is asked for another ballot, %s, with nothing left to propose", e.To, e.Message.Ballot)
		}
	}
}
