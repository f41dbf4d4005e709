package ssh

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestFacts(t *testing.T) {
	const said = `chaos-facts
uid 1000
os Linux
machine aarch64
from 192.0.2.9 50000 192.0.2.1 22
network 0c8f4a net:[4026531840] 2978650993 447
folder /var/tmp/chaos-1000
free /dev/sda1 1000000 500000 500000 50% /
sudo works
sum abc -
chaos-end
`
	f, err := parseFacts(said)
	if err != nil || f.uid != 1000 || f.arch != "arm64" || f.from.String() != "192.0.2.9" || f.at.String() != "192.0.2.1" ||
		f.free != 500000<<10 || f.sudo != "works" || f.sum != "abc" || f.network != "0c8f4a net:[4026531840] 2978650993 447" || f.folder != "/var/tmp/chaos-1000" {
		t.Errorf("%+v, %v", f, err)
	}
	for name, change := range map[string]func(string) string{
		"nothing":       func(string) string { return "" },
		"cut":           func(s string) string { return s[:len(s)/2] },
		"noise":         func(s string) string { return "Welcome!\n" + s },
		"no number":     func(s string) string { return strings.Replace(s, "uid 1000", "uid root", 1) },
		"no uname":      func(s string) string { return strings.Replace(s, "machine aarch64\n", "machine \n", 1) },
		"not a shell":   func(string) string { return "This account is currently not available.\n" },
		"negative user": func(s string) string { return strings.Replace(s, "uid 1000", "uid -1", 1) },
	} {
		if _, err := parseFacts(change(said)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if f, err = parseFacts(strings.Replace(said, "net:[4026531840] ", "", 1)); err != nil || f.network != "" {
		t.Errorf("a network that is not known: %+v, %v", f, err)
	}
	if f, err = parseFacts(strings.Replace(said, "sudo works", "sudo sudo: a password is required", 1)); err != nil || f.sudo == "works" {
		t.Errorf("%+v, %v", f, err)
	}
}

// The script works in the shell at hand, and finds the same as Go does.
func TestFactsScript(t *testing.T) {
	folder := t.TempDir() + "/a b'c"
	out, err := exec.Command("sh", "-c", factsScript, "chaos", folder, "no", "none").CombinedOutput()
	if err != nil {
		if required("ssh") {
			t.Fatalf("no shell like those of hosts: %v\n%s", err, out)
		}
		t.Skipf("no shell like those of hosts: %v", err)
	}
	f, err := parseFacts(string(out))
	if err != nil || f.folder != folder || f.trouble != "" {
		t.Errorf("%+v, %v", f, err)
	}
	if f.free < 0 {
		t.Errorf("no free space in %s", out)
	}
	if space, err := os.Readlink("/proc/self/ns/net"); err == nil && !strings.Contains(f.network, space) {
		t.Errorf("the network is %q, and its namespace %s", f.network, space)
	}
	out, err = exec.Command("sh", "-c", factsScript, "chaos", "/dev/null/x", "no", "none").Output()
	if f, err2 := parseFacts(string(out)); err != nil || err2 != nil || f.trouble == "" {
		t.Errorf("a folder that can't be: %+v, %v, %v", f, err, err2)
	}
}

// A folder that somebody else has made is not used: what runs there with our
// rights could be changed under our hands.
func TestFolderOfSomebodyElse(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chown(folder, 12345, -1); err != nil {
		if required("root") {
			t.Fatal(err)
		}
		t.Skipf("only root can give a folder away: %v", err)
	}
	out, err := exec.Command("sh", "-c", factsScript, "chaos", folder, "no", "none").Output()
	f, why := parseFacts(string(out))
	if err != nil || why != nil || !strings.Contains(f.trouble, "somebody else") {
		t.Errorf("%+v, %v, %v", f, err, why)
	}
	if err := f.usable(entry{name: "h1", folder: folder}); err == nil || !strings.Contains(err.Error(), folder) {
		t.Errorf("it is used: %v", err)
	}
}

func FuzzFacts(f *testing.F) {
	f.Add("chaos-facts\nuid 0\nos Linux\nmachine x86_64\nfolder /x\nchaos-end\n")
	f.Add("free a b c d e f\nfrom 1 2 3 4\n")
	f.Fuzz(func(t *testing.T, s string) {
		parseFacts(s)
		got, err := parseFacts("chaos-facts\n" + s + "\nchaos-end\n")
		if err == nil && (got.uid < 0 || got.folder == "") {
			t.Errorf("taken: %+v", got)
		}
	})
}

// Sudo that is asked for and does not work is an error, not a run without rights.
func TestSudoThatDoesNotWork(t *testing.T) {
	yes := true
	f := facts{uid: 1000, sudo: "a password is required"}
	if _, err := f.prefix(entry{name: "h1", sudo: &yes}); err == nil || !strings.Contains(err.Error(), "a password is required") {
		t.Errorf("it is taken: %v", err)
	}
	if words, err := f.prefix(entry{name: "h1"}); err != nil || len(words) > 0 {
		t.Errorf("where it is not asked for: %v, %v", words, err)
	}
}

// A table that nobody can name the run of may be a live agent's of another kind.
func TestForeignTablesAreKept(t *testing.T) {
	if (item{Kind: tableItem, Others: []string{"process 7"}}).tableKept(nil) == "" {
		t.Error("another agent's table is taken")
	}
	if why := (item{Kind: tableItem}).tableKept(nil); why != "" {
		t.Errorf("nobody's is kept: %s", why)
	}
}
