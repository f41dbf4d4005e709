package raft

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"

	"chaos/nodes/consensus"
)

// samples are one message of each shape and one record of each kind.
func samples() ([]Message, []Record) {
	e := consensus.Entry{Index: 8, Term: 3, Command: consensus.Command{Origin: 2, Serial: 1 << 40, Data: []byte("x=1")}}
	noop := consensus.Entry{Index: 9, Term: 3, Kind: consensus.Noop}
	voters := consensus.Configuration{Voters: []consensus.ID{1, 2, 3}}
	return []Message{
			{Kind: Append, Term: 3, Index: 7, LogTerm: 2, Commit: 6, Round: 5, Entries: []consensus.Entry{e, noop}},
			{Kind: AppendAck, Term: 3, Index: 9, Round: 5},
			{Kind: AppendAck, Term: 3, Index: 9, LogTerm: 2, Hint: 4, Reject: true},
			{Kind: Commit, Term: 3, Commit: 9},
			{Kind: PreVote, Term: 4, Index: 9, LogTerm: 3},
			{Kind: PreVoteReply, Term: 4},
			{Kind: Vote, Term: 4, Index: 9, LogTerm: 3, Force: true},
			{Kind: VoteReply, Term: 4, Reject: true},
			{Kind: Chunk, Term: 3, Index: 7, LogTerm: 2, Offset: 4, Total: 9, Voters: voters, Data: []byte("state")},
			{Kind: ChunkAck, Term: 3, Index: 7, LogTerm: 2, Offset: 4, Total: 9},
			{Kind: TimeoutNow, Term: 3},
			{Kind: Propose, Term: 3, Entries: []consensus.Entry{{Command: e.Command}}},
			{Kind: Read, Term: 3, Key: 1 << 60},
			{Kind: ReadAnswer, Term: 3, Key: 1 << 60, Index: 9, Commit: 8},
		}, []Record{
			{Kind: Hard, Term: 3, Vote: 2}, {Kind: Base, Index: 7, Term: 2}, {Kind: Entry, Entry: e}, {Kind: Entry, Entry: noop},
		}
}

// TestCodec wants every sample back, no prefix of one accepted, and no result
// that shares memory with its input.
func TestCodec(t *testing.T) {
	messages, records := samples()
	for _, m := range messages {
		b := Codec{}.AppendMessage([]byte("head"), m)[4:]
		got, err := Codec{}.Message(b)
		clear(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s came back as %s, error %v", m, got, err)
		}
		b = Codec{}.AppendMessage(nil, m)
		for i := range b {
			if _, err := (Codec{}).Message(b[:i]); err == nil {
				t.Errorf("%s: %d of %d bytes were accepted", m, i, len(b))
			}
		}
		if _, err := (Codec{}).Message(append(b, 0)); err == nil {
			t.Errorf("%s: a byte too many was accepted", m)
		}
	}
	for _, r := range records {
		b := Codec{}.AppendRecord(nil, r)
		if _, err := (Codec{}).Record(b[:len(b)-1]); err == nil {
			t.Errorf("%+v: a byte too few was accepted", r)
		}
		got, err := Codec{}.Record(b)
		clear(b)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v came back as %+v, error %v", r, got, err)
		}
	}
}

// FuzzMessage: what is read can be written and read again, the same.
func FuzzMessage(f *testing.F) {
	messages, _ := samples()
	for _, m := range messages {
		f.Add(Codec{}.AppendMessage(nil, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Codec{}.Message(b)
		if err != nil {
			return
		}
		again, err := Codec{}.Message(Codec{}.AppendMessage(nil, m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v came back as %+v, error %v", m, again, err)
		}
	})
}

// FuzzRecord: the same for records.
func FuzzRecord(f *testing.F) {
	_, records := samples()
	for _, r := range records {
		f.Add(Codec{}.AppendRecord(nil, r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Codec{}.Record(b)
		if err != nil {
			return
		}
		again, err := Codec{}.Record(Codec{}.AppendRecord(nil, r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v came back as %+v, error %v", r, again, err)
		}
	})
}

// FuzzReceive feeds a core whatever can be decoded, between ticks, reads and
// proposals: nothing may panic, the commit index never falls, and entries are
// handed out once and in order. Each message is its sender, its length in two
// bytes, and its encoding.
func FuzzReceive(f *testing.F) {
	messages, _ := samples()
	var all []byte
	for i, m := range messages {
		b := Codec{}.AppendMessage(nil, m)
		one := append(binary.LittleEndian.AppendUint16([]byte{byte(i)}, uint16(len(b))), b...)
		f.Add(one)
		all = append(all, one...)
	}
	f.Add(all)
	f.Fuzz(pour)
}

func pour(t *testing.T, b []byte) {
	c := New(consensus.Options{ID: 1, Voters: consensus.Configuration{Voters: []consensus.ID{1, 2, 3}}, HeartbeatTicks: 2,
		ElectionTicks: 4, MaxInflight: 8, MaxBatchBytes: 64, Rand: rand.New(rand.NewPCG(1, 1))})
	c.Restore(nil, nil)
	var commit, handed uint64
	watch := func(o output) {
		for _, e := range o.Committed {
			if e.Index != handed+1 {
				t.Fatalf("entry %d was handed out behind %d", e.Index, handed)
			}
			handed = e.Index
		}
		if o.Install != nil {
			handed = o.Install.Index
			c.Compact(*o.Install)
		}
		st := c.Status()
		if st.Commit < commit || st.Commit > st.Last || st.Applied != handed {
			t.Fatalf("commit was %d, handed out %d; now %+v", commit, handed, st)
		}
		commit = st.Commit
	}
	for step := uint64(1); len(b) >= 3; step++ {
		from, n := consensus.ID(b[0]%4), min(int(binary.LittleEndian.Uint16(b[1:])), len(b)-3)
		m, err := Codec{}.Message(b[3 : 3+n])
		b = b[3+n:]
		if err == nil {
			watch(c.Receive(envelope{From: from, To: 1, Message: m}))
			m.Term = max(c.term, 1) // once more in a term that is heard
			watch(c.Receive(envelope{From: from, To: 1, Message: m}))
		}
		watch(c.Tick())
		watch(c.Propose(consensus.Command{Origin: 1, Serial: step}))
		watch(c.Read(step))
		if step%5 == 0 && handed > 0 && c.log.first() <= handed {
			c.Compact(consensus.Snapshot{Index: handed, Term: c.log.mustTerm(handed)})
		}
	}
}

// TestGarbage is a fuzz of well-formed lies that runs with every test: fields
// are drawn small, so that they often fit.
func TestGarbage(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	small := func() uint64 { return r.Uint64N(8) }
	for range 4000 {
		var b []byte
		for range 12 {
			m := Message{Kind: Kind(1 + r.IntN(len(kindNames)-1)), Reject: r.IntN(2) == 0, Force: r.IntN(2) == 0, Term: small(), Index: small(),
				LogTerm: small(), Hint: small(), Commit: small(), Round: small(), Offset: small(), Total: small()}
			for i := range r.Uint64N(4) {
				m.Entries = append(m.Entries, consensus.Entry{Index: m.Index + i + 1, Term: m.LogTerm + r.Uint64N(2)})
			}
			if m.Kind == Chunk {
				m.Voters.Voters, m.Data = []consensus.ID{1, 2, 3}, bytes.Repeat([]byte{1}, int(m.Total-min(m.Total, m.Offset)))
			}
			e := Codec{}.AppendMessage(nil, m)
			b = append(binary.LittleEndian.AppendUint16(append(b, byte(r.IntN(4))), uint16(len(e))), e...)
		}
		pour(t, b)
	}
}
