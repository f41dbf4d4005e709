package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"chaos/campaign"
)

// Bounds of showing progress.
const (
	plainEvery   = 5 * time.Second // between lines where there is no terminal
	widthDefault = 80
)

// A screen shows a run while it happens: one live line on a terminal, plain
// lines elsewhere.
type screen struct {
	w     io.Writer
	quiet bool
	live  bool
	width int
	drawn bool
	phase string
	ok    int
	at    time.Time // of the last rate
	rate  float64
	plain time.Time // of the last plain line
}

func newScreen(w io.Writer, quiet bool) *screen {
	s := &screen{w: w, quiet: quiet, width: widthDefault, at: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.live = os.Getenv("TERM") != "dumb"
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			s.width = n
		}
	}
	return s
}

// patient has a screen without a terminal show nothing of what ends soon.
func (s *screen) patient(phase string) { s.phase, s.plain = phase, time.Now() }

// line prints one line that stays.
func (s *screen) line(format string, args ...any) {
	if s.quiet {
		return
	}
	s.clear()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// done takes the live line away.
func (s *screen) done() { s.clear() }

func (s *screen) clear() {
	if s.drawn {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.drawn = false
	}
}

// progress shows where the run is.
func (s *screen) progress(p campaign.Progress) {
	if s.quiet {
		return
	}
	for _, m := range p.Messages {
		s.line("%s", m)
	}
	s.measure(p)
	s.status(p.Phase, s.text(p))
}

// status shows one line of anything else that goes on.
func (s *screen) status(phase, text string) {
	switch {
	case s.quiet:
	case s.live:
		s.clear()
		fmt.Fprint(s.w, clip(text, s.width-1))
		s.drawn = true
	case phase != s.phase || time.Since(s.plain) >= plainEvery:
		fmt.Fprintln(s.w, text)
		s.plain = time.Now()
	}
	s.phase = phase
}

func (s *screen) measure(p campaign.Progress) {
	if d := time.Since(s.at); d >= time.Second {
		s.rate = float64(p.Ok-s.ok) / d.Seconds()
		s.ok, s.at = p.Ok, time.Now()
	}
}

func (s *screen) text(p campaign.Progress) string {
	t := p.Phase
	switch {
	case p.Left > 0 && p.Simulated: // how fast it gets there is the machine's affair
		t += fmt.Sprintf(" %s of %s simulated", p.Elapsed.Round(100*time.Millisecond), p.Elapsed+p.Left)
	case p.Left > 0:
		t += fmt.Sprintf(" %s left", p.Left.Round(100*time.Millisecond))
	}
	if p.Ok+p.Fail+p.Info > 0 {
		t += fmt.Sprintf(" · %d ok %d fail %d info", p.Ok, p.Fail, p.Info)
		if !p.Simulated {
			t += fmt.Sprintf(" · %.0f/s", s.rate)
		}
	}
	if p.Leader != "" {
		t += " · leader " + p.Leader
	}
	if len(p.Active) > 0 {
		t += " · " + strings.Join(p.Active, " ")
	}
	return t
}

// clip cuts text to width columns.
func clip(text string, width int) string {
	r := []rune(text)
	if len(r) <= width || width < 1 {
		return text
	}
	return string(r[:width-1]) + "…"
}
