package main

import (
	"chaos/nodes/consensus"
	"chaos/nodes/sim"
	"chaos/paxos"
	"chaos/raft"
)

// simulated is every system that can run in virtual time: our own nodes, each
// watched by the check that knows its core.
func simulated() []sim.System {
	return []sim.System{
		sim.Of("raft", raft.Codec{}, raft.NewCheck, func(k *raft.Check, o consensus.Options) consensus.Core[raft.Message, raft.Record] {
			c := raft.New(o)
			k.Add(c)
			return c
		}),
		sim.Of("paxos", paxos.Codec{}, paxos.NewCheck, proposers(paxos.Multi)),
		sim.Of("paxos-classic", paxos.Codec{}, paxos.NewCheck, proposers(paxos.Classic)),
	}
}

func proposers(m paxos.Mode) func(*paxos.Check, consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
	return func(k *paxos.Check, o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
		c := paxos.New(o, m)
		k.Add(c)
		return c
	}
}
