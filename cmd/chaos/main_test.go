package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"chaos/results"
)

// Bounds of what the tests wait for.
const (
	goneWait  = 5 * time.Second // until no process of a run is left
	wordWait  = time.Minute     // until chaos says a word
	pollEvery = 5 * time.Millisecond
)

// TestMain makes the test binary chaos wherever it goes by that name: so it is
// in the scripts' path, and so chaos starts it again as node, agent and hub.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"chaos": func() {
		beSilent()
		os.Exit(run(os.Args[1:]))
	}})
}

// silentFile lies beside the runs and names the nodes that never say a word.
const silentFile = "silent"

// beSilent never returns in the process of a node that is to be silent. A node
// works in RUNS/RUN/nodes/ID.
func beSilent() {
	if len(os.Args) < 2 || os.Args[1] != "node" {
		return
	}
	dir, err := os.Getwd()
	if err != nil {
		return
	}
	names, err := os.ReadFile(filepath.Join(dir, "..", "..", "..", "..", silentFile))
	if err == nil && slices.Contains(strings.Fields(string(names)), filepath.Base(dir)) {
		fmt.Println("this node says no more")
		select {}
	}
}

// TestScripts runs the command line as people and CI do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status, "gone": gone, "interrupt": interrupt, "summary": summary, "tear": tear, "busy": busy, "tally": tally, "same": same, "named": runNamed},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "namespaces":
				return can("namespaces"), nil
			case "mounts":
				return exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", os.TempDir()).Run() == nil, nil
			}
			return false, fmt.Errorf("there is no condition %q", cond)
		},
	})
}

// can tells whether chaos has that network on this machine; relays are everywhere.
func can(network string) bool {
	best := regexp.MustCompile(`(?m)^network +(\w+)$`).FindSubmatch(doctor())
	return network == "relay" || needed(network) || best != nil && string(best[1]) == network
}

// doctor is what chaos says of this machine, asked once.
var doctor = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "chaos-doctor-")
	if err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("chaos", "doctor")
	cmd.Dir = dir
	out, _ := cmd.CombinedOutput() // its status is judged elsewhere
	return out
})

// needed tells whether the person who runs the tests insists on a need.
func needed(need string) bool { return strings.Contains(os.Getenv("CHAOS_REQUIRE"), need) }

// status runs chaos and wants an exact exit status, or one of several: status 64 run --nope.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: status CODE[,CODE] arguments of chaos")
	}
	if got := exitStatus(ts.Exec("chaos", args[1:]...)); !slices.Contains(strings.Split(args[0], ","), got) {
		ts.Fatalf("chaos %v: exit status %s, want %s", args[1:], got, args[0])
	}
}

// exitStatus reads the status out of an error of os/exec.
func exitStatus(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "0"
	case errors.As(err, &exit):
		return strconv.Itoa(exit.ExitCode())
	}
	return fmt.Sprint(err)
}

// gone wants no process of the runs below a folder to be left: gone runs.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone FOLDER")
	}
	if left := awaitGone(ts.MkAbs(args[0])); len(left) > 0 {
		ts.Fatalf("left of the runs in %s: %v", args[0], left)
	}
}

// awaitGone waits for all processes of the runs below root to end, and returns
// those that did not.
func awaitGone(root string) (left []string) {
	for end := time.Now().Add(goneWait); ; time.Sleep(pollEvery) {
		if left = processesBelow(root); len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// processesBelow lists the living processes that carry the mark of a run below
// root: "PID command". Where there is no /proc it finds none.
func processesBelow(root string) (out []string) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range environs {
		env, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00CHAOS_RUN="+root)) {
			continue
		}
		command, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		if err == nil && len(command) > 0 { // a zombie has none
			out = append(out, filepath.Base(filepath.Dir(name))+" "+string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
		}
	}
	return out
}

// A told is what a process says, for who waits for a word of it.
type told struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *told) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *told) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// interrupt runs chaos, sends it Ctrl-C each time when it has said the next
// word, and wants an exit status: interrupt 3 storm run --seed 7. What it said
// is left in the files out and err.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt CODE WORD[,WORD] arguments of chaos")
	}
	cmd := exec.Command("chaos", args[2:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), append(os.Environ(), "HOME="+ts.Getenv("WORK"))
	var out, err told
	cmd.Stdout, cmd.Stderr = &out, &err
	ts.Check(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for _, word := range strings.Split(args[1], ",") {
		for end := time.Now().Add(wordWait); !strings.Contains(err.String(), word); time.Sleep(pollEvery) {
			if time.Now().After(end) {
				cmd.Process.Kill()
				ts.Fatalf("chaos never says %q: %s", word, err.String())
			}
		}
		ts.Check(cmd.Process.Signal(syscall.SIGINT))
		time.Sleep(2 * sameSignal) // sooner it would count as the same one
	}
	got := exitStatus(<-done)
	ts.Logf("%s%s", out.String(), err.String())
	ts.Check(os.WriteFile(ts.MkAbs("out"), []byte(out.String()), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("err"), []byte(err.String()), 0o644))
	if !slices.Contains(strings.Split(args[0], ","), got) {
		ts.Fatalf("chaos %v: exit status %s, want %s", args[2:], got, args[0])
	}
}

// summary reads a verdict.json, or what --json printed, and wants fields to be
// so: summary stdout system=raft exit=0 proven=kill,pause.
func summary(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: summary FILE NAME=VALUE...")
	}
	var s results.Summary
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	d.DisallowUnknownFields()
	ts.Check(d.Decode(&s))
	if d.More() {
		ts.Fatalf("%s holds more than one document", args[0])
	}
	var proven []string
	for _, f := range s.Figures.Faults {
		if f.Proven > 0 {
			proven = append(proven, f.Fault)
		}
	}
	is := map[string]string{"system": s.System, "provider": s.Provider, "network": s.Network, "seed": fmt.Sprint(s.Seed), "nodes": fmt.Sprint(s.Nodes),
		"workload": s.Workload, "exit": fmt.Sprint(s.Exit), "verdict": s.Verdict.Outcome.String(), "proven": strings.Join(proven, ",")}
	for _, a := range args[1:] {
		name, want, _ := strings.Cut(a, "=")
		if got, known := is[name]; !known || got != want {
			ts.Fatalf("%s is %q, want %q; the verdict: %s", name, got, want, s.Verdict.Reason)
		}
	}
	if s.Figures.All.Ok == 0 || s.Figures.Rate <= 0 || s.Started.IsZero() {
		ts.Fatalf("figures %+v, started %s", s.Figures, s.Started)
	}
}

// tear cuts bytes off the end of a file: tear runs/latest/history.jsonl 10.
func tear(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tear FILE BYTES")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), max(0, info.Size()-n)))
}

// busy puts the address of a port that is in use into $BUSY.
func busy(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv("BUSY", l.Addr().String())
}

// runNamed puts the name of the folder that a link leads to into $NAMED.
func runNamed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: named LINK")
	}
	to, err := os.Readlink(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("NAMED", filepath.Base(to))
}
