package ssh

import (
	"crypto/sha256"
	"debug/elf"
	endian "encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeELF writes the head of a program for another machine.
func fakeELF(t *testing.T, path string, m elf.Machine) {
	t.Helper()
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	endian.LittleEndian.PutUint16(b[16:], uint16(elf.ET_EXEC))
	endian.LittleEndian.PutUint16(b[18:], uint16(m))
	endian.LittleEndian.PutUint32(b[20:], 1)
	endian.LittleEndian.PutUint16(b[52:], 64)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// The program for another architecture lies beside ours, or is told how to make.
func TestBinaries(t *testing.T) {
	other, machine := "arm64", elf.EM_AARCH64
	if hostArch == other {
		other, machine = "amd64", elf.EM_X86_64
	}
	dir := t.TempDir()
	bs := &binaries{own: filepath.Join(dir, "chaos")}
	t.Setenv("PATH", t.TempDir()) // no Go tool
	if _, err := bs.ours(t.Context(), other); err == nil || !strings.Contains(err.Error(), "no Go tool") || !strings.Contains(err.Error(), "GOARCH="+other) {
		t.Errorf("there is none: %v", err)
	}
	beside := filepath.Join(dir, "chaos-linux-"+other)
	fakeELF(t, beside, elf.EM_SPARCV9)
	if _, err := bs.ours(t.Context(), other); err == nil || !strings.Contains(err.Error(), "SPARC") {
		t.Errorf("one for another machine: %v", err)
	}
	fakeELF(t, beside, machine)
	b, err := (&binaries{own: bs.own}).ours(t.Context(), other)
	if err != nil || b.path != beside || b.size != 64 || len(b.sum) != 64 || b.name() != "chaos-linux-"+other+"-"+b.sum[:32] {
		t.Errorf("%+v, %v", b, err)
	}
	script := filepath.Join(dir, "script")
	os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755)
	if err := fits(script, other); err != nil {
		t.Errorf("a script: %v", err)
	}
	text := filepath.Join(dir, "text")
	os.WriteFile(text, []byte("hello"), 0o644)
	if err := fits(text, other); err == nil {
		t.Error("a text is taken for a program")
	}
	if _, err := bs.read(filepath.Join(dir, "none"), other); err == nil {
		t.Error("a file that is not there was read")
	}
}

// What arrived otherwise than it was sent is not put in its place, nor what is
// there taken away; without sha256sum the size must do.
func TestPlaced(t *testing.T) {
	const sent = "the program"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(sent)))
	poor := t.TempDir() // a PATH without sha256sum
	for _, tool := range []string{"sh", "chmod", "mv", "wc", "find", "rm", "sha256sum"} {
		path, err := exec.LookPath(tool)
		if err == nil && tool != "sha256sum" {
			err = os.Symlink(path, filepath.Join(poor, tool))
		}
		if err != nil && required("ssh") {
			t.Fatal(err)
		}
		if err != nil {
			t.Skip(err)
		}
	}
	for _, test := range []struct {
		name, arrived, path string
		placed              bool
	}{
		{"whole", sent, os.Getenv("PATH"), true},
		{"same size", "the pr0gram", os.Getenv("PATH"), false},
		{"cut", "the prog", os.Getenv("PATH"), false},
		{"whole, no sha256sum", sent, poor, true},
		{"cut, no sha256sum", "the prog", poor, false},
	} {
		dir := t.TempDir()
		upload, to := filepath.Join(dir, ".upload-x"), filepath.Join(dir, "chaos-x")
		if err := errors.Join(os.WriteFile(upload, []byte(test.arrived), 0o600), os.WriteFile(to, []byte("before"), 0o600)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", placeScript, "chaos", upload, to, sum, fmt.Sprint(len(sent)))
		cmd.Env = []string{"PATH=" + test.path}
		out, err := cmd.CombinedOutput()
		there, _ := os.ReadFile(to)
		if (err == nil) != test.placed || (string(there) == sent) != test.placed || !test.placed && string(there) != "before" {
			t.Errorf("%s: %v, %s; now there is %q", test.name, err, out, there)
		}
	}
}

// Where the Go tool and the source are at hand the program is made.
func TestCompile(t *testing.T) {
	if os.Getenv("CHAOS_LONG") == "" {
		t.Skip("compiling for another machine takes minutes; CHAOS_LONG=1 asks for it")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("GOCACHE", filepath.Join(t.TempDir(), "go"))
	path, err := compile(t.Context(), t.TempDir(), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	if err := fits(path, "arm64"); err != nil {
		t.Error(err)
	}
}

func TestRunNames(t *testing.T) {
	for run, table := range map[string]string{
		"/var/tmp/chaos-0/runs/" + runName("kit", "01234567", "db-1.example"): "chaos_kit",
		"/x/" + runName(word("a b/c"), "89abcdef", "h"):                       "chaos_a_b_c",
		"": "", "/": "", "/etc": "", "kit-0123456-h": "", "kit-0123456z-h": "", "-01234567-h": "", "k/../kit-01234567-": "",
		"kit-01234567-h;x": "", "kit-01234567-../../etc": "",
	} {
		if got := tableOf(run); got != table {
			t.Errorf("%q is taken for a run of %q, want %q", run, got, table)
		}
	}
	if err := removeRun("/etc"); err == nil {
		t.Error("a folder that is no run's was removed")
	}
	q := request{Op: opPrepare, Folder: "/var/tmp/chaos-0", Run: "/etc/kit-01234567-h"}
	if err := q.checkRun(); err == nil {
		t.Error("a run elsewhere is taken")
	}
}
