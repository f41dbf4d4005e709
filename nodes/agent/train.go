package agent

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"time"

	"chaos/nodes"
)

// The bounds of trains, and how they are sent: in bursts, so that a late probe
// is overtaken by others of its burst whatever the system's timers are like.
const (
	trainSize    = 24   // bytes at least: magic, nonce, place, padding
	trainSizeMax = 1400 // bytes, so that no packet is cut up
	trainMax     = 4096 // probes
	trainsMax    = 256  // trains remembered, the oldest forgotten first
	trainBurst   = 20   // probes sent at once
	trainPause   = 5 * time.Millisecond
	trainSlowest = 4                     // times the pause, where a busy machine lost too many
	trainQuiet   = 20 * time.Millisecond // without news, after which nothing more comes
)

var trainMagic = [8]byte{'c', 'h', 'a', 'o', 's', 't', 'r', 1}

// A train is many probes of one nonce, sent one after the other, where a single
// one tells too little.
type train struct {
	Count int  `json:"count"`           // probes that count
	Tail  int  `json:"tail,omitempty"`  // and those sent after them, which overtake late ones
	Size  int  `json:"size"`            // bytes of each, trainSize to trainSizeMax
	Flood bool `json:"flood,omitempty"` // send without pauses
	Slow  int  `json:"slow,omitempty"`  // pauses are so many times longer; 0: once
}

// pause is the time between two bursts.
func (t *train) pause() time.Duration { return trainPause * time.Duration(max(t.Slow, 1)) }

func (t *train) check() error {
	if t.Slow < 0 || t.Slow > trainSlowest || t.Count < 1 || t.Tail < 0 || t.Count > trainMax || t.Tail > trainMax || t.Size < trainSize || t.Size > trainSizeMax {
		return fmt.Errorf("agent: a train of %d and %d probes of %d bytes is out of bounds", t.Count, t.Tail, t.Size)
	}
	return nil
}

// dispatch sends a train, beside whatever else the agent does.
func (p *prober) dispatch(s sending, to *net.UDPAddr) error {
	if err := s.Train.check(); err != nil {
		return err
	}
	t := *s.Train
	p.work.Go(func() {
		b := make([]byte, t.Size)
		copy(b, trainMagic[:])
		binary.BigEndian.PutUint64(b[8:], s.Nonce)
		pause := time.NewTicker(t.pause())
		defer pause.Stop()
		for at := range t.Count + t.Tail {
			if at > 0 && at%trainBurst == 0 && !t.Flood {
				select {
				case <-pause.C:
				case <-p.ended:
					return
				}
			}
			binary.BigEndian.PutUint32(b[16:], uint32(at))
			_, _ = p.socket.WriteToUDP(b, to) // see send
		}
	})
	return nil
}

func decodeTrain(b []byte) (nonce uint64, at int, ok bool) {
	if len(b) < trainSize || [8]byte(b[:8]) != trainMagic {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), int(binary.BigEndian.Uint32(b[16:])), true
}

// expectTrain prepares the record of a train; the caller holds mu.
func (p *prober) expectTrain(w watching) {
	if w.Train.check() != nil {
		return // it will look as if nothing had arrived
	}
	n := w.Train.Count
	p.probes[w.Nonce].train = &trainRecord{train: *w.Train, news: time.Now(), highest: -1, overflow: p.overflow(),
		came: make([]time.Duration, n), gone: make([]bool, n), seen: make([]bool, n)}
	p.trains = append(p.trains, w.Nonce)
	if len(p.trains) > trainsMax {
		if r := p.probes[p.trains[0]]; r != nil {
			r.train = nil
		}
		p.trains = slices.Delete(p.trains, 0, 1)
	}
}

func (p *prober) onTrain(nonce uint64, f func(*trainRecord)) {
	p.mark(nonce, func(r *probeRecord) {
		if r.train != nil {
			f(r.train)
		}
	})
}

// A trainRecord is what this host knows of one train.
type trainRecord struct {
	train
	news    time.Time // when something last happened to it
	seen    []bool    // by place: it arrived
	highest int       // place of the latest of those that arrived; -1: none
	arrived int
	doubled int
	late    int
	bytes   int64
	first   time.Time // the first arrival
	last    time.Time

	overflow uint64 // what the socket of probes had lost when it was announced

	// Of what follows only the link's queue knows.
	began   time.Time       // its first probe came
	came    []time.Duration // by place, since began; 0: it did not
	gone    []bool          // by place: it was lost or refused there
	lost    int
	refused int
	load    [2]int64      // bytes that the link had taken, before the first and with the last of them
	ahead   int64         // bytes that waited there when the first came
	held    time.Duration // the shortest time from queue to arrival; 0: none
}

// enter notes that a probe came to the link's queue, and its fate there. load
// is what the link has taken so far, this probe included where it was, and left
// what it has let go of that.
func (t *trainRecord) enter(at, size int, f fate, load, left int64, now time.Time) {
	t.news = now
	if t.began.IsZero() {
		t.began, t.load[0] = now, load
		if !f.lost && !f.refused {
			t.load[0] -= int64(size)
		}
		t.ahead = t.load[0] - left
	}
	t.load[1] = load
	if at >= t.Count {
		return
	}
	t.came[at] = max(now.Sub(t.began), 1)
	t.gone[at] = f.lost || f.refused
	if f.lost {
		t.lost++
	}
	if f.refused {
		t.refused++
	}
}

// arrive notes that a probe of so many bytes, headers included, arrived.
func (t *trainRecord) arrive(at, size int, now time.Time) {
	t.news = now
	if t.first.IsZero() {
		t.first = now
	}
	if at < t.Count && t.seen[at] {
		t.doubled++
		return
	}
	t.last = now
	t.bytes += int64(size)
	if at < t.Count {
		t.seen[at] = true
		t.arrived++
		if at < t.highest {
			t.late++
		}
		if held := now.Sub(t.began.Add(t.came[at])); t.came[at] > 0 && (t.held == 0 || held < t.held) {
			t.held = held
		}
	}
	t.highest = max(t.highest, at)
}

// look tells what became of the train; Passed and Dropped stay unset until
// nothing more is to be expected of it. overflow is what the socket has lost.
func (t *trainRecord) look(s *seen, overflow uint64, now time.Time) {
	since := t.began
	if since.IsZero() {
		since = t.first
	}
	s.Held = t.held
	s.Train = &nodes.Train{Sent: t.Count, Arrived: t.arrived, Doubled: t.doubled, Late: t.late, Refused: t.refused,
		Busy: t.busy(overflow), Bytes: t.bytes, Load: t.load[1] - t.load[0], Ahead: t.ahead}
	if !t.first.IsZero() {
		s.Train.Span = t.last.Sub(since)
	}
	whole := t.arrived == t.Count && t.began.IsZero()
	if whole || t.arrived+t.lost+t.refused+s.Train.Busy >= t.Count && now.Sub(t.news) >= trainQuiet {
		s.Passed, s.Dropped = t.arrived > 0, uint64(t.Count-t.arrived)
	}
}

// busy counts the probes that the link let pass and that are missing all the
// same, as far as the system says that it lost some at the socket: the machine
// was too busy to read them, which tells nothing of the link.
func (t *trainRecord) busy(overflow uint64) int {
	missing := 0
	for at := range t.Count {
		passed := t.began.IsZero() || t.came[at] > 0 && !t.gone[at]
		if passed && !t.seen[at] {
			missing++
		}
	}
	return min(missing, int(min(overflow-t.overflow, trainMax)))
}
