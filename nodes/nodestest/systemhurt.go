package nodestest

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
)

// systemLosses is how many operations are tried at a node that does not answer.
const systemLosses = 3

// once: a command that is sent again under its session and sequence, at any
// node, is applied once and answered as it was; a lower sequence is never ok.
func (k *systemKit) once(t *testing.T) {
	if !k.has(LacksSessions) {
		t.Skip("the system has no sessions")
	}
	callers := k.callers(t)
	a, b := callers[0], callers[1]
	for name, s := range map[string]step{
		"write": {history.Write, "k", "", "1", "1"}, "cas": {history.CAS, "k", "", "[null,1]", `{"swapped":true,"saw":null}`},
		"delete": {history.Delete, "k", "", "null", "null"}, "add": {history.Add, "k", "", "1", "1"}, "append": {history.Append, "k", "", "1", "1"},
	} {
		if !k.has(s.f) {
			continue
		}
		k.clear(t, func(prefix string) string {
			s := s
			s.key = prefix + s.key
			first := a.invoke(s)
			if doubt := k.again(t, callers, first, s.out, 1); doubt != "" {
				a.session, a.sequence = newSession(), 0
				return doubt
			}
			a.sequence++
			return k.after(t, a, b, name, s, first)
		})
	}
	k.strangers(t, a)
}

// again sends the same command at every caller's node.
func (k *systemKit) again(t *testing.T, callers []*caller, invoke history.Event, want string, attempts int) (doubt string) {
	t.Helper()
	for i, c := range callers {
		invoke.Attempts, invoke.Node = attempts+i, c.node.String()
		done := c.send(t, systemAnswer, invoke)
		if done.Type != history.Ok {
			return fmt.Sprintf("%s at %s: %s %s", invoke.F, c.node, done.Type, done.Error)
		}
		if string(done.Value) != want && !(invoke.F == history.Append && string(done.Value) == "null") {
			t.Errorf("%s, sent %d times, gives %s at %s, want %s", invoke.F, invoke.Attempts, done.Value, c.node, want)
		}
	}
	return ""
}

// after changes the key by another session, sends the first command again, which
// must not touch that, then goes on in the first session and sends it once more.
func (k *systemKit) after(t *testing.T, a, b *caller, name string, s step, first history.Event) (doubt string) {
	if done := b.do(t, systemAnswer, step{history.Write, s.key, "", "7", ""}); done.Type != history.Ok {
		return name + ", then a write: " + done.Error
	}
	if doubt := k.again(t, []*caller{b}, first, s.out, len(k.members)+1); doubt != "" {
		return doubt
	}
	for _, mode := range k.modes {
		done := b.do(t, systemAnswer, step{history.Read, s.key, mode, "", ""})
		if done.Type != history.Ok {
			return name + ", then a read: " + done.Error
		}
		if string(done.Value) != "7" {
			t.Errorf("%s: sent again, it was applied again: %s after 7 was written", name, done.Value)
		}
	}
	if done := a.do(t, systemAnswer, step{history.Write, s.key, "", "8", ""}); done.Type != history.Ok {
		return name + ", then the session's next: " + done.Error
	}
	first.Attempts, first.Node = first.Attempts+1, b.node.String()
	if done := b.send(t, systemAnswer, first); done.Type == history.Ok {
		t.Errorf("%s: a lower sequence is ok, with %s", name, done.Value)
	}
	k.holds(t, s.key, "8")
	return ""
}

// strangers: an unknown session's later command is not executed. Of a first
// attempt that is certain, of a later one it is not.
func (k *systemKit) strangers(t *testing.T, a *caller) {
	for attempt, certain := range map[int]bool{1: true, 2: false} {
		key := k.prefix() + "k"
		invoke := a.invoke(step{history.Write, key, "", "1", ""})
		invoke.Session, invoke.Sequence, invoke.Attempts = newSession(), 5, attempt
		done := a.send(t, systemAnswer, invoke)
		if done.Type == history.Ok || !certain && done.Type == history.Fail {
			t.Errorf("attempt %d in an unknown session: %s %s", attempt, done.Type, done.Error)
		}
		k.holds(t, key, "null")
	}
}

// observe: every node tells who it is.
func (k *systemKit) observe(t *testing.T) {
	for _, m := range k.members {
		s, err := k.System.Observe(t.Context(), m, k.Cluster.Dial)
		if err != nil || s.ID != m.ID {
			t.Errorf("%s says it is %s: %v", m.ID, s.ID, err)
		}
	}
}

// leader is the member that the others name, or else the last one.
func (k *systemKit) leader(t *testing.T) nodes.Member {
	last := k.members[len(k.members)-1]
	s, err := k.System.Observe(t.Context(), last, k.Cluster.Dial)
	for _, m := range k.members {
		if err == nil && s.Leader == m.ID {
			return m
		}
	}
	return last
}

// hurt applies an effect to the leader, and returns it with a client that was
// connected before, and one of another node.
func (k *systemKit) hurt(t *testing.T, kind nodes.EffectKind, key string) (m nodes.Member, c, other *caller) {
	m = k.leader(t)
	c = k.caller(t, m)
	c.until(t, step{history.Write, key, "", "0", ""})
	for _, o := range k.members {
		if o.ID != m.ID && other == nil {
			other = k.caller(t, o)
		}
	}
	ev, err := k.Cluster.Apply(t.Context(), string(kind), []nodes.Effect{{Kind: kind, Node: m.ID}})
	check(t, fmt.Sprintf("%s is %s", m.ID, kind), ev, err)
	return m, c, other
}

func (k *systemKit) heal(t *testing.T, kind nodes.EffectKind) {
	ev, err := k.Cluster.Revert(t.Context(), string(kind))
	check(t, "revert "+string(kind), ev, err)
}

// unseen fails if a node that can't answer is observed all the same.
func (k *systemKit) unseen(t *testing.T, m nodes.Member) {
	ctx, cancel := context.WithTimeout(t.Context(), systemSilence)
	defer cancel()
	if s, err := k.System.Observe(ctx, m, k.Cluster.Dial); err == nil {
		t.Errorf("%s can't answer and was observed: %+v", m.ID, s)
	}
}

// dead: a node that is down answers nothing. A new client's dial is refused,
// which is certain; one that was connected may be in doubt. The others go on,
// and the same client finds the node again.
func (k *systemKit) dead(t *testing.T) {
	key := k.prefix() + "k"
	before := map[nodes.ID]uint64{}
	for _, m := range k.members {
		s, err := k.System.Observe(t.Context(), m, k.Cluster.Dial)
		if err != nil {
			t.Fatal(err)
		}
		before[m.ID] = s.Incarnation
	}
	m, used, other := k.hurt(t, nodes.Down, key)
	fresh := k.caller(t, m)
	for i := range systemLosses {
		v := strconv.Itoa(i + 1)
		if done := used.do(t, systemSilence, step{history.Write, key, "", v, ""}); done.Type == history.Ok {
			t.Errorf("a write at a dead node is ok: %+v", done)
		}
		for _, mode := range k.modes {
			if done := used.do(t, systemSilence, step{history.Read, key, mode, "", ""}); done.Type != history.Fail {
				t.Errorf("a read at a dead node: %+v", done)
			}
		}
		if done := fresh.do(t, systemSilence, step{history.Write, key, "", v, ""}); done.Type != history.Fail {
			t.Errorf("a write that nobody takes, at a node that refuses: %+v", done)
		}
	}
	k.unseen(t, m)
	other.until(t, step{history.Write, key, "", "100", ""})
	k.heal(t, nodes.Down)
	for _, mode := range k.modes {
		if got := used.until(t, step{history.Read, key, mode, "", ""}); string(got.Value) != "100" {
			t.Errorf("after its restart %s reads %s by %s, want 100", m.ID, got.Value, mode)
		}
	}
	used.until(t, step{history.Write, key, "", "101", ""})
	if s, err := k.System.Observe(t.Context(), m, k.Cluster.Dial); err != nil || before[m.ID] > 0 && s.Incarnation <= before[m.ID] {
		t.Errorf("%s was started again; incarnation %d before, %d after, %v", m.ID, before[m.ID], s.Incarnation, err)
	}
}

// paused: a frozen node's system takes what is sent and answers nothing, so that
// a write is in doubt. Answers that come late belong to nobody, and the same
// command at another node happens once.
func (k *systemKit) paused(t *testing.T) {
	k.blink(t)
	prefix := k.prefix()
	m, used, other := k.hurt(t, nodes.Frozen, prefix+"k")
	late := k.lose(t, used, prefix)
	fresh := k.caller(t, m)
	for _, mode := range k.modes {
		if done := fresh.do(t, systemSilence, step{history.Read, prefix + "k", mode, "", ""}); done.Type != history.Fail {
			t.Errorf("a read by a new client of a frozen node: %+v", done)
		}
	}
	if done := fresh.do(t, systemSilence, step{history.Write, prefix + "k", "", "2", ""}); done.Type == history.Ok {
		t.Errorf("a write by a new client of a frozen node: %+v", done)
	}
	k.unseen(t, m)
	if k.has(LacksSessions) {
		k.retry(t, other, late)
	}
	other.until(t, step{history.Write, prefix + "other", "", "5", ""})
	k.heal(t, nodes.Frozen)
	k.clear(t, func(prefix string) string { // at once, by the client that late answers come to
		return k.steps(t, prefix, []*caller{used}, []step{
			{history.Write, "w", "", "11", "11"}, {history.Read, "w", k.modes[0], "", "11"}, {history.CAS, "w", "", "[11,12]", `{"swapped":true,"saw":11}`},
			{history.Add, "n", "", "1", "1"}, {history.Append, "l", "", "9", "1"},
		})
	})
	k.settle(t)
	if k.has(LacksSessions) {
		k.holds(t, late.Key, "31")
	}
	k.holds(t, prefix+"other", "5")
}

// blink freezes a node for so short a time that a client keeps its connection:
// the answers of what it gave up come in front of those that it waits for.
func (k *systemKit) blink(t *testing.T) {
	prefix := k.prefix()
	_, used, _ := k.hurt(t, nodes.Frozen, prefix+"k")
	used.do(t, systemSilence, step{history.Write, prefix + "late", "", "1000", ""})
	if k.has(history.Append) {
		used.do(t, systemSilence, step{history.Append, prefix + "list", "", "1000", ""})
	}
	k.heal(t, nodes.Frozen)
	k.clear(t, func(prefix string) string {
		return k.steps(t, prefix, []*caller{used}, []step{
			{history.CAS, "w", "", "[1,2]", `{"swapped":false,"saw":null}`}, {history.Write, "w", "", "11", "11"},
			{history.Read, "w", k.modes[0], "", "11"}, {history.Add, "n", "", "7", "7"},
		})
	})
}

// lose sends writes that are not answered, and returns the first of them. That
// one leaves by a connection that stands, and so is in doubt; later ones may
// find that no new connection is greeted.
func (k *systemKit) lose(t *testing.T, c *caller, prefix string) (late history.Event) {
	for i := range systemLosses {
		s := step{history.Write, prefix + "lost" + strconv.Itoa(i), "", "1", ""}
		if i == 0 {
			late = c.invoke(s)
		}
		if done := c.do(t, systemSilence, s); done.Type == history.Ok || i == 0 && done.Type != history.Info {
			t.Errorf("write %d at a frozen node: %+v", i+1, done)
		}
		for _, mode := range k.modes {
			if done := c.do(t, systemSilence, step{history.Read, prefix + "k", mode, "", ""}); done.Type != history.Fail {
				t.Errorf("a read at a frozen node: %+v", done)
			}
		}
	}
	return late
}

// retry sends a lost write again elsewhere until it is Ok, and then writes over
// it in another session: if the first copy comes to life, it must change nothing.
func (k *systemKit) retry(t *testing.T, c *caller, late history.Event) {
	for end := time.Now().Add(kitEnough); ; time.Sleep(kitLook) {
		late.Attempts, late.Node = late.Attempts+1, c.node.String()
		if done := c.send(t, systemAnswer, late); done.Type == history.Ok {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a lost write is never ok at %s", c.node)
		}
	}
	c.until(t, step{history.Write, late.Key, "", "31", ""})
}
