package replica_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"chaos/nodes/consensus"
	"chaos/nodes/kv"
	"chaos/nodes/replica"
	"chaos/raft"
)

// A mute core asks for nothing, whatever it is fed; its role changes all the same.
type mute struct {
	consensus.Core[raft.Message, raft.Record]
	role string
}

type raftOutput = consensus.Output[raft.Message, raft.Record]

func (*mute) Tick() raftOutput                     { return raftOutput{} }
func (*mute) Propose(consensus.Command) raftOutput { return raftOutput{} }
func (m *mute) Status() consensus.Status           { return consensus.Status{ID: 1, Role: m.role} }

// A counter counts answers, and those that left.
type counter struct {
	answerer
	left int
}

func (c *counter) Flush() { c.left = len(c.answers) }

// TestFlushOfNothing has a core that asks for nothing: the answer to a request
// that waited too long leaves, and a change of role gets into the audit.
func TestFlushOfNothing(t *testing.T) {
	var audit bytes.Buffer
	core, clients := &mute{role: "follower"}, &counter{}
	n, err := replica.NewNode(replica.Config[raft.Message, raft.Record]{
		System: "raft", Cluster: "test", Codec: raft.Codec{}, Disk: replica.NewMemDisk(), Sender: clients, Replier: clients,
		Audit: &audit, WaitTicks: 2,
		NewCore: func(o consensus.Options) consensus.Core[raft.Message, raft.Record] {
			core.Core = raft.New(o)
			return core
		},
		Options: consensus.Options{ID: 1, Voters: consensus.Configuration{Voters: []consensus.ID{1, 2, 3}}, HeartbeatTicks: 3, ElectionTicks: 20,
			Rand: rand.New(rand.NewPCG(1, 1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := lone{&clients.answerer, n, t}
	l.do(l.Propose(replica.Ticket{Conn: 1, Request: 7}, []byte("never decided")))
	core.role = "leader"
	for range 4 {
		l.do(l.Tick())
	}
	if len(clients.answers) != 1 || clients.answers[0].Grade != kv.Doubtful || clients.left != 1 {
		t.Errorf("answers %v, of which %d left; want one, doubtful, that left", clients.answers, clients.left)
	}
	if !strings.Contains(audit.String(), `"role":"leader"`) {
		t.Errorf("the audit does not tell of the new role:\n%s", audit.String())
	}
}
