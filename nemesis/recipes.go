package nemesis

import (
	"slices"
	"strconv"
	"time"
)

// A recipe is a compound of faults whose order and timing expose one class of
// bugs. It is drawn as steps like any other part of a schedule.
type recipe struct {
	name  string
	ways  [][]string // sets of faults, any of which will do; the script is told which
	least int        // members
	write func(s *script, way []string)
}

// recipes is what we know to hit, with the class of bugs that each is for.
var recipes = []recipe{
	// A leader that lost its followers, or its time, still answers reads.
	{"stale-reads", [][]string{{"partition-leader"}, {"pause"}, {"partition-minority"}}, 3, staleReads},
	// A vote, term or promise that is not durable is given twice.
	{"votes", [][]string{{"kill"}}, 3, votes},
	// A write is acknowledged before a majority has it. Killing the leader would
	// miss it: what it sent is already on its way.
	{"acknowledged", [][]string{{"partition-leader"}}, 3, acknowledged},
	// An acceptor forgets between phase 1 and phase 2 of a successor.
	{"acceptors", [][]string{{"partition-leader", "kill"}}, 3, acceptors},
	// The node in both quorums forgets, so that two values are chosen.
	{"value-choice", [][]string{{"partition-bridge", "kill"}}, 3, valueChoice},
	// A command that was sent again, to another node, is applied twice.
	{"twice", [][]string{{"kill", "pause"}, {"kill"}, {"pause"}}, 2, twice},
	// Logs grow apart and are not mended (Raft paper, section 5.4.2, figure 8).
	{"diverged", [][]string{{"partition-leader", "kill"}}, 3, diverged},
	// A leader that slept in a minority wakes there, with followers but no quorum.
	{"woken", [][]string{{"partition-minority", "pause"}}, 3, woken},
	// The next leader is chosen among nodes that have what was acknowledged and
	// nodes that have not (Raft paper, section 5.4.1; Paxos Made Simple, section 2.2).
	{"laggards", [][]string{{"kill", "partition-minority"}}, 3, laggards},
}

// recipe draws one if the faults allow it, and offers it to add.
func (d *drawer) recipe(r recipe, add func(act)) {
	ways := d.ways(r)
	if len(ways) == 0 {
		return
	}
	s := &script{d: d}
	r.write(s, ways[d.r.IntN(len(ways))])
	add(act{steps: s.steps, length: s.at + s.waits, recipe: r.name})
}

// ways are those of the recipe that the faults, the size and the options allow.
func (d *drawer) ways(r recipe) (out [][]string) {
	if !d.o.Recipes || d.o.Nodes < r.least {
		return nil
	}
	for _, w := range r.ways {
		if !slices.ContainsFunc(w, func(f string) bool { return !d.allowed(f) }) {
			out = append(out, w)
		}
	}
	return out
}

func (d *drawer) allowed(fault string) bool {
	return slices.ContainsFunc(d.names, func(asked string) bool { return Covers(asked, fault) })
}

// A script writes the steps of one recipe, from its start on.
type script struct {
	d     *drawer
	steps []Step
	at    time.Duration
	waits time.Duration // the longest that conditions can take, in sum
	next  Step          // what the next step waits for
}

// inject begins a fault at the present place and returns its name.
func (s *script) inject(fault, victims string) string {
	return s.injectPick(fault, victims, s.d.pick())
}

// injectPick resolves its victims by a pick that another step has, too: then
// the same rule hits the same members.
func (s *script) injectPick(fault, victims string, pick uint64) string {
	s.d.next++
	st := s.next
	st.ID, st.At, st.Action, st.Fault, st.Victims, st.Pick = strconv.Itoa(s.d.next), s.at, Inject, fault, victims, pick
	s.steps, s.next = append(s.steps, st), Step{}
	return st.ID
}

func (s *script) heal(id string) {
	st := s.next
	st.ID, st.At, st.Action = id, s.at, Heal
	s.steps, s.next = append(s.steps, st), Step{}
}

// wait lets from low to high milliseconds pass.
func (s *script) wait(low, high time.Duration) {
	s.at += low + s.d.upTo(high-low)
}

// await lets the next step wait for a condition, for patience at most.
func (s *script) await(c Condition) {
	s.next.After, s.next.Within = c, s.patience()
	s.waits += s.patience()
}

// patience is how long a step waits for a leader.
func (s *script) patience() time.Duration {
	return min(max(time.Second, 3*s.d.election), 3*time.Second)
}

// elections is a number of election time-outs.
func (s *script) elections(n int) time.Duration { return time.Duration(n) * s.d.election }

// rounds is how often a recipe repeats what it does: more in long storms.
func (s *script) rounds(few, many int) int {
	if s.d.o.Duration < 40*time.Second {
		return few
	}
	return many
}

// hold waits 3 to 10 election time-outs, fewer in short storms.
func (s *script) hold() {
	least := s.elections(windowLeast)
	s.wait(least, max(least, min(s.elections(windowMost), s.d.o.Duration/8)))
}

// staleReads takes the leader away for long, or, since it steps down when it has
// heard nobody for a while, cuts it off with a minority again and again.
func staleReads(s *script, way []string) {
	if way[0] == "partition-minority" {
		for range s.rounds(4, 6) {
			id := s.inject(way[0], "leader-minority")
			s.wait(s.elections(1), s.elections(2))
			s.heal(id)
			s.wait(s.elections(1), s.elections(2))
		}
		return
	}
	id := s.inject(way[0], "leader")
	s.hold()
	s.heal(id)
}

// The times within recipes that follow what a node does, not its election time-out.
const (
	blinkMin  = 10 * time.Millisecond // a node is down for a moment only
	blinkMax  = 30 * time.Millisecond
	beatMin   = 50 * time.Millisecond // between two kills of voters
	beatMax   = 150 * time.Millisecond
	flurryMin = 1200 * time.Millisecond
	flurryMax = 5 * time.Second
)

// votes kills all and starts them together, so that they stand for election at
// once, and then kills one or two again and again while they vote.
func votes(s *script, _ []string) {
	rounds := s.rounds(1, 2)
	flurry := min(max(s.d.o.Duration/8, flurryMin), flurryMax) / time.Duration(rounds)
	for range rounds {
		all := s.inject("kill", "all")
		s.wait(4*blinkMin, 4*blinkMax)
		s.heal(all)
		for end := s.at + flurry; s.at < end; {
			s.wait(beatMin, beatMax-blinkMax)
			rule := []string{"one", "one", "follower", "leader"}[s.d.r.IntN(4)]
			ids := []string{s.inject("kill", rule)}
			if s.d.r.IntN(3) == 0 && s.d.o.Nodes > 3 {
				ids = append(ids, s.inject("kill", "one"))
			}
			s.wait(blinkMin, blinkMax)
			for _, id := range ids {
				s.heal(id)
			}
		}
		s.wait(s.elections(1), s.elections(2))
	}
}

func acknowledged(s *script, way []string) {
	for n := range s.rounds(1, 2) {
		if n > 0 {
			s.wait(s.elections(2), s.elections(3))
		}
		id := s.inject(way[0], "leader")
		s.wait(s.elections(3), s.elections(5))
		s.heal(id)
	}
}

// acceptors isolates the proposer with its writes in flight. Half of the rounds
// then wait until the successor is seen, the others strike where its phase 1
// may be: kill and restart who promised, and bring the old proposer back at once.
func acceptors(s *script, _ []string) {
	for n := range s.rounds(2, 3) {
		if n > 0 {
			s.wait(s.elections(2), s.elections(3))
		}
		id := s.inject("partition-leader", "leader")
		s.wait(s.elections(1)/2, s.elections(2))
		if s.d.r.IntN(2) == 0 {
			s.await(NewLeader)
		}
		down := s.inject("kill", []string{"follower", "minority", "majority", "all"}[s.d.r.IntN(4)])
		s.wait(blinkMin, blinkMax)
		s.heal(down)
		s.wait(0, blinkMax)
		s.heal(id)
	}
}

// valueChoice leaves one node in common to two sides, and restarts that one
// while both of them propose.
func valueChoice(s *script, _ []string) {
	common := s.d.pick() // the rule "one" with this pick is the same node each time
	id := s.injectPick("partition-bridge", "one", common)
	for range s.rounds(2, 4) {
		s.wait(s.elections(1), s.elections(2))
		down := s.injectPick("kill", "one", common)
		s.wait(blinkMin, blinkMax)
		s.heal(down)
	}
	s.wait(s.elections(1), s.elections(2))
	s.heal(id)
}

// twice takes leaders away while clients send their commands again elsewhere.
func twice(s *script, way []string) {
	for n := range s.rounds(2, 4) {
		if n > 0 {
			s.wait(s.elections(1), s.elections(2))
		}
		fault := way[n%len(way)]
		id := s.inject(fault, "leader")
		if fault == "kill" {
			s.wait(4*blinkMin, s.elections(1))
		} else {
			s.wait(s.elections(2), s.elections(4))
		}
		s.heal(id)
	}
}

// diverged gives two leaders entries that nobody else has, and brings them back
// one after the other; at last all start again on what their disks hold.
func diverged(s *script, _ []string) {
	for range s.rounds(1, 2) {
		old := s.inject("partition-leader", "leader")
		s.wait(s.elections(1), s.elections(2))
		s.await(NewLeader)
		down := s.inject("kill", "leader")
		s.wait(blinkMin, s.elections(1))
		s.heal(old)
		s.wait(s.elections(1), s.elections(2))
		s.heal(down)
		s.wait(s.elections(1), s.elections(2))
	}
	all := s.inject("kill", "all")
	s.wait(4*blinkMin, 4*blinkMax)
	s.heal(all)
}

// woken lets the leader sleep, cut off with a minority, until the others have a
// new one, and then wakes it: for an election time-out it believes that it leads.
func woken(s *script, _ []string) {
	id := s.inject("partition-minority", "leader-minority")
	s.wait(blinkMin, blinkMax)
	frozen := s.inject("pause", "leader")
	s.wait(s.elections(1), s.elections(2))
	s.await(NewLeader)
	s.heal(frozen)
	s.wait(s.elections(1), s.elections(2))
	s.heal(id)
}

// laggards takes a minority of followers down while the others go on without
// them. Then it cuts off the leader and whoever else can be missed, and starts the
// laggards again at once: a majority needs all that are left, and few of those have
// what was acknowledged last. Cutting the leader off hits what killing it misses: it
// has answered its clients, and nobody else hears of that.
func laggards(s *script, _ []string) {
	for n := range s.rounds(1, 2) {
		if n > 0 {
			s.wait(s.elections(2), s.elections(3))
		}
		down := s.inject("kill", "follower-minority")
		s.wait(s.elections(1), s.elections(3))
		cut := s.inject("partition-minority", "leader-minority")
		s.heal(down)
		s.wait(s.elections(2), s.elections(3))
		s.heal(cut)
	}
}
