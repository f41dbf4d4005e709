package docker

import (
	"strings"
	"testing"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

// Containers of somebody else, without our agent and without a right of their
// own, are cut off from each other by what shares their networks, and left as
// they were.
func TestSidecars(t *testing.T) {
	t.Parallel()
	fresh := needEngine(t)
	_, ids := aProject(t, fresh)
	e := testEngine(t)
	p := New(fresh.program, Config{Image: testImage, Sidecars: map[nodes.ID]string{1: ids[0], 2: ids[1], 3: ids[2]}})
	o := nodestest.ProviderOptions(t.TempDir(), "")
	o.Lease = testLease
	theirs := func(i int) *box { return &box{e: e, id: ids[i], log: func(string) {}} }
	c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	members := c.Members()
	for _, m := range members {
		serve(t, c, m)
	}
	reach := func(from, to int) string {
		return strings.TrimSpace(inside(t, theirs(from), "reach", members[to].Addr(nodes.ClientPort)))
	}
	if got := reach(1, 0); got != "reached" {
		t.Fatalf("a process of theirs can't reach another host before: %s", got)
	}
	ev, err := c.Apply(t.Context(), "cut", []nodes.Effect{{Kind: nodes.Cut, From: 1, To: 2}, {Kind: nodes.Cut, From: 2, To: 1}})
	proven(t, "cut", ev, err)
	if got := reach(1, 0); got == "reached" {
		t.Error("a process of theirs reaches a host that it is cut off from")
	}
	if got := reach(1, 2); got != "reached" {
		t.Errorf("a process of theirs can't reach a host that it is not cut off from: %s", got)
	}
	if _, err := c.Apply(t.Context(), "down", []nodes.Effect{{Kind: nodes.MachineDown, Node: 1}}); err == nil {
		t.Error("a container of somebody else can be killed")
	}
	ev, err = c.Revert(t.Context(), "cut")
	proven(t, "heal", ev, err)
	if got := reach(1, 0); got != "reached" {
		t.Errorf("after the heal: %s", got)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for i := range ids {
		if s, err := theirs(i).state(t.Context()); err != nil || !s.Running {
			t.Errorf("%+v %v", s, err)
		}
		if left := processesIn(t, e, ids[i]); len(left) != 1 {
			t.Errorf("processes are left: %v", left)
		}
	}
	if left := ofRun(t, e, o.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	p = New(fresh.program, Config{Image: testImage, Sidecars: map[nodes.ID]string{1: ids[0], 2: "nobody-" + ids[1][:8], 3: ids[2]}})
	_, err = p.Launch(t.Context(), nodestest.Talker{}, o)
	says(t, "a container that is not there", err, "there is no container nobody")
	says(t, "the same, before", p.Refuse(t.Context(), nodestest.Talker{}, o), "there is no container nobody")
	o.Nodes = 4
	_, err = p.Launch(t.Context(), nodestest.Talker{}, o)
	says(t, "too few containers", err, "nobody", "there is no container")
}
