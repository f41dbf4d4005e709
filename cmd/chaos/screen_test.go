package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"chaos/campaign"
)

var stormy = campaign.Progress{Phase: "storm", Left: 3 * time.Second, Ok: 10, Fail: 2, Info: 1, Leader: "n3", Active: []string{"kill-1", "slow-2"}}

// Without a terminal there are whole lines, one for each phase and then one
// every few seconds, and nothing that only a terminal understands.
func TestPlainScreen(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b, false)
	for range 100 {
		s.progress(stormy)
	}
	news := stormy
	news.Phase, news.Messages = "heal", []string{"n2 exit: process 9 ended"}
	s.progress(news)
	s.done()
	want := []string{"storm 3s left · 10 ok 2 fail 1 info · 0/s · leader n3 · kill-1 slow-2", "n2 exit: process 9 ended",
		"heal 3s left · 10 ok 2 fail 1 info · 0/s · leader n3 · kill-1 slow-2", ""}
	if got := strings.Split(b.String(), "\n"); !slices.Equal(got, want) {
		t.Errorf("shown %q", got)
	}
}

// On a terminal one line is drawn anew, no wider than the terminal, and news and
// the end take it away.
func TestLiveScreen(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b, false)
	s.live, s.width = true, 20
	s.progress(stormy)
	first := b.String()
	if strings.Contains(first, "\n") || utf8.RuneCountInString(first) != 19 || !strings.HasSuffix(first, "…") {
		t.Errorf("first %q", first)
	}
	s.line("news")
	s.progress(stormy)
	s.done()
	s.done()
	if got, want := b.String(), first+"\r\x1b[Knews\n"+first+"\r\x1b[K"; got != want {
		t.Errorf("shown %q, want %q", got, want)
	}
}

// Of a simulated storm it shows simulated time, and no rate by the clock.
func TestSimulatedScreen(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b, false)
	p := stormy
	p.Simulated, p.Elapsed, p.Left = true, 12*time.Second+50*time.Millisecond, 78*time.Second-50*time.Millisecond
	s.progress(p)
	p.Phase, p.Left = "heal", 0
	s.progress(p)
	want := "storm 12.1s of 1m30s simulated · 10 ok 2 fail 1 info · leader n3 · kill-1 slow-2\n" +
		"heal · 10 ok 2 fail 1 info · leader n3 · kill-1 slow-2\n"
	if b.String() != want {
		t.Errorf("shown %q, want %q", b.String(), want)
	}
	b.Reset()
	s.patient("simulating")
	s.status("simulating", "soon over")
	if b.Len() > 0 {
		t.Errorf("a patient screen shows %q at once", b.String())
	}
}

// Quiet is quiet.
func TestQuietScreen(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b, true)
	news := stormy
	news.Messages = []string{"news"}
	s.progress(news)
	s.line("seed %d", 7)
	s.done()
	if b.Len() > 0 {
		t.Errorf("shown %q", b.String())
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöüß", 3, "äö…"}, {"abc", 0, "abc"}, {"abc", 1, "…"}, {"", 5, ""}} {
		if got := clip(c.text, c.width); got != c.want {
			t.Errorf("%q in %d columns: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// The name that was meant is the nearest.
func TestNearest(t *testing.T) {
	for wrong, want := range map[string]string{"raf": "raft", "paxi": "paxos", "paxos-clasic": "paxos-classic", "": "", "PAXOS": "paxos", "postgres": ""} {
		if got := nearest(wrong, []string{"raft", "paxos", "paxos-classic"}); got != want {
			t.Errorf("%q: %q, want %q", wrong, got, want)
		}
	}
	if d := distance("kitten", "sitting"); d != 3 {
		t.Errorf("the distance of kitten and sitting is %d", d)
	}
}
