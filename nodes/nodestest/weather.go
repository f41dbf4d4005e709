package nodestest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"chaos/nodes"
)

const (
	showerCount   = 2000 // datagrams whose fate counts
	showerTail    = 160  // sent after them: they overtake the last of those
	showerBurst   = 8    // sent at once, then a pause of a millisecond
	showerBytes   = 64
	showersMax    = 256  // remembered by one talker
	pourWord      = 1000 // bytes of each word of a pour
	pourTime      = 400 * time.Millisecond
	fillWord      = "fill-" // how words begin that nobody asks for later
	kitMeasured   = 3       // links of one fault whose weather is measured
	probeTries    = 5       // showers, where one loses packets that no weather takes
	kitPerMille   = 200
	kitHold       = 10 * time.Millisecond
	kitRate       = 250_000                // bytes a second
	kitSlow       = 50 * time.Millisecond  // the least delay that words between talkers show
	kitMeltsAfter = 100 * time.Millisecond // after all was sent, without news, until all has arrived
)

// showers are the datagrams that talkers send each other, on the same port
// number as their words.
type showers struct {
	socket net.PacketConn
	mu     sync.Mutex
	caught map[string]*shower // by sender and number
}

// A shower is what arrived of one train of datagrams.
type shower struct {
	seen                   [showerCount]bool
	highest                int
	arrived, doubled, late int
}

// openShowers listens until the process ends.
func (t *talker) openShowers() error {
	c, err := net.ListenPacket("udp", t.settings.Self.Addr(nodes.PeerPort))
	if err != nil {
		return err
	}
	_ = c.(*net.UDPConn).SetReadBuffer(4 << 20) // the system may allow less
	t.showers.socket, t.showers.caught = c, map[string]*shower{}
	t.work.Go(t.showers.catch)
	return nil
}

func showerKey(from, number uint32) string { return fmt.Sprint(from, "/", number) }

func (s *showers) catch() {
	b := make([]byte, 2*showerBytes)
	for {
		n, _, err := s.socket.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != showerBytes {
			continue
		}
		s.count(showerKey(binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])), int(binary.BigEndian.Uint32(b[8:])))
	}
}

func (s *showers) count(key string, at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.caught[key]
	if c == nil {
		if len(s.caught) >= showersMax {
			return
		}
		c = &shower{highest: -1}
		s.caught[key] = c
	}
	switch {
	case at < 0 || at >= showerCount:
	case c.seen[at]:
		c.doubled++
	default:
		c.seen[at] = true
		c.arrived++
		if at < c.highest {
			c.late++
		}
	}
	c.highest = max(c.highest, at)
}

// weather answers what a client asks about datagrams and volumes: "shower
// <peer> <number>", "caught <from> <number>", "pour <peer> <words> <last word>".
func (t *talker) weather(f []string) string {
	number := func(n int) uint32 { v, _ := strconv.ParseUint(f[n], 10, 32); return uint32(v) }
	switch {
	case len(f) == 3 && f[0] == "shower":
		return t.send(nodes.ID(number(1)), number(2))
	case len(f) == 3 && f[0] == "caught":
		t.showers.mu.Lock()
		defer t.showers.mu.Unlock()
		c := t.showers.caught[showerKey(number(1), number(2))]
		if c == nil {
			return "0 0 0"
		}
		return fmt.Sprint(c.arrived, c.doubled, c.late)
	case len(f) == 4 && f[0] == "pour":
		q := t.queues[nodes.ID(number(1))]
		words := int(number(2))
		if q == nil || words > talkerQueue/2 || len(q) > 0 {
			return "no room for " + f[1]
		}
		for range words {
			q <- fillWord + strings.Repeat("x", pourWord-len(fillWord)-1)
		}
		q <- f[3]
		return "ok"
	}
	return "not understood"
}

// send sends one shower, and returns when all of it is sent.
func (t *talker) send(to nodes.ID, number uint32) string {
	for _, m := range t.settings.All {
		if m.ID != to {
			continue
		}
		addr, err := net.ResolveUDPAddr("udp", m.Addr(nodes.PeerPort))
		if err != nil {
			return err.Error()
		}
		b := make([]byte, showerBytes)
		binary.BigEndian.PutUint32(b, uint32(t.settings.Self.ID))
		binary.BigEndian.PutUint32(b[4:], number)
		for at := range showerCount + showerTail {
			binary.BigEndian.PutUint32(b[8:], uint32(at))
			_, _ = t.showers.socket.WriteTo(b, addr) // what is not sent is lost
			if at%showerBurst == showerBurst-1 {
				time.Sleep(time.Millisecond)
			}
		}
		return "ok"
	}
	return "no peer " + to.String()
}

// A fall is what became of the packets of one link, as talkers saw it.
type fall struct{ arrived, doubled, late int }

// shower sends one from a node to another and counts what arrives, until
// nothing more does.
func (k *kit) shower(t *testing.T, from, to nodes.Member) (f fall) {
	t.Helper()
	k.words++
	if got := k.must(t, from, fmt.Sprintf("shower %d %d", to.ID, k.words)); got != "ok" {
		t.Fatalf("%s sends no shower: %s", from.ID, got)
	}
	for until := time.Now().Add(kitEnough); ; {
		time.Sleep(kitMeltsAfter)
		var now fall
		got := k.must(t, to, fmt.Sprintf("caught %d %d", from.ID, k.words))
		if _, err := fmt.Sscan(got, &now.arrived, &now.doubled, &now.late); err != nil {
			t.Fatalf("%s caught %q", to.ID, got)
		}
		if now == f || time.Now().After(until) {
			return now
		}
		f = now
	}
}

// dry sends showers until one is whole, since a machine that is too busy to
// read them loses some at the socket, now and then; not those of a few in a row.
func (k *kit) dry(t *testing.T, from, to nodes.Member, whole func(fall) bool) (f fall) {
	t.Helper()
	for range probeTries {
		if f = k.shower(t, from, to); whole(f) {
			break
		}
	}
	return f
}

// pour is how long a volume of words takes from a node to another.
func (k *kit) pour(t *testing.T, from, to nodes.Member, rate int64) (took, least time.Duration) {
	t.Helper()
	words := int(time.Duration(rate)*pourTime/time.Second) / pourWord
	words = max(1, min(words, talkerQueue/2))
	k.talks(t, from, to) // over a connection that works
	k.words++
	word := fmt.Sprintf("word-%d", k.words)
	began := time.Now()
	if got := k.must(t, from, fmt.Sprintf("pour %d %d %s", to.ID, words, word)); got != "ok" {
		t.Fatalf("%s does not pour: %s", from.ID, got)
	}
	for until := began.Add(kitEnough); !k.heard(t, to, word); time.Sleep(kitLook) {
		if time.Now().After(until) {
			t.Fatalf("%d bytes do not get from %s to %s", words*pourWord, from.ID, to.ID)
		}
	}
	return time.Since(began), time.Duration(words*pourWord) * time.Second / time.Duration(rate)
}

// near tells whether so many of the packets are what the chance makes likely: a
// right chance of one percent or more is so far off in one of a million showers.
func near(got, of, perMille int) bool {
	want := of * perMille / 1000
	least, most := 1, 2*want+20
	if want >= 100 {
		least = want / 2
	}
	return got >= least && got <= most
}

// measure compares the weather of one link with what is asked.
func (k *kit) measure(t *testing.T, from, to nodes.Member, s nodes.LinkState) {
	t.Helper()
	way := fmt.Sprintf("%s→%s", from.ID, to.ID)
	if s.Lossy > 0 || s.Duplicated > 0 || s.Reordered > 0 {
		f := k.dry(t, from, to, func(f fall) bool { return s.Lossy > 0 || s.Rate > 0 || f.arrived == showerCount })
		for _, c := range []struct {
			what      string
			got, of   int
			asked     int
			uncertain bool // packets come late where nobody asked for it
		}{
			{"lost", showerCount - f.arrived, showerCount, s.Lossy, s.Rate > 0},
			{"doubled", f.doubled, f.arrived, s.Duplicated, false},
			{"late", f.late, f.arrived, s.Reordered, true},
		} {
			t.Logf("%s %s: asked %s, measured %s", way, c.what, nodes.Percent(c.asked), nodes.Percent(1000*c.got/max(c.of, 1)))
			if c.asked > 0 && !near(c.got, c.of, c.asked) || c.asked == 0 && c.got > 0 && !c.uncertain {
				t.Errorf("%s: %d of %d are %s; asked was %s", way, c.got, c.of, c.what, nodes.Percent(c.asked))
			}
		}
	}
	if s.Rate > 0 {
		took, least := k.pour(t, from, to, s.Rate)
		t.Logf("%s: asked %s, %s of it took %s", way, nodes.Rate(s.Rate), least, took)
		if took < least {
			t.Errorf("%s took %s for what takes %s at %s", way, took, least, nodes.Rate(s.Rate))
		}
	}
}

// melted fails unless the weather of a link is gone.
func (k *kit) melted(t *testing.T, from, to nodes.Member, s nodes.LinkState) {
	t.Helper()
	if s.Lossy > 0 || s.Duplicated > 0 || s.Reordered > 0 {
		well := func(f fall) bool { return f.arrived == showerCount && f.doubled == 0 && f.late < showerCount/100 }
		if f := k.dry(t, from, to, well); !well(f) {
			t.Errorf("%s→%s is not well again: %+v of %d", from.ID, to.ID, f, showerCount)
		}
	}
	if s.Rate > 0 {
		for until := time.Now().Add(faultFast); ; {
			took, least := k.pour(t, from, to, s.Rate)
			if took < least {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("%s→%s still takes %s for what takes %s at %s", from.ID, to.ID, took, least, nodes.Rate(s.Rate))
			}
		}
	}
}
