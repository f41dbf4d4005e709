package raft

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"chaos/nodes/consensus"
)

var update = flag.Bool("update", false, "rewrite the expected output of the scenarios")

// TestPaper runs the scenarios of testdata: blocks of commands, a line of four
// dashes, and what came of them up to an empty line. Lines that begin with # are
// prose. The commands are the methods of scenario.
func TestPaper(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 25 {
		t.Fatalf("there are %d scenarios, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runFile(t, file) })
	}
}

func runFile(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{t: t}
	var now strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		commands, _, _ := strings.Cut(block+"\n", "----\n")
		s.out.Reset()
		for line := range strings.Lines(commands) {
			if words := strings.Fields(line); len(words) > 0 && words[0][0] != '#' {
				s.run(words)
			}
		}
		if s.out.Len() == 0 {
			s.out.WriteString("nothing happens\n")
		}
		if now.Len() > 0 {
			now.WriteString("\n")
		}
		fmt.Fprintf(&now, "%s----\n%s", commands, s.out.String())
	}
	if *update {
		if err := os.WriteFile(file, []byte(now.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if now.String() != string(text) {
		t.Errorf("the outcome is another one:\n%s", now.String())
	}
}

// A scenario runs commands over a cluster. Heartbeats are 2 ticks apart, the
// election time-out is 10 to 19 ticks.
type scenario struct {
	t      *testing.T
	c      *cluster
	out    strings.Builder
	serial uint64
	fail   map[consensus.ID]stage // crash at the next output that has something to do
}

func (s *scenario) say(format string, arguments ...any) {
	fmt.Fprintf(&s.out, format+"\n", arguments...)
}

func (s *scenario) id(word string) consensus.ID {
	id, err := consensus.ParseID(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *scenario) number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *scenario) do(h *host, input func(*Core) output) {
	if !h.up {
		s.t.Fatalf("%s is down", h.id)
	}
	o := s.c.step(h, input)
	crash := s.fail[h.id]
	if len(o.Early)+len(o.Records)+len(o.Messages) == 0 || (crash == afterSnapshot && o.Install == nil) {
		crash = never
	}
	if crash != never {
		delete(s.fail, h.id)
	}
	s.c.flush(h, o, crash, 0)
}

// run carries out one line.
func (s *scenario) run(w []string) {
	if w[0] == "cluster" {
		s.cluster(w)
		return
	}
	if len(w) == 1 && w[0] == "status" {
		s.status()
		return
	}
	if w[0] == "deliver" || w[0] == "settle" || w[0] == "drop" || w[0] == "double" {
		s.network(w)
		return
	}
	if w[1] == "all" {
		for _, h := range s.c.hosts {
			if h.up {
				s.one(h, w)
			}
		}
		return
	}
	s.one(s.c.host(s.id(w[1])), w)
}

// one carries out a line that is about one host.
func (s *scenario) one(h *host, w []string) {
	switch w[0] {
	case "tick":
		for range s.number(w[2]) {
			s.do(h, (*Core).Tick)
		}
	case "timeout":
		s.timeout(h)
	case "propose":
		s.serial++
		c := consensus.Command{Origin: h.id, Serial: s.serial, Data: []byte(w[2])}
		s.do(h, func(core *Core) output { return core.Propose(c) })
	case "read":
		key := uint64(s.number(w[2]))
		s.c.check.asked(h, key)
		s.do(h, func(core *Core) output { return core.Read(key) })
	case "transfer":
		to := s.id(w[2])
		s.do(h, func(core *Core) output { return core.Transfer(to) })
	case "reset":
		of := s.id(w[2])
		s.do(h, func(core *Core) output { return core.PeerReset(of) })
	case "compact":
		s.c.pad = 0
		if len(w) > 2 {
			s.c.pad = s.number(w[2])
		}
		s.c.compact(h, h.applied)
	case "crash":
		if len(w) > 2 {
			s.fail[h.id] = stageNames[w[2]]
			return
		}
		s.c.crash(h)
	case "restart":
		s.c.start(h)
	case "cut":
		s.c.cut[h.id] = true
	case "mend":
		delete(s.c.cut, h.id)
	case "log":
		s.say("%s", describeLog(h.core))
	default:
		s.t.Fatalf("there is no command %q", w[0])
	}
}

func (s *scenario) cluster(w []string) {
	o := consensus.Options{HeartbeatTicks: 2, ElectionTicks: 10, MaxInflight: 4, MaxBatchBytes: 64,
		Rand: rand.New(rand.NewPCG(7, 7))}
	for _, option := range w[2:] {
		switch name, value, _ := strings.Cut(option, "="); name {
		case "bootstrap":
			o.Bootstrap = true
		case "inflight":
			o.MaxInflight = s.number(value)
		}
	}
	s.c = newCluster(s.number(w[1]), o, func(what string) { s.t.Fatal(what) })
	s.c.say = s.say
	s.fail = map[consensus.ID]stage{}
}

// timeout lets time pass at one host until it stands for election or steps down.
func (s *scenario) timeout(h *host) {
	before := h.core.Status()
	for range 40 {
		s.do(h, (*Core).Tick)
		if now := h.core.Status(); now.Role != before.Role || now.Term != before.Term {
			return
		}
	}
	s.t.Fatalf("%s: no time-out within 40 ticks", h.id)
}

// network hands over messages: "deliver" with a line for each, "settle"
// without; "drop" loses them and "double" delivers them and leaves a copy. Then
// "all", until nothing is on its way, or FROM TO, and perhaps a kind, and perhaps
// how many: what is on its way now.
func (s *scenario) network(w []string) {
	if w[1] == "all" && w[0] != "drop" {
		for n := 0; len(s.c.wire) > 0; n++ {
			if n == 5000 {
				s.t.Fatal("messages breed messages")
			}
			e := s.c.wire[0]
			s.c.wire = s.c.wire[1:]
			s.hand(w[0], e)
		}
		return
	}
	wire := s.c.wire
	s.c.wire = nil
	var later []envelope
	most := len(wire)
	if len(w) > 4 {
		most = s.number(w[4])
	}
	for _, e := range wire {
		if most == 0 || w[1] != "all" && (e.From != s.id(w[1]) || e.To != s.id(w[2]) || (len(w) > 3 && e.Message.Kind.String() != w[3])) {
			later = append(later, e)
			continue
		}
		if w[0] == "double" {
			later = append(later, e)
		}
		most--
		s.hand(w[0], e)
	}
	s.c.wire = append(later, s.c.wire...)
}

func (s *scenario) hand(verb string, e envelope) {
	if verb == "drop" || s.c.cut[e.From] || s.c.cut[e.To] || !s.c.host(e.To).up {
		return
	}
	if verb != "settle" {
		s.say("%s→%s %s", e.From, e.To, e.Message)
	}
	s.do(s.c.host(e.To), func(core *Core) output { return core.Receive(e) })
}

func (s *scenario) status() {
	for _, h := range s.c.hosts {
		if !h.up {
			s.say("%s is down", h.id)
			continue
		}
		st := h.core.Status()
		s.say("%s %s term=%d vote=%s leader=%s commit=%d last=%d", st.ID, st.Role, st.Term, st.Vote, st.Leader, st.Commit, st.Last)
	}
}

func describeLog(c *Core) string {
	s := fmt.Sprintf("%s term=%d vote=%s commit=%d:", c.id, c.term, c.vote, c.commit)
	if c.snapshot != nil {
		s += fmt.Sprintf(" [snapshot %d@%d]", c.snapshot.Index, c.snapshot.Term)
	}
	for _, e := range c.log.entries {
		s += " " + describeEntry(e)
	}
	return s
}
