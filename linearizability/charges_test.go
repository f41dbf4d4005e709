package linearizability

import (
	"strings"
	"testing"

	"chaos/history"
)

// TestChargesNameFaultAndKey: a contradiction in audits is told with the fault
// and the keys that it concerns.
func TestChargesNameFaultAndKey(t *testing.T) {
	p := newTape()
	kill := history.Note{ID: "kill-1", Fault: "kill", Victims: []string{"n1"}, Kinds: []string{"down"}}
	p.inject(true, kill)
	p.heal(true, true, kill)
	cut := history.Note{ID: "partition-1", Fault: "partition-ring", Victims: []string{"n2"}, Kinds: []string{"cut"}}
	p.inject(true, cut)
	p.do(history.Ok, history.Write, "register/7", "n2", 5, 5)
	p.events[len(p.events)-1].At = 60
	p.heal(true, true, cut)
	h := p.history()

	fell := audits(h, map[string][]history.Audit{"n1": {
		{System: "paxos", Node: "n1", Incarnation: 1, Term: 4, Vote: "n2"},
		{System: "paxos", Node: "n1", Incarnation: 2, Start: true, Vote: "-"}}})
	if story := strings.Join(fell.Story, "\n"); !strings.Contains(story, "Fault kill (kill-1) on n1") {
		t.Errorf("a promise that fell after a restart does not name the kill:\n%s", story)
	}
	apart := audits(h, map[string][]history.Audit{
		"n1": {{System: "raft", Node: "n1", Incarnation: 1, Applied: 64, Hash: "a"}},
		"n2": {{System: "raft", Node: "n2", Incarnation: 1, Applied: 64, Hash: "b"}}})
	story := strings.Join(apart.Story, "\n")
	if apart.Key != "register/7" || !strings.Contains(story, "Key register/7") || !strings.Contains(story, "Fault partition-ring on n2") {
		t.Errorf("a divergence names neither key nor fault (key %q):\n%s", apart.Key, story)
	}
}
