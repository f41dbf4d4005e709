package raft

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"

	"chaos/nodes/consensus"
)

const (
	seeds         = 400  // random schedules
	stepsPerSeed  = 2500 // inputs of each
	wireMax       = 400  // messages on their way; the oldest are lost
	livenessTicks = 600  // ticks after the heal until a proposal must be committed everywhere
)

// A storm is a random schedule over a cluster: messages are shuffled, dropped,
// doubled and delayed, some by several elections, hosts crash between the stages of an output and come
// back, logs are compacted, and connections break.
type storm struct {
	*cluster
	rand       *rand.Rand
	serial     uint64
	reads      uint64
	answered   int
	loss       int // percent
	traced     bool
	trace      uint64
	crashEvery int
	late       []envelope // copies of messages that come much later
	lateMax    int
	slow       *host // its ticks come ten times less often, so that it may lead too long
}

func newStorm(seed uint64, report func(string)) *storm {
	r := rand.New(rand.NewPCG(seed, 1))
	o := consensus.Options{HeartbeatTicks: 2, ElectionTicks: 8, MaxInflight: 64, MaxBatchBytes: 200,
		Bootstrap: r.IntN(2) == 0, Rand: rand.New(rand.NewPCG(seed, 2))}
	s := &storm{rand: r, loss: []int{0, 3, 15}[r.IntN(3)], crashEvery: []int{60, 200, 1000}[r.IntN(3)]}
	s.cluster = newCluster([]int{1, 2, 3, 3, 5, 5}[r.IntN(6)], o, report)
	s.lateMax = []int{0, 6, 20, 60}[r.IntN(4)]
	s.pad = []int{0, 0, 3 * chunkBytesMin / 2}[r.IntN(3)]
	return s
}

func (s *storm) pick() *host { return s.hosts[s.rand.IntN(len(s.hosts))] }

// input draws one input for a host that is up.
func (s *storm) input(h *host) func(*Core) output {
	switch n := s.rand.IntN(100); {
	case n < 18 && (h != s.slow || n == 0):
		return (*Core).Tick
	case n < 28:
		s.serial++
		c := consensus.Command{Origin: h.id, Serial: s.serial, Data: fmt.Appendf(nil, "c%d", s.serial)}
		return func(core *Core) output { return core.Propose(c) }
	case n < 38:
		s.reads++
		s.check.asked(h, s.reads)
		key := s.reads
		return func(core *Core) output { return core.Read(key) }
	case n < 39:
		to := s.pick().id
		return func(core *Core) output { return core.Transfer(to) }
	case n < 41:
		of := s.pick().id
		return func(core *Core) output { return core.PeerReset(of) }
	}
	return s.message(h)
}

// message takes a message for h off the wire, any of them, and perhaps leaves a copy.
func (s *storm) message(h *host) func(*Core) output {
	for range 8 {
		if len(s.wire) == 0 {
			break
		}
		i := s.rand.IntN(min(len(s.wire), 12))
		e := s.wire[i]
		s.delay(e)
		if s.rand.IntN(100) >= 4 {
			s.wire = slices.Delete(s.wire, i, i+1)
		}
		if s.cut[e.From] || s.cut[e.To] || !s.host(e.To).up || s.rand.IntN(100) < s.loss {
			continue
		}
		if e.To == h.id {
			return func(core *Core) output { return core.Receive(e) }
		}
		s.wire = append(s.wire, e)
	}
	return (*Core).Tick
}

// delay sets a copy of some messages aside, and brings back one of those that
// were set aside long ago.
func (s *storm) delay(e envelope) {
	n := s.rand.IntN(1000)
	if len(s.late) > 0 && len(s.late) == s.lateMax && n < 40 {
		i := s.rand.IntN(s.lateMax)
		s.wire = slices.Insert(s.wire, min(len(s.wire), 4), s.late[i])
		s.late = slices.Delete(s.late, i, i+1)
	}
	if len(s.late) < s.lateMax && n < 60 {
		s.late = append(s.late, e)
	}
}

// turn feeds a host one to four inputs, and carries them out as one.
func (s *storm) turn(h *host) {
	if len(s.wire) > 0 && s.rand.IntN(3) > 0 { // mostly whoever has mail
		if to := s.host(s.wire[s.rand.IntN(len(s.wire))].To); to.up {
			h = to
		}
	}
	var all output
	for range 1 + s.rand.IntN(4) {
		o := s.step(h, s.input(h))
		s.note(h, o)
		if o.Install != nil {
			if !s.perform(h, all, never, 0) {
				return
			}
			all = o
			break
		}
		all.Append(o)
	}
	if s.rand.IntN(2) == 0 {
		h.core.Merge(&all)
	}
	crash := never
	if s.rand.IntN(s.crashEvery) == 0 {
		crash = afterEarly + stage(s.rand.IntN(4))
	} else if all.Install != nil && s.rand.IntN(4) == 0 {
		crash = afterSnapshot
	}
	if s.flush(h, all, crash, s.rand.IntN(4)) && s.rand.IntN(40) == 0 && h.applied > h.core.Status().First {
		journal := h.journal
		s.compact(h, h.applied)
		if s.rand.IntN(4) == 0 { // the snapshot is durable, the journal still the old one
			h.journal = journal
			s.crash(h)
		}
	}
}

// note folds an output into the trace, and counts answered reads.
func (s *storm) note(h *host, o output) {
	s.answered += len(o.Reads)
	if !s.traced {
		return
	}
	f := fnv.New64a()
	fmt.Fprint(f, s.trace, h.id, o.Committed, o.Reads, o.Rejected)
	for _, e := range slices.Concat(o.Early, o.Messages) {
		f.Write(Codec{}.AppendMessage([]byte{byte(e.From), byte(e.To)}, e.Message))
	}
	for _, r := range o.Records {
		f.Write(Codec{}.AppendRecord(nil, r))
	}
	s.trace = f.Sum64()
}

func (s *storm) run(steps int) {
	for range steps {
		switch n := s.rand.IntN(1000); {
		case n < 6:
			s.cut[s.pick().id] = true
		case n < 12:
			s.slow = s.pick()
			for _, h := range s.hosts { // the leader, if there is one
				if h.up && h.core.role == leader {
					s.slow = h
				}
			}
			s.cut[s.slow.id] = true
		case n < 24:
			clear(s.cut)
			s.slow = nil
		}
		h := s.pick()
		if !h.up {
			if s.rand.IntN(12) == 0 {
				s.start(h)
			}
			continue
		}
		s.turn(h)
		if len(s.wire) > wireMax {
			s.wire = slices.Delete(s.wire, 0, wireMax/4)
		}
	}
}

// heal brings everything back, and wants a command committed by every node.
func (s *storm) heal(t *testing.T) {
	clear(s.cut)
	s.slow = nil
	for _, h := range s.hosts {
		if !h.up {
			s.start(h)
		}
	}
	s.serial++
	goal := s.serial
	for tick := range livenessTicks {
		for _, h := range s.hosts {
			s.do(h, (*Core).Tick)
		}
		for n := 0; len(s.wire) > 0; n++ {
			if n > 20000 {
				t.Fatal("messages breed messages")
			}
			e := s.wire[0]
			s.wire = s.wire[1:]
			s.deliver(e)
		}
		if s.agreed(goal) {
			return
		}
		if tick%20 == 19 {
			h := s.hosts[tick/20%len(s.hosts)]
			s.do(h, func(c *Core) output {
				return c.Propose(consensus.Command{Origin: h.id, Serial: goal, Data: []byte("goal")})
			})
		}
	}
	for _, h := range s.hosts {
		t.Logf("%+v", h.core.Status())
	}
	t.Fatalf("nothing was committed by all within %d ticks after the heal", livenessTicks)
}

func (s *storm) agreed(goal uint64) bool {
	n := len(s.check.decided)
	for _, h := range s.hosts {
		if h.applied != uint64(n) {
			return false
		}
	}
	want := fmt.Sprint(goal, "goal")
	for _, d := range s.check.decided[max(0, n-20):] {
		if len(d.what) > len(want) && d.what[len(d.what)-len(want):] == want {
			return true
		}
	}
	return false
}

// TestStorms checks the properties of the paper's figure 3 and linearizable
// reads at every step of random schedules, and that a healed cluster works.
func TestStorms(t *testing.T) {
	decided, answered, installed := 0, 0, 0
	var moments [momentsCount]uint64
	for seed := range uint64(seeds) {
		s := newStorm(seed, func(what string) { t.Fatalf("seed %d: %s", seed, what) })
		s.say = func(format string, _ ...any) {
			if format == "%s installs snapshot %d@%d of %d bytes" {
				installed++
			}
		}
		s.run(stepsPerSeed)
		s.heal(t)
		decided += len(s.check.decided)
		answered += s.answered
		for i, m := range s.watch.Moments() {
			moments[i] += m.Seen
		}
	}
	for i, seen := range moments {
		t.Logf("%6d × %s", seen, momentNames[i])
		if seen == 0 {
			t.Errorf("no schedule reaches the moment %q", momentNames[i])
		}
	}
	t.Logf("%d schedules: %d commands decided, %d reads answered, %d snapshots installed", seeds, decided, answered, installed)
	if decided < 20*seeds || answered < 20*seeds || installed < seeds/4 {
		t.Errorf("too little happened to mean anything")
	}
}

// TestSameSeed wants equal outputs from equal inputs.
func TestSameSeed(t *testing.T) {
	run := func(seed uint64) uint64 {
		s := newStorm(seed, func(what string) { t.Fatal(what) })
		s.traced = true
		s.run(600)
		return s.trace
	}
	for seed := range uint64(60) {
		if a, b := run(seed), run(seed); a != b {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}
