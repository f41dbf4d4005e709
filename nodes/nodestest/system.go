package nodestest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
)

const (
	systemAnswer  = 5 * time.Second        // for an answer that must come
	systemSilence = 150 * time.Millisecond // for one that must not
	systemCallers = 6                      // at the same time
	systemAdds    = 30                     // of each of them
)

// What a [Running] may lack beside functions of histories.
const (
	LacksSessions = "sessions" // a command that is sent again is applied again
	LacksName     = "name"     // nodes talk to clients of every cluster
)

// A Running is a cluster of a system, as the kit needs it.
type Running struct {
	System  nodes.System
	Cluster nodes.Cluster // of three or more nodes
	Options nodes.Options // that it was launched with
	Lacks   []string      // functions of histories ("append") that the system does not have, LacksSessions, LacksName
}

// System checks that a system does what histories take for granted: functions
// and their values, linearizable reads in every mode, an honest grade for every
// end, one effect for a command that is sent twice. It needs a cluster whose
// nodes can be taken down and frozen; it closes it.
func System(t *testing.T, launch func(t *testing.T) Running) {
	k := &systemKit{Running: launch(t)}
	defer closing(t, k.Cluster)
	if k.members = k.Cluster.Members(); len(k.members) < 3 {
		t.Fatalf("the kit needs 3 nodes, got %d", len(k.members))
	}
	if k.modes = k.System.Modes(); k.System.Name() == "" || len(k.modes) == 0 {
		t.Fatalf("the system has name %q and read modes %q; it needs both", k.System.Name(), k.modes)
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"functions", k.functions}, {"values", k.values}, {"reads", k.reads}, {"refused", k.refused}, {"name", k.name},
		{"once", k.once}, {"concurrent", k.concurrent}, {"observe", k.observe}, {"dead", k.dead}, {"paused", k.paused},
	} {
		k.settle(t)
		t.Run(test.name, test.run)
	}
}

type systemKit struct {
	Running
	members []nodes.Member
	modes   []string
	keys    int // prefixes given so far
}

// has skips a test of what the system lacks.
func (k *systemKit) has(what string) bool { return !slices.Contains(k.Lacks, what) }

// A caller is one process at one node. Whatever does not end as Ok ends its session.
type caller struct {
	client            nodes.Client
	node              nodes.ID
	session, sequence uint64
}

func (k *systemKit) caller(t *testing.T, m nodes.Member) *caller {
	t.Helper()
	return k.callerOf(t, m, k.Options)
}

func (k *systemKit) callerOf(t *testing.T, m nodes.Member, o nodes.Options) *caller {
	t.Helper()
	c, err := k.System.Dial(t.Context(), m, k.Cluster.Dial, o)
	if err != nil {
		t.Fatalf("a client of %s: %v", m.ID, err)
	}
	t.Cleanup(func() { c.Close() })
	return &caller{client: c, node: m.ID, session: newSession()}
}

// callers are one for each node.
func (k *systemKit) callers(t *testing.T) (out []*caller) {
	for _, m := range k.members {
		out = append(out, k.caller(t, m))
	}
	return out
}

func newSession() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// prefix begins the keys of one scenario; nothing else uses them.
func (k *systemKit) prefix() string {
	k.keys++
	return fmt.Sprintf("kit/%d/", k.keys)
}

// A step is one operation and, where it is Ok, what must come of it.
type step struct{ f, key, mode, in, out string }

// invoke is the invocation of a step, under the caller's next sequence. Reads
// that are no commands have none.
func (c *caller) invoke(s step) history.Event {
	e := history.Event{Type: history.Invoke, F: s.f, Key: s.key, Mode: s.mode, Node: c.node.String(), Attempts: 1, Process: int(c.node)}
	if s.in != "" {
		e.Value = json.RawMessage(s.in)
	}
	if s.f != history.Read || s.mode == nodes.ModeLog {
		e.Session, e.Sequence = c.session, c.sequence+1
	}
	return e
}

// do makes one attempt of a new operation.
func (c *caller) do(t *testing.T, limit time.Duration, s step) history.Event {
	t.Helper()
	invoke := c.invoke(s)
	done := c.send(t, limit, invoke)
	switch {
	case done.Type != history.Ok:
		c.session, c.sequence = newSession(), 0
	case invoke.Sequence > 0:
		c.sequence = invoke.Sequence
	}
	return done
}

// send makes one attempt, whose end must be well-formed.
func (c *caller) send(t *testing.T, limit time.Duration, invoke history.Event) history.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	done := c.client.Do(ctx, invoke)
	if took := time.Since(began); took > limit+kitEnough {
		t.Errorf("%s of %s took %s though its context ended after %s", invoke.F, invoke.Key, took, limit)
	}
	as := invoke
	as.Type, as.Value, as.At, as.Error = done.Type, done.Value, done.At, done.Error
	switch {
	case fmt.Sprint(as) != fmt.Sprint(done):
		t.Errorf("the end of another operation: %+v of %+v", done, invoke)
	case done.Type != history.Ok && done.Type != history.Fail && done.Type != history.Info:
		t.Errorf("%s ends as %s", invoke.F, done.Type)
	case (done.Type == history.Ok) != (done.Error == ""):
		t.Errorf("%s ends as %s with error %q", invoke.F, done.Type, done.Error)
	case (done.Type == history.Ok) != (len(done.Value) > 0) && invoke.F != history.Append:
		t.Errorf("%s ends as %s with value %s", invoke.F, done.Type, done.Value)
	case invoke.F == history.Read && done.Type == history.Info:
		t.Errorf("a read is %s: %s; it has no effect, so it is ok or fail", done.Type, done.Error)
	}
	return done
}

// until tries an operation that may happen more than once until it is Ok.
func (c *caller) until(t *testing.T, s step) history.Event {
	t.Helper()
	var done history.Event
	for end := time.Now().Add(kitEnough); time.Now().Before(end); time.Sleep(kitLook) {
		if done = c.do(t, systemAnswer, s); done.Type == history.Ok {
			return done
		}
	}
	t.Fatalf("%s at %s is never ok; last %s: %s", s.f, c.node, done.Type, done.Error)
	return done
}

// settle waits until every node serves writes and reads.
func (k *systemKit) settle(t *testing.T) {
	t.Helper()
	key := k.prefix() + "settle"
	for _, c := range k.callers(t) {
		c.until(t, step{history.Write, key, "", "1", ""})
		for _, mode := range k.modes {
			c.until(t, step{history.Read, key, mode, "", ""})
		}
	}
}

// clear runs a scenario under fresh keys until one round meets no doubt, which
// it returns: on a busy machine leaders change, and then not every end is Ok.
func (k *systemKit) clear(t *testing.T, scenario func(prefix string) (doubt string)) {
	t.Helper()
	doubt := ""
	for end := time.Now().Add(kitEnough); time.Now().Before(end); time.Sleep(kitLook) {
		if doubt = scenario(k.prefix()); doubt == "" {
			return
		}
	}
	t.Fatalf("no round went through in %s; the last met %s", kitEnough, doubt)
}

// steps carries out steps in order, each at the next of the callers, and checks
// what comes of them.
func (k *systemKit) steps(t *testing.T, prefix string, callers []*caller, all []step) (doubt string) {
	t.Helper()
	for i, s := range all {
		if !k.has(s.f) {
			continue
		}
		s.key = prefix + s.key
		c := callers[i%len(callers)]
		done := c.do(t, systemAnswer, s)
		if done.Type != history.Ok {
			return fmt.Sprintf("%s at %s: %s %s", s.f, c.node, done.Type, done.Error)
		}
		if s.f == history.Append && string(done.Value) == "null" {
			continue // a system need not count
		}
		if got := string(done.Value); got != s.out {
			t.Errorf("step %d, %s %s %s at %s: %s, want %s", i+1, s.f, s.key, s.in, c.node, got, s.out)
		}
	}
	return ""
}

// functions: what each function does, every step at another node.
func (k *systemKit) functions(t *testing.T) {
	first, last := k.modes[0], k.modes[len(k.modes)-1]
	callers := k.callers(t)
	k.clear(t, func(prefix string) string {
		return k.steps(t, prefix, callers, []step{
			{history.Read, "r", first, "null", "null"},
			{history.Read, "r", "", "", "null"},
			{history.CAS, "r", "", "[1,2]", `{"swapped":false,"saw":null}`},
			{history.CAS, "r", "", "[null,2]", `{"swapped":true,"saw":null}`},
			{history.CAS, "r", "", "[null,3]", `{"swapped":false,"saw":2}`},
			{history.Read, "r", last, "", "2"},
			{history.CAS, "r", "", "[2,3]", `{"swapped":true,"saw":2}`},
			{history.CAS, "r", "", "[2,4]", `{"swapped":false,"saw":3}`},
			{history.Write, "r", "", "17", "17"},
			{history.Read, "r", first, "", "17"},
			{history.Read, "other", last, "", "null"},
			{history.Delete, "r", "", "null", "null"},
			{history.Delete, "r", "", "", "null"},
			{history.Read, "r", last, "", "null"},
			{history.Write, "r", "", "18", "18"},
			{history.Read, "r", first, "", "18"},
			{history.Add, "n", "", "5", "5"},
			{history.Add, "n", "", "-7", "-2"},
			{history.Add, "n", "", "0", "-2"},
		})
	})
	if k.has(history.Append) {
		k.clear(t, func(prefix string) string {
			return k.steps(t, prefix, callers, []step{
				{history.Append, "l", "", "1", "1"}, {history.Append, "l", "", "2", "2"},
				{history.Read, "l", first, "", "[1,2]"}, {history.Append, "l", "", "1", "3"}, {history.Read, "l", last, "", "[1,2,1]"},
			})
		})
	}
}

// values: what is written is what is read, whatever JSON it is.
func (k *systemKit) values(t *testing.T) {
	callers := k.callers(t)
	for _, v := range []string{"0", "-1", "9007199254740993", "true", `""`, `"a,\"b"`, `"null"`, `"é☃\n"`, "[]", `[[1],"x"]`, `{"x":[1,2],"y":{}}`,
		`"` + strings.Repeat("x", 10_000) + `"`} {
		k.clear(t, func(prefix string) string {
			return k.steps(t, prefix, callers, []step{
				{history.Write, "k", "", v, v},
				{history.Read, "k", k.modes[0], "", v},
				{history.CAS, "k", "", `[` + v + `,"next"]`, `{"swapped":true,"saw":` + v + `}`},
				{history.Read, "k", k.modes[len(k.modes)-1], "", `"next"`},
			})
		})
	}
}

// reads: what was acknowledged is read at every node, in every mode.
func (k *systemKit) reads(t *testing.T) {
	callers := k.callers(t)
	k.clear(t, func(prefix string) string {
		for i := range 10 * len(callers) {
			v := strconv.Itoa(i)
			if doubt := k.steps(t, prefix, callers[i%len(callers):], []step{{history.Write, "k", "", v, v}}); doubt != "" {
				return doubt
			}
			for _, mode := range k.modes {
				for n := range callers {
					if doubt := k.steps(t, prefix, callers[n:], []step{{history.Read, "k", mode, "", v}}); doubt != "" {
						return doubt
					}
				}
			}
		}
		return ""
	})
}

// refused: what can't be sent certainly failed.
func (k *systemKit) refused(t *testing.T) {
	c, prefix := k.caller(t, k.members[0]), k.prefix()
	for _, bad := range []step{
		{"shrink", "k", "", "1", ""}, {history.Read, "k", "by hearsay", "", ""}, {history.Write, "k", "", "", ""},
		{history.CAS, "k", "", "1", ""}, {history.CAS, "k", "", "[1]", ""}, {history.Add, "k", "", `"x"`, ""},
	} {
		bad.key = prefix + bad.key
		if done := c.do(t, systemAnswer, bad); done.Type != history.Fail {
			t.Errorf("%s %s of mode %q: %s %s", bad.f, bad.in, bad.mode, done.Type, done.Value)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if done := c.client.Do(ended, c.invoke(step{history.Write, prefix + "k", "", "1", ""})); done.Type != history.Fail {
		t.Errorf("a write whose context had ended: %s %s", done.Type, done.Error)
	}
	k.holds(t, prefix+"k", "null")
}

// name: clients of another cluster are refused.
func (k *systemKit) name(t *testing.T) {
	if !k.has(LacksName) {
		t.Skip("the system's nodes do not know their cluster's name")
	}
	o, prefix := k.Options, k.prefix()
	o.Cluster += "-not"
	for _, m := range k.members {
		c := k.callerOf(t, m, o)
		for _, s := range []step{{history.Write, prefix + "k", "", "1", ""}, {history.Read, prefix + "k", k.modes[0], "", ""}} {
			if done := c.do(t, systemAnswer, s); done.Type != history.Fail {
				t.Errorf("%s at %s for another cluster: %s %s", s.f, m.ID, done.Type, done.Value)
			}
		}
	}
	k.holds(t, prefix+"k", "null")
}

// holds checks what every node reads.
func (k *systemKit) holds(t *testing.T, key string, want ...string) {
	t.Helper()
	for _, c := range k.callers(t) {
		for _, mode := range k.modes {
			if got := string(c.until(t, step{history.Read, key, mode, "", ""}).Value); !slices.Contains(want, got) {
				t.Errorf("%s reads %s as %s by %s, want one of %s", c.node, key, got, mode, want)
			}
		}
	}
}

// concurrent: adds of several callers happen once each, and each sees a sum of its own.
func (k *systemKit) concurrent(t *testing.T) {
	if !k.has(history.Add) {
		t.Skip("the system does not add")
	}
	key := k.prefix() + "n"
	var (
		all      sync.WaitGroup
		mu       sync.Mutex
		sums     = map[string]bool{}
		doubtful int
	)
	for i := range systemCallers {
		c := k.caller(t, k.members[i%len(k.members)])
		all.Go(func() {
			for range systemAdds {
				done := c.do(t, systemAnswer, step{history.Add, key, "", "1", ""})
				mu.Lock()
				switch {
				case done.Type == history.Info:
					doubtful++
				case done.Type == history.Ok && sums[string(done.Value)]:
					t.Errorf("two adds gave %s", done.Value)
				case done.Type == history.Ok:
					sums[string(done.Value)] = true
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	got, err := strconv.Atoi(string(k.caller(t, k.members[0]).until(t, step{history.Read, key, k.modes[0], "", ""}).Value))
	if err != nil || got < len(sums) || got > len(sums)+doubtful || len(sums) == 0 {
		t.Errorf("%d after %d adds were ok and %d doubtful (%v)", got, len(sums), doubtful, err)
	}
}
