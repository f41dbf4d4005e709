package campaign

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/linearizability"
	"chaos/nodes"
	"chaos/nodes/consensus"
	"chaos/nodes/kv"
	"chaos/nodes/sim"
	"chaos/raft"
	"chaos/results"
)

// A ward is what all cores of one cluster know of each other, to stop answering by.
type ward struct {
	now    map[consensus.ID]int // ticks that each had
	heard  map[consensus.ID]int // messages that each received,
	spoken map[consensus.ID]int // and that others received of it
	starts map[consensus.ID]int
}

// A lame core answers as long as its rule lets it. What it is asked otherwise is gone.
type lame struct {
	raftCore
	*ward
	id     consensus.ID
	serves rule
	waits  map[uint64][2]map[consensus.ID]int // reads that wait for all others, with what they had heard and spoken
}

// A rule says whether a node answers now: through the log, or past it.
type rule func(w *ward, id consensus.ID, through bool) bool

// limping is raft whose cores answer as long as the rule lets them; where there
// is none, they answer reads past the log when all others have been heard of since.
func limping(serves rule) sim.System {
	w := &ward{now: map[consensus.ID]int{}, heard: map[consensus.ID]int{}, spoken: map[consensus.ID]int{}, starts: map[consensus.ID]int{}}
	return sim.Of("raft", raft.Codec{}, raft.NewCheck, func(k *raft.Check, o consensus.Options) raftCore {
		c := raft.New(o)
		k.Add(c)
		w.starts[o.ID]++
		return &lame{raftCore: c, ward: w, id: o.ID, serves: serves, waits: map[uint64][2]map[consensus.ID]int{}}
	})
}

func (l *lame) Tick() raftOutput {
	l.now[l.id]++
	for key, had := range l.waits { // any one
		all := true
		for id := range l.starts {
			all = all && l.heard[id] > had[0][id] && l.spoken[id] > had[1][id]
		}
		if all {
			delete(l.waits, key)
			return l.raftCore.Read(key)
		}
		break
	}
	return l.raftCore.Tick()
}

func (l *lame) Receive(e consensus.Envelope[raft.Message]) raftOutput {
	l.heard[l.id]++
	l.spoken[e.From]++
	return l.raftCore.Receive(e)
}

func (l *lame) Read(key uint64) raftOutput {
	switch {
	case l.serves == nil:
		l.waits[key] = [2]map[consensus.ID]int{maps.Clone(l.heard), maps.Clone(l.spoken)}
	case l.serves(l.ward, l.id, false):
		return l.raftCore.Read(key)
	}
	return raftOutput{}
}

func (l *lame) Propose(c consensus.Command) raftOutput {
	if l.serves == nil || l.serves(l.ward, l.id, true) {
		return l.raftCore.Propose(c)
	}
	return raftOutput{}
}

// quietPlan is a plan of so many nodes whom nobody hurts.
func quietPlan(t *testing.T, nodes int, seed uint64, d time.Duration) Plan {
	t.Helper()
	s := Spec{System: "raft", Provider: "sim", Nodes: nodes, Duration: Duration(d), Faults: []string{}, Workload: "register",
		Concurrency: 4, Rate: 50, Knobs: DefaultSpec().Knobs, Lease: DefaultSpec().Lease}
	s.world()
	p, err := Draw(s, seed)
	if err != nil {
		t.Fatal(err)
	}
	p.Schedule = nil
	return p
}

// A cluster that does not answer when it must is stuck: past the log or through
// it; the majority while others are broken; all nodes when they are healed; and
// all after they were restarted.
func TestStuck(t *testing.T) {
	const late = 250             // ticks: the storm is under way
	const patience = time.Minute // of the demand, as its documentation says
	for name, c := range map[string]struct {
		nodes        int
		serves       rule
		when         string
		of           int // how many nodes were asked
		seeds, least int // how many of them show it: what is broken outside the majority is drawn
	}{
		"past the log":             {3, func(w *ward, id consensus.ID, through bool) bool { return through || w.now[id] < late }, "after the storm", 2, 2, 2},
		"through the log":          {3, func(w *ward, id consensus.ID, through bool) bool { return !through || w.now[id] < late }, "after the storm", 2, 2, 2},
		"a majority is not enough": {3, nil, "after the storm", 2, 5, 2},
		"who was down never answers again": {3, func(w *ward, id consensus.ID, _ bool) bool { return w.starts[id] == 1 },
			"after the storm", 3, 8, 1},
		"nobody survives a restart": {2, func(w *ward, id consensus.ID, _ bool) bool { return w.starts[id] == 1 },
			"after all nodes were restarted", 2, 2, 2},
	} {
		shown := 0
		for seed := range uint64(c.seeds) {
			out := simulated(t, limping(c.serves), quietPlan(t, c.nodes, seed+1, 3*time.Second))
			if out.Breach == nil || !strings.Contains(out.Interrupted, c.when) {
				continue
			}
			shown++
			b := out.Breach
			asked, _, _ := strings.Cut(b.Detail[strings.Index(b.Detail, "[")+1:], "]")
			if b.Invariant != Stuck || b.Node == 0 || len(strings.Fields(asked)) != c.of || out.Time < patience || out.Time > patience+20*time.Second {
				t.Errorf("%s, seed %d: after %s %v; want %d nodes that were asked for %s", name, seed+1, out.Time, b, c.of, patience)
			}
			if last, ok := lastNote(t, out, history.Incident); !ok || last.Detail != history.Invariant+b.Error() || last.Node != b.Node.String() {
				t.Errorf("%s, seed %d: the history tells of %+v, not of %v", name, seed+1, last, b)
			}
		}
		if shown < c.least {
			t.Errorf("%s: %d of %d seeds are stuck, want %d at least", name, shown, c.seeds, c.least)
		}
	}
}

// lastNote is the last note of a function in the history.
func lastNote(t *testing.T, s Simulation, f string) (n history.Note, ok bool) {
	t.Helper()
	for _, e := range s.History.Events {
		if e.Process == history.Nemesis && e.F == f {
			var err error
			if n, err = history.DecodeNote(e); err != nil {
				t.Fatal(err)
			}
			ok = true
		}
	}
	return n, ok
}

// After the storm the links of the majority lose nothing any more.
func TestMajorityIsCalm(t *testing.T) {
	for seed := range uint64(3) {
		plan := quietPlan(t, 2, seed+1, time.Second)
		world := plan.Spec.settings()
		world.Lossy, plan.Spec.Sim = 300, &world
		calm, over := false, false
		way := map[string]bool{} // under way
		sent, lost := 0, 0
		run := Simulated{Plan: plan, System: simSystems["raft"], Trace: func(e sim.Traced) {
			link := fmt.Sprint(e.Node, e.To, e.Number)
			switch {
			case e.Kind == sim.TraceFault && strings.HasPrefix(e.Text, restOf+":"):
				calm = true
			case e.Kind == sim.TraceFault && calm:
				over = true // all nodes are killed
			case e.Kind == sim.TraceSend && calm && !over:
				if sent++; way[link] {
					lost++
				}
				way[link] = true
			case e.Kind == sim.TraceArrive:
				delete(way, link)
			}
		}}
		if _, err := run.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if sent < 100 || lost+len(way) > sent/50 {
			t.Errorf("seed %d: of %d messages %d never arrived", seed+1, sent, lost+len(way))
		}
	}
}

// director is a simulation whose nodes run, for a look at what it decides.
func director(t *testing.T, plan Plan, trace func(sim.Traced)) *simRun {
	t.Helper()
	r := &simRun{Simulated: Simulated{Plan: plan, System: simSystems["raft"]}, dice: stream(plan.Seed, directorStream)}
	r.world = sim.New(sim.Options{System: r.System, Nodes: plan.Spec.Nodes, Knobs: plan.Spec.Knobs.Nodes(), Cluster: simNonce,
		Settings: plan.Spec.settings(), Seed: plan.Seed, Trace: trace}, func(int32) {})
	r.storm = newStorm(r, r.world, func() nodes.ID { return 0 })
	if err := r.world.Boot(); err != nil {
		t.Fatal(err)
	}
	return r
}

// What the storm broke outside the majority stays broken, and more of it is;
// nothing within the majority does.
func TestRestStaysBroken(t *testing.T) {
	more := 0
	for seed := range uint64(30) {
		left := ""
		r := director(t, quietPlan(t, 5, seed+1, time.Second), func(e sim.Traced) {
			if e.Kind == sim.TraceFault {
				left = e.Text
			}
		})
		core := r.core()
		others := r.others(core)
		if len(core) != 3 || len(others) != 2 {
			t.Fatalf("seed %d: the majority is %v of 5", seed+1, core)
		}
		kept := func(in, out nodes.ID) []nodes.Effect {
			return []nodes.Effect{{Kind: nodes.Skewed, Node: in, PerMille: 100}, {Kind: nodes.Skewed, Node: out, PerMille: 200},
				{Kind: nodes.Lossy, From: in, To: core[1], PerMille: 100}, {Kind: nodes.Lossy, From: in, To: out, PerMille: 200},
				{Kind: nodes.Lossy, From: out, To: in, PerMille: 200}}
		}(core[0], others[0])
		r.storm.live = []*injection{{effects: kept}}
		if _, err := r.leaveBroken(); err != nil {
			t.Fatal(err)
		}
		for i, e := range kept {
			if got, want := strings.Contains(left, e.String()), i == 1 || i > 2; got != want {
				t.Errorf("seed %d: the majority is %v; %s is kept: %t, want %t: %s", seed+1, core, e, got, want, left)
			}
		}
		if strings.Contains(left, "cut") || strings.Contains(left, "down") || strings.Contains(left, "frozen") {
			more++
		}
	}
	if more < 20 {
		t.Errorf("in %d of 30 seeds more is broken than the storm left", more)
	}
}

// The leader that is being replaced is no part of the majority.
func TestOutgoingLeaderIsOutside(t *testing.T) {
	within := 0
	for seed := range uint64(20) {
		r := director(t, quietPlan(t, 3, seed+1, time.Second), nil)
		if len(r.others(r.core())) != 1 || r.others(r.core())[0] != 2 {
			within++
		}
		r.outgoing = 2
		if others := r.others(r.core()); len(others) != 1 || others[0] != 2 {
			t.Errorf("seed %d: outside the majority are %v, want n2", seed+1, others)
		}
	}
	if within == 0 {
		t.Error("n2 is outside of every majority")
	}
}

// What nobody asked for is in the history, and what failed is in the record.
func TestIncidentsAreNoted(t *testing.T) {
	r := director(t, quietPlan(t, 3, 1, time.Second), nil)
	r.incident(nodes.Incident{Node: 2, Kind: "exit", Detail: "exit: it fell over"})
	r.storm.trouble = []string{"it went wrong"}
	out := r.result("in between")
	if n, _ := lastNote(t, out, history.Incident); n.Node != "n2" || n.Detail != "exit: it fell over" {
		t.Errorf("the history tells of %+v", n)
	}
	if out.Interrupted != "in between" || len(out.Trouble) != 1 {
		t.Errorf("interrupted %q, trouble %q", out.Interrupted, out.Trouble)
	}
}

// In the storm leadership is handed over and nodes die about as often as the
// settings say; who dies is soon started again.
func TestDirectorMeddles(t *testing.T) {
	for _, often := range []int64{0, 200} {
		plan := quietPlan(t, 3, 1, 5*time.Second)
		world := plan.Spec.settings()
		world.Transfer, world.Crashes, plan.Spec.Sim = often, often, &world
		transfers, deaths, over := 0, 0, false
		down := map[nodes.ID]time.Duration{}
		run := Simulated{Plan: plan, System: simSystems["raft"], Trace: func(e sim.Traced) {
			over = over || e.Kind == sim.TraceFault
			died := e.Kind == sim.TraceDown && strings.Contains(e.Text, "crash point")
			switch at, dead := down[e.Node]; {
			case over:
			case e.Kind == sim.TraceNote && strings.Contains(e.Text, "hand over"):
				transfers++
			case died:
				deaths++
				down[e.Node] = e.At
			case e.Kind == sim.TraceUp && dead:
				if e.At-at > simCrashMax+2*simObserve {
					t.Errorf("%s is started %s after it died", e.Node, e.At-at)
				}
				delete(down, e.Node)
			}
		}}
		if _, err := run.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if often == 0 && transfers+deaths > 0 || often > 0 && (transfers < 4 || deaths < 4 || len(down) > 2) {
			t.Errorf("every %d ms: %d transfers and %d deaths, %d nodes down at the end", often, transfers, deaths, len(down))
		}
	}
}

// At the end every key is read through every node, and again when all nodes have
// been restarted; in the storm in each mode of reading.
func TestEndIsRead(t *testing.T) {
	restarts := 0
	plan := quietPlan(t, 3, 1, 2*time.Second)
	out, err := Simulated{Plan: plan, System: simSystems["raft"], Trace: func(e sim.Traced) {
		if e.Kind == sim.TraceUp && strings.Contains(e.Text, "starts, incarnation") {
			restarts++
		}
	}}.Run(t.Context())
	if err != nil || out.Interrupted != "" || out.Breach != nil {
		t.Fatalf("%q, %v, %v", out.Interrupted, out.Breach, err)
	}
	phase, phases := "", []string{}
	written := map[string]bool{}
	read := map[string]map[string]bool{} // by phase: key and node
	for _, e := range out.History.Events {
		switch {
		case e.Process == history.Nemesis && e.F == history.Phase:
			n, _ := history.DecodeNote(e)
			phase = n.Phase
			phases, read[phase] = append(phases, phase), map[string]bool{}
		case e.Process == history.Nemesis && e.F == history.Leader:
			read["leader "+phase] = map[string]bool{"led": true}
		case e.Type == history.Ok && e.F == history.Write:
			written[e.Key] = true
		case e.Type == history.Ok && e.F == history.Read:
			read[phase][e.Key+" through "+e.Node], read[phase][e.Mode] = true, true
		}
	}
	if want := []string{history.WarmUp, history.Storm, history.Healing, history.Settle, history.Final, history.Restart, history.Again}; !slices.Equal(phases, want) {
		t.Fatalf("the phases are %v, want %v", phases, want)
	}
	for key := range written {
		for _, node := range []string{"n1", "n2", "n3"} {
			for _, at := range []string{history.Final, history.Again} {
				if !read[at][key+" through "+node] {
					t.Errorf("%s was not read through %s in the phase %s", key, node, at)
				}
			}
		}
	}
	for _, mode := range []string{nodes.ModeIndex, nodes.ModeLog} {
		if !read[history.Storm][mode] || len(written) == 0 {
			t.Errorf("no read %s in the storm, %d keys", mode, len(written))
		}
	}
	if !read["leader "+history.Restart]["led"] && !read["leader "+history.Again]["led"] {
		t.Error("nobody is seen to lead after the restart")
	}
	if restarts != 6 && restarts != 7 { // one more where the one outside the majority was down
		t.Errorf("3 nodes were started %d times", restarts)
	}
}

// A listener is a core that notes the commands which its node was asked for.
type listener struct {
	raftCore
	heard func(kv.Command)
}

func (l listener) Propose(c consensus.Command) raftOutput {
	if k, err := kv.DecodeCommand(c.Data); err == nil {
		l.heard(k)
	}
	return l.raftCore.Propose(c)
}

// A probe's question through the log is new each time: no answer of before can
// stand for it. Clients send some commands twice, under the same number.
func TestSimulatedCommands(t *testing.T) {
	probes, asked := map[uint64]int{}, map[[2]uint64]int{}
	system := raftWith(func(c raftCore) raftCore {
		return listener{c, func(k kv.Command) {
			if strings.HasSuffix(k.Key, "probe/0") {
				probes[k.Session]++
			} else {
				asked[[2]uint64{k.Session, k.Sequence}]++
			}
		}}
	})
	out := simulated(t, system, quietPlan(t, 3, 1, 5*time.Second))
	for session, n := range probes {
		if n != 1 {
			t.Errorf("session %d of a probe is used %d times", session, n)
		}
	}
	if len(probes) < 9 { // each node at the start, and when all were healed and restarted
		t.Errorf("%d probes through the log", len(probes))
	}
	twice := 0
	for _, n := range asked {
		if n > 1 {
			twice++
		}
	}
	if out.Breach != nil || twice < 3 || twice > len(asked)/5 {
		t.Errorf("of %d commands %d were sent more than once; breach %v", len(asked), twice, out.Breach)
	}
}

// What had no answer is sent again.
func TestSimulatedRetries(t *testing.T) {
	again := 0
	for seed := range uint64(6) {
		for _, e := range simulate(t, "raft", seed+1, 2*time.Second, nil).History.Events {
			if e.Process != history.Nemesis && e.Type != history.Invoke && e.Attempts > 1 {
				again++
			}
		}
	}
	if again < 5 {
		t.Errorf("%d operations were sent again", again)
	}
}

// Clients ask as often as the plan says, and stop where the world says so.
func TestSimulatedLoad(t *testing.T) {
	for limit, want := range map[int]int{0: 150, 20: 20} {
		plan := quietPlan(t, 3, 1, 3*time.Second) // of 50 operations a second
		world := plan.Spec.settings()
		world.Cap, plan.Spec.Sim = limit, &world
		phase, asked := "", 0
		for _, e := range simulated(t, simSystems["raft"], plan).History.Events {
			switch {
			case e.F == history.Phase:
				n, _ := history.DecodeNote(e)
				phase = n.Phase
			case e.Type == history.Invoke && e.Process != history.Nemesis && phase == history.Storm:
				asked++
			}
		}
		if asked < want*9/10 || asked > want+2 {
			t.Errorf("at most %d: clients asked %d times in the storm, want %d", limit, asked, want)
		}
	}
}

// A fault that the plan asks for and the storm never brought makes a run unknown,
// and so is a crash point that was never reached told of, whoever else dies.
func TestSimulatedPromises(t *testing.T) {
	for _, asked := range [][]string{{}, {"kill"}} {
		plan := quietPlan(t, 3, 1, 3*time.Second)
		plan.Spec.Faults = asked
		out := simulated(t, simSystems["raft"], plan)
		_, verdict, err := out.Judge(t.Context(), plan)
		if unknown := verdict.Outcome == linearizability.Unknown; err != nil || unknown != (len(asked) > 0) {
			t.Errorf("asked for %v and given none: %s, %v: %s", asked, verdict.Outcome, err, verdict.Reason)
		}
	}
	for point, missed := range map[string]bool{"n1:sync:90000": true, "n1:sync:5": false, "": false} {
		plan := quietPlan(t, 3, 1, 3*time.Second)
		plan.Spec.Knobs.CrashAt = point
		world := plan.Spec.settings()
		world.Crashes, plan.Spec.Sim = 100, &world
		told := false
		for _, e := range simulated(t, simSystems["raft"], plan).History.Events {
			told = told || e.F == history.Incident && strings.Contains(string(e.Value), "never reached")
		}
		if told != missed {
			t.Errorf("crash point %q: told that it was missed: %t, want %t", point, told, missed)
		}
	}
}

// After a simulated storm an operation must succeed when the demands of the
// majority and of all have had their time; live runs have the usual bound.
func TestSettleBound(t *testing.T) {
	plan := quietPlan(t, 3, 1, time.Second)
	if got := settleBound(plan); got != 2*time.Minute+linearizability.SettleBound {
		t.Errorf("simulated: %s", got)
	}
	plan.Spec.Provider = "local"
	if got := settleBound(plan); got != 0 {
		t.Errorf("live: %s", got)
	}
}

// A simulated run leaves what a live one leaves, each node's own record included.
func TestSimulatedFolder(t *testing.T) {
	root, plan := t.TempDir(), quietPlan(t, 3, 1, time.Second)
	s, err := Simulated{Plan: plan, System: simSystems["raft"]}.Execute(t.Context(), root, time.Now(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{results.PlanFile, results.HistoryFile}
	for _, node := range []string{"n1", "n2", "n3"} {
		files = append(files, filepath.Join(results.NodesFolder, node, auditName))
	}
	for _, name := range files {
		if b, err := os.ReadFile(filepath.Join(root, s.Run, name)); err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// The one who is to follow a leader that is cut off is within the majority.
func TestTakeOverWithin(t *testing.T) {
	for seed := range uint64(6) {
		plan := quietPlan(t, 5, seed+1, time.Second)
		world := plan.Spec.settings()
		world.TakeOver, plan.Spec.Sim = true, &world
		asked, from, to := 0, nodes.ID(0), ""
		run := Simulated{Plan: plan, System: simSystems["raft"], Trace: func(e sim.Traced) {
			if who, ok := strings.CutPrefix(e.Text, "is asked to hand over to "); ok {
				asked, from, to = asked+1, e.Node, who
			}
		}}
		if _, err := run.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := director(t, plan, nil)
		r.outgoing = from
		if core := fmt.Sprint(r.core()); asked != 1 || !strings.Contains(core, to) || strings.Contains(core, from.String()) {
			t.Errorf("seed %d: asked %d times; %s hands over to %q; the majority is %s", seed+1, asked, from, to, core)
		}
	}
}
