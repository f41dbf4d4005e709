package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"chaos/campaign"
	"chaos/campaign/hunt"
)

// smallPatch is a defect of a source tree that is never built.
const smallPatch = `Defect: small
Systems: paxos, raft
Breaks: nothing.
Happened: never.
Seen by: nobody.
Live: yes

diff --git a/raft/core.go b/raft/core.go
--- a/raft/core.go
+++ b/raft/core.go
@@ -1,3 +1,3 @@
 one
-two
+2
 three
`

// putInPlace makes a source tree with one defect, whose build is a shell script,
// as that of the sound sources is, and goes there.
func putInPlace(t *testing.T, script, sound string) {
	t.Helper()
	t.Chdir(t.TempDir())
	put := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put("go.mod", "module chaos\n")
	put("raft/core.go", "one\ntwo\nthree\n")
	put("raft/testdata/defects/small.patch", smallPatch)
	source, defects, err := hunt.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	b, err := hunt.NewBuilder(source, "builds")
	if err != nil {
		t.Fatal(err)
	}
	put(filepath.Join("builds", "small-"+b.Key(defects[0]), "chaos"), "#!/bin/sh\n"+script)
	put(filepath.Join("builds", "sound-"+b.Key(hunt.Defect{}), "chaos"), "#!/bin/sh\n"+sound)
}

// replayed is what chaos hunt replay prints.
func replayed(t *testing.T, args ...string) (out, words string, status string) {
	t.Helper()
	var o, w bytes.Buffer
	cmd := exec.Command("chaos", append([]string{"hunt", "replay"}, args...)...)
	cmd.Stdout, cmd.Stderr = &o, &w
	status = exitStatus(cmd.Run())
	return o.String(), w.String(), status
}

// What is handed on says what is to be run: a seed, or a plan, which has a seed
// and a system of its own.
func TestReplayHandsOn(t *testing.T) {
	putInPlace(t, `echo "$@"; printf end; exit 3`, "")
	for args, want := range map[string]string{
		"small":                                "sim --system paxos --seed 1\nend",
		"small --system raft --seed 7":         "sim --system raft --seed 7\nend",
		"small -- --trace t":                   "sim --system paxos --seed 1 --trace t\nend",
		"small -- --plan p.json":               "sim --plan p.json\nend",
		"small -- --plan=p.json":               "sim --plan=p.json\nend",
		"small --seed 7 -- --plan p.json":      "sim --seed 7 --plan p.json\nend", // it is refused there, with the reason
		"small --system raft -- --plan p":      "sim --system raft --plan p\nend",
		"small --in local --seed 2":            "run --provider local --duration 10s --seed 2 --system paxos --nodes 4 --faults kill,pause,partition,lossy,duplicate\nend",
		"small --in local -- --plan p --quiet": "run --provider local --plan p --quiet\nend",
	} {
		out, words, status := replayed(t, append([]string{"--builds", "builds"}, strings.Fields(args)...)...)
		if out != want || status != "3" || words != "" {
			t.Errorf("replay %s: exit %s, %q on standard error, and %q; want %q", args, status, words, out, want)
		}
	}
	if _, words, status := replayed(t, "small", "--builds", "builds", "--", "--shrink", "--json"); status != "64" || !strings.Contains(words, "--json with --shrink") {
		t.Errorf("exit %s: %s", status, words)
	}
}

// A line that shows a seed again shows it with the build that it was seen with.
func TestReplayRetells(t *testing.T) {
	putInPlace(t, `printf '%s\n' 'seed 3: x: chaos sim --system raft --seed 3' '  chaos sim --system raft --seed 3' '  chaos sim --system raft --seed 4 --duration 2s'`, "")
	t.Chdir("raft")
	out, words, _ := replayed(t, "small", "--source", "..", "--builds", "../builds")
	want := `seed 3: x: chaos sim --system raft --seed 3
  chaos hunt replay small --source .. --builds ../builds --system raft --seed 3
  chaos hunt replay small --source .. --builds ../builds --system raft --seed 4 -- --duration 2s
`
	if out != want {
		t.Errorf("%s: printed\n%swant\n%s", words, out, want)
	}
	for word, want := range map[string]string{"a/b-c.d": "a/b-c.d", "a b": "'a b'", "it's": `'it'\''s'`, "": "''"} {
		if got := quoted(word); got != want {
			t.Errorf("%q is quoted as %s, want %s", word, got, want)
		}
	}
}

// A scenario says that the sound build is silent only where that was so.
func TestReplayAsksTheSoundBuild(t *testing.T) {
	plan, err := campaign.Swarm("raft", 1, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for sound, c := range map[string]struct {
		said, status string
		silent       bool
	}{
		`[ "$3" = shrunk.txt ] && echo '{"seeds": 1, "violations": []}'`:                           {"sound     no violation", "1", true},
		`echo '{"seeds": 1, "violations": []}'; exit 3`:                                            {"sound     no violation", "1", true},
		`echo '{"seeds": 1, "violations": [{"seed": 1, "by": "stuck", "detail": "why"}]}'; exit 1`: {"sound     INVALID by stuck: why", "1", false},
		`echo it fell over >&2; exit 2`:                                                            {"it fell over", "2", false},
	} {
		putInPlace(t, "echo 'scenario  shrunk.txt'; exit 1", sound)
		if err := os.WriteFile("shrunk.txt", campaign.Scenario{Breaks: "stuck", Plan: plan}.Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
		out, words, status := replayed(t, "small", "--builds", "builds", "--", "--shrink")
		text, err := os.ReadFile("shrunk.txt")
		if err != nil {
			t.Fatal(err)
		}
		s, err := campaign.ParseScenario(text)
		if err != nil || s.Defect != "small" || s.Sound != c.silent || status != c.status || !strings.Contains(out+words, c.said) {
			t.Errorf("%s: exit %s: %s%s%v, silent %t; want %q, %t", sound, status, out, words, err, s.Sound, c.said, c.silent)
		}
	}
}

// What a replay prints: a command that shows something again, and a file.
var (
	againLine = regexp.MustCompile(`(?m)^(?:again)? +chaos hunt replay (.*)$`)
	planLine  = regexp.MustCompile(`(?m)^plan +(.*)$`)
)

// The whole way of a defect: a batch finds it, the command that is printed shows
// it again and shrinks it to a scenario, which names the defect and says what the
// sound build made of it; scenario and plan show it again.
func TestReplayShrinks(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatalf("defects are built by go: %v", err)
	}
	source, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	shows := func(args []string, want ...string) (out string, printed []string) {
		out, words, status := replayed(t, args...)
		for _, w := range append(want, "vote-once") {
			if status != "1" || !strings.Contains(out, w) {
				t.Fatalf("replay %q: exit %s, without %q: %s\n%s", args, status, w, words, out)
			}
		}
		if m := againLine.FindStringSubmatch(out); m != nil {
			printed = strings.Fields(m[1])
		}
		return out, printed
	}
	build := []string{"vote-not-saved", "--source", source, "--builds", "builds"}
	_, single := shows(append(build, "--", "--seeds", "300", "--duration", "1s"))
	out, again := shows(append(single, "--shrink", "--out", "small"), "\n# Defect: vote-not-saved\n# Breaks: vote-once\n", "\nsound     no violation")
	shows(again)
	shows(append(build, "--", "--plan", planLine.FindStringSubmatch(out)[1]))
	scenario := again[len(again)-1]
	text, err := os.ReadFile(scenario)
	if err != nil {
		t.Fatal(err)
	}
	s, err := campaign.ParseScenario(text)
	if err != nil || s.Defect != "vote-not-saved" || !s.Sound || !bytes.Equal(s.Encode(), text) {
		t.Errorf("%v: %s is\n%s", err, scenario, text)
	}
}
