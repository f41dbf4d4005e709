package raft

import (
	"strings"
	"testing"

	"chaos/nodes/consensus"
)

// A message can be printed, whatever its commands hold; a text stands as it is.
func TestMessageText(t *testing.T) {
	for data, want := range map[string]string{
		"x=1":                   "propose term=1 0@0:x=1",
		"a\x00\xff\n":           `propose term=1 0@0:"a\x00\xff\n"`,
		"":                      "propose term=1 0@0:",
		strings.Repeat("x", 99): "propose term=1 0@0:" + strings.Repeat("x", 40),
	} {
		m := Message{Kind: Propose, Term: 1, Entries: []consensus.Entry{{Command: consensus.Command{Data: []byte(data)}}}}
		if got := m.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
