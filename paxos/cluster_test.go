package paxos

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"chaos/nodes/consensus"
)

// A stage is a place in an Output's order of doing where a node may crash.
type stage int

const (
	afterEarly    stage = iota // nothing is durable
	withinRecords              // a part of the records is durable
	afterRecords               // nothing was sent
	afterMessages              // nothing was applied
	wholly                     // no crash
)

// A replica is one node of a cluster in memory: a core, what is durable, and a
// state machine that only remembers which commands it applied, in order.
type replica struct {
	id       consensus.ID
	core     *Core
	up       bool
	lives    uint64
	snapshot *consensus.Snapshot
	journal  []Record

	applied  []commandID // by index, from 1
	lastSlot uint64      // of the last entry applied
	reads    []consensus.Read
	rejected []consensus.Rejection
	public   Ballot // the highest promise that left the node
	commit   uint64 // in this life
	counts   map[string]int
	behind   bool // an output that was taken already waits to be carried out
}

// A cluster is several replicas, the messages between them, and a record of
// all that was accepted and applied, against which every step is checked.
type cluster struct {
	mode     Mode
	voters   consensus.Configuration
	replicas []*replica
	net      []Envelope
	cut      map[[2]consensus.ID]bool
	seed     uint64
	pad      []byte // makes checkpoints longer than a chunk
	o        consensus.Options

	votes    map[uint64]map[Ballot]votes // per slot and ballot who durably accepted
	values   map[uint64]map[Ballot][]consensus.Command
	chosen   map[uint64][]consensus.Command
	log      []consensus.Entry // by index, from 1: what anybody applied
	failure  string
	watch    *Check
	breach   error // the first that watch told
	rejected map[commandID]bool
	lives    map[Ballot]uint64 // in which life of its node a ballot was first used
}

func newCluster(n int, mode Mode, seed uint64) *cluster {
	cl := &cluster{mode: mode, seed: seed, cut: map[[2]consensus.ID]bool{},
		votes: map[uint64]map[Ballot]votes{}, values: map[uint64]map[Ballot][]consensus.Command{},
		chosen: map[uint64][]consensus.Command{}, rejected: map[commandID]bool{}, lives: map[Ballot]uint64{}, watch: NewCheck()}
	for i := range n {
		cl.voters.Voters = append(cl.voters.Voters, consensus.ID(i+1))
	}
	cl.o = consensus.Options{Voters: cl.voters, HeartbeatTicks: 2, ElectionTicks: 10, MaxInflight: 64, MaxBatchBytes: 256, Bootstrap: true}
	for _, id := range cl.voters.Voters {
		r := &replica{id: id, counts: map[string]int{}}
		cl.replicas = append(cl.replicas, r)
		cl.start(r)
	}
	return cl
}

func (cl *cluster) at(id consensus.ID) *replica { return cl.replicas[id-1] }

// fail notes the first broken rule.
func (cl *cluster) fail(format string, args ...any) {
	if cl.failure == "" {
		cl.failure = fmt.Sprintf(format, args...)
	}
}

// judge notes the first breach of an invariant.
func (cl *cluster) judge(err error) {
	if err != nil && cl.breach == nil {
		cl.breach = err
		cl.fail("%v", err)
	}
}

// start begins a life of r from what is durable.
func (cl *cluster) start(r *replica) {
	o := cl.o
	o.ID = r.id
	o.Rand = rand.New(rand.NewPCG(cl.seed, uint64(r.id)<<32|r.lives))
	o.Bootstrap = o.Bootstrap && r.lives == 0
	r.lives++
	r.core, r.up, r.commit, r.applied, r.lastSlot, r.reads = New(o, cl.mode), true, 0, nil, 0, nil
	if r.snapshot != nil {
		cl.load(r, r.snapshot)
	}
	cl.watch.Add(r.core)
	r.core.Restore(r.snapshot, slices.Clone(r.journal))
	cl.judge(cl.watch.Started(r.id))
	s := r.core.Status()
	if b := (Ballot{s.Term, s.Vote}); b.Less(r.public) {
		cl.fail("%s restarts with promise %s below %s, which it had answered", r.id, b, r.public)
	}
}

func (cl *cluster) crash(r *replica) { r.up, r.core = false, nil }

// encode is the state machine's checkpoint; load is its opposite.
func (cl *cluster) encode(r *replica) []byte {
	b := binary.AppendUvarint(nil, uint64(len(r.applied)))
	for _, id := range r.applied {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(id.origin)), id.serial)
	}
	return append(b, cl.pad...)
}

func (cl *cluster) load(r *replica, s *consensus.Snapshot) {
	d := decoder{b: s.Data}
	r.applied = nil
	for range d.number() {
		r.applied = append(r.applied, commandID{d.id(), d.number()})
	}
	r.lastSlot = s.Term
	if uint64(len(r.applied)) != s.Index || len(d.b) != len(cl.pad) {
		cl.fail("%s: a checkpoint at index %d holds %d commands and %d bytes of padding", r.id, s.Index, len(r.applied), len(d.b))
	}
	for i, id := range r.applied {
		if i < len(cl.log) && (cl.log[i].Command.Origin != id.origin || cl.log[i].Command.Serial != id.serial) {
			cl.fail("%s: a checkpoint holds another command at index %d", r.id, i+1)
		}
	}
}

// perform does what o asks, in its order, up to a crash.
func (cl *cluster) perform(r *replica, o Output, crash stage, part int) {
	cl.judge(cl.watch.Stepped(r.id))
	r.counts["early"] += len(o.Early)
	cl.sendAll(o.Early)
	if crash == afterEarly {
		cl.crash(r)
		return
	}
	if o.Install != nil {
		s := *o.Install
		r.snapshot, r.journal = &s, r.core.Compact(s)
		cl.load(r, &s)
		r.counts["installed"]++
		cl.noteDurable(r, r.journal)
	}
	if crash == withinRecords {
		o.Records = o.Records[:part%(len(o.Records)+1)]
	}
	for _, record := range o.Records {
		r.journal = append(r.journal, cl.recoded(record))
	}
	cl.noteDurable(r, o.Records)
	if crash == withinRecords || crash == afterRecords {
		cl.crash(r)
		return
	}
	for _, e := range o.Messages {
		if e.Message.Kind == Promise || e.Message.Kind == Accepted {
			r.public = highest(r.public, e.Message.Ballot)
		}
	}
	cl.sendAll(o.Messages)
	if crash == afterMessages {
		cl.crash(r)
		return
	}
	cl.applyAll(r, o)
	if !r.behind {
		cl.judge(cl.watch.Flushed(r.id))
	}
}

func (cl *cluster) applyAll(r *replica, o Output) {
	for _, e := range o.Committed {
		cl.apply(r, e)
	}
	r.reads = append(r.reads, o.Reads...)
	r.rejected = append(r.rejected, o.Rejected...)
	for _, x := range o.Rejected {
		if !x.Read {
			cl.rejected[commandID{r.id, x.Key}] = true
		}
	}
	s := r.core.Status()
	if s.Commit < r.commit {
		cl.fail("%s: commit falls from %d to %d", r.id, r.commit, s.Commit)
	}
	r.commit = s.Commit
	if s.Applied != uint64(len(r.applied)) && !r.behind {
		cl.fail("%s: says that %d commands are applied, %d are", r.id, s.Applied, len(r.applied))
	}
	if b := (Ballot{s.Term, s.Vote}); b.Less(r.public) {
		cl.fail("%s: promise falls from %s to %s", r.id, r.public, b)
	}
}

// apply checks an entry against what others applied.
func (cl *cluster) apply(r *replica, e consensus.Entry) {
	if e.Index != uint64(len(r.applied))+1 || e.Term < r.lastSlot {
		cl.fail("%s: applies index %d of slot %d after %d of slot %d", r.id, e.Index, e.Term, len(r.applied), r.lastSlot)
		return
	}
	r.applied = append(r.applied, commandID{e.Command.Origin, e.Command.Serial})
	r.lastSlot = e.Term
	if e.Index > uint64(len(cl.log)) {
		cl.log = append(cl.log, e)
	}
	was := cl.log[e.Index-1]
	if was.Term != e.Term || !sameValue([]consensus.Command{was.Command}, []consensus.Command{e.Command}) {
		cl.fail("%s: index %d is %s/%d of slot %d here and %s/%d of slot %d elsewhere", r.id, e.Index,
			e.Command.Origin, e.Command.Serial, e.Term, was.Command.Origin, was.Command.Serial, was.Term)
	}
	if id := (commandID{e.Command.Origin, e.Command.Serial}); cl.rejected[id] {
		cl.fail("%s: index %d is %s/%d, which was rejected", r.id, e.Index, id.origin, id.serial)
	}
	if _, ok := cl.chosen[e.Term]; !ok {
		cl.fail("%s: applies index %d of slot %d, which no majority accepted", r.id, e.Index, e.Term)
	}
}

// noteDurable counts acceptances as they become durable: a value that a
// majority accepted in one ballot is chosen, whoever knows it.
func (cl *cluster) noteDurable(r *replica, records []Record) {
	for _, record := range records {
		if record.Kind != RecordAccepted {
			continue
		}
		if cl.votes[record.Slot] == nil {
			cl.votes[record.Slot], cl.values[record.Slot] = map[Ballot]votes{}, map[Ballot][]consensus.Command{}
		}
		if before, ok := cl.values[record.Slot][record.Ballot]; ok && !sameValue(before, record.Commands) {
			cl.fail("%s: ballot %s has two values for slot %d", r.id, record.Ballot, record.Slot)
		}
		cl.values[record.Slot][record.Ballot] = record.Commands
		v := cl.votes[record.Slot][record.Ballot] | 1<<(r.id-1)
		cl.votes[record.Slot][record.Ballot] = v
		if v.count() < cl.voters.Quorum() {
			continue
		}
		if before, ok := cl.chosen[record.Slot]; ok && !sameValue(before, record.Commands) {
			cl.fail("slot %d: two values are chosen, the second in ballot %s", record.Slot, record.Ballot)
		}
		cl.chosen[record.Slot] = record.Commands
	}
}

// recoded sends a record through the codec, as a journal would.
func (cl *cluster) recoded(record Record) Record {
	back, err := Codec{}.Record(Codec{}.AppendRecord(nil, record))
	if err != nil {
		cl.fail("record %v: %v", record, err)
	}
	return back
}

// sendAll puts messages on their way, through the codec.
func (cl *cluster) sendAll(envelopes []Envelope) {
	for _, e := range envelopes {
		m, err := Codec{}.Message(Codec{}.AppendMessage(nil, e.Message))
		if err != nil {
			cl.fail("message %v: %v", e.Message, err)
		}
		cl.at(e.From).counts[m.Kind.String()]++
		cl.noteBallot(e.From, &m)
		cl.net = append(cl.net, Envelope{From: e.From, To: e.To, Message: m})
	}
}

// noteBallot insists that no ballot is used in two lives of a node.
func (cl *cluster) noteBallot(from consensus.ID, m *Message) {
	if m.Kind != Prepare {
		return
	}
	life := cl.at(from).lives
	if before, ok := cl.lives[m.Ballot]; ok && before != life {
		cl.fail("%s: ballot %s was used in life %d and is used again in life %d", from, m.Ballot, before, life)
	}
	cl.lives[m.Ballot] = life
}

// step feeds one input and does what it asks for.
func (cl *cluster) step(r *replica, input func(*Core) Output) {
	if r.up {
		cl.perform(r, input(r.core), wholly, 0)
	}
}

// deliver takes message i off the net and gives it to its receiver.
func (cl *cluster) deliver(i int) Envelope {
	e := cl.net[i]
	cl.net = append(cl.net[:i], cl.net[i+1:]...)
	if !cl.cut[[2]consensus.ID{e.From, e.To}] {
		cl.step(cl.at(e.To), func(c *Core) Output { return c.Receive(e) })
	}
	return e
}

// deliverAll delivers in order until nothing is under way.
func (cl *cluster) deliverAll() {
	for n := 0; len(cl.net) > 0; n++ {
		if n > 1_000_000 {
			cl.fail("messages never end")
			cl.net = nil
			return
		}
		cl.deliver(0)
	}
}

func (cl *cluster) tickAll() {
	for _, r := range cl.replicas {
		cl.step(r, (*Core).Tick)
	}
}

// compact makes a checkpoint of all that r applied.
func (cl *cluster) compact(r *replica) {
	if !r.up || len(r.applied) == 0 || (r.snapshot != nil && r.snapshot.Index == uint64(len(r.applied))) {
		return
	}
	s := consensus.Snapshot{Index: uint64(len(r.applied)), Term: r.lastSlot, Voters: cl.voters, Data: cl.encode(r)}
	r.journal = r.core.Compact(s)
	r.snapshot = &s
}

func (cl *cluster) cutBoth(a, b consensus.ID, on bool) {
	cl.cut[[2]consensus.ID{a, b}], cl.cut[[2]consensus.ID{b, a}] = on, on
}

func (cl *cluster) mend() { clear(cl.cut) }
