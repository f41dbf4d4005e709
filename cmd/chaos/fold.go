package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// folded breaks a text's lines at blanks for people at a terminal, at most width
// columns each where words allow, and gives a remedy a line of its own. Before the
// first line stands head; those that follow are indented. What is indented already
// is to be copied as it is, and stays so.
func folded(head, text string, width, indent int) string {
	margin := "\n" + strings.Repeat(" ", indent)
	var out []string
	for _, line := range strings.Split(strings.ReplaceAll(text, "; remedy: ", ";\nremedy: "), "\n") {
		if strings.HasPrefix(line, "  ") {
			out = append(out, line)
			continue
		}
		room := width - indent
		if len(out) == 0 {
			room = width - utf8.RuneCountInString(head)
		}
		now := ""
		for _, word := range strings.Fields(line) {
			if now != "" && utf8.RuneCountInString(now)+1+utf8.RuneCountInString(word) > room {
				out, now, room = append(out, now), "", width-indent
			}
			now = strings.TrimPrefix(now+" "+word, " ")
		}
		out = append(out, now)
	}
	return head + strings.Join(out, margin)
}

// forPeople folds a text where w is a terminal; whoever searches elsewhere finds
// whole lines.
func forPeople(w io.Writer, head, text string, indent int) string {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return head + text
	}
	width := widthDefault
	if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 2*indent {
		width = n
	}
	return folded(head, text, width, indent)
}

// storyForPeople folds each line of a story on its own, below itself.
func storyForPeople(w io.Writer, story string) string {
	lines := strings.Split(story, "\n")
	for i, line := range lines {
		text := strings.TrimLeft(line, " ")
		margin := line[:len(line)-len(text)]
		lines[i] = forPeople(w, margin, text, len(margin)+2)
	}
	return strings.Join(lines, "\n")
}

// complain says on standard error what went wrong.
func complain(text string) {
	io.WriteString(os.Stderr, forPeople(os.Stderr, "", text, 2)+"\n")
}
