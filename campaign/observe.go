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

// An observer asks every node, one goroutine each, what it believes.
type observer struct {
	rec     *recorder
	system  nodes.System
	cluster nodes.Cluster
	start   time.Time

	mu    sync.Mutex
	seen  claims
	ended sync.WaitGroup
}

func observe(ctx context.Context, rec *recorder, s nodes.System, c nodes.Cluster) *observer {
	o := &observer{rec: rec, system: s, cluster: c, start: time.Now()}
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
	changed := o.seen.saw(id, s, time.Since(o.start))
	o.mu.Unlock()
	if changed {
		o.rec.note(history.Info, history.Leader, history.Note{Leader: id.String(), Term: s.Term})
	}
}

// current is the leader with the highest fresh claim, 0 if none claims it.
func (o *observer) current() nodes.ID {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen.current(time.Since(o.start))
}

// claims are what nodes said of themselves last. They choose victims and tell
// the story; they never judge.
type claims struct {
	by     []claim // by ID; of who said nothing, a zero one
	leader nodes.ID
	term   uint64
}

type claim struct {
	status nodes.Status
	at     time.Duration
}

func (c *claim) leads() bool { return c.status.Role == "leader" || c.status.Role == "proposer" }

// saw keeps a claim, and tells whether it is of a new leader.
func (c *claims) saw(id nodes.ID, s nodes.Status, now time.Duration) (changed bool) {
	for len(c.by) <= int(id) {
		c.by = append(c.by, claim{})
	}
	made := claim{s, now}
	c.by[id] = made
	changed = made.leads() && s.Term >= c.term && (id != c.leader || s.Term > c.term)
	if changed {
		c.leader, c.term = id, s.Term
	}
	return changed
}

// current is the leader with the highest fresh claim; of equal ones the lowest ID.
func (c *claims) current(now time.Duration) nodes.ID {
	var best nodes.ID
	var term uint64
	for id := range c.by {
		if k := &c.by[id]; k.leads() && now-k.at < observedFor && (best == 0 || k.status.Term > term) {
			best, term = nodes.ID(id), k.status.Term
		}
	}
	if best == 0 && c.leader != 0 {
		if k := &c.by[c.leader]; now-k.at < observedFor {
			return k.status.Leader
		}
	}
	return best
}
