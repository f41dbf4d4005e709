package ssh

import (
	"os/exec"
	"strings"
	"testing"
)

// FuzzCommandLine lets real shells read what commandLine wrote.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{
		"", " ", "a b", "'", `\`, `\'`, "!", `!\'!`, "$HOME", "`id`", "$(id)", ";id", "&", "|id", ">x", "\n", "\t", "*", "~",
		"#", "-n", "a=b", "\xff\xfe", "ä", "{a,b}", "%s", `"`, "\\\n", "[!a]", "''", "\r", "--", "=ls",
	} {
		f.Add(s, "second")
	}
	var shells []string
	for _, name := range []string{"sh", "bash", "dash", "fish", "zsh"} {
		if path, err := exec.LookPath(name); err == nil {
			shells = append(shells, path)
		}
	}
	if len(shells) == 0 {
		if required("ssh") {
			f.Fatal("there is no shell")
		}
		f.Skip("there is no shell")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		line, err := commandLine("printf", `%s\000`, a, b)
		if strings.ContainsRune(a+b, 0) {
			if err == nil {
				t.Fatalf("a zero byte was let through: %q", line)
			}
			return
		}
		if err != nil {
			if len(a)+len(b) < maxCommand/8 {
				t.Fatal(err)
			}
			return
		}
		for _, shell := range shells {
			out, err := exec.Command(shell, "-c", line).Output()
			if err != nil {
				t.Fatalf("%s -c %q: %v", shell, line, err)
			}
			if want := a + "\x00" + b + "\x00"; string(out) != want {
				t.Fatalf("%s -c %q gave %q, want %q", shell, line, out, want)
			}
		}
	})
}

// The shells that read these bytes inside of quotes otherwise than sh, or at a
// prompt alone, are seldom at hand: so the line itself is looked at.
func TestOddBytesStandOutsideOfQuotes(t *testing.T) {
	for word, want := range map[string]string{
		"a!b": `'a'\!'b'`, "!": `\!`, `a\b`: `'a'\\'b'`, "a'b": `'a'\''b'`, "a b": `'a b'`, "": `''`,
	} {
		if got, err := commandLine("x", word); err != nil || got != "x "+want {
			t.Errorf("%q is written %s, want x %s; %v", word, got, want, err)
		}
	}
}

func TestCommandLineIsBounded(t *testing.T) {
	if _, err := commandLine("echo", strings.Repeat("a", maxCommand)); err == nil {
		t.Error("a line without end was made")
	}
}
