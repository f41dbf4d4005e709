package hunt

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"chaos/linearizability"
	"chaos/results"
)

// showsAt is which seed of each thousand a fake program with a bug shows it at.
const showsAt = 7

// TestMain makes the test binary a fake chaos where it goes by another name: it
// behaves as its name says.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if !strings.Contains(name, ".test") {
		os.Exit(fake(name, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// fake is chaos sim or chaos run of a build with or without a bug.
func fake(name string, args []string) int {
	flags := map[string]string{}
	for i := 1; i < len(args); i++ {
		flags[args[i]] = ""
		if i+1 < len(args) && args[i+1][0] != '-' {
			flags[args[i]] = args[i+1]
			i++
		}
	}
	seed, err := strconv.ParseUint(flags["--seed"], 10, 64)
	if _, asJSON := flags["--json"]; err != nil || !asJSON || flags["--system"] == "" {
		return results.ExitUsage
	}
	switch name {
	case "broken":
		fmt.Fprintln(os.Stderr, "the harness fell over")
		return results.ExitHarness
	case "garbage":
		fmt.Println("{no JSON")
		return results.ExitInvalid
	case "fallen":
		panic("with its reason" + strings.Repeat("\nand more", 99))
	case "killed":
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		time.Sleep(time.Minute)
	case "slow":
		return slow()
	case "unsteady": // one seed alone is well
		if flags["--seeds"] != "1" {
			return results.ExitHarness
		}
	case "marked":
		os.WriteFile(filepath.Join(os.Getenv("HUNT_MARKS"), fmt.Sprint("run-", os.Getpid())), nil, 0o644)
	}
	if args[0] == "run" {
		return fakeRun(name, seed, flags["--out"])
	}
	count, err := strconv.ParseUint(flags["--seeds"], 10, 64)
	if err != nil {
		return results.ExitUsage
	}
	return fakeSim(name, seed, count)
}

// slow works until it is interrupted, and tells who it was.
func slow() int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	os.WriteFile(filepath.Join(os.Getenv("HUNT_MARKS"), fmt.Sprint("begun-", os.Getpid())), nil, 0o644)
	<-c
	os.WriteFile(filepath.Join(os.Getenv("HUNT_MARKS"), fmt.Sprint("interrupted-", os.Getpid())), nil, 0o644)
	return results.ExitHarness
}

func fakeSim(name string, first, count uint64) int {
	doc := map[string]any{"system": "raft", "first": first, "seeds": count, "cpu_seconds": 2.5, "violations": []any{}}
	at := first - first%1000 + showsAt
	shows := name != Sound && name != "unsteady" && name != "missed" && name != "busy" && at >= first && at < first+count && (name != "flaky" || count > 1) &&
		(name != "busyfound" || first > 3 || count == 1)
	if name == "moody" && count == 1 { // it shows something, and something else
		at, shows = first, true
	}
	if shows {
		by := map[string]string{"panics": "panic"}[name]
		if by == "" {
			by = "log-matching"
		}
		doc["seeds"], doc["cpu_seconds"] = at-first+1, float64(at%1_000_000-first%1_000_000)/10+float64(first/1_000_000)
		detail := "entry 3 differs"
		if name == "moody" && count == 1 {
			detail = "entry 4 differs"
		}
		doc["violations"] = []violation{{Seed: at, By: by, Node: "n2", Detail: detail}}
	}
	if !shows && strings.HasPrefix(name, "busy") {
		doc["seeds"], doc["cpu_seconds"] = 3, 1.5
	}
	if name == "starved" { // it gets no time at all; of one seed alone it does not come to the end
		shows = false
		doc["seeds"], doc["cpu_seconds"], doc["violations"] = min(count-1, 1), 0.0, []any{}
	}
	json.NewEncoder(os.Stdout).Encode(doc)
	switch {
	case name == "liar":
		return results.ExitValid
	case shows:
		return results.ExitInvalid
	case name == Sound && first > simSeeds: // too little was seen of something
		return results.ExitUnknown
	}
	return results.ExitValid
}

func fakeRun(name string, seed uint64, out string) int {
	os.WriteFile(filepath.Join(out, "latest"), nil, 0o644)
	s := results.Summary{Seed: seed}
	if name == "found" && seed%1000 == 3 {
		inner := linearizability.Verdict{Checker: "durability", Outcome: linearizability.Invalid, Reason: "a write is lost"}
		s.Verdict = linearizability.Verdict{Checker: "all", Outcome: linearizability.Invalid, Parts: []linearizability.Verdict{{Checker: "fine"}, inner}}
	}
	if name == "troubled" {
		s.Harness = []string{"a fault was not healed"}
	}
	s.Grade()
	os.Stdout.Write(s.Encode())
	if s.Exit == results.ExitValid && seed%2 == 0 {
		time.Sleep(10 * time.Millisecond)
		return results.ExitUnknown
	}
	return s.Exit
}

// fakeBuilds names the test binary as the defects do; as makes some behave as others.
type fakeBuilds struct {
	folder string
	as     map[string]string
}

func newFakeBuilds(t *testing.T, as map[string]string) fakeBuilds {
	return fakeBuilds{t.TempDir(), as}
}

// Key implements Builds.
func (b fakeBuilds) Key(d Defect) string { return "key of " + nameOf(d) + string(d.Text) }

// Build implements Builds.
func (b fakeBuilds) Build(_ context.Context, d Defect) (string, error) {
	name := nameOf(d)
	if name == "unbuilt" {
		return "", fmt.Errorf("hunk 1 does not fit")
	}
	if as := b.as[name]; as != "" {
		name = as
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program := filepath.Join(b.folder, name)
	if err := os.Symlink(self, program); err != nil && !os.IsExist(err) {
		return "", err
	}
	return program, nil
}

func defects(names ...string) (out []Defect) {
	for _, name := range names {
		out = append(out, Defect{Name: name, Systems: []string{"raft"}})
	}
	return out
}
