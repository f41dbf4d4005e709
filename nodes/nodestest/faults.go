package nodestest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"chaos/nemesis"
	"chaos/nodes"
)

const (
	faultNodes  = 5  // the fewest of which every shape of a partition is a shape of its own
	faultFlow   = 40 // words in a row: more than TCP sends before it hears an acknowledgement
	faultFast   = 30 * time.Second
	faultDelay  = 120 * time.Millisecond // asked of slow links: longer than two words by clients take
	faultJitter = 20 * time.Millisecond
)

// relayed is the network of a cluster whose links are relays, as its abilities say.
const relayed = "relay"

// FaultOptions are options for a cluster that [Faults] can hurt.
func FaultOptions(dir, network string) nodes.Options {
	o := ProviderOptions(dir, network)
	o.Nodes = faultNodes
	return o
}

// Faults checks every fault that the cluster is able to suffer: its victims are
// resolved, it is injected, words between real nodes and the questions of real
// clients show the hurt, and no more than that; it is verified and healed, and
// the same words and questions show the cure. Every step is proven. launch
// starts nodes of [Talker] with [FaultOptions]; the kit closes the cluster.
func Faults(t *testing.T, launch func(t *testing.T) (nodes.Cluster, nodes.Abilities), faults []nemesis.Fault) {
	c, able := launch(t)
	defer closing(t, c)
	k := &faultKit{kit: kit{cluster: c, members: c.Members()}, packets: able.Network != relayed}
	if len(k.members) != faultNodes {
		t.Fatalf("the kit needs %d nodes, got %d", faultNodes, len(k.members))
	}
	k.cured(t, nil)
	for n, f := range faults {
		t.Run(f.Name(), func(t *testing.T) {
			if why := nemesis.Unable(f, able); why != nil {
				unable(t, able, why, f.Kinds()...)
			}
			k.fault(t, f, uint64(n+1))
		})
	}
}

type faultKit struct {
	kit
	packets bool // links lose packets, acknowledgements among them; a relay knows only bytes
}

// fault injects one fault, looks, heals it, and looks again.
func (k *faultKit) fault(t *testing.T, f nemesis.Fault, pick uint64) {
	var ids []nodes.ID
	for _, m := range k.members {
		ids = append(ids, m.ID)
	}
	leader := ids[int(pick)%len(ids)]
	step := nemesis.Step{ID: f.Name(), Action: nemesis.Inject, Fault: f.Name(), Pick: pick}
	step.Args = map[string]nemesis.Args{
		nemesis.Slow{}.Name():      {"delay": faultDelay.String(), "jitter": faultJitter.String()},
		nemesis.WAN{}.Name():       {"profile": "three-regions"},
		nemesis.Reorder{}.Name():   {"percent": "20", "hold": kitHold.String()},
		nemesis.Duplicate{}.Name(): {"percent": "20"},
	}[f.Name()]
	i, effects, err := nemesis.Fire(step, ids, leader, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s of %v: %v", i.Fault, i.Victims, effects)
	before := k.pids(t)
	t.Cleanup(func() {
		if t.Failed() { // the next one begins on a cluster that is well
			k.cluster.Revert(context.WithoutCancel(t.Context()), i.ID)
		}
	})
	k.apply(t, i.ID, effects...)
	w := hurtBy(effects)
	k.hurt(t, w)
	k.flow(t, w)
	k.rains(t, w)
	hidden := k.hidden(t, w)
	k.prove(t, "verify", k.cluster.Verify, i.ID)
	k.prove(t, "revert", k.cluster.Revert, i.ID)
	k.cured(t, effects)
	for _, l := range hidden {
		if !k.heard(t, l.to, l.word) {
			t.Errorf("a word from %s, which was well, never got to %s", l.from.ID, l.to.ID)
		}
	}
	for id, pid := range k.pids(t) {
		if !w.machine[id] && w.down[id] == (pid == before[id]) { // a fresh machine gives out the same numbers
			t.Errorf("%s: process %s before, %s after; down was %v", id, before[id], pid, w.down[id])
		}
	}
}

func (k *faultKit) pids(t *testing.T) map[nodes.ID]string {
	out := map[nodes.ID]string{}
	for _, m := range k.members {
		out[m.ID] = k.pid(t, m)
	}
	return out
}

// A hurting is what effects mean for words and questions.
type hurting struct {
	down, frozen map[nodes.ID]bool
	machine      map[nodes.ID]bool // down or frozen as a whole
	cut          map[nodes.Link]bool
	data         map[nodes.Link]bool          // cut for nothing but data
	slow         map[nodes.Link]time.Duration // the least that a word takes
	weather      map[nodes.Link]nodes.LinkState
}

// hurtBy sums the effects, by itself: the cluster's own sum is under test, too.
func hurtBy(effects []nodes.Effect) hurting {
	w := hurting{map[nodes.ID]bool{}, map[nodes.ID]bool{}, map[nodes.ID]bool{}, map[nodes.Link]bool{}, map[nodes.Link]bool{},
		map[nodes.Link]time.Duration{}, weatherBy(effects)}
	for _, e := range effects {
		l := nodes.Link{From: e.From, To: e.To}
		switch e.Kind {
		case nodes.Down:
			w.down[e.Node] = true
		case nodes.Frozen:
			w.frozen[e.Node] = true
		case nodes.MachineDown:
			w.down[e.Node], w.machine[e.Node] = true, true
		case nodes.MachineFrozen:
			w.frozen[e.Node], w.machine[e.Node] = true, true
		case nodes.Delayed:
			if d := e.Delay - e.Jitter; d >= kitSlow {
				w.slow[l] += d
			}
		case nodes.Lossy, nodes.Duplicated, nodes.Reordered, nodes.Limited:
		default:
			w.data[l] = e.Kind == nodes.CutData && (!w.cut[l] || w.data[l])
			w.cut[l] = true
		}
	}
	return w
}

// answers tells whether clients hear of a node.
func (w hurting) answers(id nodes.ID) bool {
	return !w.down[id] && !w.frozen[id] && !w.cut[nodes.Link{From: nodes.Clients, To: id}]
}

// A said is a word on its way.
type said struct {
	from, to nodes.Member
	word     string
	at       time.Time
}

// hurt looks at every node and every directed link. What is hurt must show it
// for as long as kitQuiet, and what is not must work meanwhile.
func (k *faultKit) hurt(t *testing.T, w hurting) {
	var dead []said
	shown := 0
	for _, m := range k.members {
		if !w.answers(m.ID) {
			shown++
			if pid, err := k.ask(m, "pid", kitQuiet); err == nil {
				t.Errorf("%s answers as process %s", m.ID, pid)
			}
		}
	}
	for _, l := range k.links() {
		if w.cut[nodes.Link{From: l.from.ID, To: l.to.ID}] && w.answers(l.from.ID) && w.answers(l.to.ID) {
			l.word, l.at = k.say(t, l.from, l.to), time.Now()
			dead = append(dead, l)
		}
	}
	for _, l := range k.links() {
		if !w.answers(l.from.ID) || !w.answers(l.to.ID) || w.cut[nodes.Link{From: l.from.ID, To: l.to.ID}] {
			continue
		}
		if least := w.slow[nodes.Link{From: l.from.ID, To: l.to.ID}]; least > 0 {
			shown++
			if took := k.takes(t, l); took < least {
				t.Errorf("a word took %s from %s to %s, at least %s are due", took, l.from.ID, l.to.ID, least)
			}
			continue
		}
		k.talks(t, l.from, l.to)
	}
	for _, l := range dead {
		shown++
		time.Sleep(time.Until(l.at.Add(kitQuiet)))
		if k.heard(t, l.to, l.word) {
			t.Errorf("a word got from %s to %s though that way is cut", l.from.ID, l.to.ID)
		}
	}
	if shown == 0 && len(w.weather) == 0 {
		t.Error("nothing showed a hurt")
	}
}

// flow says many words against each way that is cut while the way back is not.
// Where only data is cut they all arrive; where every packet is, TCP stops when
// no acknowledgement comes. Nothing else tells the one from the other.
func (k *faultKit) flow(t *testing.T, w hurting) {
	for _, l := range k.links() {
		way, back := nodes.Link{From: l.to.ID, To: l.from.ID}, nodes.Link{From: l.from.ID, To: l.to.ID}
		if !w.cut[way] || w.cut[back] {
			continue
		}
		for range faultFlow {
			if l.word = k.say(t, l.from, l.to); w.data[way] {
				k.arrives(t, l)
			}
		}
		if !w.data[way] && k.packets {
			time.Sleep(kitQuiet)
			if k.heard(t, l.to, l.word) {
				t.Errorf("%d words got from %s to %s though no acknowledgement can come back", faultFlow, l.from.ID, l.to.ID)
			}
		}
		return // the other ways are cut by the same rule
	}
}

// rains measures the weather of some links, with datagrams where there are
// packets, and with volumes of words.
func (k *faultKit) rains(t *testing.T, w hurting) {
	for _, l := range k.measured(w) {
		k.measure(t, k.member(l.From), k.member(l.To), w.weather[l])
	}
}

// measured are some of the links that have weather, evenly chosen.
func (k *faultKit) measured(w hurting) (out []nodes.Link) {
	all := nodes.SortedLinks(w.weather)
	for n := range min(kitMeasured, len(all)) {
		out = append(out, all[n*len(all)/min(kitMeasured, len(all))])
	}
	return out
}

// arrives waits for a word that was said.
func (k *faultKit) arrives(t *testing.T, l said) {
	t.Helper()
	for until := time.Now().Add(kitEnough); time.Now().Before(until); time.Sleep(kitLook) {
		if k.heard(t, l.to, l.word) {
			return
		}
	}
	t.Fatalf("no word gets from %s to %s", l.from.ID, l.to.ID)
}

// hidden says words to nodes that are cut off from clients alone, which can only
// be asked about them later.
func (k *faultKit) hidden(t *testing.T, w hurting) (out []said) {
	for _, l := range k.links() {
		if w.cut[nodes.Link{From: nodes.Clients, To: l.to.ID}] && w.answers(l.from.ID) {
			l.word = k.say(t, l.from, l.to)
			out = append(out, l)
		}
	}
	return out
}

// links lists every directed pair of members.
func (k *faultKit) links() (out []said) {
	for _, a := range k.members {
		for _, b := range k.members {
			if a.ID != b.ID {
				out = append(out, said{from: a, to: b})
			}
		}
	}
	return out
}

// takes says a word and waits for it: how long that was, from before it was said
// until after it was heard.
func (k *faultKit) takes(t *testing.T, l said) time.Duration {
	t.Helper()
	began := time.Now()
	l.word = k.say(t, l.from, l.to)
	k.arrives(t, l)
	return time.Since(began)
}

// cured looks at every node and every link: all work, and on a link that was
// slow some word is quicker than it could have been.
func (k *faultKit) cured(t *testing.T, effects []nodes.Effect) {
	t.Helper()
	k.meshed(t)
	w := hurtBy(effects)
	for _, l := range k.measured(w) {
		k.melted(t, k.member(l.From), k.member(l.To), w.weather[l])
	}
	for l, least := range w.slow {
		from, to := k.member(l.From), k.member(l.To)
		for until := time.Now().Add(faultFast); k.takes(t, said{from: from, to: to}) >= least; {
			if time.Now().After(until) {
				t.Fatalf("every word still takes %s or more from %s to %s", least, l.From, l.To)
			}
		}
	}
}

func (k *faultKit) member(id nodes.ID) nodes.Member {
	for _, m := range k.members {
		if m.ID == id {
			return m
		}
	}
	panic(fmt.Sprintf("nodestest: an effect speaks of %s, which is none of %d members", id, len(k.members)))
}
