package campaign

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// A Scenario is a plan as a golden test keeps it: a text with a head in prose,
// the plan, and what a sound system makes of it, where that is known.
//
//	# Two leaders in term 2: n1's vote was not saved.
//	# Defect: vote-not-saved
//	# Breaks: election-safety
//	{ the plan }
//	----
//	sound nodes: no violation
type Scenario struct {
	About  []string // the head's lines of prose
	Defect string   // the defect that the plan was shrunk from; may be empty
	Breaks string   // the invariant or checker that sees that defect
	Plan   Plan
	Sound  bool // the plan was run on sound nodes, and they showed no violation
}

// Every scenario ends with what sound nodes make of it, or with that nobody has
// run them yet: who shrinks a plan runs the nodes that fail, and no others.
const (
	soundWord = "----\nsound nodes: no violation\n"
	unrunWord = "----\nsound nodes: not run\n"
)

// Encode writes the scenario.
func (s Scenario) Encode() []byte {
	var b bytes.Buffer
	for _, line := range s.About {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	if s.Defect != "" {
		fmt.Fprintf(&b, "# Defect: %s\n", s.Defect)
	}
	fmt.Fprintf(&b, "# Breaks: %s\n", s.Breaks)
	b.Write(s.Plan.Encode())
	if s.Sound {
		b.WriteString(soundWord)
	} else {
		b.WriteString(unrunWord)
	}
	return b.Bytes()
}

// ParseScenario reads what Encode wrote, or a person edited.
func ParseScenario(b []byte) (s Scenario, err error) {
	body, sound := bytes.CutSuffix(b, []byte(soundWord))
	body, unrun := bytes.CutSuffix(body, []byte(unrunWord))
	if sound == unrun {
		return s, fmt.Errorf("scenario: it does not end with either %q or %q", soundWord, unrunWord)
	}
	s.Sound = sound
	for {
		line, rest, ok := bytes.Cut(body, []byte("\n"))
		text, is := strings.CutPrefix(string(line), "#")
		if !ok || !is {
			break
		}
		s.head(strings.TrimSpace(text))
		body = rest
	}
	if s.Breaks == "" {
		return s, errors.New("scenario: its head has no line \"# Breaks: …\", which names the invariant that is at stake")
	}
	s.Plan, err = ParsePlan(body)
	return s, err
}

func (s *Scenario) head(line string) {
	if v, ok := strings.CutPrefix(line, "Defect:"); ok {
		s.Defect = strings.TrimSpace(v)
	} else if v, ok := strings.CutPrefix(line, "Breaks:"); ok {
		s.Breaks = strings.TrimSpace(v)
	} else {
		s.About = append(s.About, line)
	}
}
