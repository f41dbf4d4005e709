package paxos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"chaos/nodes/consensus"
)

// A storm is one seeded run of a cluster under everything that may go wrong.
type storm struct {
	*cluster
	r      *rand.Rand
	serial uint64
	floors map[commandID]uint64 // of each read the index that had been applied somewhere when it was asked
	key    uint64
	done   int                      // reads that were answered
	slow   map[[2]consensus.ID]bool // links whose messages are late
	trace  []string
}

func newStorm(mode Mode, seed uint64) *storm {
	r := rand.New(rand.NewPCG(seed, 77))
	cl := newCluster([]int{3, 5, 3, 4}[seed%4], mode, seed)
	if seed%4 == 0 {
		cl.pad = make([]byte, 20*cl.o.MaxBatchBytes)
	}
	return &storm{cluster: cl, r: r, floors: map[commandID]uint64{}, slow: map[[2]consensus.ID]bool{}}
}

// inputs draws one input for the node, or several that its owner gathers.
func (s *storm) inputs(r *replica, deliver int) Output {
	var out Output
	for range 1 + s.r.IntN(3) {
		next := s.input(r, deliver)
		s.judge(s.watch.Stepped(r.id))
		if next.Installs() {
			r.behind = true
			s.perform(r, out, wholly, 0)
			r.behind = false
			return next
		}
		out.Append(next)
		deliver = s.find(r)
	}
	return out
}

// find draws a message for r, or -1.
func (s *storm) find(r *replica) int {
	for range 4 {
		if len(s.net) == 0 {
			return -1
		}
		if i := s.r.IntN(len(s.net)); s.net[i].To == r.id && !s.late(i) {
			return i
		}
	}
	return -1
}

// late tells whether message i is on a slow link.
func (s *storm) late(i int) bool { return s.slow[[2]consensus.ID{s.net[i].From, s.net[i].To}] }

func (s *storm) input(r *replica, deliver int) Output {
	switch n := s.r.IntN(100); {
	case deliver >= 0 && n < 80:
		e := s.net[deliver]
		if s.r.IntN(20) > 0 { // else it is delivered once more later
			s.net = append(s.net[:deliver], s.net[deliver+1:]...)
		}
		if s.cut[[2]consensus.ID{e.From, e.To}] || s.r.IntN(25) == 0 {
			return Output{}
		}
		return r.core.Receive(e)
	case n < 88:
		return r.core.Tick()
	case n < 93:
		s.serial++
		return r.core.Propose(consensus.Command{Origin: r.id, Serial: s.serial, Data: []byte(fmt.Sprint("c", s.serial))})
	case n < 98:
		return s.read(r)
	case n < 99:
		return r.core.PeerReset(consensus.ID(1 + s.r.IntN(len(s.replicas))))
	default:
		return r.core.Transfer(consensus.ID(1 + s.r.IntN(len(s.replicas))))
	}
}

// read asks for a read that must see all that anybody has applied by now.
func (s *storm) read(r *replica) Output {
	s.key++
	s.floors[commandID{r.id, s.key}] = uint64(len(s.log))
	return r.core.Read(s.key)
}

// checkReads judges the reads that r answered.
func (s *storm) checkReads(r *replica) {
	for _, read := range r.reads {
		if floor, ok := s.floors[commandID{r.id, read.Key}]; !ok || read.Index < floor {
			s.fail("%s: read %d is answered at index %d although %d was applied before it was asked", r.id, read.Key, read.Index, floor)
		}
		s.done++
	}
	r.reads = nil
}

// upset draws something for the world to do.
func (s *storm) upset() {
	a, b := consensus.ID(1+s.r.IntN(len(s.replicas))), consensus.ID(1+s.r.IntN(len(s.replicas)))
	switch s.r.IntN(9) {
	case 8:
		if s.seed%2 == 1 {
			s.isolate(a)
		}
	case 0:
		s.crash(s.at(a))
	case 1, 2, 3:
		if r := s.at(a); !r.up {
			s.start(r)
		}
	case 4:
		s.compact(s.at(a))
	case 5:
		s.cutBoth(a, b, true)
	case 6:
		s.cut[[2]consensus.ID{a, b}] = true
	default:
		s.mend()
		clear(s.slow)
	}
}

// isolate parts a node from the others, the distinguished proposer if there is
// one: what it sends is lost or late, and so is what is sent to it.
func (s *storm) isolate(id consensus.ID) consensus.ID {
	for _, r := range s.replicas {
		if r.up && r.core.leads() {
			id = r.id
		}
	}
	out, in := s.r.IntN(3), s.r.IntN(3)
	for _, r := range s.replicas {
		s.cut[[2]consensus.ID{id, r.id}], s.slow[[2]consensus.ID{id, r.id}] = out == 0, out == 1
		s.cut[[2]consensus.ID{r.id, id}], s.slow[[2]consensus.ID{r.id, id}] = in == 0, in == 1
	}
	return id
}

// one is one step of the safety phase.
func (s *storm) one() {
	if s.r.IntN(60) == 0 {
		s.upset()
		return
	}
	r, deliver := s.replicas[s.r.IntN(len(s.replicas))], -1
	if len(s.net) > 0 && s.r.IntN(10) > 0 {
		deliver = s.r.IntN(len(s.net))
		if s.r.IntN(3) > 0 {
			deliver = s.r.IntN(min(8, len(s.net))) // mostly in order
		}
		if s.late(deliver) {
			return
		}
		r = s.at(s.net[deliver].To)
	}
	if !r.up {
		if deliver >= 0 {
			s.net = append(s.net[:deliver], s.net[deliver+1:]...)
		}
		return
	}
	crash := wholly
	if s.r.IntN(150) == 0 {
		crash = stage(s.r.IntN(int(wholly)))
	}
	s.perform(r, s.inputs(r, deliver), crash, s.r.IntN(8))
	s.checkReads(r)
}

// calm heals everything and demands that the cluster decides and answers again.
func (s *storm) calm() {
	s.mend()
	for _, r := range s.replicas {
		if !r.up {
			s.start(r)
		}
	}
	const ticksMax = 400
	wanted := map[commandID]bool{}
	asked := make([]bool, len(s.replicas))
	answered := make([]bool, len(s.replicas))
	for tick := range ticksMax {
		s.tickAll()
		s.deliverAll()
		for i, r := range s.replicas {
			if !asked[i] {
				s.serial++
				id := commandID{r.id, s.serial}
				s.step(r, func(c *Core) Output { return c.Propose(consensus.Command{Origin: r.id, Serial: id.serial}) })
				asked[i] = !s.cluster.rejected[id]
				wanted[id] = asked[i]
			}
			if !answered[i] && tick%10 == 0 {
				s.step(r, func(*Core) Output { return s.read(r) })
			}
			answered[i] = answered[i] || len(r.reads) > 0
			s.checkReads(r)
		}
		s.deliverAll()
		if s.failure != "" || (!slices.Contains(asked, false) && !slices.Contains(answered, false) && s.level(wanted)) {
			return
		}
	}
	for _, r := range s.replicas {
		s.fail("after %d calm ticks %s is at %+v; asked %v, answered %v", ticksMax, r.id, r.core.Status(), asked, answered)
	}
}

// level tells whether all nodes applied all wanted commands and stand equal.
func (s *storm) level(wanted map[commandID]bool) bool {
	for _, r := range s.replicas {
		if len(r.applied) != len(s.log) {
			return false
		}
		for id, want := range wanted {
			if want && !slices.Contains(r.applied, id) {
				return false
			}
		}
	}
	return true
}

const (
	stormSeeds = 400
	stormSteps = 2500
)

func TestStorm(t *testing.T) {
	for _, mode := range []Mode{Multi, Classic} {
		reads, commands, installs := 0, 0, 0
		seen := map[string]uint64{}
		for seed := range uint64(stormSeeds) {
			s := newStorm(mode, seed)
			for i := 0; i < stormSteps && s.failure == ""; i++ {
				s.one()
			}
			stormy := len(s.log)
			if s.failure == "" {
				s.calm()
			}
			if s.failure != "" {
				t.Fatalf("mode %d, seed %d: %s", mode, seed, s.failure)
			}
			reads, commands = reads+s.done, commands+stormy
			for _, r := range s.replicas {
				installs += r.counts["installed"]
			}
			for _, m := range s.watch.Moments() {
				seen[m.Name] += m.Seen
			}
		}
		for _, m := range (&Check{mode: mode}).Moments() {
			t.Logf("mode %d: %6d %s", mode, seen[m.Name], m.Name)
			if seen[m.Name] == 0 && m.Name != momentKinds[checkpointOfAnother].name && m.Name != momentKinds[duel].name {
				t.Errorf("mode %d: no storm reached %q", mode, m.Name)
			}
		}
		t.Logf("mode %d: %d seeds decided %d commands, answered %d reads, installed %d checkpoints", mode, stormSeeds, commands, reads, installs)
		if commands < 20*stormSeeds || reads < 5*stormSeeds || installs < stormSeeds/20 {
			t.Errorf("mode %d: the storms are too rough to mean anything", mode)
		}
	}
}

// TestSameSeedSameRun plays storms twice: equal seeds give equal messages,
// records and answers.
func TestSameSeedSameRun(t *testing.T) {
	for seed := range uint64(40) {
		run := func() string {
			s := newStorm(Mode(seed%2), seed)
			s.pad = nil
			var all []byte
			for range 800 {
				s.one()
				for _, e := range s.net {
					all = Codec{}.AppendMessage(all[:0:0], e.Message)
				}
				s.trace = append(s.trace, string(all))
			}
			for _, r := range s.replicas {
				for _, record := range r.journal {
					all = Codec{}.AppendRecord(all, record)
				}
			}
			return fmt.Sprint(s.trace, all, s.log)
		}
		if first, second := run(), run(); first != second {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}

// A message that is answered at once makes trips trips a tick.
// busy lets every node propose for ticks ticks and tells how many commands were
// decided, and the longest that one waited, in ticks.
func busy(t *testing.T, mode Mode, ticks, trips int) (decided, longest int) {
	cl := newCluster(5, mode, 9)
	born := map[commandID]int{}
	serial := uint64(0)
	seen := 0
	for tick := range ticks {
		for _, r := range cl.replicas {
			for range 2 {
				serial++
				born[commandID{r.id, serial}] = tick
				cl.step(r, func(c *Core) Output { return c.Propose(consensus.Command{Origin: r.id, Serial: serial}) })
			}
		}
		for range trips {
			now := cl.net
			cl.net = nil
			for _, e := range now {
				cl.step(cl.at(e.To), func(c *Core) Output { return c.Receive(e) })
			}
		}
		cl.tickAll()
		for ; seen < len(cl.log); seen++ {
			e := cl.log[seen].Command
			longest = max(longest, tick-born[commandID{e.Origin, e.Serial}])
		}
	}
	if cl.failure != "" {
		t.Fatal(cl.failure)
	}
	return len(cl.log), longest
}

// TestBusyNodes has all five nodes propose all the time. Section 2.4 warns that
// proposers may keep each other from ever choosing a value: here the back-off
// must let most commands through within few ticks.
func TestBusyNodes(t *testing.T) {
	for _, mode := range []Mode{Multi, Classic} {
		for _, trips := range []int{2, 6, 20} {
			const ticks = 300
			decided, longest := busy(t, mode, ticks, trips)
			t.Logf("mode %d, %d trips a tick: %d of %d commands in %d ticks, the slowest took %d", mode, trips, decided, 10*ticks, ticks, longest)
			if decided < 10*ticks*7/10 || longest > 100 {
				t.Errorf("mode %d, %d trips a tick: too slow", mode, trips)
			}
		}
	}
}
