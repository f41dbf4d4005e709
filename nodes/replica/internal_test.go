package replica

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"chaos/nodes/consensus"
)

// FuzzScan gives the recovery any bytes behind an intact header. It must answer
// records or a Damage, and what it calls whole must be what a writer wrote.
func FuzzScan(f *testing.F) {
	h := segmentHeader{node: 1, cluster: "fuzz", number: 1, first: 1, size: headerSize + 2048, restart: true, whole: 1}
	var w batchBuilder
	var good []byte
	good = append(good, w.seal(seedOf(h.encode()), 1)...)
	w.add(func(b []byte) []byte { return append(b, "record"...) })
	good = append(good, w.seal(seedOf(h.encode()), 2)...)
	f.Add(good)
	f.Add(good[:len(good)-5])
	f.Add(append(slices.Clone(good), good...))
	f.Fuzz(func(t *testing.T, body []byte) {
		data := make([]byte, h.size)
		copy(data, h.encode())
		copy(data[headerSize:], body)
		got, err := scan(segment{"fuzz", data, h, seedOf(h.encode())}, 1, true)
		var damage *Damage
		if err != nil && !errors.As(err, &damage) {
			t.Fatalf("neither records nor damage: %v", err)
		}
		if err == nil && (got.end > h.size || got.next < 2 || len(got.records) > len(body)/recordHeader) {
			t.Fatalf("read %d records up to %d", len(got.records), got.end)
		}
	})
}

// FuzzFrames gives the reader of peer frames any bytes, in any pieces.
func FuzzFrames(f *testing.F) {
	f.Add(hello{1, 2, "c"}.append(appendFrame(nil, framePing, nil)), 3)
	f.Add([]byte{255, 255, 255, 127, 3}, 1)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		r := frameReader{conn: &pieces{rest: b, size: max(1, piece)}, limit: 1 << 16}
		total := 0
		for {
			kind, payload, err := r.next()
			if err != nil {
				break
			}
			total += frameHeader + len(payload)
			if kind == frameHello {
				parseHello(payload)
			}
		}
		if total > len(b) {
			t.Fatalf("%d bytes of frames out of %d", total, len(b))
		}
		if cap(r.buf) > 2*(len(b)+readChunk+frameHeader) {
			t.Fatalf("a buffer of %d bytes for %d that came", cap(r.buf), len(b))
		}
	})
}

// pieces is a connection that delivers rest in pieces.
type pieces struct {
	net.Conn
	rest []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

func TestFramesInPieces(t *testing.T) {
	var all []byte
	var want []string
	for i := range 50 {
		text := strings.Repeat("m", i*37)
		want = append(want, text)
		all = appendFrame(all, frameMessage, func(b []byte) []byte { return append(b, text...) })
	}
	for _, size := range []int{1, 7, 1 << 20} {
		r := frameReader{conn: &pieces{rest: all, size: size}, limit: 1 << 16}
		for i, text := range want {
			if kind, payload, err := r.next(); err != nil || kind != frameMessage || string(payload) != text {
				t.Fatalf("pieces of %d: frame %d is %d %.20q %v", size, i, kind, payload, err)
			}
		}
		if _, _, err := r.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("behind the last frame: %v", err)
		}
	}
}

func TestHello(t *testing.T) {
	_, payload, _, ok, err := nextFrame(hello{3, 1, "storm"}.append(nil), greetingMax)
	if h, bad := parseHello(payload); !ok || err != nil || bad != nil || h != (hello{3, 1, "storm"}) {
		t.Fatalf("%+v %v %v", h, err, bad)
	}
	for _, p := range []string{"", "chaospeer", "chaospee!\x01\x00\x01\x00\x02\x00c", "chaospeer\x02\x00\x01\x00\x02\x00c"} {
		if h, err := parseHello([]byte(p)); err == nil {
			t.Errorf("%q was taken for %+v", p, h)
		}
	}
}

// TestPacer: a pause of the process must not make time rush.
func TestPacer(t *testing.T) {
	now := time.Unix(0, 0)
	p := pacer{tick: 10 * time.Millisecond, last: now}
	for _, c := range []struct {
		after time.Duration
		ticks int
	}{{9, 0}, {1, 1}, {25, 2}, {5, 1}, {3000, ticksMax}, {9, 0}, {1, 1}} {
		now = now.Add(c.after * time.Millisecond)
		if n := p.due(now); n != c.ticks {
			t.Errorf("%dms later: %d ticks, want %d", c.after, n, c.ticks)
		}
	}
}

func TestWaitersExpireInOrder(t *testing.T) {
	w := newWaiters(100, 3)
	a := w.add(waiter{ticket: Ticket{1, 1}})
	w.add(waiter{ticket: Ticket{2, 1}})
	w.tick()
	w.add(waiter{ticket: Ticket{3, 1}})
	if _, ok := w.take(a); !ok {
		t.Fatal("nobody waits under the first serial")
	}
	var late []Ticket
	for range 3 {
		late = append(late, w.tick()...)
	}
	if !slices.Equal(late, []Ticket{{2, 1}}) {
		t.Errorf("late after four ticks: %v", late)
	}
	if late = w.tick(); !slices.Equal(late, []Ticket{{3, 1}}) {
		t.Errorf("late after five ticks: %v", late)
	}
	if len(w.by) != 0 {
		t.Errorf("%d still wait", len(w.by))
	}
}

func TestCrashAt(t *testing.T) {
	died := 0
	crash, err := CrashAt("sync:3", func() { died++ })
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		crash(AfterSend)
		crash(AfterSync)
	}
	if died != 1 {
		t.Errorf("died %d times", died)
	}
	for _, spec := range []string{"", "sync", "sync:0", "nowhere:1", "sync:x", ":1"} {
		if _, err := CrashAt(spec, nil); err == nil {
			t.Errorf("%q was accepted", spec)
		}
	}
}

// TestAuditWaitsForTheSync: a line that tells of a new term or vote, and every
// line after it, must not be written before the records are durable.
func TestAuditWaitsForTheSync(t *testing.T) {
	var out bytes.Buffer
	a := auditor{to: &out}
	a.start(consensus.Status{Role: "follower"}, 0)
	a.compare(consensus.Status{Role: "precandidate"}, 0)
	a.compare(consensus.Status{Role: "candidate", Term: 1, Vote: 1}, 0)
	a.compare(consensus.Status{Role: "leader", Term: 1, Vote: 1}, 0)
	for i, want := range []int{2, 4} {
		if err := a.flush(i == 1); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n != want {
			t.Errorf("flush %d: %d lines, want %d:\n%s", i, n, want, out.String())
		}
	}
}

func BenchmarkAppendSync(b *testing.B) {
	for _, records := range []int{1, 64} {
		b.Run(map[int]string{1: "one", 64: "batch64"}[records], func(b *testing.B) {
			d, err := OpenDisk(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			j, _, err := OpenJournal(d, JournalOptions{Cluster: "bench", Node: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			payload := bytes.Repeat([]byte("x"), 120)
			b.ReportAllocs()
			for b.Loop() {
				for range records {
					j.Add(func(b []byte) []byte { return append(b, payload...) })
				}
				if err := errors.Join(j.Write(), j.Sync()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
