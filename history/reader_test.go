package history

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

const goodLine = `{"index":1,"time":5,"process":0,"type":"invoke","f":"read","key":"k"}`

func TestReaderErrors(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"no json", goodLine + "\nhello\n", "h:2: not JSON at byte 1: invalid character 'h' looking for beginning of value"},
		{"cut line in the middle", goodLine + "\n" + goodLine[:30] + "\n" + goodLine + "\n", "h:2: not JSON: the line ends too early"},
		{"cut last line, ended", goodLine[:30] + "\n", "h:1: not JSON: the line ends too early"},
		{"missing field", `{"index":1,"time":5,"type":"ok","f":"read"}` + "\n", `h:1: field "process" is missing`},
		{"unknown field", `{"index":1,"time":5,"proces":0,"type":"ok","f":"read"}` + "\n", `h:1: unknown field "proces"`},
		{"unknown type", strings.Replace(goodLine, "invoke", "begin", 1), `h:1: history: "begin" is not an event type; they are invoke, ok, fail, info`},
		{"wrong kind", strings.Replace(goodLine, `"read"`, "7", 1) + "\n", `h:1: field "f" is a JSON number, where string is expected`},
		{"not an object", "[1]\n", "h:1: the line is a JSON array, not an object"},
		{"two on a line", goodLine + goodLine + "\n", "h:1: there is more on the line than one event"},
		{"other version", `{"history":2}` + "\n", "h:1: the history has format version 2; this program reads version 1"},
		{"long line", `{"index":` + strings.Repeat("1", LineMax+1), "h:1: the line is longer than 1048576 bytes"},
	}
	for _, tt := range tests {
		_, err := ReadAll(strings.NewReader(tt.file), "h")
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestReaderToleratesItsWritersDeath(t *testing.T) {
	file := string(AppendHeader(nil, Header{})) + goodLine + "\n" + strings.Replace(goodLine, `"index":1`, `"index":2`, 1)
	whole := len(file)
	for cut := range whole + 1 {
		h, err := ReadAll(strings.NewReader(file[:cut]), "h")
		if err != nil {
			t.Fatalf("cut at byte %d of %d: %v", cut, whole, err)
		}
		rest := strings.TrimSpace(file[strings.LastIndex(file[:cut], "\n")+1 : cut])
		complete := rest == "" || strings.HasSuffix(rest, "}")
		if h.Torn == complete {
			t.Errorf("cut at byte %d: torn is %v after %q", cut, h.Torn, rest)
		}
	}
}

func TestReaderWithoutHeaderAndWithBlankLines(t *testing.T) {
	h, err := ReadAll(strings.NewReader("\n"+goodLine+"\r\n\n"), "h")
	if err != nil || len(h.Events) != 1 || h.Header != (Header{}) || h.Torn {
		t.Errorf("got %+v, %v", h, err)
	}
	if h, err := ReadAll(strings.NewReader(""), "h"); err != nil || len(h.Events) != 0 || h.Torn {
		t.Errorf("an empty file: got %+v, %v", h, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

func TestReaderReportsItsSource(t *testing.T) {
	_, err := ReadAll(io.MultiReader(strings.NewReader(goodLine+"\n"), failing{}), "h")
	if err == nil || err.Error() != "h:2: disk on fire" {
		t.Errorf("got %v", err)
	}
}

func TestReadAudit(t *testing.T) {
	file := `{"system":"raft","node":"n1","incarnation":1,"start":true,"term":3,"vote":"n2","role":"follower","applied":64,"hash":"ab"}`
	want := []Audit{{System: "raft", Node: "n1", Incarnation: 1, Start: true, Term: 3, Vote: "n2", Role: "follower", Applied: 64, Hash: "ab"}}
	for _, tail := range []string{"", "\n", "\n{\"sys"} {
		if got, err := ReadAudit(strings.NewReader(file+tail), "a"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("tail %q: got %+v, %v", tail, got, err)
		}
	}
	if _, err := ReadAudit(strings.NewReader("{\"sys\n"+file), "a"); err == nil {
		t.Error("a torn line in the middle was accepted")
	}
}

// FuzzReader: the hand parser and encoding/json agree on every line, and what
// was read is written and read again unchanged.
func FuzzReader(f *testing.F) {
	f.Add([]byte(goodLine))
	f.Add(AppendEvent(nil, sample()))
	f.Add([]byte(`{"index":-0,"time":01,"process":1e3,"type":"ok","f":"\u0041","value":[1,2}`))
	f.Add([]byte(`{"history":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		p := newParser()
		if fast, ok := p.fast(line); ok {
			slow, err := slowEvent(line)
			if err != nil || !reflect.DeepEqual(fast, slow) {
				t.Fatalf("%q: the hand parser read %+v, encoding/json %+v, %v", line, fast, slow, err)
			}
		}
		h, err := ReadAll(bytes.NewReader(line), "h")
		if err != nil {
			return
		}
		file := AppendHeader(nil, h.Header)
		for _, e := range h.Events {
			file = AppendEvent(file, e)
		}
		again, err := ReadAll(bytes.NewReader(file), "h")
		if err != nil || len(again.Events) != len(h.Events) {
			t.Fatalf("%q: written as %q and read as %+v, %v", line, file, again, err)
		}
		if err := Validate(h); err == nil {
			Operations(h)
			Windows(h)
			Measure(h)
		}
	})
}

func FuzzReadAudit(f *testing.F) {
	f.Add([]byte(`{"system":"paxos","term":1,"vote":"n1"}`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = ReadAudit(bytes.NewReader(b), "a") })
}
