package ssh

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
	"chaos/nodes/nodestest"
)

// surviveLease is what these tests give.
const surviveLease = nodestest.SurviveLease

// LabProvider is a provider of count machines of the lab, for tests outside of
// this package.
func LabProvider(t testing.TB, count int, more ...string) *Provider {
	t.Helper()
	return needLab(t).provider(t, count, more...)
}

// LabFiles are a hosts file of count machines of the lab, and the home of the
// person who may log in there, for tests outside of this package.
func LabFiles(t testing.TB, count int, more ...string) (hosts, home string) {
	t.Helper()
	l := needLab(t)
	return l.hostsFile(t, count, more...), l.home
}

// harness launches a cluster, hurts it in every way, says so, and waits.
func harness(hosts string, args []string) error {
	p := New("", Config{HostsFile: hosts, Home: args[0]})
	o := nodestest.ProviderOptions(args[1], "")
	lease, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	o.Lease = lease
	c, err := p.Launch(context.Background(), nodestest.Talker{}, o)
	if err != nil {
		return err
	}
	for name, effects := range nodestest.Hurts(p.Probe(context.Background(), o)) {
		ev, err := c.Apply(context.Background(), name, effects)
		if err != nil || !ev.Proven() {
			return fmt.Errorf("%s: %v, %w", name, ev.Failures(), err)
		}
	}
	fmt.Println("hurt")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startHarness starts one and waits until its cluster is hurt.
func startHarness(t *testing.T, l *lab, hosts string, lease time.Duration) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "harness", hosts, l.home, t.TempDir(), lease.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "hurt\n" {
		t.Fatalf("the harness says %q, %v", line, err)
	}
	return cmd
}

// processes lists the machine's processes of runs: agents, or nodes.
func (m *labMachine) processes(t testing.TB, agents bool) (out []int) {
	t.Helper()
	space, err := os.Readlink(proc(m.pid, "ns/net"))
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		there, err := os.Readlink(proc(pid, "ns/net"))
		if err != nil || there != space {
			continue
		}
		if p, ours := ourProcess(pid); ours && p.agent == agents {
			out = append(out, pid)
		}
	}
	return out
}

// tables lists the machine's tables of runs.
func (m *labMachine) tables(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(m.sh(t, "nft list tables | grep "+agent.TableOf("")+" || true"))
}

// left tells what of runs is on the machine, "" where there is nothing.
func (m *labMachine) left(t testing.TB) string {
	t.Helper()
	out := m.sh(t, "nft list tables | grep "+agent.TableOf("")+"; ls /var/tmp/chaos-0/runs 2>/dev/null || true")
	for _, pid := range append(m.processes(t, true), m.processes(t, false)...) {
		out += fmt.Sprintf("process %d\n", pid)
	}
	return out
}

// blocked tells how many addresses the machine's tables name.
func (m *labMachine) blocked(t testing.TB) int {
	t.Helper()
	return strings.Count(m.sh(t, "nft list ruleset"), " expires ")
}

// bare tells what is left on the machine beside folders.
func (m *labMachine) bare(t testing.TB) bool {
	return len(m.processes(t, true)) == 0 && len(m.processes(t, false)) == 0 && m.tables(t) == ""
}

// cutOff drops every packet between the tests and a machine, and returns what
// ends it. The machines reach each other meanwhile.
func (l *lab) cutOff(t testing.TB, m *labMachine) (mend func()) {
	t.Helper()
	table := "lab_" + m.device
	nft := func(script string) {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	nft(fmt.Sprintf(`table ip %[1]s {
 chain in { type filter hook input priority 0; ip saddr %[2]s drop; }
 chain out { type filter hook output priority 0; ip daddr %[2]s drop; }
}`, table, m.addr))
	mended := false
	mend = func() {
		if !mended {
			mended = true
			nft("delete table ip " + table + "\n")
		}
	}
	t.Cleanup(mend)
	return mend
}

// foreign loads rules of somebody else, and returns how they look from now on.
func (m *labMachine) foreign(t testing.TB) func() string {
	t.Helper()
	m.sh(t, `nft -f - <<'END'
table inet theirs {
 set friends { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }
 chain input { type filter hook input priority 10; policy accept; ip saddr @friends accept; tcp dport 9 drop; }
}
table ip chaosnot {
 chain x { ip daddr 192.0.2.3 drop; }
}
END`)
	t.Cleanup(func() { m.sh(t, "nft delete table inet theirs; nft delete table ip chaosnot") })
	return func() string {
		return m.sh(t, "nft -a list table inet theirs; nft -a list table ip chaosnot; nft list tables | grep -v chaos_")
	}
}

// A harness that is killed leaves hosts that are healed at once, folders that
// clean finds, and nobody else's rules touched.
func TestHarnessKilled(t *testing.T) {
	t.Parallel()
	l := needLab(t)
	hosts := l.hostsFile(t, 3)
	var looks []func() string
	var before []string
	for _, m := range l.hosts[:3] {
		look := m.foreign(t)
		looks, before = append(looks, look), append(before, look())
	}
	cmd := startHarness(t, l, hosts, surviveLease)
	for i, m := range l.hosts[:3] {
		if (len(m.processes(t, false)) == 0) != (i == 0) || len(m.processes(t, true)) != 1 || m.tables(t) == "" {
			t.Fatalf("%s is not hurt: nodes %v, agents %v, tables %q", m.spec.Name, m.processes(t, false), m.processes(t, true), m.tables(t))
		}
	}
	c := Config{HostsFile: hosts, Home: l.home}
	var kept []string
	c.Log = func(line string) { kept = append(kept, line) }
	if left, err := Clean(t.Context(), "", c, false); err != nil || len(left) > 0 {
		t.Fatalf("of a live run clean takes %v, %v", left, err)
	}
	if !strings.Contains(strings.Join(kept, "\n"), ", which lives") {
		t.Errorf("why a live run stays: %v", kept)
	}
	killed := time.Now()
	cmd.Process.Kill()
	cmd.Wait()
	for _, m := range l.hosts[:3] {
		until(t, m.spec.Name+" is healed", func() bool { return m.bare(t) })
	}
	t.Logf("healed within %s", time.Since(killed).Round(time.Millisecond))
	l.cleaned(t, c, 3)
	for i, look := range looks {
		if after := look(); after != before[i] {
			t.Errorf("somebody else's rules before:\n%s\nafter:\n%s", before[i], after)
		}
	}
}

// cleaned checks that clean finds a dead run on each of count hosts, removes it
// and leaves nothing at all.
func (l *lab) cleaned(t *testing.T, c Config, count int) {
	t.Helper()
	dry, err := Clean(t.Context(), "", c, true)
	runs := func(l Leftover) bool { return l.Kind == string(runItem) }
	if err != nil || len(slices.DeleteFunc(slices.Clone(dry), func(l Leftover) bool { return !runs(l) })) != count {
		t.Fatalf("clean would remove %v, %v", dry, err)
	}
	done, err := Clean(t.Context(), "", c, false)
	if err != nil || len(done) != len(dry) {
		t.Errorf("clean removed %v, %v, but would have %v", done, err, dry)
	}
	for _, m := range l.hosts[:count] {
		if left := m.sh(t, "ls -lR /var/tmp/chaos-* 2>/dev/null || true"); left != "" {
			t.Errorf("%s still has %s", m.spec.Name, left)
		}
	}
	if again, err := Clean(t.Context(), "", c, false); err != nil || len(again) > 0 {
		t.Errorf("a second clean: %v, %v", again, err)
	}
}

// Where the network dies together with the harness no host hears of it: leases
// end the agents, and where those are killed, too, the kernel ends cuts.
func TestEverythingDies(t *testing.T) {
	t.Parallel()
	l := needLab(t)
	hosts := l.hostsFile(t, 3)
	cmd := startHarness(t, l, hosts, surviveLease)
	var mends []func()
	for _, m := range l.hosts[:3] {
		mends = append(mends, l.cutOff(t, m))
	}
	cut := time.Now()
	cmd.Process.Kill()
	cmd.Wait()
	for _, m := range l.hosts[1:3] { // h2 is slow and cut, with a node that is frozen; h3 is lossy and cut
		if m.blocked(t) == 0 {
			t.Errorf("nothing is blocked on %s although its agent lives and it can't have heard", m.spec.Name)
		}
		for _, pid := range m.processes(t, true) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, m := range l.hosts[1:3] {
		until(t, "the kernel ends the cuts of "+m.spec.Name, func() bool { return m.blocked(t) == 0 })
		t.Logf("the kernel ended cuts after %s", time.Since(cut).Round(time.Millisecond))
		if m.tables(t) == "" {
			t.Errorf("the table of %s is gone, though nobody is left who could remove it", m.spec.Name)
		}
		if nodes := m.processes(t, false); len(nodes) > 0 {
			t.Errorf("the node of %s outlived its agent: %v", m.spec.Name, nodes)
		}
	}
	for _, m := range l.hosts[:1] {
		until(t, m.spec.Name+" is bare", func() bool { return m.bare(t) })
	}
	t.Logf("leases ended the rest after %s", time.Since(cut).Round(time.Millisecond))
	for _, mend := range mends {
		mend()
	}
	l.cleaned(t, Config{HostsFile: hosts, Home: l.home}, 3)
	for _, m := range l.hosts[:3] {
		if !m.bare(t) {
			t.Errorf("clean left tables %q, agents %v, nodes %v on %s", m.tables(t), m.processes(t, true), m.processes(t, false), m.spec.Name)
		}
	}
}

// survivor is a cluster with a short lease.
func survivor(t *testing.T, l *lab) (nodes.Cluster, nodes.Abilities) {
	t.Helper()
	o := nodestest.ProviderOptions(t.TempDir(), "")
	o.Lease, o.Log = surviveLease, func(line string) { t.Log(line) }
	p := l.provider(t, 3)
	able := p.Probe(t.Context(), o)
	for _, kind := range []nodes.EffectKind{nodes.Cut, nodes.Delayed, nodes.Lossy} {
		if why := able.Effects[kind]; why != nil {
			t.Fatalf("the machines can't do %s: %v", kind, why)
		}
	}
	c, err := p.Launch(t.Context(), nodestest.Talker{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Errorf("closing: %v", err)
		}
		for _, m := range l.hosts[:3] {
			if left := m.left(t); left != "" {
				t.Errorf("on %s are left: %s", m.spec.Name, left)
			}
		}
	})
	return c, able
}

func proven(t *testing.T, what string, ev nodes.Evidence, err error) {
	t.Helper()
	if err != nil || !ev.Proven() {
		t.Fatalf("%s: %v, %v", what, ev.Failures(), err)
	}
}

// back waits until an injection that had a gap holds again.
func back(t *testing.T, c nodes.Cluster, injection string) {
	t.Helper()
	var ev nodes.Evidence
	var err error
	until(t, "what is wanted holds again", func() bool {
		ev, err = c.Verify(t.Context(), injection)
		return err == nil && !slices.ContainsFunc(ev.Proofs, func(p nodes.Proof) bool { return !p.Holds })
	})
	if len(ev.Gaps) == 0 {
		t.Error("the host was out of reach, and no gap is told")
	}
	ev, err = c.Revert(t.Context(), injection)
	proven(t, "revert", ev, err)
}

// everything is every hurt: agents hold them all up.
func everything(string) bool { return true }

// Hosts whose network dies heal themselves within the lease, and one lease later
// have not even an agent; when they can be reached again they are brought to what
// is wanted, and the gap is told.
func TestNetworkDies(t *testing.T) {
	t.Parallel()
	l := needLab(t)
	c, able := survivor(t, l)
	nodestest.Survive(t, c, able, func(t *testing.T) {
		var mends []func()
		for _, m := range l.hosts[:3] {
			mends = append(mends, l.cutOff(t, m))
		}
		began := time.Now()
		agents := map[string]int{}
		for _, m := range l.hosts[:3] {
			until(t, m.spec.Name+" is healed", func() bool { return len(m.processes(t, false)) == 0 && m.tables(t) == "" })
			agents[m.spec.Name] = len(m.processes(t, true))
		}
		healed := time.Since(began)
		for name, n := range agents {
			if n == 0 && healed < 3*surviveLease/2 {
				t.Errorf("the agent of %s ended together with its lease, before anybody could come back", name)
			}
		}
		for _, m := range l.hosts[:3] {
			until(t, m.spec.Name+" is bare", func() bool { return m.bare(t) })
		}
		t.Logf("healed after %s, bare after %s, with a lease of %s", healed.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), surviveLease)
		for _, mend := range mends {
			mend()
		}
	}, everything)
}

// Connections that are cut end what they carried at once; hosts are reached
// again and brought to what is wanted.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	l := needLab(t)
	c, able := survivor(t, l)
	nodestest.Survive(t, c, able, func(t *testing.T) {
		for _, m := range l.hosts[:3] {
			m.hangUp(t)
		}
	}, everything)
}

// hangUp ends the servers of the sessions that the machine's agents run in.
func (m *labMachine) hangUp(t *testing.T) {
	t.Helper()
	for _, pid := range m.processes(t, true) {
		b, err := os.ReadFile(proc(pid, "stat"))
		if err != nil {
			t.Fatal(err)
		}
		parent, err := strconv.Atoi(strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[1])
		if err == nil {
			b, err = os.ReadFile(proc(parent, "comm"))
		}
		if err != nil || strings.TrimSpace(string(b)) != "sshd" {
			t.Fatalf("agent %d is a child of %d, %q, %v", pid, parent, b, err)
		}
		if err := syscall.Kill(parent, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// A harness that is frozen finds its hosts healed when it wakes, whether their
// agents have ended meanwhile or not, and hurts them again.
func TestHarnessFrozen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lease time.Duration
		stay  bool
	}{
		"agents stay":  {3 * surviveLease, true}, // a busy machine needs time to come back before they go
		"agents ended": {surviveLease, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := needLab(t)
			hosts := l.hostsFile(t, 3)
			cmd := startHarness(t, l, hosts, c.lease)
			before := l.agents(t, 3)
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			for _, m := range l.hosts[:3] {
				until(t, m.spec.Name+" is healed", func() bool { return len(m.processes(t, false)) == 0 && m.tables(t) == "" })
			}
			if !c.stay {
				until(t, "the agents have ended", func() bool { return len(l.agents(t, 3)) == 0 })
			} else if during := l.agents(t, 3); !slices.Equal(before, during) {
				t.Errorf("agents %v, then %v", before, during)
			}
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			for _, m := range l.hosts[1:3] {
				until(t, m.spec.Name+" has its node again", func() bool { return len(m.processes(t, false)) > 0 })
			}
			until(t, "h3 is hurt again", func() bool { return l.hosts[2].blocked(t) > 0 })
			if after := l.agents(t, 3); c.stay && !slices.Equal(before, after) {
				t.Errorf("agents %v, then %v", before, after)
			}
			cmd.Process.Kill()
			cmd.Wait()
			for _, m := range l.hosts[:3] {
				until(t, m.spec.Name+" is bare", func() bool { return m.bare(t) })
			}
			l.cleaned(t, Config{HostsFile: hosts, Home: l.home}, 3)
		})
	}
}

// agents lists those of the first count machines.
func (l *lab) agents(t *testing.T, count int) (out []int) {
	for _, m := range l.hosts[:count] {
		out = append(out, m.processes(t, true)...)
	}
	return out
}

// Agents that are killed take their nodes along; all come back.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	l := needLab(t)
	c, able := survivor(t, l)
	nodestest.Survive(t, c, able, func(t *testing.T) {
		for _, pid := range l.agents(t, 3) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		nodestest.AgentLost(t, c)
	}, everything)
}

// An agent that hangs is replaced, together with the node that it holds.
func TestAgentStuck(t *testing.T) {
	t.Parallel()
	l := needLab(t)
	c, _ := survivor(t, l)
	ev, err := c.Apply(t.Context(), "part", []nodes.Effect{{Kind: nodes.Cut, From: 3, To: 1}})
	proven(t, "apply", ev, err)
	first := l.hosts[0]
	held, agents := first.processes(t, false), first.processes(t, true)
	if len(agents) != 1 {
		t.Fatalf("agents %v", agents)
	}
	if err := syscall.Kill(agents[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i := range c.Incidents() { // a lapse may be told before
		if i.Kind == "agent-lost" {
			break
		}
	}
	back(t, c, "part")
	if now := first.processes(t, false); len(now) != 1 || now[0] == held[0] {
		t.Errorf("nodes on h1: %v, before %v", now, held)
	}
}

// Two faults on one node end in either order, and neither undoes the other.
func TestOverlap(t *testing.T) {
	t.Parallel()
	c, able := survivor(t, needLab(t))
	nodestest.Overlaps(t, c, able, false)
}

// The owner of a run is known again, and so is one that has ended.
func TestOwner(t *testing.T) {
	me := self()
	b, err := json.Marshal(me)
	var again owner
	if err := errors.Join(err, json.Unmarshal(b, &again)); err != nil || again.lives() != living {
		t.Errorf("%+v, %v", again, err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	me.Process = fmt.Sprintf("%d@1", ended.Process.Pid)
	if me.lives() != dead {
		t.Errorf("%+v lives", me)
	}
	me.Machine = "elsewhere"
	if me.lives() != unseen {
		t.Errorf("%+v is seen", me)
	}
	for _, test := range []struct {
		i    item
		left bool
	}{
		{item{Owner: me, Quiet: time.Second}, false},
		{item{Owner: me, Quiet: time.Hour}, true},
		{item{Owner: me, Quiet: time.Hour, Agent: true}, false},
		{item{Owner: self(), Quiet: time.Hour}, false},
		{item{Quiet: time.Hour}, true},
		{item{Processes: []string{"an orphan"}}, true},
	} {
		if left, why := test.i.left(); left != test.left || left != (why == "") {
			t.Errorf("%+v: left %v, %q", test.i, left, why)
		}
	}
}
