package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// What people read fits their terminal, word by word; what they copy is left whole.
func TestFolded(t *testing.T) {
	key := "  10.84.0.1 ssh-ed25519 " + strings.Repeat("A", 90)
	text := "chaos: ssh: the host key of 10.84.0.1:22 is unknown, and this sentence goes on for longer than a line;" +
		" remedy: compare it, then add this line:\n" + key + "\nand another word"
	got := folded("", text, 40, 2)
	lines := strings.Split(got, "\n")
	for _, l := range lines {
		if !strings.Contains(l, "AAAA") && utf8.RuneCountInString(l) > 40 {
			t.Errorf("%d columns: %q", utf8.RuneCountInString(l), l)
		}
	}
	for _, want := range []string{"\n  remedy: compare it", "\n  " + key + "\n", "\n  and another word"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if words := strings.Join(strings.Fields(got), " "); words != strings.Join(strings.Fields(text), " ") {
		t.Errorf("words were lost:\n%s", got)
	}
	if got := folded("name  ", "short", 40, 2); got != "name  short" {
		t.Errorf("%q", got)
	}
}

// Help fits a terminal, whichever command it is of.
func TestHelpFits(t *testing.T) {
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		var b strings.Builder
		c.SetOut(&b)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			hunt := strings.HasPrefix(line, "  hunt ") // is one column wider
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > helpWidth && !hunt {
				t.Errorf("%s --help: %d columns: %s", c.CommandPath(), n, line)
			}
		}
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				look(sub)
			}
		}
	}
	look(rootCommand())
}

// A story is folded line by line, each below itself.
func TestFoldedStory(t *testing.T) {
	story := "\nINVALID: because\n    of this\n"
	if got := storyForPeople(&strings.Builder{}, story); got != story {
		t.Errorf("folded where there is no terminal: %q", got)
	}
}
