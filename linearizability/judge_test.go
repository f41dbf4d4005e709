package linearizability

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
)

// A tape writes a history by hand.
type tape struct {
	events []history.Event
	step   time.Duration // between events
	next   int           // process
}

func newTape() *tape { return &tape{step: 10 * time.Millisecond} }

func (p *tape) add(e history.Event) int {
	e.Index = len(p.events)
	e.Time = time.Duration(e.Index) * p.step
	if e.Index > 0 {
		e.Time = p.events[e.Index-1].Time + p.step
	}
	p.events = append(p.events, e)
	return e.Index
}

func (p *tape) note(t history.Type, f string, n history.Note) int {
	return p.add(history.Event{Process: history.Nemesis, Type: t, F: f, Value: raw(n)})
}

// do runs one whole operation; in and out are JSON values.
func (p *tape) do(t history.Type, f, key, node string, in, out any) {
	process := p.next
	if t == history.Info {
		p.next++
	}
	p.add(history.Event{Process: process, Type: history.Invoke, F: f, Key: key, Node: node, Value: raw(in)})
	e := history.Event{Process: process, Type: t, F: f, Key: key, Node: node}
	if t == history.Ok {
		e.Value = raw(out)
	}
	p.add(e)
}

func (p *tape) reads(n int, node string) {
	for range n {
		p.do(history.Ok, history.Read, "cas/r", node, nil, nil)
	}
}

func (p *tape) failures(n int, node string) {
	for range n {
		p.do(history.Fail, history.Read, "cas/r", node, nil, nil)
	}
}

func (p *tape) inject(proven bool, n history.Note) {
	p.note(history.Invoke, history.Inject, n)
	p.note(proof(proven), history.Inject, n)
}

func (p *tape) heal(held, proven bool, n history.Note) {
	p.note(proof(held), history.Verify, n)
	p.note(history.Invoke, history.Heal, n)
	p.note(proof(proven), history.Heal, n)
}

func proof(proven bool) history.Type {
	if proven {
		return history.Ok
	}
	return history.Info
}

func (p *tape) history() history.History {
	return history.History{Header: history.Header{History: history.Version}, Events: p.events}
}

func cut(id string) history.Note {
	return history.Note{ID: id, Fault: "partition-one", Victims: []string{"n1"}, Kinds: []string{"cut"}, Quorum: true, Required: true}
}

// goodRun has one proven partition with clients at work, and final reads.
func goodRun() *tape {
	p := newTape()
	p.do(history.Ok, history.Write, "cas/k", "n2", 1, 1)
	p.inject(true, cut("i1"))
	p.failures(12, "n1")
	p.reads(12, "n2")
	p.heal(true, true, cut("i1"))
	p.note(history.Info, history.Phase, history.Note{Phase: history.Final})
	p.do(history.Ok, history.Read, "cas/k", "n2", nil, 1)
	p.do(history.Ok, history.Read, "cas/k", "n1", nil, 1)
	return p
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name   string
		tape   func() *tape
		want   Outcome
		part   string // the checker that decides
		reason string // part of it
	}{
		{"all good", goodRun, Valid, "linearizable", "are linearizable"},
		{"empty", newTape, Unknown, "meaningful", "no operation succeeded"},
		{"nothing succeeds", func() *tape { p := newTape(); p.failures(20, "n1"); return p }, Unknown, "meaningful", "no operation succeeded"},
		{"fault never injected", func() *tape { p := newTape(); p.reads(20, "n1"); return p }, Unknown, "meaningful", "partition was never injected"},
		{"inject unproven", func() *tape { return partition(false, true, true, 12, 12) }, Unknown, "meaningful", "never proven at both its ends"},
		{"verify unproven", func() *tape { return partition(true, false, true, 12, 12) }, Unknown, "meaningful", "never proven at both its ends"},
		{"heal unproven", func() *tape { return partition(true, true, false, 12, 12) }, Unknown, "meaningful", "never proven at both its ends"},
		{"nobody asks the victim", func() *tape { return partition(true, true, true, 9, 12) }, Unknown, "meaningful", "9 invocations at its victims n1"},
		{"nobody succeeds elsewhere", func() *tape { return partition(true, true, true, 12, 9) }, Unknown, "meaningful", "9 successes away from its victims while a majority was connected"},
		{"shorter than an election", func() *tape {
			p := partition(true, true, true, 12, 9)
			for i := range p.events {
				p.events[i].Time /= 10
			}
			return p
		}, Valid, "linearizable", ""},
		{"every node a victim, as of a ring", func() *tape {
			p, n := newTape(), history.Note{ID: "i1", Fault: "partition-ring", Victims: []string{"n1", "n2", "n3"}, Kinds: []string{"cut"}, Quorum: true}
			p.step = 40 * time.Millisecond
			p.inject(true, n)
			for _, node := range n.Victims {
				p.reads(10, node)
			}
			p.heal(true, true, n)
			p.reads(1, "n1")
			return p
		}, Valid, "linearizable", ""},
		{"a run without a write", func() *tape {
			p := newTape()
			p.note(history.Info, history.Phase, history.Note{Phase: history.Storm})
			p.reads(20, "n1")
			return p
		}, Unknown, "meaningful", "no write was acknowledged"},
		{"enough of both", func() *tape { return partition(true, true, true, 10, 10) }, Valid, "linearizable", ""},
		{"no quorum, so attempts count", func() *tape {
			p, n := newTape(), history.Note{ID: "i1", Fault: "partition", Victims: []string{"n1", "n2"}, Kinds: []string{"down"}}
			p.reads(1, "n3")
			p.inject(true, n)
			p.failures(12, "n1")
			p.heal(true, true, n)
			p.reads(1, "n3")
			return p
		}, Valid, "linearizable", ""},
		{"a quorum lost in the middle, until after the end", func() *tape {
			p, kill := newTape(), history.Note{ID: "i2", Fault: "kill", Victims: []string{"n3"}, Kinds: []string{"down"}}
			p.step = 40 * time.Millisecond
			p.reads(1, "n2")
			p.inject(true, cut("i1"))
			p.inject(true, kill)
			p.failures(20, "n1")
			p.heal(true, true, cut("i1"))
			p.heal(true, true, kill)
			p.reads(1, "n2")
			return p
		}, Valid, "linearizable", ""},
		{"stale read", func() *tape {
			p := goodRun()
			p.do(history.Ok, history.Write, "cas/k", "n2", 2, 2)
			p.do(history.Ok, history.Read, "cas/k", "n1", nil, 1)
			return p
		}, Invalid, "linearizable", "although write 2 had been acknowledged"},
		{"value from nowhere", func() *tape {
			p := goodRun()
			p.do(history.Ok, history.Read, "cas/new", "n1", nil, 77)
			return p
		}, Invalid, "linearizable", "although no operation that had begun by then stores that"},
		{"no final read of a key", func() *tape {
			p := partition(true, true, true, 12, 12)
			p.do(history.Ok, history.Write, "cas/lost", "n2", 5, 5)
			p.do(history.Ok, history.Read, "cas/lost", "n2", nil, 5) // not a final one
			p.note(history.Info, history.Phase, history.Note{Phase: history.Final})
			p.reads(1, "n2")
			return p
		}, Unknown, "final reads", "1 of 2 keys have no completed final read"},
		{"a final read that was asked before", func() *tape {
			p := partition(true, true, true, 12, 12)
			p.do(history.Ok, history.Write, "cas/lost", "n2", 5, 5)
			early := history.Event{Process: 50, Type: history.Invoke, F: history.Read, Key: "cas/lost"}
			p.add(early)
			p.note(history.Info, history.Phase, history.Note{Phase: history.Final})
			early.Type, early.Value = history.Ok, raw(5)
			p.add(early)
			return p
		}, Unknown, "final reads", "1 of 2 keys have no completed final read"},
		{"no final phase", func() *tape {
			p := partition(true, true, true, 12, 12)
			p.note(history.Info, history.Phase, history.Note{Phase: history.Settle})
			return p
		}, Unknown, "final reads", "never came to its final reads"},
		{"a disk that lost what was durable", func() *tape {
			return incident("exit: process 7 ended: exit status 2\nlistening\nchaos: its own disk is damaged: replica: snapshot-7a is missing: the journal begins behind it\n")
		}, Invalid, "incidents", "lost what it had made durable, and ended"},
		{"panic", func() *tape { return incident("panic: raft: n3: truncating at 4 below commit index 9") }, Invalid, "incidents", "truncating at 4"},
		{"panic with stacks", func() *tape {
			return incident("panic: process 7 ended: exit status 2\nlistening\npanic: raft: n3: truncating at 5\n\ngoroutine 1:\nmain.main()")
		}, Invalid, "incidents", "s: raft: n3: truncating at 5"},
		{"unasked exit", func() *tape { return incident("exit: exit status 1") }, Unknown, "incidents", "exit status 1"},
		{"lapse of a fault", func() *tape { return incident("lapse: n1→n2 was open") }, Valid, "linearizable", ""},
		{"starved, but recovered", func() *tape { return incident("starved: the harness got no time for 2s") }, Valid, "linearizable", ""},
		{"invalid outranks unknown", func() *tape {
			p := incident("exit: exit status 1")
			p.do(history.Ok, history.Read, "cas/new", "n1", nil, 77)
			return p
		}, Invalid, "linearizable", ""},
	}
	for _, tt := range tests {
		v, err := Judge(context.Background(), Input{History: tt.tape().history(), Options: testOptions(), Required: []string{"partition"}})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		decides := slices.ContainsFunc(v.Parts, func(p Verdict) bool {
			return p.Checker == tt.part && p.Outcome == tt.want && strings.Contains(p.Reason, tt.reason)
		})
		if v.Outcome != tt.want || !decides {
			t.Errorf("%s: got %s, %s; want %s by %s with %q\n%+v", tt.name, v.Outcome, v.Reason, tt.want, tt.part, tt.reason, v.Parts)
		}
	}
}

func partition(injected, held, healed bool, atVictim, elsewhere int) *tape {
	p := newTape()
	p.step = 40 * time.Millisecond // longer than an election may take
	p.reads(1, "n2")
	p.inject(injected, cut("i1"))
	p.failures(atVictim, "n1")
	p.reads(elsewhere, "n2")
	p.heal(held, healed, cut("i1"))
	p.reads(2, "n2")
	return p
}

func incident(detail string) *tape {
	p := goodRun()
	p.note(history.Info, history.Incident, history.Note{Node: "n3", Detail: detail})
	return p
}

func TestJudgeGivesNoVerdictOnIllFormedHistories(t *testing.T) {
	p := goodRun()
	p.add(history.Event{Process: 0, Type: history.Ok, F: history.Read, Key: "cas/k"})
	if _, err := Judge(context.Background(), Input{History: p.history(), Options: testOptions()}); err == nil || !strings.Contains(err.Error(), "has nothing open") {
		t.Errorf("a completion without invocation: %v", err)
	}
	p = goodRun()
	p.do(history.Ok, history.Write, "cas/k", "n1", "text", nil)
	if _, err := Judge(context.Background(), Input{History: p.history(), Options: testOptions()}); err == nil {
		t.Error("a value that is none was accepted")
	}
}

func TestRecovery(t *testing.T) {
	after := func(n int, step time.Duration, ok bool, more func(*tape)) *tape {
		p := partition(true, true, true, 12, 12)
		p.events = p.events[:len(p.events)-4] // what came after the heal
		p.step = step
		p.failures(n, "n2")
		if ok {
			p.reads(1, "n2")
		}
		if more != nil {
			more(p)
		}
		return p
	}
	starve := func(p *tape) {
		p.note(history.Info, history.Incident, history.Note{Detail: "starved: no time for 3s"})
	}
	nested := newTape() // the fault that began first ends last, and nothing is tried after it
	nested.inject(true, cut("i1"))
	nested.inject(true, cut("i2"))
	nested.heal(true, true, cut("i2"))
	nested.reads(1, "n2")
	nested.heal(true, true, cut("i1"))
	tests := []struct {
		name string
		tape *tape
		want Outcome
	}{
		{"at once", after(0, time.Millisecond, true, nil), Valid},
		{"within the bound", after(4, time.Second, true, nil), Valid},
		{"clients paused first", after(0, time.Minute, true, nil), Invalid}, // a read that takes a minute
		{"never", after(20, time.Second, false, nil), Invalid},
		{"too late", after(20, time.Second, true, nil), Invalid},
		{"never, but starved", after(20, time.Second, false, starve), Unknown},
		{"ended too early", after(3, time.Second, false, nil), Unknown},
		{"nobody tried", after(0, time.Second, false, nil), Unknown},
		{"only before the last heal", nested, Unknown},
	}
	for _, tt := range tests {
		h := tt.tape.history()
		if v := recovery(h, history.Windows(h), 10*time.Second); v.Outcome != tt.want {
			t.Errorf("%s: got %s, %s; want %s", tt.name, v.Outcome, v.Reason, tt.want)
		}
	}
	waited := newTape() // an answer to what was asked before the heal proves nothing
	waited.reads(1, "n2")
	waited.inject(true, cut("i1"))
	waited.add(history.Event{Process: 50, Type: history.Invoke, F: history.Read, Key: "cas/r"})
	waited.heal(true, true, cut("i1"))
	waited.add(history.Event{Process: 50, Type: history.Ok, F: history.Read, Key: "cas/r"})
	waited.step = time.Second
	waited.failures(20, "n2")
	h := waited.history()
	if v := recovery(h, history.Windows(h), 10*time.Second); v.Outcome != Invalid {
		t.Errorf("only a late answer: got %s, %s", v.Outcome, v.Reason)
	}
	h = partition(true, true, false, 12, 12).history()
	if v := recovery(h, history.Windows(h), 10*time.Second); v.Outcome != Unknown {
		t.Errorf("an unproven heal: got %s, %s", v.Outcome, v.Reason)
	}
}

func TestAudits(t *testing.T) {
	raft := func(incarnation, term uint64, vote, role string) history.Audit {
		return history.Audit{System: "raft", Incarnation: incarnation, Term: term, Vote: vote, Role: role}
	}
	paxos := func(incarnation, round uint64, vote string) history.Audit {
		return history.Audit{System: "paxos", Incarnation: incarnation, Term: round, Vote: vote}
	}
	hashed := func(incarnation, applied uint64, hash string) history.Audit {
		return history.Audit{System: "raft", Incarnation: incarnation, Term: 9, Applied: applied, Hash: hash}
	}
	long := func(first string) []history.Audit {
		list := []history.Audit{hashed(1, history.AuditEvery, first)}
		for i := uint64(2); i <= 10; i++ {
			list = append(list, hashed(1, i*history.AuditEvery, "same"))
		}
		return list
	}
	type nodes = map[string][]history.Audit
	tests := []struct {
		name   string
		audits nodes
		reason string // of an invalid verdict
	}{
		{"a normal life", nodes{"n1": {raft(1, 1, "-", "follower"), raft(1, 2, "n1", "leader"), raft(2, 2, "n1", "follower"), raft(2, 3, "", "follower")}, "n2": {raft(1, 2, "n1", "follower")}}, ""},
		{"term falls", nodes{"n1": {raft(1, 5, "", ""), raft(2, 4, "", "")}}, "the term of n1 fell from 5 to 4 after its restart (incarnation 2)"},
		{"vote changes", nodes{"n1": {raft(1, 5, "n2", ""), raft(1, 5, "n3", "")}}, "n1 voted for n2 and for n3 in term 5"},
		{"vote forgotten", nodes{"n1": {raft(1, 5, "n2", ""), raft(2, 5, "", "")}}, "n1 forgot its vote for n2 in term 5"},
		{"vote given late", nodes{"n1": {raft(1, 5, "", ""), raft(1, 5, "n2", "")}}, ""},
		{"two leaders", nodes{"n1": {raft(1, 5, "", "leader")}, "n2": {raft(1, 5, "", "leader")}}, "n1 and n2 both led term 5"},
		{"two leaders of two terms", nodes{"n1": {raft(1, 5, "", "leader")}, "n2": {raft(1, 6, "", "leader")}}, ""},
		{"promise rises", nodes{"n1": {paxos(1, 2, "n10"), paxos(1, 3, "n2"), paxos(2, 3, "n10")}}, ""},
		{"round falls", nodes{"n1": {paxos(1, 3, "n1"), paxos(2, 2, "n3")}}, "the promise of n1 fell from (3, n1) to (2, n3)"},
		{"node of the ballot falls", nodes{"n1": {paxos(1, 3, "n10"), paxos(1, 3, "n9")}}, "the promise of n1 fell"},
		{"promise forgotten", nodes{"n1": {paxos(1, 3, "n1"), paxos(2, 0, "-")}}, "the promise of n1 fell"},
		{"hashes agree", nodes{"n1": {hashed(1, 64, "a"), hashed(1, 128, "b"), hashed(2, 64, "a")}, "n2": {hashed(1, 128, "b")}}, ""},
		{"hashes differ", nodes{"n1": {hashed(1, 64, "a")}, "n2": {hashed(1, 64, "b")}}, "n1 (incarnation 1) and n2 (incarnation 1) applied different commands up to index 64: hashes a and b"},
		{"only the oldest hashes differ", nodes{"n1": long("a"), "n2": long("b")}, "applied different commands up to index 64: hashes a and b"},
		{"a node differs from itself", nodes{"n1": {hashed(1, 64, "a"), hashed(2, 64, "b")}}, "n1 (incarnation 1) and n1 (incarnation 2) applied"},
	}
	for _, tt := range tests {
		v := audits(history.History{}, tt.audits)
		if (v.Outcome == Invalid) != (tt.reason != "") || !strings.Contains(v.Reason, tt.reason) {
			t.Errorf("%s: got %s, %s; want %q", tt.name, v.Outcome, v.Reason, tt.reason)
		}
	}
	bad := Input{History: goodRun().history(), Options: testOptions(), Audits: nodes{"n1": {raft(1, 5, "", ""), raft(2, 4, "", "")}}}
	if v, err := Judge(context.Background(), bad); err != nil || v.Outcome != Invalid {
		t.Errorf("a fallen term did not count: %v, %v", v, err)
	}
}

func TestRecipesCountAsOne(t *testing.T) {
	run := func(second bool) history.History {
		p := newTape()
		p.reads(1, "n2")
		for i := range 3 {
			n := history.Note{ID: fmt.Sprint("r", i), Fault: "kill", Recipe: "votes", Victims: []string{"n1"}, Kinds: []string{"down"}, Quorum: true, Required: true}
			p.inject(true, n)
			p.reads(4, "n2")
			p.heal(i != 1 || second, true, n)
		}
		p.reads(1, "n2")
		return p.history()
	}
	for _, name := range []string{"kill", "votes"} {
		for _, whole := range []bool{true, false} {
			h := run(whole)
			v := meaningful(h, history.Windows(h), []string{name})
			if (v.Outcome == Valid) != whole {
				t.Errorf("%s, all windows proven %v: got %s, %s", name, whole, v.Outcome, v.Reason)
			}
		}
	}
}

// TestStory reads what people read.
func TestStory(t *testing.T) {
	p := newTape()
	p.note(history.Info, history.Leader, history.Note{Leader: "n3", Term: 4})
	p.do(history.Ok, history.Write, "cas/k3", "n3", 41, 41)
	p.reads(20, "n2")
	p.inject(true, history.Note{ID: "i1", Fault: "partition-leader", Victims: []string{"n3"}, Effects: []string{"n3→n1 cut"}})
	p.note(history.Info, history.Leader, history.Note{Leader: "n1", Term: 5})
	p.do(history.Ok, history.CAS, "cas/k3", "n1", []int{41, 57}, map[string]any{"swapped": true, "saw": 41})
	p.do(history.Ok, history.Read, "cas/k3", "n1", nil, 57)
	p.do(history.Ok, history.Read, "cas/k3", "n3", nil, 41)
	p.heal(true, true, history.Note{ID: "i1"})
	p.do(history.Ok, history.Read, "cas/k3", "n3", nil, 57)
	v := Check(context.Background(), p.history(), testOptions())
	want := []string{
		"On key cas/k3 no order of these 3 operations is legal:",
		"  write 41: process 0 asked n3 at event 1, 0.010 s, answered at event 2, 0.020 s",
		"  cas 41 to 57 → swapped: process 0 asked n1 at event 46, 0.460 s, answered at event 47, 0.470 s",
		"  read → 41: process 0 asked n3 at event 50, 0.500 s, answered at event 51, 0.510 s",
		"n3 answered read → 41 (invoked at event 50, 0.500 s) although cas 41 to 57 → swapped had been acknowledged at event 47, 0.470 s by n1.",
		"n3 was seen to lead in term 4 from event 0, 0.000 s.",
		"n1 was seen to lead in term 5 from event 45, 0.450 s.",
		"Fault partition-leader on n3 was active from event 44 (0.440 s) to event 53 (0.530 s): n3→n1 cut.",
	}
	if v.Outcome != Invalid || v.Key != "cas/k3" || !slices.Equal(v.Story, want) {
		t.Errorf("got %s %s\n%s", v.Outcome, v.Reason, strings.Join(v.Story, "\n"))
	}
	if !slices.Equal(v.Evidence, []int{1, 2, 46, 47, 50, 51}) {
		t.Errorf("evidence is %v", v.Evidence)
	}
}

// A fault that ended just before is told, an older one only where there is no
// other, and a restart of all nodes always.
func TestStoryOfWhatCameBefore(t *testing.T) {
	tell := func(pause int, restart bool) string {
		p := newTape()
		n := history.Note{ID: "kill-1", Fault: "kill", Victims: []string{"n2"}}
		p.inject(true, n)
		p.reads(5, "n1")
		p.heal(true, true, n)
		p.reads(pause, "n1")
		p.do(history.Ok, history.Write, "cas/k3", "n1", 41, 41)
		if restart {
			p.note(history.Info, history.Phase, history.Note{Phase: history.Restart})
		}
		p.do(history.Ok, history.Read, "cas/k3", "n2", nil, nil)
		return strings.Join(Check(context.Background(), p.history(), testOptions()).Story, "\n")
	}
	for _, c := range []struct {
		pause   int
		restart bool
		want    string
		not     string
	}{
		{5, false, "Fault kill on n2 was active", "no other one since"},
		{100, false, "and no other one since.", "were killed and started again"},
		{100, true, "All nodes were killed and started again from event", "kill on n2"},
	} {
		if got := tell(c.pause, c.restart); !strings.Contains(got, c.want) || strings.Contains(got, c.not) {
			t.Errorf("%+v:\n%s", c, got)
		}
	}
}

func TestStoryOfALostElement(t *testing.T) {
	p := newTape()
	for i := range 30 {
		p.do(history.Ok, history.Append, "append/k", "n1", i, nil)
	}
	list := []int{}
	for i := range 30 {
		if i != 17 {
			list = append(list, i)
		}
		p.do(history.Info, history.Append, "append/k", "n1", 100+i, nil)
	}
	p.do(history.Ok, history.Read, "append/k", "n2", nil, list)
	v := Check(context.Background(), p.history(), testOptions())
	want := "n2 answered read → a list of 29 that ends in [26 27 28 29] (invoked at event 120, 1.200 s) although append 17 had been acknowledged at event 35, 0.350 s by n1"
	if v.Outcome != Invalid || !strings.HasSuffix(v.Reason, want) || len(v.Evidence) != 4 {
		t.Errorf("got %s\n%s", v.Reason, strings.Join(v.Story, "\n"))
	}
}
