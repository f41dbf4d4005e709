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

func (a *answerer) Reply(_ uint64, r kv.Response)            { a.answers = append(a.answers, r) }
func (a *answerer) Send(e *consensus.Envelope[raft.Message]) { a.sent = append(a.sent, *e) }
func (a *answerer) Flush()                                   {}

// A lone node is n1 of three; the test speaks for n2.
type lone struct {
	*answerer
	*replica.Node[raft.Message, raft.Record]
	t *testing.T
}

func newLone(t *testing.T) lone {
	t.Helper()
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
	return lone{a, n, t}
}

func (l lone) do(err error) {
	l.t.Helper()
	if err == nil {
		err = l.Node.Flush()
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l lone) from2(m raft.Message) {
	l.t.Helper()
	l.do(l.Receive(consensus.Envelope[raft.Message]{From: 2, To: 1, Message: m}))
}

// TestLostPlaceIsTold has a leader without a majority take a command, and a
// later leader's entry take the command's place: the client is told at once, and
// told that the end is doubtful.
func TestLostPlaceIsTold(t *testing.T) {
	l := newLone(t)
	l.do(l.Tick())
	l.from2(raft.Message{Kind: raft.VoteReply, Term: 1})
	l.do(l.Propose(replica.Ticket{Conn: 1, Request: 7}, []byte("never read")))
	if len(l.answers) != 0 || l.Status().Role != "leader" {
		t.Fatalf("answers %v of a node that is %s; want none of a leader", l.answers, l.Status().Role)
	}
	l.from2(raft.Message{Kind: raft.Append, Term: 2, Commit: 1, Entries: []consensus.Entry{{Index: 1, Term: 2, Kind: consensus.Noop}}})
	if len(l.answers) != 1 || l.answers[0].ID != 7 || l.answers[0].Grade != kv.Doubtful {
		t.Fatalf("answers %v; want one, doubtful, to request 7", l.answers)
	}
}

// TestReadWaitsForItsIndex has a follower learn the index of a read before it
// learns that the entry there is committed: the read waits for that one entry.
func TestReadWaitsForItsIndex(t *testing.T) {
	l := newLone(t)
	entry := func(index uint64) []consensus.Entry {
		return []consensus.Entry{{Index: index, Term: 2, Kind: consensus.Noop}}
	}
	l.from2(raft.Message{Kind: raft.Append, Term: 2, Commit: 1, Entries: entry(1)})
	l.do(l.Read(replica.Ticket{Conn: 1, Request: 7}, "k"))
	ask := l.sent[len(l.sent)-1].Message
	if ask.Kind != raft.Read {
		t.Fatalf("the follower sent %+v; want a read", ask)
	}
	l.from2(raft.Message{Kind: raft.ReadAnswer, Term: 2, Key: ask.Key, Index: 2})
	if len(l.answers) != 0 {
		t.Fatalf("answers %v with entry 1 applied; want none before entry 2", l.answers)
	}
	l.from2(raft.Message{Kind: raft.Append, Term: 2, Commit: 2, Index: 1, LogTerm: 2, Entries: entry(2)})
	if len(l.answers) != 1 || l.answers[0].Grade != kv.Answered || l.answers[0].Result.Index != 2 {
		t.Fatalf("answers %v; want one at index 2", l.answers)
	}
}
