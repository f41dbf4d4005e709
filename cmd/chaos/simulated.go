package main

import (
	"chaos/nodes/consensus"
	"chaos/nodes/sim"
	"chaos/paxos"
	"chaos/raft"
)

// blind sees nothing.
type blind struct{}

func (blind) Started(consensus.ID) error  { return nil }
func (blind) Stepped(consensus.ID) error  { return nil }
func (blind) Flushed(consensus.ID) error  { return nil }
func (blind) Moments() []consensus.Moment { return nil }

// simulated is every system that can run in virtual time: our own nodes.
func simulated() []sim.System {
	return []sim.System{
		sim.Of("raft", raft.Codec{}, func() blind { return blind{} },
			func(_ blind, o consensus.Options) consensus.Core[raft.Message, raft.Record] { return raft.New(o) }),
		sim.Of("paxos", paxos.Codec{}, func() blind { return blind{} },
			func(_ blind, o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
				return paxos.New(o, paxos.Multi)
			}),
		sim.Of("paxos-classic", paxos.Codec{}, func() blind { return blind{} },
			func(_ blind, o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
				return paxos.New(o, paxos.Classic)
			}),
	}
}
