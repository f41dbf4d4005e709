package nodestest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"chaos/nodes"
)

const (
	kitQuiet  = 250 * time.Millisecond // waited for what must not happen
	kitEnough = 30 * time.Second       // waited for what must happen; TCP may retransmit first
	kitLook   = 5 * time.Millisecond   // between two looks
	kitDelay  = 60 * time.Millisecond
	kitJitter = 10 * time.Millisecond
	kitAgain  = 200 * time.Millisecond // until a word is said again: a broken connection may have swallowed it
)

// kinds are those of nodes and links, in the order in which they are tried.
var kinds = []nodes.EffectKind{nodes.Down, nodes.Frozen, nodes.Cut, nodes.CutData, nodes.Delayed, nodes.Reset,
	nodes.Lossy, nodes.Duplicated, nodes.Reordered, nodes.Limited}

// unable ends a test of what can't be done. What a firewall offers and this
// machine lacks is a failure where CHAOS_REQUIRE says that it lacks nothing;
// resets are those of relays, which in turn lack what streams don't show.
func unable(t *testing.T, able nodes.Abilities, why error, kinds ...nodes.EffectKind) {
	t.Helper()
	for _, k := range kinds {
		err := able.Effects[k]
		if err != nil && k != nodes.Reset && able.Network != relayed && strings.Contains(os.Getenv("CHAOS_REQUIRE"), "root") {
			t.Fatalf("CHAOS_REQUIRE asks for root, and this machine lacks %s: %v", k, err)
		}
	}
	t.Skipf("this provider can't do it: %v", why)
}

// Effects checks every kind of effect that the cluster is able to do: it is
// applied, real connections show the hurt, it is verified and reverted, real
// connections show the cure, and each step is proven. launch starts three or
// more nodes of [Talker]; the kit closes the cluster.
func Effects(t *testing.T, launch func(t *testing.T) (nodes.Cluster, nodes.Abilities)) {
	c, able := launch(t)
	k := &kit{cluster: c, members: c.Members()}
	if len(k.members) < 3 {
		t.Fatalf("the kit needs 3 nodes, got %d", len(k.members))
	}
	defer func() {
		if err := c.Close(context.Background()); err != nil {
			t.Errorf("closing the cluster: %v", err)
		}
	}()
	k.meshed(t)
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			why, listed := able.Effects[kind]
			if !listed || why != nil {
				unable(t, able, why, kind)
			}
			k.one(t, kind)
			k.meshed(t)
		})
	}
	t.Run("overlap", func(t *testing.T) {
		if why, listed := able.Effects[nodes.Cut]; !listed || why != nil {
			t.Skipf("this provider can't cut: %v", why)
		}
		k.overlap(t)
		k.meshed(t)
	})
	t.Run("clients", func(t *testing.T) {
		if why, listed := able.Effects[nodes.Cut]; !listed || why != nil {
			t.Skipf("this provider can't cut: %v", why)
		}
		k.clients(t)
	})
}

type kit struct {
	cluster nodes.Cluster
	members []nodes.Member
	words   int // drawn so far; every word is new
}

// one applies, verifies and reverts one effect, and looks for hurt and cure.
func (k *kit) one(t *testing.T, kind nodes.EffectKind) {
	a, b := k.members[0], k.members[1]
	e := nodes.Effect{Kind: kind, From: a.ID, To: b.ID}
	if !e.OnLink() {
		e = nodes.Effect{Kind: kind, Node: a.ID}
	}
	switch kind {
	case nodes.Delayed:
		e.Delay, e.Jitter = kitDelay, kitJitter
	case nodes.Reordered:
		e.PerMille, e.Delay = kitPerMille, kitHold
	case nodes.Lossy, nodes.Duplicated:
		e.PerMille = kitPerMille
	case nodes.Limited:
		e.Rate = kitRate
	}
	weather := weatherBy([]nodes.Effect{e})[nodes.Link{From: a.ID, To: b.ID}]
	before := k.pid(t, a)
	k.apply(t, "one", e)
	switch kind {
	case nodes.Down, nodes.Frozen:
		if pid, err := k.ask(a, "pid", kitQuiet); err == nil {
			t.Errorf("%s answers as process %s", e, pid)
		}
	case nodes.Delayed:
		k.delayed(t, a, b)
	case nodes.Lossy, nodes.Duplicated, nodes.Reordered, nodes.Limited:
		k.measure(t, a, b, weather)
		k.melted(t, b, a, weather) // the other direction is well
	default:
		k.silent(t, a, b)
		k.talks(t, b, a) // the other direction is well
	}
	k.prove(t, "verify "+e.String(), k.cluster.Verify, "one")
	k.prove(t, "revert "+e.String(), k.cluster.Revert, "one")
	after := k.pid(t, a)
	if (kind == nodes.Down) == (before == after) {
		t.Errorf("%s: process %s before, %s after", e, before, after)
	}
	k.talks(t, a, b)
	k.melted(t, a, b, weather)
}

// weatherBy sums the weather of each link, by itself: the cluster's own sum is
// under test, too.
func weatherBy(effects []nodes.Effect) map[nodes.Link]nodes.LinkState {
	out := map[nodes.Link]nodes.LinkState{}
	for _, e := range effects {
		l := nodes.Link{From: e.From, To: e.To}
		s := out[l]
		switch e.Kind {
		case nodes.Lossy:
			s.Lossy += e.PerMille
		case nodes.Duplicated:
			s.Duplicated += e.PerMille
		case nodes.Reordered:
			s.Reordered += e.PerMille
		case nodes.Limited:
			if s.Rate == 0 || s.Rate > e.Rate {
				s.Rate = e.Rate
			}
		default:
			continue
		}
		out[l] = s
	}
	return out
}

// overlap holds two injections on one link, and ends the first one first.
func (k *kit) overlap(t *testing.T) {
	a, b, c := k.members[0], k.members[1], k.members[2]
	k.apply(t, "first", both(a, b)...)
	k.apply(t, "second", append(both(a, b), both(a, c)...)...)
	k.prove(t, "revert the first", k.cluster.Revert, "first")
	k.silent(t, a, b)
	k.silent(t, c, a)
	k.talks(t, b, c)
	k.prove(t, "verify the second", k.cluster.Verify, "second")
	k.apply(t, "third", both(a, b)...)
	k.prove(t, "revert the second", k.cluster.Revert, "second")
	k.silent(t, b, a)
	k.talks(t, c, a)
	k.prove(t, "revert the third", k.cluster.Revert, "third")
	k.talks(t, a, b)
}

func both(a, b nodes.Member) []nodes.Effect {
	return []nodes.Effect{
		{Kind: nodes.Cut, From: a.ID, To: b.ID},
		{Kind: nodes.Cut, From: b.ID, To: a.ID},
	}
}

// clients cuts clients off one node; its peers still reach it.
func (k *kit) clients(t *testing.T) {
	a := k.members[0]
	ev, err := k.cluster.Apply(context.Background(), "clients", []nodes.Effect{{Kind: nodes.Cut, From: nodes.Clients, To: a.ID}})
	if err != nil {
		t.Fatalf("links of clients can't be cut: %v", err)
	}
	check(t, "apply", ev, err)
	if pid, err := k.ask(a, "pid", kitQuiet); err == nil {
		t.Errorf("a client reached %s, process %s, though it is cut off", a.ID, pid)
	}
	k.talks(t, k.members[1], k.members[2])
	k.prove(t, "revert", k.cluster.Revert, "clients")
	k.pid(t, a)
}

func (k *kit) apply(t *testing.T, injection string, effects ...nodes.Effect) {
	t.Helper()
	ev, err := k.cluster.Apply(context.Background(), injection, effects)
	check(t, fmt.Sprintf("apply %v", effects), ev, err)
}

func (k *kit) prove(t *testing.T, what string, act func(context.Context, string) (nodes.Evidence, error), injection string) {
	t.Helper()
	ev, err := act(context.Background(), injection)
	check(t, what, ev, err)
}

func check(t *testing.T, what string, ev nodes.Evidence, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !ev.Proven() {
		t.Fatalf("%s is not proven: %s", what, strings.Join(ev.Failures(), "; "))
	}
	t.Logf("%s: %d proofs in %s", what, len(ev.Proofs), ev.Took)
}

// meshed waits until every node has a working connection to every other one.
func (k *kit) meshed(t *testing.T) {
	t.Helper()
	for _, a := range k.members {
		for _, b := range k.members {
			if a.ID != b.ID {
				k.talks(t, a, b)
			}
		}
	}
}

// talks fails unless a word gets from one node to the other. It says it again
// now and then, since the connection may have died with one that it was told.
func (k *kit) talks(t *testing.T, from, to nodes.Member) {
	t.Helper()
	for until := time.Now().Add(kitEnough); time.Now().Before(until); {
		word := k.say(t, from, to)
		for again := time.Now().Add(kitAgain); time.Now().Before(again); time.Sleep(kitLook) {
			if k.heard(t, to, word) {
				return
			}
		}
	}
	t.Fatalf("no word gets from %s to %s", from.ID, to.ID)
}

// silent fails if a word gets from one node to the other.
func (k *kit) silent(t *testing.T, from, to nodes.Member) {
	t.Helper()
	word := k.say(t, from, to)
	for until := time.Now().Add(kitQuiet); time.Now().Before(until); time.Sleep(kitLook) {
		if k.heard(t, to, word) {
			t.Fatalf("a word got from %s to %s though that way is cut", from.ID, to.ID)
		}
	}
}

// delayed fails if a word gets through sooner than the delay allows.
func (k *kit) delayed(t *testing.T, from, to nodes.Member) {
	t.Helper()
	began := time.Now()
	word := k.say(t, from, to)
	for until := began.Add(kitEnough); time.Now().Before(until); time.Sleep(kitLook) {
		if !k.heard(t, to, word) {
			continue
		}
		if took := time.Since(began); took < kitDelay-kitJitter {
			t.Errorf("a word took %s from %s to %s, which must take %s", took, from.ID, to.ID, kitDelay-kitJitter)
		}
		return
	}
	t.Errorf("no word gets from %s to %s", from.ID, to.ID)
}

func (k *kit) say(t *testing.T, from, to nodes.Member) string {
	t.Helper()
	k.words++
	word := fmt.Sprintf("word-%d", k.words)
	if got := k.must(t, from, fmt.Sprintf("send %d %s", to.ID, word)); got != "ok" {
		t.Fatalf("%s does not send: %s", from.ID, got)
	}
	return word
}

func (k *kit) heard(t *testing.T, m nodes.Member, word string) bool {
	t.Helper()
	return k.must(t, m, "heard "+word) == "true"
}

func (k *kit) pid(t *testing.T, m nodes.Member) string {
	t.Helper()
	pid := k.must(t, m, "pid")
	if _, err := strconv.Atoi(pid); err != nil {
		t.Fatalf("%s answers %q", m.ID, pid)
	}
	return pid
}

// must asks until there is an answer: a node that was just started takes a while.
func (k *kit) must(t *testing.T, m nodes.Member, line string) string {
	t.Helper()
	var err error
	for until := time.Now().Add(kitEnough); time.Now().Before(until); time.Sleep(kitLook) {
		var got string
		if got, err = k.ask(m, line, kitEnough); err == nil {
			return got
		}
	}
	t.Fatalf("%s does not answer %q: %v", m.ID, line, err)
	return ""
}

// ask sends one line to a node as a client and returns its answer.
func (k *kit) ask(m nodes.Member, line string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := k.cluster.Dial(ctx, m, nodes.ClientPort)
	if err != nil {
		return "", err
	}
	defer c.Close()
	until, _ := ctx.Deadline()
	if err := c.SetDeadline(until); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(got), err
}
