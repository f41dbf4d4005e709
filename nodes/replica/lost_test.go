package replica_test

import (
	"math/rand/v2"
	"testing"

	"chaos/nodes/consensus"
	"chaos/nodes/kv"
	"chaos/nodes/replica"
	"chaos/raft"
)

// An answerer keeps the answers of a node, and drops what it sends.
type answerer struct {
	answers []kv.Response
	sent    []consensus.Envelope[raft.Message]
}

func (a *answerer) Reply(_ uint64, r kv.Response)           { a.answers = append(a.answers, r) }
func (a *answerer) Send(e consensus.Envelope[raft.Message]) { a.sent = append(a.sent, e) }
func (a *answerer) Flush()                                  {}

// TestLostPlaceIsTold has a leader without a majority take a command, and a
// later leader's entry take the command's place: the client is told at once, and
// told that the end is doubtful.
func TestLostPlaceIsTold(t *testing.T) {
	a := &answerer{}
	n, err := replica.NewNode(replica.Config[raft.Message, raft.Record]{
		System: "raft", Cluster: "test", Codec: raft.Codec{}, Disk: replica.NewMemDisk(), Sender: a, Replier: a,
		NewCore: func(o consensus.Options) consensus.Core[raft.Message, raft.Record] { return raft.New(o) },
		Options: consensus.Options{ID: 1, Voters: consensus.Configuration{Voters: []consensus.ID{1, 2, 3}}, HeartbeatTicks: 3, ElectionTicks: 20,
			MaxInflight: 99, MaxBatchBytes: 9999, Rand: rand.New(rand.NewPCG(1, 1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	do := func(err error) {
		t.Helper()
		if err == nil {
			err = n.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	from2 := func(m raft.Message) {
		t.Helper()
		do(n.Receive(consensus.Envelope[raft.Message]{From: 2, To: 1, Message: m}))
	}
	do(n.Tick())
	from2(raft.Message{Kind: raft.VoteReply, Term: 1})
	do(n.Propose(replica.Ticket{Conn: 1, Request: 7}, []byte("never read")))
	if len(a.answers) != 0 || n.Status().Role != "leader" {
		t.Fatalf("answers %v of a node that is %s; want none of a leader", a.answers, n.Status().Role)
	}
	from2(raft.Message{Kind: raft.Append, Term: 2, Commit: 1, Entries: []consensus.Entry{{Index: 1, Term: 2, Kind: consensus.Noop}}})
	if len(a.answers) != 1 || a.answers[0].ID != 7 || a.answers[0].Grade != kv.Doubtful {
		t.Fatalf("answers %v; want one, doubtful, to request 7", a.answers)
	}
}
