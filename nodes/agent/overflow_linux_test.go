package agent

import (
	"net"
	"testing"
	"time"
)

// What nobody reads in time is told by the system.
func TestOverflowIsTold(t *testing.T) {
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p := &prober{socket: in}
	before := p.overflow()
	for range 20_000 { // more than any buffer holds
		if _, err := in.WriteToUDP(make([]byte, 1000), in.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Fatal(err)
		}
	}
	if lost := p.overflow() - before; lost == 0 || lost > 20_000 {
		t.Errorf("of 20000 datagrams %d were lost", lost)
	}
}

// Only what passed the link, is missing, and was lost by the system as far as
// that says so, is put down to a busy machine.
func TestBusyIsBounded(t *testing.T) {
	fresh := func() *trainRecord {
		r := &trainRecord{train: train{Count: 10}, overflow: 5, highest: -1,
			came: make([]time.Duration, 10), gone: make([]bool, 10), seen: make([]bool, 10)}
		for at := range 8 { // two never come to the queue
			r.enter(at, 50, fate{lost: at == 0, refused: at == 1}, int64(50*at), 0, time.Unix(1, 0))
		}
		for _, at := range []int{2, 3} {
			r.arrive(at, 50, time.Unix(2, 0))
		}
		return r
	}
	for _, c := range []struct {
		overflow uint64
		want     int
	}{{5, 0}, {7, 2}, {9, 4}, {100, 4}} {
		var s seen
		fresh().look(&s, c.overflow, time.Unix(3, 0))
		if s.Train.Busy != c.want || s.Train.Arrived != 2 || s.Train.Refused != 1 {
			t.Errorf("%d lost at the socket: %+v, want %d busy", c.overflow-5, s.Train, c.want)
		}
		if s.Passed {
			t.Errorf("the train is decided though two probes are not accounted for: %+v", s)
		}
	}
}
