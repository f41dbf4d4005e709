package paxos

import (
	"testing"

	"chaos/nodes/consensus"
)

// TestTakeOverIsQuick kills the distinguished proposer and lets the connections
// to it break, not at the same moment everywhere: within ten ticks a command is
// decided by a successor. Messages take a third of a tick.
func TestTakeOverIsQuick(t *testing.T) {
	total := 0
	for seed := range uint64(100) {
		cl := newCluster(5, Multi, seed)
		round := func() {
			for range 3 {
				now := cl.net
				cl.net = nil
				for _, e := range now {
					cl.step(cl.at(e.To), func(c *Core) Output { return c.Receive(e) })
				}
			}
			cl.tickAll()
		}
		for range 10 {
			round()
		}
		cl.crash(cl.at(1))
		const ticksMax = 10
		ticks := 0
		for serial := uint64(1); len(cl.log) == 0 && ticks <= ticksMax; ticks++ {
			if ticks < 2 {
				for i := 2 + ticks; i <= 5; i += 2 {
					cl.step(cl.at(consensus.ID(i)), func(c *Core) Output { return c.PeerReset(1) })
				}
			}
			for _, r := range cl.replicas[1:] {
				serial++
				cl.step(r, func(c *Core) Output { return c.Propose(consensus.Command{Origin: r.id, Serial: serial}) })
			}
			round()
		}
		if total += ticks; ticks > ticksMax || cl.failure != "" {
			t.Errorf("seed %d: nothing was decided in %d ticks after the proposer died %s", seed, ticksMax, cl.failure)
		}
	}
	t.Logf("a take-over took %d.%02d ticks on average", total/100, total%100)
}

// TestInstallReplacesRestored has a node restart with decided entries in its
// journal and get a checkpoint before it could hand them out: the checkpoint
// holds them, so they must not be applied on top of it.
func TestInstallReplacesRestored(t *testing.T) {
	cl := newCluster(3, Multi, 1)
	c := New(consensus.Options{ID: 1, Voters: cl.voters, HeartbeatTicks: 2, ElectionTicks: 10, MaxInflight: 9, MaxBatchBytes: 99, Rand: cl.at(1).core.rand}, Multi)
	c.Restore(nil, []Record{
		{Kind: RecordAccepted, Ballot: Ballot{1, 2}, Slot: 1, Commands: []consensus.Command{{Origin: 2, Serial: 1}}},
		{Kind: RecordMark, Slot: 1},
	})
	o := c.Receive(Envelope{From: 2, To: 1, Message: Message{Kind: Chunk, Slot: 3, Index: 3, Voters: cl.voters.Voters, Data: []byte("s"), Total: 1}})
	if o.Install == nil || o.Install.Index != 3 || len(o.Committed) != 0 {
		t.Fatalf("installs %v and applies %v", o.Install, o.Committed)
	}
}

// TestLaggardDoesNotTakeOver lets a node that lacks many decisions probe first:
// its peers teach it instead of granting, and one of them takes over.
func TestLaggardDoesNotTakeOver(t *testing.T) {
	for seed := range uint64(50) {
		cl := newCluster(3, Multi, seed)
		cl.tickAll()
		cl.deliverAll()
		late, early := consensus.ID(2+seed%2), consensus.ID(3-seed%2)
		cl.cutBoth(1, late, true)
		cl.cutBoth(early, late, true)
		for serial := range uint64(20 * lagSlots) {
			cl.step(cl.at(1), func(c *Core) Output { return c.Propose(consensus.Command{Origin: 1, Serial: serial + 1}) })
			cl.deliverAll()
		}
		cl.crash(cl.at(1))
		cl.mend()
		behind, ahead := cl.at(late).core, cl.at(early).core
		cl.step(cl.at(late), func(c *Core) Output { return c.PeerReset(1) })
		cl.step(cl.at(early), func(c *Core) Output { return c.PeerReset(1) })
		for range 2 * cl.o.ElectionTicks {
			for range min(12, len(cl.net)) { // so few that catching up takes long
				cl.deliver(0)
				if phase := behind.proposer.phase; phase > probing && behind.learner.mark+lagSlots < ahead.learner.mark {
					t.Fatalf("seed %d: %s takes over at slot %d while %s knows %d", seed, late, behind.learner.mark, early, ahead.learner.mark)
				}
			}
			if ahead.leads() || behind.leads() {
				break
			}
			cl.tickAll()
		}
		if cl.failure != "" || !ahead.leads() && !behind.leads() {
			t.Fatalf("seed %d: nobody took over %s", seed, cl.failure)
		}
	}
}
