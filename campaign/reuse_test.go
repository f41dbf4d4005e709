package campaign

import (
	"testing"
	"time"

	"chaos/nodes/consensus"
	"chaos/nodes/sim"
	"chaos/paxos"
	"chaos/raft"
)

// A spoiler is a core whose Outputs are made worthless as soon as they are no
// longer valid: at its next input. Whoever still reads one, reads nothing.
type spoiler[M, R any] struct {
	consensus.Core[M, R]
	last consensus.Output[M, R]
}

func (s *spoiler[M, R]) spoil() {
	o := &s.last
	clear(o.Early)
	clear(o.Records)
	clear(o.Messages)
	clear(o.Committed)
	clear(o.Reads)
	clear(o.Rejected)
}

func (s *spoiler[M, R]) kept(o consensus.Output[M, R]) consensus.Output[M, R] {
	s.last = o
	return o
}

func (s *spoiler[M, R]) Tick() consensus.Output[M, R] {
	s.spoil()
	return s.kept(s.Core.Tick())
}

func (s *spoiler[M, R]) Receive(e consensus.Envelope[M]) consensus.Output[M, R] {
	s.spoil()
	return s.kept(s.Core.Receive(e))
}

func (s *spoiler[M, R]) Propose(c consensus.Command) consensus.Output[M, R] {
	s.spoil()
	return s.kept(s.Core.Propose(c))
}

func (s *spoiler[M, R]) Read(key uint64) consensus.Output[M, R] {
	s.spoil()
	return s.kept(s.Core.Read(key))
}

func (s *spoiler[M, R]) Transfer(to consensus.ID) consensus.Output[M, R] {
	s.spoil()
	return s.kept(s.Core.Transfer(to))
}

func (s *spoiler[M, R]) PeerReset(id consensus.ID) consensus.Output[M, R] {
	s.spoil()
	return s.kept(s.Core.PeerReset(id))
}

// A raftSpoiler is one that has what only raft's cores have.
type raftSpoiler struct {
	spoiler[raft.Message, raft.Record]
	core *raft.Core
}

func (s *raftSpoiler) Merge(o *consensus.Output[raft.Message, raft.Record]) { s.core.Merge(o) }
func (s *raftSpoiler) Lost(term uint64, e consensus.Entry) bool             { return s.core.Lost(term, e) }

func spoiledPaxos(name string, mode paxos.Mode) sim.System {
	return sim.Of(name, paxos.Codec{}, paxos.NewCheck,
		func(k *paxos.Check, o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
			c := paxos.New(o, mode)
			k.Add(c)
			return &spoiler[paxos.Message, paxos.Record]{Core: c}
		})
}

// The driver of live and simulated nodes keeps nothing of an Output past the
// core's next input, where its memory is used again.
func TestOutputsAreNotKept(t *testing.T) {
	spoiled := map[string]sim.System{
		"raft": raftWith(func(c consensus.Core[raft.Message, raft.Record]) consensus.Core[raft.Message, raft.Record] {
			return &raftSpoiler{spoiler[raft.Message, raft.Record]{Core: c}, c.(*raft.Core)}
		}),
		"paxos":         spoiledPaxos("paxos", paxos.Multi),
		"paxos-classic": spoiledPaxos("paxos-classic", paxos.Classic),
	}
	for _, name := range simNames {
		for seed := range uint64(8) {
			plan, err := Swarm(name, seed+1, 2*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			want, got := simulated(t, simSystems[name], plan), simulated(t, spoiled[name], plan)
			if want.print() != got.print() {
				t.Errorf("%s, seed %d: another history, so the driver reads an Output that is no longer valid; breach %v", name, seed+1, got.Breach)
			}
		}
	}
}
