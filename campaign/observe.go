package campaign

import (
	"context"
	"sync"
	"time"

	"chaos/history"
	"chaos/nodes"
)

// Bounds of observing.
const (
	observeEvery   = 50 * time.Millisecond
	observeTimeout = 150 * time.Millisecond
	observedFor    = 500 * time.Millisecond // how long a node's claim counts as fresh
)

// An observer asks every node, one goroutine each, what it believes. Claims
// choose victims and tell the story; they never judge.
type observer struct {
	rec     *recorder
	system  nodes.System
	cluster nodes.Cluster

	mu     sync.Mutex
	claims map[nodes.ID]claim
	leader nodes.ID
	term   uint64
	ended  sync.WaitGroup
}

type claim struct {
	status nodes.Status
	at     time.Time
}

func observe(ctx context.Context, rec *recorder, s nodes.System, c nodes.Cluster) *observer {
	o := &observer{rec: rec, system: s, cluster: c, claims: map[nodes.ID]claim{}}
	for _, m := range c.Members() {
		o.ended.Add(1)
		go o.watch(ctx, m)
	}
	return o
}

func (o *observer) watch(ctx context.Context, m nodes.Member) {
	defer o.ended.Done()
	for sleep(ctx, observeEvery) {
		one, cancel := context.WithTimeout(ctx, observeTimeout)
		s, err := o.system.Observe(one, m, o.cluster.Dial)
		cancel()
		if err == nil {
			o.saw(m.ID, s)
		}
	}
}

// saw keeps the claim, and notes a change of leader in the history.
func (o *observer) saw(id nodes.ID, s nodes.Status) {
	o.mu.Lock()
	o.claims[id] = claim{s, time.Now()}
	leads := s.Role == "leader" || s.Role == "proposer"
	changed := leads && s.Term >= o.term && (id != o.leader || s.Term > o.term)
	if changed {
		o.leader, o.term = id, s.Term
	}
	o.mu.Unlock()
	if changed {
		o.rec.note(history.Info, history.Leader, history.Note{Leader: id.String(), Term: s.Term})
	}
}

// current is the leader with the highest fresh claim, 0 if none claims it.
func (o *observer) current() nodes.ID {
	o.mu.Lock()
	defer o.mu.Unlock()
	var best nodes.ID
	var term uint64
	for id, c := range o.claims {
		leads := c.status.Role == "leader" || c.status.Role == "proposer"
		if leads && time.Since(c.at) < observedFor && (best == 0 || c.status.Term > term) {
			best, term = id, c.status.Term
		}
	}
	if best == 0 && o.leader != 0 && time.Since(o.claims[o.leader].at) < observedFor {
		return o.claims[o.leader].status.Leader
	}
	return best
}
