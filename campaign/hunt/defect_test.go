package hunt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// right is a right defect; tests break it.
const right = `Defect: small
Systems: raft, paxos
Breaks: a rule that goes
  on in a second line.
Happened: never.
Seen by: nobody.
Live: no: it is not real

diff --git a/raft/core.go b/raft/core.go
--- a/raft/core.go
+++ b/raft/core.go
@@ -1,3 +1,3 @@
 one
-two
+2
 three
`

const rightFile = "raft/testdata/defects/small.patch"

func TestParse(t *testing.T) {
	d, err := Parse(rightFile, []byte(right))
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "small" || strings.Join(d.Systems, "+") != "raft+paxos" || d.Breaks != "a rule that goes on in a second line." ||
		d.Live() || d.Hidden != "it is not real" || len(d.changes) != 1 {
		t.Errorf("read %+v", d)
	}
	for _, live := range []string{"yes", "yes: with luck", "yes, with luck"} {
		yes, err := Parse(rightFile, []byte(strings.Replace(right, "no: it is not real", live, 1)))
		if err != nil || !yes.Live() {
			t.Errorf("read %+v, %v; want it to be live", yes, err)
		}
	}
}

// Every error names the file, where it can the line, and what is wrong.
func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"Defect: small", "Defect: large", ":1: Defect: "},
		{"Defect: small", "Defekt: small", ":1: "},
		{"Systems: raft, paxos", "Systems: raft, raft", ":2: Systems: raft stands twice"},
		{"Systems: raft, paxos", "Systems: etcd", `:2: Systems: there is no system "etcd"`},
		{"Systems: raft, paxos", "Systems:", ":2: "},
		{"Happened: never.\n", "", `:5: "Seen by: nobody." stands where the field "Happened" belongs`},
		{"Seen by: nobody.", "Seen by:", ":6: Seen by: it says nothing"},
		{"Live: no: it is not real", "Live: no", ":7: Live: "},
		{"Live: no: it is not real", "Live: perhaps", ":7: Live: "},
		{"Live: no: it is not real", "Live: yes:", ":7: Live: "},
		{"Live: no: it is not real\n", "", ":7: the head ends without"},
		{"not real\n", "not real\nMore: of it\n", ":8: "},
		{"\ndiff --git", "diff --git", ":8: "},
		{"+++ b/raft/core.go", "+++ b/raft/core_test.go", "core_test.go"},
		{"raft/core.go", "campaign/live.go", "a defect is in the nodes"},
		{"raft/core.go", "../raft/core.go", "no path"},
		{"raft/core.go", "raft/core_test.go", "no tests"},
		{"@@ -1,3 +1,3 @@", "@@ -1,4 +1,3 @@", ":"},
		{"@@ -1,3 +1,3 @@", "@@ -1,3 +1,3", "line 12"},
		{right[strings.Index(right, "@@"):], "", "nothing"},
		{right[strings.Index(right, "diff"):], "", "there is no patch"},
		{"two", "two\r", "LF"},
		{"two", "\xff", "UTF-8"},
	} {
		text := strings.ReplaceAll(right, c.old, c.new)
		d, err := Parse(rightFile, []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), rightFile+":") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %q for %q: %+v, error %v; want one with %q", c.new, c.old, d, err, c.want)
		}
	}
}

// FuzzParse looks for texts that make the parser panic, or that it accepts
// though something is missing.
func FuzzParse(f *testing.F) {
	f.Add([]byte(right))
	for _, name := range patches(f) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(rightFile, text)
		switch {
		case err != nil && !strings.HasPrefix(err.Error(), rightFile):
			t.Errorf("error %v does not name the file", err)
		case err == nil && (d.Name == "" || len(d.Systems) == 0 || d.Breaks == "" || d.Happened == "" || d.SeenBy == "" || len(d.changes) == 0):
			t.Errorf("accepted %+v", d)
		case err == nil:
			Source{root: t.TempDir()}.Apply(d) // finds no files; it must not panic
		}
	})
}

// patches lists the files of all defects of this tree.
func patches(t testing.TB) (out []string) {
	for _, pattern := range []string{"../../*/testdata/defects/*.patch", "../../*/*/testdata/defects/*.patch"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, names...)
	}
	return out
}
