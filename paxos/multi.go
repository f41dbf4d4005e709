package paxos

import "chaos/nodes/consensus"

// Bounds of a take-over, in ticks.
const (
	staggerTicks = 3 // after a broken connection, wait fewer than this before the first probe
	grantTicks   = 3 // a probe that was granted keeps others away this long
	quickProbes  = 4 // probes in quick succession; later ones come an election time-out apart
	// lagSlots is how many decided slots a successor may lack; it would have to
	// learn them before it could serve.
	lagSlots = 2 * pipelineSlots
)

// leadership is what a node knows of the distinguished proposer (section 3).
type leadership struct {
	leader  consensus.ID // the node whose ballot leads, or 0
	silence int          // ticks since it was heard
	rival   consensus.ID // another node whose phase 1 was promised and may be under way, or 0
	timeout int          // silence after which this node wants to take over
	started bool         // the first tick is over

	tag      uint64       // of the present probe
	grants   votes        // for it
	probes   int          // in a row
	granted  consensus.ID // whose probe was granted last
	grantAge int          // ticks since then

	beat  int    // ticks since the last heartbeat
	heard votes  // who answered the leading node since the last check
	check int    // ticks since then
	mark  uint64 // the learner's at that check
}

// electionTimeout draws from [base, 2*base) ticks.
func (c *Core) electionTimeout() int { return c.o.ElectionTicks + c.rand.IntN(c.o.ElectionTicks) }

// leads tells whether this node is the distinguished proposer.
func (c *Core) leads() bool { return c.mode == Multi && c.proposer.phase == proposing }

// lead begins to serve: phase 1 is over, and holds for all later slots.
func (c *Core) lead() {
	l := &c.leadership
	c.loseReads("a new proposer took over")
	l.leader, l.rival, l.probes, l.granted, l.check, l.mark = c.o.ID, 0, 0, 0, 0, c.learner.mark
	l.heard = c.bit(c.o.ID)
	c.heartbeat()
	for _, one := range c.pending.commands() {
		c.enqueue(one.command)
	}
}

// heartbeat tells that the ballot leads, how far the log is decided, and asks
// to confirm the reads under way.
func (c *Core) heartbeat() {
	c.leadership.beat, c.proposer.told = 0, c.learner.mark
	c.reader.round = max(c.reader.round, 1)
	c.toOthersEarly(Message{Kind: Learn, Ballot: c.proposer.ballot, Mark: c.learner.mark, Tag: c.reader.round})
}

// heard notes a living proposer whose ballot is not below the promised one.
// Nobody disturbs it.
func (c *Core) heard(b Ballot) {
	if c.mode != Multi {
		return
	}
	l, p := &c.leadership, &c.proposer
	if p.phase == probing || (p.phase != idle && p.ballot.Less(b)) {
		c.preempted()
	}
	if p.phase != idle {
		return
	}
	l.silence, l.rival, l.probes, l.granted = 0, 0, 0, 0
	if l.leader != b.Node {
		l.leader, l.timeout = b.Node, c.electionTimeout()
		c.loseReads("a new proposer took over")
		c.forwardAll()
	}
}

// rival notes that this node's acceptor promised another's ballot: that node
// gets time to lead.
func (c *Core) rival(b Ballot) {
	l := &c.leadership
	if l.leader != c.o.ID && l.leader != b.Node {
		l.leader = 0
	}
	if c.proposer.phase == probing {
		c.preempted()
	}
	l.silence, l.timeout, l.rival = 0, c.electionTimeout(), b.Node
}

// stepDown ends leading, phase 1 or probing. It waits a short random time
// before it would try again; the probe keeps it from disturbing a successor.
func (c *Core) stepDown() {
	l := &c.leadership
	if l.leader == c.o.ID {
		l.leader = 0
	}
	l.silence, l.timeout, l.probes = 0, grantTicks+c.rand.IntN(c.o.ElectionTicks), 0
	c.loseReads("the proposer was preempted")
	for _, one := range c.pending.commands() {
		if !one.sent {
			c.reject(one.command.Serial, "the proposer was preempted")
			c.pending.remove(one.command.Serial)
		}
	}
}

// suspect doubts that the distinguished proposer lives, and starts to ask the
// others within staggerTicks.
func (c *Core) suspect() {
	l := &c.leadership
	l.leader = 0
	c.loseReads("the connection to the proposer broke")
	if wait := c.rand.IntN(staggerTicks); wait > 0 {
		l.timeout = l.silence + wait
	} else if c.proposer.phase == idle {
		c.probe()
	}
}

// tickMulti lets time pass for the distinguished proposer and for those who wait on it.
func (c *Core) tickMulti() {
	l := &c.leadership
	l.grantAge++
	first := !l.started
	l.started = true
	if c.leads() {
		c.tickLeader()
		c.tickLearner(false)
		return
	}
	l.silence++
	switch {
	case first && c.o.Bootstrap && c.acceptor.promised.IsZero() && c.o.ID == c.voters.Voters[0]:
		c.prepare()
	case c.proposer.phase == preparing:
		c.retry()
		if l.silence >= l.timeout {
			c.preempted()
		}
	case l.silence >= l.timeout:
		l.leader = 0
		c.probe()
	}
	if c.pending.age >= 2*c.o.ElectionTicks && l.leader != 0 && c.learner.mark >= c.learner.known {
		c.forwardAll() // who lacks decisions may find its commands among them
	}
	c.tickLearner(l.silence >= c.o.ElectionTicks || l.leader == 0)
}

// tickLeader keeps the ballot known, repeats lost requests, and gives up where
// no majority answers any more, or where it can't learn what it needs to serve.
func (c *Core) tickLeader() {
	l := &c.leadership
	if l.beat++; l.beat >= c.o.HeartbeatTicks {
		c.heartbeat()
	}
	c.tell(1)
	c.retry()
	if l.check++; l.check < 2*c.o.ElectionTicks {
		return
	}
	lost := !c.quorum(l.heard) || c.blind()
	l.check, l.heard, l.mark = 0, c.bit(c.o.ID), c.learner.mark
	if lost {
		c.preempted()
	}
}

// blind tells whether slots below all of this ballot stay undecided here: phase 1
// heard that they are decided from a node that may be gone since. Another phase 1
// finds their values at those who are left.
func (c *Core) blind() bool {
	return c.learner.mark < c.proposer.base && c.learner.mark == c.leadership.mark
}

// heardFrom counts an answer for the check of the majority.
func (c *Core) heardFrom(id consensus.ID) { c.leadership.heard |= c.bit(id) }

// tell sends decisions of their own when at least slots of them are untold.
func (c *Core) tell(slots uint64) {
	if p := &c.proposer; c.leads() && c.learner.mark >= p.told+slots {
		p.told = c.learner.mark
		c.toOthersEarly(Message{Kind: Learn, Ballot: p.ballot, Mark: c.learner.mark})
	}
}

// settleMulti proposes what waits, and tells decisions promptly: with the next
// accept request where there is one, else by themselves.
func (c *Core) settleMulti() {
	c.issue()
	if c.proposer.open == 0 {
		c.tell(1)
	} else {
		c.tell(learnEvery)
	}
}

// probe asks the others whether a take-over would disturb anybody. The paper
// goes to phase 1 at once; a node that comes back from a partition would then
// preempt a proposer that serves everybody else.
func (c *Core) probe() {
	l, p := &c.leadership, &c.proposer
	p.phase = probing
	l.tag++
	l.probes++
	l.silence, l.timeout = 0, 1+c.rand.IntN(2)
	if l.probes > quickProbes {
		l.timeout = c.electionTimeout()
	}
	l.granted, l.grantAge, l.grants = c.o.ID, 0, c.bit(c.o.ID)
	c.toOthers(Message{Kind: Probe, Tag: l.tag, Mark: c.learner.mark})
	c.countGrants()
}

// countGrants starts phase 1 once a majority has no objection.
func (c *Core) countGrants() {
	if l := &c.leadership; c.quorum(l.grants) {
		l.silence, l.timeout = 0, c.electionTimeout()
		c.prepare()
	}
}

// onProbe grants a take-over unless a proposer, or one in phase 1, was heard within
// the base of the election time-out, another one was granted just now, or the asker
// lacks much of what was decided here; then it is taught instead. Of two nodes that probe
// at once the one with the higher number yields, or the one that lacks much.
func (c *Core) onProbe(from consensus.ID, m *Message) {
	l, p := &c.leadership, &c.proposer
	if m.Mark+lagSlots < c.learner.mark {
		c.teach(from, m.Mark+1)
		return
	}
	switch {
	case p.phase == preparing || p.phase == proposing,
		l.leader != 0 && l.leader != from && l.silence < c.o.ElectionTicks,
		l.rival != 0 && l.rival != from && l.silence < c.o.ElectionTicks,
		p.phase == probing && from > c.o.ID && c.learner.mark+lagSlots >= m.Mark,
		p.phase == idle && l.granted != 0 && l.granted != from && l.grantAge < grantTicks:
		return
	}
	if p.phase == probing {
		c.preempted()
	}
	if l.leader != from {
		l.leader = 0
	}
	l.granted, l.grantAge, l.rival = from, 0, 0
	l.silence, l.timeout = 0, 2*grantTicks+c.rand.IntN(c.o.ElectionTicks)
	c.send(from, Message{Kind: Grant, Tag: m.Tag, Ballot: c.acceptor.promised})
}

// onGrant counts a grant.
func (c *Core) onGrant(from consensus.ID, m *Message) {
	if l := &c.leadership; c.proposer.phase == probing && m.Tag == l.tag {
		l.grants |= c.bit(from)
		c.countGrants()
	}
}

// onTakeOver runs phase 1 because the distinguished proposer asks for it.
func (c *Core) onTakeOver(from consensus.ID, m *Message) {
	if l := &c.leadership; l.leader == from && !m.Ballot.Less(c.acceptor.promised) && c.proposer.phase != preparing {
		l.silence, l.timeout = 0, c.electionTimeout()
		c.prepare()
	}
}

// proposeMulti takes a command of this node's own clients: the distinguished
// proposer queues it, others forward it.
func (c *Core) proposeMulti(command consensus.Command) {
	switch l := &c.leadership; {
	case c.leads():
		c.pending.add(command)
		c.enqueue(command)
	case l.leader != 0 && l.leader != c.o.ID:
		c.pending.add(command).sent = true
		c.early(l.leader, Message{Kind: Forward, Commands: []consensus.Command{command}})
	default:
		c.reject(command.Serial, "no proposer is known")
	}
}

// enqueue has a command wait for a slot unless it does so already or is under way.
func (c *Core) enqueue(command consensus.Command) {
	p := &c.proposer
	id := commandID{command.Origin, command.Serial}
	if _, ok := p.taken[id]; ok {
		return
	}
	p.taken[id] = struct{}{}
	p.waiting = append(p.waiting, command)
}

// forwardAll sends the distinguished proposer all own commands that are not
// decided, again if need be: the command may be decided twice, which the state
// machine's sessions make harmless, but it is not lost with a proposer.
func (c *Core) forwardAll() {
	c.pending.age = 0
	var batch []consensus.Command
	bytes := 0
	flush := func() {
		if len(batch) > 0 {
			c.early(c.leadership.leader, Message{Kind: Forward, Commands: batch})
		}
		batch, bytes = nil, 0
	}
	for _, one := range c.pending.commands() {
		one.sent = true
		batch = append(batch, one.command)
		if bytes += commandOverhead + len(one.command.Data); bytes >= c.o.MaxBatchBytes {
			flush()
		}
	}
	flush()
}

// onForward queues commands of another node's clients. What is too much is
// dropped: its origin forwards it again.
func (c *Core) onForward(from consensus.ID, m *Message) {
	if !c.leads() {
		return
	}
	for _, command := range m.Commands {
		if command.Origin == from && len(c.proposer.taken) < c.o.MaxInflight*len(c.voters.Voters) {
			c.enqueue(command)
		}
	}
}
