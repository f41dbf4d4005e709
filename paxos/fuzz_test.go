package paxos

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"chaos/nodes/consensus"
)

// drawMessage draws a message that no sound node may have sent.
func drawMessage(r *rand.Rand) Message {
	number := func() uint64 {
		switch r.IntN(8) {
		case 0:
			return 0
		case 1:
			return r.Uint64()
		default:
			return r.Uint64N(40)
		}
	}
	ballot := func() Ballot { return Ballot{number(), consensus.ID(r.IntN(5))} }
	commands := func() (cs []consensus.Command) {
		for range r.IntN(3) {
			cs = append(cs, consensus.Command{Origin: consensus.ID(r.IntN(5)), Serial: number(), Data: []byte("x")})
		}
		return cs
	}
	m := Message{Kind: Kind(1 + r.IntN(kinds-1)), Ballot: ballot(), Slot: number(), End: number(), Mark: number(), Tag: number(),
		Index: number(), Offset: number(), Total: number(), Commands: commands()}
	for range r.IntN(3) {
		m.Proposals = append(m.Proposals, Proposal{Slot: number(), Ballot: ballot(), Commands: commands()})
	}
	if r.IntN(2) == 0 {
		m.Voters = []consensus.ID{1, 2, 3}
		m.Data = make([]byte, r.IntN(40))
	}
	return m
}

// receiveGarbage feeds a core what a network may bring, and sometimes time and work.
func receiveGarbage(mode Mode, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 5))
	cl := newCluster(3, mode, seed)
	c := cl.at(1).core
	for i := range steps {
		var o Output
		switch r.IntN(8) {
		case 0:
			o = c.Tick()
		case 1:
			o = c.Propose(consensus.Command{Origin: 1, Serial: uint64(i)})
		case 2:
			o = c.Read(uint64(i))
		default:
			from, m := consensus.ID(r.IntN(5)), drawMessage(r)
			if r.IntN(2) == 0 {
				m.Ballot.Node = from
			}
			if r.IntN(3) == 0 {
				m.Ballot = c.proposer.ballot
			}
			o = c.Receive(Envelope{From: from, To: 1, Message: m})
		}
		if o.Install != nil {
			c.Compact(*o.Install)
		}
	}
}

// TestGarbage feeds messages of any content: none may make a core panic.
func TestGarbage(t *testing.T) {
	for seed := range uint64(300) {
		receiveGarbage(Mode(seed%2), seed, 300)
	}
}

// FuzzMessage decodes any bytes; what decodes is encoded to the same value
// again, and no core panics at it.
func FuzzMessage(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		f.Add(Codec{}.AppendMessage(nil, drawMessage(r)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Codec{}.Message(b)
		if err != nil {
			return
		}
		again, err := Codec{}.Message(Codec{}.AppendMessage(nil, m))
		if err != nil || !reflect.DeepEqual(normal(m), normal(again)) {
			t.Fatalf("%+v became %+v (%v)", m, again, err)
		}
		for _, mode := range []Mode{Multi, Classic} {
			c := newCluster(3, mode, 1).at(1).core
			c.Tick()
			for from := range consensus.ID(4) {
				if o := c.Receive(Envelope{From: from, To: 1, Message: m}); o.Install != nil {
					c.Compact(*o.Install)
				}
			}
			c.Tick()
		}
	})
}

// normal makes empty lists nil.
func normal(m Message) Message {
	if len(m.Voters) == 0 {
		m.Voters = nil
	}
	return m
}

// FuzzRecord decodes any bytes as a record.
func FuzzRecord(f *testing.F) {
	f.Add(Codec{}.AppendRecord(nil, Record{Kind: RecordAccepted, Ballot: Ballot{3, 2}, Slot: 9,
		Commands: []consensus.Command{{Origin: 1, Serial: 4, Data: []byte("x")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Codec{}.Record(b)
		if err != nil {
			return
		}
		if again, err := (Codec{}).Record(Codec{}.AppendRecord(nil, r)); err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v (%v)", r, again, err)
		}
	})
}

// TestCodecIsStrict cuts encodings short and adds to them.
func TestCodecIsStrict(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 500 {
		b := Codec{}.AppendMessage(nil, drawMessage(r))
		for n := range b {
			if _, err := (Codec{}).Message(b[:n]); err == nil {
				t.Fatalf("%x: the first %d bytes decode", b, n)
			}
		}
		if _, err := (Codec{}).Message(append(b, 0)); err == nil {
			t.Fatalf("%x: decodes with a byte after it", b)
		}
	}
}
