package campaign

import (
	"context"
	"testing"
	"time"

	"chaos/linearizability"
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

func TestFirst(t *testing.T) {
	for _, name := range []string{"raft", "paxos", "paxos-classic"} {
		for seed := uint64(1); seed < 6; seed++ {
			spec := DefaultSpec()
			spec.System, spec.Provider = name, "sim"
			spec.Rate = 100
			spec.Duration = Duration(60 * time.Second)
			plan, err := Draw(spec, seed)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			s, err := Simulated{Plan: plan, System: simSystems[name]}.Run()
			took := time.Since(began)
			if err != nil {
				t.Fatal(err)
			}
			v, err := linearizability.Judge(context.Background(), linearizability.Input{History: s.History, Required: plan.Spec.Faults})
			t.Logf("%s seed %d: %d events in %s, sim %s, %d history events, judge %s, breach %v, interrupted %q trouble %v verdict %v %s err %v states %d", name, seed, s.Events, took, s.Time,
				len(s.History.Events), time.Since(began)-took, s.Breach, s.Interrupted, s.Trouble, v.Outcome, v.Reason, err, len(s.States))
		}
	}
}
