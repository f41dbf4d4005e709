package history

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func sample() Event {
	return Event{Index: 812, Time: 3204 * time.Millisecond, Process: 14, Type: Ok, F: CAS, Key: "cas/k3",
		Value: json.RawMessage(`{"swapped":false,"saw":41}`), Node: "n3", Mode: "index",
		Session: math.MaxUint64, Sequence: 9, Attempts: 2, At: 4711, Error: "connection \"x\" reset"}
}

// randomEvent draws events as strange as the format allows.
func randomEvent(r *rand.Rand) Event {
	texts := []string{"", "n1", "read", "a\"b\\c", "tab\tline\n\x01", "ü→€", "<&>", "\u2028"}
	values := []string{"", "null", "0", "-5", "[1,2,-3]", "[]", `[null,7]`, `{"swapped":true,"saw":null}`, `"text, with {brackets]"`, "1.5", "123456789012345678901"}
	pick := func(l []string) string { return l[r.IntN(len(l))] }
	e := Event{Index: r.IntN(1e9), Time: time.Duration(r.Int64N(1e15)), Process: r.IntN(100) - 1, Type: Type(r.IntN(4)),
		F: pick(texts), Key: pick(texts), Node: pick(texts), Mode: pick(texts), Error: pick(texts),
		Session: r.Uint64(), Sequence: r.Uint64N(3), Attempts: r.IntN(3), At: r.Uint64N(2) * r.Uint64()}
	if v := pick(values); v != "" {
		e.Value = json.RawMessage(v)
	}
	return e
}

func TestAppendEventMeansWhatEncodingJSONMeans(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		e := randomEvent(r)
		line := AppendEvent(nil, e)
		if bytes.Count(line, []byte{'\n'}) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("%q is not one line", line)
		}
		var got, want any
		theirs, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if err := json.Unmarshal(theirs, &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("AppendEvent wrote %s; encoding/json %s", line, theirs)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	want := History{Header: Header{History: Version, System: "raft", Provider: "local", Seed: 7, Nonce: "abc", Workload: "cas"}}
	file := AppendHeader(nil, want.Header)
	for range 3000 {
		e := randomEvent(r)
		want.Events = append(want.Events, e)
		file = AppendEvent(file, e)
	}
	got, err := ReadAll(bytes.NewReader(file), "h")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		for i := range want.Events {
			if !reflect.DeepEqual(got.Events[i], want.Events[i]) {
				t.Fatalf("event %d: %+v became %+v", i, want.Events[i], got.Events[i])
			}
		}
		t.Fatalf("header %+v became %+v", want.Header, got.Header)
	}
}

func TestAppendEventKeepsOneLineWhateverTheValue(t *testing.T) {
	for value, want := range map[string]string{
		"[1,\n 2]":           "[1,2]",
		"{\"a\" :\t\"b c\"}": `{"a":"b c"}`,
		"not json\n":         `"not json\u000a"`,
		"01":                 `"01"`,
		"[1,]":               `"[1,]"`,
		"-":                  `"-"`,
	} {
		line := string(AppendEvent(nil, Event{F: "write", Value: json.RawMessage(value)}))
		if !strings.Contains(line, `"value":`+want+`}`) || strings.Count(line, "\n") != 1 {
			t.Errorf("value %q was written as %s", value, line)
		}
	}
}

func TestAppendEventDoesNotAllocate(t *testing.T) {
	b, e := make([]byte, 0, 1024), sample()
	if n := testing.AllocsPerRun(100, func() { b = AppendEvent(b[:0], e) }); n > 0 {
		t.Errorf("AppendEvent allocates %v times", n)
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	buffer, e := make([]byte, 0, 1024), sample()
	b.ReportAllocs()
	for b.Loop() {
		buffer = AppendEvent(buffer[:0], e)
	}
}

func BenchmarkReadAll(b *testing.B) {
	file := AppendHeader(nil, Header{})
	for i := range 100_000 {
		e := sample()
		e.Index, e.Error = i, ""
		file = AppendEvent(file, e)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadAll(bytes.NewReader(file), "h"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
