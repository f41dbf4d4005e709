package results

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"chaos/history"
	"chaos/linearizability"
)

// nasty is text that must never become markup.
const nasty = `<script>alert("1")</script><img src=x onerror='2'>&amp;`

// pageMax bounds the page of the largest runs, bytes.
const pageMax = 2 << 20

// wellFormed reads the page as strictly as XML is read; only the elements that
// HTML never closes are taken out before.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	page = regexp.MustCompile(`<!doctype html>|<meta [^>]*>`).ReplaceAllString(page, "")
	d := xml.NewDecoder(strings.NewReader(page))
	for {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			line, column := d.InputPos()
			t.Fatalf("line %d, column %d: %v", line, column, err)
		}
	}
}

// selfContained wants no reference out of the run's folder, and nothing that runs.
func selfContained(t *testing.T, page string) {
	t.Helper()
	for _, bad := range []string{"<script", "<link", "@import", "url(", "<iframe", "<img"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	for _, tag := range regexp.MustCompile(`<[a-z]+ [^>]*>`).FindAllString(page, -1) {
		if reaching.MatchString(tag) {
			t.Errorf("the page has %s", tag)
		}
	}
	for _, ref := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if strings.ContainsAny(ref[1], ":?#") || strings.HasPrefix(ref[1], "/") {
			t.Errorf("a link leaves the folder: %s", ref[1])
		}
	}
}

// reaching finds attributes that fetch or run something.
var reaching = regexp.MustCompile(`\s(src|srcset|on[a-z]+|xlink:href)=|https?:`)

func report(t *testing.T, s Summary, h history.History) string {
	t.Helper()
	b, err := Report(s, h)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	wellFormed(t, page)
	selfContained(t, page)
	return page
}

func note(at time.Duration, typ history.Type, f string, n history.Note) history.Event {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return history.Event{Time: at, Process: history.Nemesis, Type: typ, F: f, Value: b}
}

// numbered gives every event its place.
func numbered(events ...history.Event) history.History {
	for i := range events {
		events[i].Index = i
	}
	return history.History{Events: events}
}

// Whatever nodes, keys, values and errors hold, the page shows it as text.
func TestReportEscapes(t *testing.T) {
	s := summary()
	s.Run, s.System, s.Provider, s.Network, s.Interrupted, s.Harness = nasty, nasty, nasty, nasty, nasty, []string{nasty}
	v := linearizability.Verdict{Checker: nasty, Outcome: linearizability.Invalid, Reason: nasty, Key: nasty, Story: []string{nasty}, Evidence: []int{0, 1, 2}}
	s.Verdict = linearizability.Verdict{Outcome: v.Outcome, Reason: nasty, Parts: []linearizability.Verdict{v}}
	s.Figures.Faults = []history.FaultFigure{{Fault: nasty}}
	long := json.RawMessage(`"` + strings.Repeat("é", 400) + `"`)
	h := numbered(
		history.Event{Process: 1, Type: history.Invoke, F: nasty, Key: nasty, Node: nasty, Value: json.RawMessage(`"<b>"`)},
		history.Event{Time: 1, Process: 1, Type: history.Fail, F: nasty, Key: nasty, Node: nasty, Error: nasty},
		history.Event{Time: 2, Process: 2, Type: history.Invoke, F: history.Write, Value: long},
		note(3, history.Invoke, history.Inject, history.Note{ID: nasty, Fault: nasty, Victims: []string{nasty}}),
		note(4, history.Info, history.Phase, history.Note{Phase: nasty, Detail: nasty}),
		note(5, history.Info, history.Leader, history.Note{Leader: nasty, Term: 3}),
		note(time.Second, history.Ok, history.Heal, history.Note{ID: nasty}))
	page := report(t, s, h)
	if !strings.Contains(page, "&lt;script&gt;") || !strings.Contains(page, PorcupineFile) {
		t.Error("what happened is not shown")
	}
}

// A violation that no key shows has no page of Porcupine's to link.
func TestReportLinksOnlyWhatIsThere(t *testing.T) {
	s := summary()
	s.Verdict = linearizability.Verdict{Outcome: linearizability.Invalid, Parts: []linearizability.Verdict{{Checker: "audits", Outcome: linearizability.Invalid}}}
	if strings.Contains(report(t, s, history.History{}), PorcupineFile) {
		t.Error("the page links a file that is not written")
	}
	s.Verdict.Parts[0].Parts = []linearizability.Verdict{{Outcome: linearizability.Invalid, Key: "register/1"}}
	if Violated(s.Verdict) != "register/1" || !strings.Contains(report(t, s, history.History{}), PorcupineFile) {
		t.Error("the page does not link the key's own page")
	}
}

// A story that is only the reason again stands once.
func TestReportTellsOnce(t *testing.T) {
	s := summary()
	const reason = "kill was never injected"
	s.Verdict = linearizability.Verdict{Outcome: linearizability.Unknown, Reason: "interrupted", Parts: []linearizability.Verdict{
		{Checker: "meaningful", Outcome: linearizability.Unknown, Reason: reason, Story: []string{reason + "."}},
		{Checker: "weather", Outcome: linearizability.Unknown, Reason: "x", Story: []string{"its own story"}}}}
	page := report(t, s, history.History{})
	if n := strings.Count(page, reason); n != 1 || !strings.Contains(page, "its own story") {
		t.Errorf("the reason stands there %d times", n)
	}
}

// The page of a long run is no larger than people's browsers like.
func TestReportIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var events []history.Event
	for i := 0; len(events) < 200_000; i++ {
		at := time.Duration(i) * 100 * time.Microsecond
		took := time.Duration(r.ExpFloat64() * float64(20*time.Millisecond))
		events = append(events, history.Event{Time: at, Process: i, Type: history.Invoke, F: history.Write, Key: "register/1"},
			history.Event{Time: at + took, Process: i, Type: history.Type(1 + r.IntN(3)), F: history.Write, Key: "register/1"})
		if i%40 == 0 {
			id := fmt.Sprint("kill-", i)
			events = append(events, note(at, history.Invoke, history.Inject, history.Note{ID: id}), note(at, history.Ok, history.Inject, history.Note{ID: id}))
		}
		if i%100 == 0 {
			events = append(events, note(at, history.Info, history.Leader, history.Note{Leader: "n1", Term: uint64(i)}))
		}
	}
	s := summary()
	s.Verdict.Outcome = linearizability.Invalid
	for i := range 100_000 {
		s.Verdict.Evidence = append(s.Verdict.Evidence, i)
	}
	page := report(t, s, numbered(events...))
	if len(page) > pageMax || !strings.Contains(page, `class="ok"`) {
		t.Errorf("the page has %d bytes; at most %d", len(page), pageMax)
	}
}

// A drawing is well-formed whatever little a history holds.
func TestTimelineOfLittle(t *testing.T) {
	if got := drawTimeline(history.History{}, nil); got != "" {
		t.Errorf("nothing is drawn as %s", got)
	}
	invoke := history.Event{Process: 1, Type: history.Invoke, F: history.Read}
	done := history.Event{Process: 1, Type: history.Ok, F: history.Read}
	for name, events := range map[string][]history.Event{
		"one event":           {invoke},
		"at time zero":        {invoke, done},
		"one note":            {note(0, history.Info, history.Phase, history.Note{Phase: history.Storm})},
		"a note of nonsense":  {{Process: history.Nemesis, Type: history.Info, F: history.Phase, Value: json.RawMessage(`7`)}},
		"a heal of nothing":   {note(0, history.Ok, history.Heal, history.Note{ID: "kill-1"})},
		"never healed":        {note(0, history.Invoke, history.Inject, history.Note{ID: "kill-1", Victims: []string{"n1"}}), {Time: time.Hour, Process: 1, Type: history.Invoke, F: history.Read}},
		"a day":               {invoke, {Time: 24 * time.Hour, Process: 1, Type: history.Info, F: history.Read}},
		"a year":              {invoke, {Time: 8760 * time.Hour, Process: 1, Type: history.Info, F: history.Read}},
		"slower than the top": {invoke, {Time: time.Minute, Process: 1, Type: history.Ok, F: history.Read}},
	} {
		svg := drawTimeline(numbered(events...), map[int]bool{0: true})
		if !strings.HasPrefix(svg, "<svg") || strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || strings.Contains(svg, "%!") {
			t.Errorf("%s: drawn as %s", name, svg)
		}
		if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
			t.Errorf("%s: %v in %s", name, err, svg)
		}
		if len(svg) > 20_000 {
			t.Errorf("%s: %d bytes", name, len(svg))
		}
	}
}

// Who points at a phase is told what its note says of it.
func TestPhaseTellsMore(t *testing.T) {
	d := drawing{end: 10 * time.Second}
	d.notes(history.History{Events: []history.Event{note(0, history.Info, history.Phase, history.Note{Phase: history.Healing, Detail: history.LeftBroken + "n4 down"})}})
	if want := "<title>heal: 0s to 10s; left broken: n4 down</title>"; !strings.Contains(d.b.String(), want) {
		t.Errorf("%s is not in %s", want, d.b.String())
	}
}

// Windows that overlap in time never overlap on the page.
func TestLanes(t *testing.T) {
	d := drawing{end: 10 * time.Second}
	d.lanes("faults", []span{{0, 4e9, "a", "fault", ""}, {1e9, 2e9, "b", "fault", ""}, {2e9, 3e9, "c", "fault", ""}, {5e9, 6e9, "d", "fault", ""}})
	rows := map[string][]string{}
	for _, m := range regexp.MustCompile(`<rect class="fault" x="[^"]*" y="(\d+)"[^/]*/><title>(.):`).FindAllStringSubmatch(d.b.String(), -1) {
		rows[m[1]] = append(rows[m[1]], m[2])
	}
	if len(rows) != 2 || strings.Join(rows["0"], "") != "ad" || strings.Join(rows["18"], "") != "bc" {
		t.Errorf("lanes %v in %s", rows, d.b.String())
	}
}
