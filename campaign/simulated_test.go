package campaign

import (
	"bytes"
	"testing"
	"time"

	"chaos/nodes/consensus"
	"chaos/nodes/sim"
	"chaos/paxos"
	"chaos/raft"
)

type blind struct{}

func (blind) Started(consensus.ID) error  { return nil }
func (blind) Stepped(consensus.ID) error  { return nil }
func (blind) Flushed(consensus.ID) error  { return nil }
func (blind) Moments() []consensus.Moment { return nil }

var simSystems = map[string]sim.System{
	"raft": sim.Of("raft", raft.Codec{}, func() blind { return blind{} },
		func(_ blind, o consensus.Options) consensus.Core[raft.Message, raft.Record] { return raft.New(o) }),
	"paxos": sim.Of("paxos", paxos.Codec{}, func() blind { return blind{} },
		func(_ blind, o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
			return paxos.New(o, paxos.Multi)
		}),
	"paxos-classic": sim.Of("paxos-classic", paxos.Codec{}, func() blind { return blind{} },
		func(_ blind, o consensus.Options) consensus.Core[paxos.Message, paxos.Record] {
			return paxos.New(o, paxos.Classic)
		}),
}

var simNames = nodesOurs()

func nodesOurs() []string { return []string{"raft", "paxos", "paxos-classic"} }

// simulate carries out a seed's own configuration, changed by edit if that is set.
func simulate(t *testing.T, system string, seed uint64, d time.Duration, edit func(*Plan)) Simulation {
	t.Helper()
	plan, err := Swarm(system, seed, d)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&plan)
	}
	s, err := Simulated{Plan: plan, System: simSystems[system]}.Run()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Equal seeds make equal histories, byte for byte.
func TestSameSeedSameHistory(t *testing.T) {
	for _, name := range simNames {
		for seed := range uint64(30) {
			a, b := simulate(t, name, seed+1, 2*time.Second, nil), simulate(t, name, seed+1, 2*time.Second, nil)
			if x, y := a.Encode(), b.Encode(); !bytes.Equal(x, y) || a.Events != b.Events {
				t.Fatalf("%s, seed %d: two simulations differ, with %d and %d events", name, seed+1, a.Events, b.Events)
			}
		}
	}
}

// Messages that are handed over as values share memory with the cores that sent
// them. That changes nothing: through the codec all happens alike.
func TestMessagesAreValues(t *testing.T) {
	for _, name := range simNames {
		for seed := range uint64(30) {
			through := func(wire bool) Simulation {
				return simulate(t, name, seed+1, 2*time.Second, func(p *Plan) { p.Spec.Sim.Wire = wire })
			}
			a, b := through(false), through(true)
			if !bytes.Equal(a.Encode(), b.Encode()) || a.Events != b.Events {
				t.Fatalf("%s, seed %d: messages as values make another history than encoded ones", name, seed+1)
			}
		}
	}
}
