package hunt

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tree writes a small source tree of chaos and returns its root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func small() map[string]string {
	return map[string]string{"go.mod": "module chaos\n", "raft/core.go": "one\ntwo\nthree\n", rightFile: right}
}

// All defects of this tree can be read, are found by Load, and fit the sources.
func TestDefectsOfThisTree(t *testing.T) {
	s, defects, err := Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(patches(t)); len(defects) != n || n < 18 {
		t.Errorf("%d defects loaded, %d patches there; want as many, and 18 at least", len(defects), n)
	}
	for _, d := range defects {
		changed, err := s.Apply(d)
		if err != nil {
			t.Error(err)
		}
		for name, text := range changed {
			before, err := os.ReadFile(filepath.Join(s.Root(), name))
			if err != nil || string(before) == string(text) {
				t.Errorf("%s changes nothing in %s: %v", d.Name, name, err)
			}
		}
	}
}

// One defect builds; CHAOS_LONG=1 builds all of them.
func TestDefectsBuild(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatalf("defects are built by go: %v", err)
	}
	s, defects, err := Load("../..")
	if err != nil || len(defects) == 0 {
		t.Fatalf("%d defects, %v", len(defects), err)
	}
	if os.Getenv("CHAOS_LONG") == "" {
		defects = defects[:1]
	}
	b, err := NewBuilder(s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range defects {
		program, err := b.Build(t.Context(), d)
		if err != nil {
			t.Error(err)
			continue
		}
		first, _ := os.Stat(program)
		again, err := b.Build(t.Context(), d)
		if second, _ := os.Stat(program); err != nil || again != program || !os.SameFile(first, second) {
			t.Errorf("%s was built twice: %s and %s, %v", d.Name, program, again, err)
		}
		if out, err := exec.Command(program, "--version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "chaos ") {
			t.Errorf("%s says %q, %v", d.Name, out, err)
		}
		os.Remove(program)
	}
}

// What can't be built is built once, and tells why once; one that was interrupted is built again.
func TestBrokenBuild(t *testing.T) {
	files := small()
	files["go.mod"] += "\ngo 1.24\n"
	files["cmd/chaos/main.go"] = "package main\n\nfunc main() { missing() }\n"
	s, err := Open(tree(t, files))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBuilder(s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		want string
	}{
		{interrupted, "canceled"}, {t.Context(), "undefined: missing"}, {t.Context(), "building sound failed before"},
	} {
		if _, err := b.Build(c.ctx, Defect{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %q", err, c.want)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	twice := small()
	twice["paxos/testdata/defects/small.patch"] = right
	other := small()
	other["go.mod"] = "module other\n"
	for _, c := range []struct {
		root, want string
	}{
		{t.TempDir(), "--source"},
		{tree(t, other), "--source"},
		{tree(t, twice), "has a defect of that name too"},
	} {
		if _, _, err := Load(c.root); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v; want one with %q", err, c.want)
		}
	}
}

// Apply is strict: a line that was changed is an error that names the file, the
// hunk and the remedy. Lines that moved are found, if they stand in one place.
func TestApply(t *testing.T) {
	apply := func(text string) (string, error) {
		files := small()
		files["raft/core.go"] = text
		s, defects, err := Load(tree(t, files))
		if err != nil {
			t.Fatal(err)
		}
		changed, err := s.Apply(defects[0])
		return string(changed["raft/core.go"]), err
	}
	for text, want := range map[string]string{
		"one\ntwo\nthree\n":                      "one\n2\nthree\n",
		"zero\none\ntwo\nthree\nfour":            "zero\none\n2\nthree\nfour",
		"one\ntwo\nthree\none\ntwo\nthree\n":     "one\n2\nthree\none\ntwo\nthree\n",
		"one\none\ntwo\nthree\none\ntwo\nfour\n": "one\none\n2\nthree\none\ntwo\nfour\n",
	} {
		if got, err := apply(text); err != nil || got != want {
			t.Errorf("to %q: %q, %v; want %q", text, got, err, want)
		}
	}
	for text, why := range map[string]string{
		"one\nTWO\nthree\n": "not in the file any more", "one\ntwo\n": "not in the file any more", "": "not in the file any more",
		"one\ntwo\nthree": "not in the file any more", "zero\none\ntwo\nthree\none\ntwo\nthree\n": "there 2 times",
	} {
		_, err := apply(text)
		for _, want := range []string{rightFile + ":12: ", "raft/core.go", "hunk 1", "git apply --3way", why} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("to %q: error %v; want one with %q", text, err, want)
			}
		}
	}
}

// Every hunk that does not fit is named with its line, of all defects at once,
// and what to do once.
func TestFit(t *testing.T) {
	files := small()
	files["raft/core.go"] = "one\ntwo\nthree\nfour\nfive\n"
	files["raft/log.go"] = "six\n"
	head := strings.Replace(right[:strings.Index(right, "diff")], "small", "large", 1)
	files["raft/testdata/defects/large.patch"] = head + "diff --git a/raft/core.go b/raft/core.go\n--- a/raft/core.go\n+++ b/raft/core.go\n@@ -1,1 +1,1 @@\n-ONE\n+1\n@@ -3,1 +3,1 @@\n-three\n+3\n@@ -5,1 +5,1 @@\n-FIVE\n+5\n" +
		"diff --git a/raft/log.go b/raft/log.go\n--- a/raft/log.go\n+++ b/raft/log.go\n@@ -1,1 +1,1 @@\n-SIX\n+6\ndiff --git a/raft/gone.go b/raft/gone.go\n--- a/raft/gone.go\n+++ b/raft/gone.go\n@@ -1,1 +1,1 @@\n-x\n+y\n"
	fit := func() error {
		s, defects, err := Load(tree(t, files))
		if err != nil || len(defects) != 2 {
			t.Fatalf("%d defects, %v", len(defects), err)
		}
		return s.Fit(defects...)
	}
	err := fit()
	if err == nil {
		t.Fatal("all of it fits")
	}
	in(t, err.Error(), "large.patch:12: raft/core.go does not fit: hunk 1: ", "large.patch:18: raft/core.go does not fit: hunk 3: ",
		"large.patch:24: raft/log.go does not fit: hunk 1: ", "large.patch:30: ", "gone.go")
	if text := err.Error(); strings.Contains(text, "large.patch:15") || strings.Contains(text, "small.patch") || strings.Count(text, "git apply") != 1 {
		t.Errorf("more is named than does not fit: %s", text)
	}
	delete(files, "raft/testdata/defects/large.patch")
	files["raft/testdata/defects/other.patch"] = strings.Replace(right, "small", "other", 1)
	if err := fit(); err != nil {
		t.Error(err)
	}
	files["raft/core.go"] = "none"
	if err := fit(); err == nil || strings.Count(err.Error(), "hunk 1") != 2 {
		t.Errorf("%v; want both defects named", err)
	}
}

// The sum changes with what is built, and with nothing else.
func TestSum(t *testing.T) {
	sum := func(change map[string]string) string {
		files := small()
		for name, text := range change {
			files[name] = text
		}
		s, err := Open(tree(t, files))
		if err != nil {
			t.Fatal(err)
		}
		return s.Sum()
	}
	before := sum(nil)
	for name, changes := range map[string]bool{"raft/core.go": true, "raft/more.go": true, "go.sum": true, "go.mod": true, "nodes/docker/compose.yml": true, "results/page/report.html": true,
		"raft/core_test.go": false, "docs/more.md": false, rightFile: false, ".git/HEAD": false, "results/runs/x/report.html": false} {
		if got := sum(map[string]string{name: small()[name] + "new\n"}); (got != before) != changes {
			t.Errorf("a change of %s: the sum changes: %t, want %t", name, got != before, changes)
		}
	}
}

// A build is named after the sources and the diff: of others it is another one.
// A head that says it in other words changes nothing.
func TestKey(t *testing.T) {
	key := func(sum, patch string) string {
		b := Builder{source: Source{sum: sum}}
		d, err := Parse(rightFile, []byte(patch))
		if err != nil {
			t.Fatal(err)
		}
		return b.Key(d)
	}
	keys := map[string]bool{}
	other, head := strings.Replace(right, "+2", "+3", 1), strings.Replace(right, "never", "once", 1)
	for _, k := range []string{key("these", right), key("others", right), key("these", other), key("these", head), (&Builder{source: Source{sum: "these"}}).Key(Defect{})} {
		keys[k] = true
	}
	if len(keys) != 4 {
		t.Errorf("four builds, and one with another head, have the keys %v", keys)
	}
}

// Builds that nobody used for long go, and nothing else does.
func TestPrune(t *testing.T) {
	old := time.Now().Add(-buildsKept - time.Hour)
	root := tree(t, map[string]string{"small-0123456789abcdef/chaos": "", "small-fedcba9876543210/chaos": "", workPrefix + "1/x": "", "my-project/chaos": "", "work-1/x": ""})
	for _, name := range []string{"small-0123456789abcdef/chaos", workPrefix + "1", "my-project/chaos", "work-1"} {
		if err := os.Chtimes(filepath.Join(root, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewBuilder(Source{}, root); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, _ := os.ReadDir(root)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "my-project small-fedcba9876543210 work-1" {
		t.Errorf("left are %s", got)
	}
}
