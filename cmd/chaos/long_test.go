package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"chaos/results"
)

// Bounds of the long tests.
const (
	plainUser = 65534           // nobody
	killsFew  = 20              // of the harness, at random moments
	killLate  = 6 * time.Second // the latest of them
)

// needLong skips what takes minutes, unless it is asked for.
func needLong(t *testing.T) {
	if os.Getenv("CHAOS_LONG") == "" {
		t.Skip("it takes minutes; CHAOS_LONG=1 asks for it")
	}
}

// chaosCommand is chaos with arguments, to be run in dir.
func chaosCommand(t *testing.T, dir string, args ...string) (cmd *exec.Cmd, out, err *told) {
	t.Helper()
	cmd, out, err = exec.CommandContext(t.Context(), "chaos", args...), new(told), new(told)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, err
	return cmd, out, err
}

// TestLongRuns carries out every system with every fault, on each network, and
// as a plain user: each run is valid, and each kind of fault proven.
func TestLongRuns(t *testing.T) {
	needLong(t)
	for i, c := range []struct {
		system, network string
		plain           bool
	}{
		{"raft", "namespaces", false}, {"paxos", "namespaces", false}, {"paxos-classic", "namespaces", false},
		{"raft", "relay", false}, {"paxos", "relay", false}, {"paxos-classic", "relay", false}, {"raft", "namespaces", true},
	} {
		name := fmt.Sprintf("%s/%s", c.system, c.network)
		if c.plain {
			name += "/plain user"
		}
		t.Run(name, func(t *testing.T) {
			if !can(c.network) {
				if needed(c.network) {
					t.Fatalf("CHAOS_REQUIRE asks for %s, and this machine has none for us", c.network)
				}
				t.Skipf("this machine has no %s for us", c.network)
			}
			seed := 101 + i
			s := longRun(t, c.system, c.network, seed, c.plain)
			if s.Exit == results.ExitUnknown { // a busy machine can leave doubts, but not twice
				s = longRun(t, c.system, c.network, seed+100, c.plain)
			}
			if s.Exit != results.ExitValid {
				t.Errorf("exit status %d", s.Exit)
			}
			provenKinds(t, s)
		})
	}
}

// longRun carries out one run, and tells what came of it.
func longRun(t *testing.T, system, network string, seed int, plain bool) (s results.Summary) {
	t.Helper()
	dir := t.TempDir()
	cmd, out, said := chaosCommand(t, dir, "run", "--system", system, "--network", network, "--duration", "15s",
		"--seed", strconv.Itoa(seed), "--out", "runs", "--json")
	if plain {
		asPlainUser(t, cmd, dir)
	}
	ended := exitStatus(cmd.Run())
	if err := json.Unmarshal([]byte(out.String()), &s); err != nil || ended != strconv.Itoa(s.Exit) {
		t.Fatalf("exit %s, %v\n%s", ended, err, said)
	}
	var b strings.Builder
	for _, err := range []error{results.Table(&b, s), results.Tell(&b, s)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Log(b.String())
	if left := awaitGone(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if ended != "0" {
		t.Logf("the run is kept in %s", keep(t, dir))
	}
	return s
}

// provenKinds wants every kind of fault that is run by default to be proven.
func provenKinds(t *testing.T, s results.Summary) {
	t.Helper()
	for _, kind := range []string{"kill", "pause", "partition-", "slow"} {
		proven := 0
		for _, f := range s.Figures.Faults {
			if strings.HasPrefix(f.Fault, kind) {
				proven += f.Proven
			}
		}
		if proven == 0 {
			t.Errorf("no %s was proven: %+v", kind, s.Figures.Faults)
		}
	}
}

// keep moves a run that went wrong to where the test's end doesn't remove it.
func keep(t *testing.T, dir string) string {
	t.Helper()
	to, err := os.MkdirTemp("", "chaos-kept-")
	if err == nil {
		err = os.Rename(filepath.Join(dir, "runs"), filepath.Join(to, "runs"))
	}
	if err != nil {
		t.Log(err)
	}
	return to
}

// asPlainUser makes the command run as somebody without rights, in a folder of
// its own; the program is copied to where that user reaches it.
func asPlainUser(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if needed("root") {
			t.Fatal("these tests do not run as root")
		}
		t.Skip("only root can become somebody else; the other runs are those of a plain user")
	}
	program, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = filepath.Join(dir, "chaos")
	for _, err := range []error{os.WriteFile(cmd.Path, program, 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chown(dir, plainUser, plainUser)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: plainUser, Gid: plainUser}}
}

// TestLongKills kills the harness with SIGKILL at random moments: after some
// seconds no process of the run is left, and what was recorded can be judged.
// CHAOS_LONG=100 makes it a hundred times.
func TestLongKills(t *testing.T) {
	needLong(t)
	kills, err := strconv.Atoi(os.Getenv("CHAOS_LONG"))
	if err != nil || kills < killsFew {
		kills = killsFew
	}
	r := rand.New(rand.NewPCG(7, 7)) // the moments are the same each time; what they hit is not
	for i := range kills {
		dir := t.TempDir()
		system := []string{"raft", "paxos", "paxos-classic"}[i%3]
		network := []string{"namespaces", "relay"}[i/3%2]
		if !can(network) {
			network = "relay"
		}
		cmd, _, said := chaosCommand(t, dir, "run", "--system", system, "--network", network, "--duration", "1m", "--seed", strconv.Itoa(i+1), "--out", "runs")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		at := time.Duration(r.Int64N(int64(killLate)))
		if i%4 == 0 {
			at /= 30 // in the middle of the start
		}
		time.Sleep(at)
		before := len(processesBelow(dir))
		cmd.Process.Kill()
		cmd.Wait()
		if left := awaitGone(dir); len(left) > 0 {
			t.Errorf("%s on %s, killed after %s: %d processes before, left %v", system, network, at, before, left)
		}
		checkRecorded(t, dir, fmt.Sprintf("%s on %s, killed after %s, which said %s", system, network, at, said))
	}
}

// checkRecorded wants the history below dir, if one was begun, to be judged: not valid
// is right, malformed is not.
func checkRecorded(t *testing.T, dir, what string) {
	t.Helper()
	histories, err := filepath.Glob(filepath.Join(dir, "runs", "2*", results.HistoryFile))
	if err != nil || len(histories) == 0 {
		return // killed before
	}
	folder := filepath.Dir(histories[0])
	for _, path := range []string{folder, histories[0]} {
		check, out, said := chaosCommand(t, dir, "check", "--quiet", path)
		if status := exitStatus(check.Run()); !slices.Contains([]string{"0", "3"}, status) {
			t.Errorf("%s: check %s: exit %s %s%s; kept in %s", what, path, status, out, said, keep(t, dir))
			return
		}
	}
}

// TestLongFullDisk fills the disk in the middle of a run: the run ends with a
// failure that says so, or honestly unknown, and nothing is left.
func TestLongFullDisk(t *testing.T) {
	needLong(t)
	if os.Geteuid() != 0 {
		if needed("root") {
			t.Fatal("these tests do not run as root")
		}
		t.Skip("only root mounts a disk of its own")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c",
		"mount -t tmpfs -o size=44m tmpfs full && exec chaos run --duration 6s --faults kill --seed 3 --out full/runs")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if status := exitStatus(err); status != "2" && status != "3" || !bytes.Contains(out, []byte("no space left on device")) {
		t.Errorf("exit status %s\n%s", status, out)
	}
	if left := awaitGone(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestSilentNode starts a node that never answers: the run fails within its
// bound, and names the node and its log.
func TestSilentNode(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits until chaos gives up")
	}
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, silentFile), []byte("n2"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd, out, said := chaosCommand(t, dir, "run", "--nodes", "3", "--duration", "1s", "--faults", "none", "--seed", "5", "--out", "runs")
	status := exitStatus(cmd.Run())
	log := filepath.Join("nodes", "n2", "log.txt")
	if status != "2" || !strings.Contains(said.String(), "n2 did not answer within") || !strings.Contains(said.String(), log) {
		t.Errorf("exit status %s: %s%s", status, out, said)
	}
	if logs, err := filepath.Glob(filepath.Join(dir, "runs", "2*", log)); err != nil || len(logs) != 1 {
		t.Errorf("logs of n2: %v, %v", logs, err)
	} else if b, err := os.ReadFile(logs[0]); err != nil || !strings.Contains(string(b), "says no more") {
		t.Errorf("the log of n2 says %q, %v", b, err)
	}
	if left := awaitGone(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
