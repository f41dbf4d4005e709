package raft

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"chaos/nodes/consensus"
)

// A stage is where in an output's fields a host may crash.
type stage int

const (
	never         stage = iota
	afterEarly          // nothing of the output is durable
	afterSnapshot       // the snapshot is, the journal is not rewritten
	afterRecords        // nothing was sent
	afterMessages       // nothing was applied
)

var stageNames = map[string]stage{"early": afterEarly, "snapshot": afterSnapshot, "records": afterRecords, "messages": afterMessages}

// A host is one node as its driver sees it: the core, and what survives a crash.
type host struct {
	id       consensus.ID
	core     *Core
	up       bool
	starts   uint64
	snapshot *consensus.Snapshot
	journal  []Record
	applied  uint64 // of the state machine
	state    uint64 // a hash over everything applied
	snapped  uint64 // the state in the snapshot
	commit   uint64 // highest in this incarnation
	reads    map[uint64]uint64
}

// A cluster is hosts and the messages between them. Everything is carried out
// in the order of an Output's fields; a checker watches every step.
type cluster struct {
	hosts []*host
	wire  []envelope
	cut   map[consensus.ID]bool
	o     consensus.Options
	check *checker
	watch *Check
	pad   int                                   // bytes that snapshots are padded by
	say   func(format string, arguments ...any) // a line for golden scenarios; may be nil
}

func newCluster(n int, o consensus.Options, report func(string)) *cluster {
	c := &cluster{o: o, cut: map[consensus.ID]bool{}, check: newChecker(report), watch: NewCheck(), say: func(string, ...any) {}}
	for i := range n {
		c.o.Voters.Voters = append(c.o.Voters.Voters, consensus.ID(i+1))
	}
	for _, id := range c.o.Voters.Voters {
		h := &host{id: id}
		c.hosts = append(c.hosts, h)
		c.start(h)
	}
	return c
}

func (c *cluster) host(id consensus.ID) *host { return c.hosts[id-1] }

// start makes a core from what is durable.
func (c *cluster) start(h *host) {
	o := c.o
	o.ID = h.id
	o.Bootstrap = o.Bootstrap && h.starts == 0
	o.Rand = rand.New(rand.NewPCG(uint64(h.id), c.o.Rand.Uint64()))
	h.core, h.up, h.commit = New(o), true, 0
	h.starts++
	h.reads = map[uint64]uint64{}
	h.applied, h.state = 0, 0
	if h.snapshot != nil {
		h.applied, h.state = h.snapshot.Index, h.snapped
	}
	c.watch.Add(h.core)
	h.core.Restore(h.snapshot, slices.Clone(h.journal))
	c.want(c.watch.Started(h.id))
}

// want reports a breach that the watch tells of.
func (c *cluster) want(err error) {
	if err != nil {
		c.check.report(err.Error())
	}
}

func (c *cluster) crash(h *host) {
	h.up, h.core = false, nil
	c.say("%s crashes", h.id)
}

// step feeds one input and checks what came of it; it does not carry it out.
func (c *cluster) step(h *host, input func(*Core) output) output {
	before := h.core.Status()
	o := input(h.core)
	c.describe(h, before, o)
	c.check.step(h, o)
	c.want(c.watch.Stepped(h.id))
	return o
}

// do feeds one input and carries it out. It tells whether the host survived.
func (c *cluster) do(h *host, input func(*Core) output) bool {
	return c.flush(h, c.step(h, input), never, 0)
}

// flush carries out all that the core asked for, and tells the watch.
func (c *cluster) flush(h *host, o output, crash stage, keep int) bool {
	survived := c.perform(h, o, crash, keep)
	if survived {
		c.want(c.watch.Flushed(h.id))
	}
	return survived
}

// perform carries o out up to a stage; keep is how many records or messages of
// the stage itself still made it.
func (c *cluster) perform(h *host, o output, crash stage, keep int) bool {
	c.wire = append(c.wire, o.Early...)
	if crash == afterEarly {
		h.journal = append(h.journal, o.Records[:min(keep, len(o.Records))]...)
		c.crash(h)
		return false
	}
	if o.Install != nil {
		h.snapshot, h.applied = o.Install, o.Install.Index
		h.state, h.snapped = stateOf(o.Install), stateOf(o.Install)
		if crash == afterSnapshot {
			c.crash(h)
			return false
		}
		h.journal = h.core.Compact(*o.Install)
	}
	h.journal = append(h.journal, o.Records...)
	if crash == afterRecords {
		o.Messages = o.Messages[:min(keep, len(o.Messages))]
	}
	c.check.sent(h, o.Messages)
	c.wire = append(c.wire, o.Messages...)
	if crash == afterRecords {
		c.crash(h)
		return false
	}
	if crash == afterMessages {
		c.crash(h)
		return false
	}
	for _, e := range o.Committed {
		c.apply(h, e)
	}
	return true
}

func (c *cluster) apply(h *host, e consensus.Entry) {
	if e.Index != h.applied+1 {
		c.check.report(fmt.Sprintf("%s applies %d after %d", h.id, e.Index, h.applied))
	}
	h.applied = e.Index
	f := fnv.New64a()
	fmt.Fprint(f, h.state, e)
	h.state = f.Sum64()
	c.check.committed(h, e, h.core.term)
	c.check.state(h)
}

// compact takes a snapshot of the state machine up to what is applied.
func (c *cluster) compact(h *host, index uint64) {
	data := fmt.Appendf(nil, "%020d", h.state)
	data = append(data, make([]byte, c.pad)...)
	s := consensus.Snapshot{Index: index, Term: h.core.log.mustTerm(index), Data: data}
	h.journal = h.core.Compact(s)
	h.snapshot, h.snapped = h.core.snapshot, h.state
}

func stateOf(s *consensus.Snapshot) (state uint64) {
	fmt.Sscanf(string(s.Data[:20]), "%d", &state)
	return state
}

// deliver hands over one message, unless it is lost on a cut or to a dead host.
func (c *cluster) deliver(e envelope) bool {
	h := c.host(e.To)
	if c.cut[e.From] || c.cut[e.To] || !h.up {
		return true
	}
	return c.do(h, func(core *Core) output { return core.Receive(e) })
}

// describe says in words what a step changed and asked for.
func (c *cluster) describe(h *host, before consensus.Status, o output) {
	after := h.core.Status()
	if after.Role != before.Role || after.Term != before.Term || after.Leader != before.Leader {
		c.say("%s %s term=%d leader=%s", h.id, after.Role, after.Term, after.Leader)
	}
	if o.Install != nil {
		c.say("%s installs snapshot %d@%d of %d bytes", h.id, o.Install.Index, o.Install.Term, len(o.Install.Data))
	}
	for _, e := range o.Committed {
		c.say("%s commits %s", h.id, describeEntry(e))
	}
	for _, r := range o.Reads {
		c.say("%s answers read %d at %d", h.id, r.Key, r.Index)
	}
	for _, r := range o.Rejected {
		what := "proposal"
		if r.Read {
			what = "read"
		}
		c.say("%s rejects %s %d: %s, ask %s", h.id, what, r.Key, r.Reason, r.Leader)
	}
}

// A checker knows what every node did, and reports what must never be.
type checker struct {
	report  func(string)
	leaders map[uint64]consensus.ID // by term
	votes   map[[2]uint64]uint64    // by node and term
	entries map[[2]uint64]lineage   // by index and term
	decided []decision              // by index-1
	states  map[uint64]uint64       // hash of the state machine by index
	commit  uint64                  // the highest that any node applied
	reads   map[[3]uint64]uint64    // by node, incarnation, key: the lowest index that is right
}

type lineage struct {
	before  uint64 // the term of the entry before
	command string
}

type decision struct {
	term uint64 // of the entry
	in   uint64 // the term in which it was first known to be committed
	what string
}

func newChecker(report func(string)) *checker {
	return &checker{report: report, leaders: map[uint64]consensus.ID{}, votes: map[[2]uint64]uint64{},
		entries: map[[2]uint64]lineage{}, states: map[uint64]uint64{}, reads: map[[3]uint64]uint64{}}
}

func identity(e consensus.Entry) string {
	return fmt.Sprint(e.Kind, e.Command.Origin, e.Command.Serial, string(e.Command.Data))
}

// step checks one output against the properties of the paper's figure 3.
func (k *checker) step(h *host, o output) {
	st := h.core.Status()
	if st.Commit < h.commit {
		k.report(fmt.Sprintf("%s: commit fell from %d to %d", h.id, h.commit, st.Commit))
	}
	h.commit = st.Commit
	if st.Role == "leader" {
		k.leader(h, st)
	}
	for _, r := range o.Records {
		if r.Kind == Entry {
			k.entry(h, r.Entry)
		}
	}
	for _, r := range o.Reads {
		least, asked := k.reads[[3]uint64{uint64(h.id), h.starts, r.Key}]
		if !asked || r.Index < least {
			k.report(fmt.Sprintf("%s: read %d is answered at %d, but %d was committed before it was asked", h.id, r.Key, r.Index, least))
		}
	}
}

// leader checks election safety and, once a term, leader completeness.
func (k *checker) leader(h *host, st consensus.Status) {
	was, known := k.leaders[st.Term]
	if known && was != h.id {
		k.report(fmt.Sprintf("term %d has two leaders, %s and %s", st.Term, was, h.id))
	}
	if known {
		return
	}
	k.leaders[st.Term] = h.id
	for i, d := range k.decided {
		index := uint64(i) + 1
		if d.in < st.Term && index > h.core.log.base && !h.core.log.matches(index, d.term) {
			k.report(fmt.Sprintf("%s leads term %d without entry %d@%d, committed in term %d", h.id, st.Term, index, d.term, d.in))
		}
	}
}

// entry checks log matching: an index and a term name one entry and what is before it.
// A single voter may lose term and entries in one crash and begin that term again.
func (k *checker) entry(h *host, e consensus.Entry) {
	before, ok := h.core.log.term(e.Index - 1)
	if !ok || len(h.core.config.Voters) == 1 || !h.core.log.matches(e.Index, e.Term) {
		return
	}
	l := lineage{before, identity(e)}
	key := [2]uint64{e.Index, e.Term}
	if have, known := k.entries[key]; known && have != l {
		k.report(fmt.Sprintf("%s: entry %d@%d is %v here and %v elsewhere", h.id, e.Index, e.Term, l, have))
	}
	k.entries[key] = l
}

// committed checks state machine safety. What a host crashed on before it came
// to apply it was not known to anybody.
func (k *checker) committed(h *host, e consensus.Entry, in uint64) {
	k.commit = max(k.commit, e.Index)
	d := decision{e.Term, in, identity(e)}
	if n := uint64(len(k.decided)); e.Index > n+1 {
		k.report(fmt.Sprintf("%s commits %d, but nobody committed %d", h.id, e.Index, n+1))
		return
	} else if e.Index == n+1 {
		k.decided = append(k.decided, d)
		return
	}
	if have := k.decided[e.Index-1]; have.what != d.what || have.term != d.term {
		k.report(fmt.Sprintf("%s commits %d as %v, it was %v", h.id, e.Index, d, have))
	}
}

// sent checks that no node ever votes twice in a term.
func (k *checker) sent(h *host, messages []envelope) {
	for _, e := range messages {
		if e.Message.Kind != VoteReply || e.Message.Reject {
			continue
		}
		key := [2]uint64{uint64(h.id), e.Message.Term}
		if was, voted := k.votes[key]; voted && was != uint64(e.To) {
			k.report(fmt.Sprintf("%s votes for n%d and %s in term %d", h.id, was, e.To, e.Message.Term))
		}
		k.votes[key] = uint64(e.To)
	}
}

// state checks that state machines agree at equal indices.
func (k *checker) state(h *host) {
	if was, known := k.states[h.applied]; known && was != h.state {
		k.report(fmt.Sprintf("%s differs from others after applying %d", h.id, h.applied))
	}
	k.states[h.applied] = h.state
}

// asked notes a read as it is invoked.
func (k *checker) asked(h *host, key uint64) {
	k.reads[[3]uint64{uint64(h.id), h.starts, key}] = k.commit
}
