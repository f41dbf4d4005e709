package results

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"chaos/linearizability"
)

// storyMax is how many lines of a story the terminal gets; the report has all.
const storyMax = 40

// Tell writes the verdict and why, in plain words.
func Tell(w io.Writer, s Summary) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n", strings.ToUpper(s.Verdict.Outcome.String()), s.Verdict.Reason)
	if s.Interrupted != "" && !strings.Contains(s.Verdict.Reason, s.Interrupted) {
		fmt.Fprintf(&b, "The run ended early: %s.\n", s.Interrupted)
	}
	for _, h := range s.Harness {
		fmt.Fprintf(&b, "HARNESS FAILURE: %s\n", h)
	}
	left := storyMax
	tell(&b, s.Verdict, &left)
	_, err := io.WriteString(w, b.String())
	return err
}

// tell writes the stories of what is not valid, the worst first.
func tell(b *strings.Builder, v linearizability.Verdict, left *int) {
	for _, outcome := range []linearizability.Outcome{linearizability.Invalid, linearizability.Unknown} {
		for _, p := range v.Parts {
			if p.Outcome != outcome {
				continue
			}
			if !strings.HasSuffix(v.Reason, p.Reason) && *left > 0 { // the headline has said it
				*left--
				fmt.Fprintf(b, "  %s %s: %s\n", p.Checker, p.Outcome, indented(p.Reason))
			}
			tell(b, p, left)
		}
	}
	if slices.ContainsFunc(v.Parts, func(p linearizability.Verdict) bool { return slices.Equal(p.Story, v.Story) }) {
		return // the part has told it
	}
	for _, line := range v.Story {
		if strings.HasSuffix(v.Reason, strings.TrimSuffix(line, ".")) {
			continue
		}
		if *left--; *left > 0 {
			fmt.Fprintf(b, "    %s\n", indented(line))
		}
	}
}

// indented keeps the further lines of what a node said below the first.
func indented(s string) string { return strings.ReplaceAll(s, "\n", "\n      ") }
