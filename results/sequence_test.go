package results

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func threeNodes(marks ...Mark) SequencePage {
	return SequencePage{Title: "two leaders", Subtitle: "raft, seed 7, invalid", Lanes: []string{FaultsLane, "n1", "n2", "n3"}, Marks: marks}
}

// drawn makes the page, and looks at what every page must have.
func drawn(t *testing.T, p SequencePage) string {
	t.Helper()
	b, err := Sequence(p)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	wellFormed(t, page)
	ids := map[string]bool{}
	for _, id := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[id[1]] {
			t.Errorf("two elements are %s", id[1])
		}
		ids[id[1]] = true
	}
	inside := regexp.MustCompile(`href="#([^"]*)"`)
	for _, ref := range inside.FindAllStringSubmatch(page, -1) {
		if !ids[ref[1]] {
			t.Errorf("a link to %s, which is not on the page", ref[1])
		}
	}
	selfContained(t, inside.ReplaceAllString(page, ""))
	if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") || strings.Contains(page, "%!") {
		t.Error("a number is none")
	}
	return page
}

const ms = time.Millisecond

// A page with everything in it: n1 stands still while n2 is elected; it wakes,
// believes that it leads, and answers a read from the past.
func TestSequence(t *testing.T) {
	page := drawn(t, threeNodes(
		Mark{0, 0, 1, -1, MarkUp, "starts"},
		Mark{1 * ms, 0, 1, -1, MarkLeads, "leader, term 1"},
		Mark{1 * ms, 2 * ms, 1, 2, MarkMessage, "append term=1"},
		Mark{1 * ms, 3 * ms, 1, 3, MarkMessage, "append term=1"},
		Mark{20 * ms, 90 * ms, 0, -1, MarkFault, "pause-1: n1 frozen"},
		Mark{20 * ms, 0, 1, -1, MarkFrozen, "stands still"},
		Mark{25 * ms, -1, 3, -1, MarkFault, "slow-1: n3"},
		Mark{60 * ms, 60200 * time.Microsecond, 2, 3, MarkMessage, "vote term=2 <&>"},
		Mark{60 * ms, -1, 2, 1, MarkLost, "vote term=2"},
		Mark{60200 * time.Microsecond, 60500 * time.Microsecond, 3, 2, MarkMessage, "vote-reply term=2 yes"},
		Mark{60500 * time.Microsecond, 0, 2, -1, MarkLeads, "leader, term 2"},
		Mark{70 * ms, 0, 3, -1, MarkDown, "is killed"},
		Mark{80 * ms, 0, 3, -1, MarkUp, "starts"},
		Mark{80 * ms, 0, 3, -1, MarkState, "follower, term 2"},
		Mark{90 * ms, 0, 1, -1, MarkUp, "goes on"},
		Mark{91 * ms, 90 * ms, 2, 3, MarkMessage, "append term=2"},
		Mark{91 * ms, 92 * ms, 2, 2, MarkMessage, "to itself"},
		Mark{91 * ms, 0, 1, -1, MarkNote, "read 1"},
		Mark{90500 * time.Microsecond, 91 * ms, 1, -1, MarkViolation, "n1 answered read 1 although write 2 had been acknowledged"},
	))
	golden(t, "testdata/sequence.html", page)
}

// What arrives changes a node, which then sends, whatever their order in the list.
func TestSequenceOrdersOneMoment(t *testing.T) {
	marks := []Mark{
		{5, 9, 2, 1, MarkMessage, "d"}, {5, 9, 2, 3, MarkMessage, "e"}, {5, 0, 2, -1, MarkViolation, "c"},
		{5, 0, 2, -1, MarkLeads, "b"}, {5, -1, 0, -1, MarkFault, "a"}, {1, 5, 1, 2, MarkMessage, "0"},
	}
	var got []string
	for _, r := range newSequence([]string{FaultsLane, "n1", "n2", "n3"}, tidyMarks(marks)).rows {
		word := ""
		for _, p := range r.points {
			word += marks[slices.IndexFunc(marks, func(m Mark) bool { return m.Text == tidyMarks(marks)[p.mark].Text })].Text
		}
		got = append(got, word)
	}
	if want := "0 0 a b c de de"; strings.Join(got, " ") != want {
		t.Errorf("rows %q, want %q", got, want)
	}
}

// Marks with times of their own make the same bytes in any order.
func TestSequenceIsDeterministic(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := threeNodes(many(500)...)
	want := drawn(t, p)
	for range 3 {
		r.Shuffle(len(p.Marks), func(i, j int) { p.Marks[i], p.Marks[j] = p.Marks[j], p.Marks[i] })
		if drawn(t, p) != want {
			t.Fatal("the order of the list is to be seen on the page")
		}
	}
}

// many makes marks of all kinds, each at a time of its own.
func many(n int) (out []Mark) {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []string{MarkState, MarkLeads, MarkNote, MarkDown, MarkFrozen, MarkUp, MarkFault}
	for i := range n {
		m := Mark{At: time.Duration(i) * ms, Until: time.Duration(i+r.IntN(30)-3) * ms, From: 1 + r.IntN(3), To: 1 + r.IntN(3), Text: strings.Repeat("word ", r.IntN(50))}
		switch r.IntN(8) {
		case 0:
			m.Kind, m.To = kinds[r.IntN(len(kinds))], -1
		case 1:
			m.Kind = MarkLost
		default:
			m.Kind = MarkMessage
		}
		out = append(out, m)
	}
	return out
}

// Whatever titles, lanes and texts hold, the page shows it as text.
func TestSequenceEscapes(t *testing.T) {
	hostile := nasty + "\x00\x1b[31m\u202e\u2028\xff]]>-->\n\n"
	p := SequencePage{Title: hostile, Subtitle: hostile, Lanes: []string{hostile, hostile}}
	for kind := range kinds {
		m := Mark{At: ms, Until: 2 * ms, To: -1, Kind: kind, Text: hostile}
		if m.message() {
			m.To = 1
		}
		p.Marks = append(p.Marks, m)
	}
	page := drawn(t, p)
	if strings.ContainsAny(page, "\x00\x1b\u202e\u2028\ufffd") {
		t.Error("what has no shape of its own reached the page")
	}
}

// The last marks are drawn; what the others left behind is to be seen.
func TestSequenceIsBounded(t *testing.T) {
	first := []Mark{
		{0, 0, 1, -1, MarkLeads, "leader, term 1"}, {1, -1, 0, -1, MarkFault, "lasts"}, {2, 3, 0, -1, MarkFault, "is over"},
		{4, 0, 2, -1, MarkDown, "is killed"}, {5, 0, 3, -1, MarkViolation, "long ago"},
	}
	var rest []Mark
	for i := range 3 * marksMax {
		rest = append(rest, Mark{time.Duration(i+1) * ms, time.Duration(i+3) * ms, 1, 3, MarkMessage, strings.Repeat("long ", 60)})
	}
	page := drawn(t, threeNodes(append(first, rest...)...))
	for _, want := range []string{
		fmt.Sprintf("The last %d of %d marks are shown; %d earlier ones are left out.", marksMax+1, 3*marksMax+5, 2*marksMax+4),
		"Violation, before what is shown", ">lasts<", `class="life leads"`, `class="end"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(page, "is over") || len(page) > pageMax {
		t.Errorf("the page has %d bytes, at most %d; or a fault that is over", len(page), pageMax)
	}
	drawn(t, threeNodes(many(3*marksMax)...))
}

// More than one leader is to be seen, unless all but one stand still.
func TestSequenceTwoLeaders(t *testing.T) {
	one, two := Mark{1, 0, 1, -1, MarkLeads, ""}, Mark{3, 0, 2, -1, MarkLeads, ""}
	for name, c := range map[string]struct {
		marks []Mark
		want  int
	}{
		"one":                {[]Mark{one}, 0},
		"two":                {[]Mark{one, two}, 1},
		"one after another":  {[]Mark{one, {2, 0, 1, -1, MarkState, ""}, two}, 0},
		"one is dead":        {[]Mark{one, {2, 0, 1, -1, MarkDown, ""}, two}, 0},
		"one stands still":   {[]Mark{one, {2, 0, 1, -1, MarkFrozen, ""}, two}, 0},
		"one stood still":    {[]Mark{one, {2, 0, 1, -1, MarkFrozen, ""}, two, {4, 0, 1, -1, MarkUp, ""}}, 1},
		"again":              {[]Mark{one, two, {4, 0, 1, -1, MarkState, ""}, {5, 0, 1, -1, MarkLeads, ""}}, 2},
		"one died and lives": {[]Mark{one, {2, 0, 1, -1, MarkDown, ""}, two, {4, 0, 1, -1, MarkUp, ""}}, 0},
	} {
		if got := strings.Count(drawn(t, threeNodes(c.marks...)), "lead at once"); got != c.want {
			t.Errorf("%s: %d stretches with more than one leader, want %d", name, got, c.want)
		}
	}
}

// A page is drawn of little, and of all lanes; what has no place is refused.
func TestSequenceRefuses(t *testing.T) {
	drawn(t, SequencePage{Lanes: []string{"n1"}})
	drawn(t, SequencePage{Lanes: []string{FaultsLane}, Marks: []Mark{{0, -1, 0, -1, MarkFault, ""}, {0, 0, -1, -1, MarkViolation, ""}}})
	drawn(t, SequencePage{Lanes: make([]string, lanesOfMarks), Marks: []Mark{{0, 0, 9, 0, MarkMessage, ""}, {0, 0, 9, 9, MarkMessage, ""}}})
	for name, p := range map[string]SequencePage{
		"no lane":                 {},
		"too many lanes":          {Lanes: make([]string, lanesOfMarks+1)},
		"no kind":                 threeNodes(Mark{Kind: "", From: 1, To: -1}),
		"a lane that isn't there": threeNodes(Mark{Kind: MarkNote, From: 4, To: -1}),
		"a lane below 0":          threeNodes(Mark{Kind: MarkNote, From: -1, To: -1}),
		"a state of the faults":   threeNodes(Mark{Kind: MarkState, From: 0, To: -1}),
		"a message to nobody":     threeNodes(Mark{Kind: MarkMessage, From: 1, To: -1}),
		"a message to the faults": threeNodes(Mark{Kind: MarkMessage, From: 1, To: 0}),
	} {
		if b, err := Sequence(p); err == nil || b != nil {
			t.Errorf("%s: drawn", name)
		}
	}
}
