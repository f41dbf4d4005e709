package paxos

import (
	"fmt"
	"testing"

	"chaos/nodes/consensus"
)

// BenchmarkDecide measures the cores' own cost of a decided command, without
// network and disk: one command at a time, and several in flight.
func BenchmarkDecide(b *testing.B) {
	for _, mode := range []Mode{Multi, Classic} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("mode=%d/clients=%d", mode, clients), func(b *testing.B) {
				decide(b, mode, clients)
			})
		}
	}
}

func decide(b *testing.B, mode Mode, clients int) {
	cores, net, serial, decided := benchCluster(mode), []Envelope(nil), uint64(0), 0
	step := func(id consensus.ID, o Output) {
		net = append(append(net, o.Early...), o.Messages...)
		if id == 1 {
			decided += len(o.Committed)
		}
	}
	drain := func() {
		for i := 0; i < len(net); i++ {
			step(net[i].To, cores[net[i].To-1].Receive(net[i]))
		}
		net = net[:0]
	}
	step(1, cores[0].Tick())
	drain()
	data := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		for range clients {
			serial++
			step(1, cores[0].Propose(consensus.Command{Origin: 1, Serial: serial, Data: data}))
		}
		drain()
		if index := cores[0].learner.index; index > 10_000 {
			compactAll(cores)
		}
	}
	b.StopTimer()
	if uint64(decided) != serial {
		b.Fatalf("%d of %d commands were decided", decided, serial)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(decided), "ns/command")
}

// compactAll keeps the logs short, as an owner does.
func compactAll(cores []*Core) {
	for _, c := range cores {
		if s := c.learner; s.decided.end()-s.decided.first > 10_000 {
			c.Compact(consensus.Snapshot{Index: s.index, Term: s.mark})
		}
	}
}

func benchReplicas(mode Mode) *cluster {
	cl := newCluster(5, mode, 1)
	cl.o.MaxInflight, cl.o.MaxBatchBytes = 4096, 64<<10
	for _, r := range cl.replicas {
		r.lives = 0
		cl.start(r)
	}
	return cl
}

func benchCluster(mode Mode) (cores []*Core) {
	for _, r := range benchReplicas(mode).replicas {
		cores = append(cores, r.core)
	}
	return cores
}
