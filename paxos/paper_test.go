package paxos

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"chaos/nodes/consensus"
)

var update = flag.Bool("update", false, "rewrite the expected outputs of testdata/*.txt")

// TestPaper runs each scenario of testdata. A scenario is a list of steps: what
// happens in prose with the paper's section, commands, a line of dashes, and
// what the nodes do. The commands are in [script.run].
func TestPaper(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d scenarios, want at least 25 (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := playFile(t, string(want))
			if *update && !bytes.Equal(got, want) {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(got, want) {
				t.Errorf("%s: want\n%s\ngot\n%s", file, want, got)
			}
		})
	}
}

// playFile plays a scenario and returns it with the outputs that it has now, and
// with what watched it.
func playFile(t *testing.T, text string) ([]byte, *Check) {
	var s script
	var b bytes.Buffer
	for i, step := range strings.Split(strings.TrimSpace(text), "\n\n") {
		input, _, _ := strings.Cut(step+"\n", "----\n")
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(strings.TrimRight(input, "\n") + "\n----\n")
		for line := range strings.Lines(input) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := s.run(strings.Fields(line)); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if s.failure != "" {
				t.Fatalf("%s: %s", line, s.failure)
			}
		}
		b.Write(s.out.Bytes())
		s.out.Reset()
	}
	return b.Bytes(), s.watch
}

// A script carries out the commands of a scenario.
type script struct {
	*cluster
	out    bytes.Buffer
	serial uint64
	key    uint64
	passes bool // time passes: refusals are not told
}

func (s *script) run(f []string) error {
	if f[0] == "cluster" {
		n, _ := strconv.Atoi(f[1])
		s.cluster = newCluster(n, map[string]Mode{"multi": Multi, "classic": Classic}[f[2]], 1)
		s.o.Bootstrap = false
		for _, r := range s.replicas {
			r.lives = 0
			s.start(r)
		}
		if len(f) > 3 {
			s.pad = make([]byte, 2*s.o.MaxBatchBytes)
		}
		return nil
	}
	if s.cluster == nil {
		return fmt.Errorf("no cluster yet")
	}
	ids, rest := names(f[1:])
	switch f[0] {
	case "deliver", "drop", "double":
		return s.move(f[0], ids, rest)
	case "cut", "mend", "show", "log", "status":
		s.world(f[0], ids)
		return nil
	case "tick":
		s.tick(ids, rest)
		return nil
	case "pass":
		return s.pass(rest)
	}
	if len(ids) == 0 {
		return fmt.Errorf("which node?")
	}
	return s.node(f[0], s.at(ids[0]), ids[1:], rest)
}

// names splits node names from other words.
func names(words []string) (ids []consensus.ID, rest []string) {
	for _, w := range words {
		if id, err := consensus.ParseID(w); err == nil {
			ids = append(ids, id)
		} else {
			rest = append(rest, w)
		}
	}
	return ids, rest
}

// node is a command for one node.
func (s *script) node(verb string, r *replica, ids []consensus.ID, rest []string) error {
	switch verb {
	case "prepare": // phase 1 at once, without asking whether that disturbs anybody
		s.feed(r, func(c *Core) Output { c.prepare(); return c.finish() })
	case "timeout": // the distinguished proposer was silent for too long
		s.feed(r, func(c *Core) Output {
			c.leadership.leader, c.leadership.silence = 0, c.leadership.timeout
			return c.Tick()
		})
	case "propose":
		s.serial++
		s.feed(r, func(c *Core) Output {
			return c.Propose(consensus.Command{Origin: r.id, Serial: s.serial, Data: []byte(rest[0])})
		})
	case "read":
		s.key++
		s.feed(r, func(c *Core) Output { return c.Read(s.key) })
	case "ask": // a learner asks a peer for decisions that it misses
		s.feed(r, func(c *Core) Output { c.ask(ids[0]); return c.finish() })
	case "reset":
		s.feed(r, func(c *Core) Output { return c.PeerReset(ids[0]) })
	case "transfer":
		s.feed(r, func(c *Core) Output { return c.Transfer(ids[0]) })
	case "crash":
		s.crash(r)
	case "restart":
		s.start(r)
		fmt.Fprintf(&s.out, "%s restarts with promise %s and %d commands\n", r.id, r.core.acceptor.promised, r.core.learner.index)
	case "compact":
		s.compact(r)
		fmt.Fprintf(&s.out, "%s keeps a checkpoint of slot %d and %d records\n", r.id, r.snapshot.Term, len(r.journal))
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

// feed gives r one input and tells what it does.
func (s *script) feed(r *replica, input func(*Core) Output) {
	if !r.up {
		return
	}
	led := r.core.leads()
	o := input(r.core)
	if r.core.leads() != led {
		fmt.Fprintf(&s.out, "%s leads: %v\n", r.id, r.core.leads())
	}
	if o.Install != nil {
		fmt.Fprintf(&s.out, "%s installs a checkpoint of slot %d, index %d\n", r.id, o.Install.Term, o.Install.Index)
	}
	for _, e := range o.Committed {
		fmt.Fprintf(&s.out, "%s applies %d: %s (slot %d)\n", r.id, e.Index, e.Command.Data, e.Term)
	}
	for _, x := range o.Reads {
		fmt.Fprintf(&s.out, "%s answers read %d at index %d\n", r.id, x.Key, x.Index)
	}
	for _, x := range o.Rejected {
		fmt.Fprintf(&s.out, "%s rejects %d: %s\n", r.id, x.Key, x.Reason)
	}
	for _, e := range o.Messages {
		if e.Message.Kind == Refuse && !s.passes {
			fmt.Fprintf(&s.out, "%s refuses %s: %s is promised\n", r.id, e.To, e.Message.Ballot)
		}
	}
	s.perform(r, o, wholly, 0)
}

// tick lets time pass at some nodes or at all.
func (s *script) tick(ids []consensus.ID, rest []string) {
	n := 1
	if len(rest) > 0 {
		n, _ = strconv.Atoi(rest[0])
	}
	for range n {
		for _, r := range s.replicas {
			if len(ids) == 0 || slices.Contains(ids, r.id) {
				s.feed(r, (*Core).Tick)
			}
		}
	}
}

// pass lets messages take a number of ticks each, for so many ways one after another.
func (s *script) pass(rest []string) error {
	ways, err := strconv.Atoi(rest[0])
	ticks, other := strconv.Atoi(rest[1])
	s.passes = true
	defer func() { s.passes = false }()
	for range ways {
		now := s.net
		s.net = nil
		s.tick(nil, []string{strconv.Itoa(ticks)})
		for _, e := range now {
			s.feed(s.at(e.To), func(c *Core) Output { return c.Receive(e) })
		}
	}
	return errors.Join(err, other)
}

// move delivers, doubles or drops messages: all, those between two nodes, those
// from one, or those of one kind. Only what is on its way now is meant, except
// by "deliver all", which goes on until nothing is.
func (s *script) move(verb string, ids []consensus.ID, rest []string) error {
	all := slices.Contains(rest, "all")
	match := func(e Envelope) bool {
		return (len(ids) < 1 || e.From == ids[0]) && (len(ids) < 2 || e.To == ids[1]) &&
			(all || len(rest) == 0 || e.Message.Kind.String() == rest[0])
	}
	for n := 0; n < 10_000; n++ {
		var now []Envelope
		s.net = slices.DeleteFunc(s.net, func(e Envelope) bool {
			if match(e) {
				now = append(now, e)
				return true
			}
			return false
		})
		if verb == "double" {
			s.net = append(s.net, append(now, now...)...)
			return nil
		}
		for _, e := range now {
			if verb == "deliver" && !s.cut[[2]consensus.ID{e.From, e.To}] {
				if !all {
					fmt.Fprintln(&s.out, describe(e))
				}
				s.feed(s.at(e.To), func(c *Core) Output { return c.Receive(e) })
			}
		}
		if !all || len(now) == 0 || verb == "drop" {
			return nil
		}
	}
	return fmt.Errorf("messages never end")
}

// world is a command that is for no single node.
func (s *script) world(verb string, ids []consensus.ID) {
	switch verb {
	case "cut":
		for _, r := range s.replicas {
			if len(ids) == 1 && r.id != ids[0] {
				s.cutBoth(ids[0], r.id, true)
			}
		}
		if len(ids) == 2 {
			s.cutBoth(ids[0], ids[1], true)
		}
	case "mend":
		s.mend()
	case "show":
		for _, e := range s.net {
			fmt.Fprintln(&s.out, describe(e))
		}
	case "status":
		for _, r := range s.replicas {
			if !r.up {
				fmt.Fprintf(&s.out, "%s is down\n", r.id)
				continue
			}
			x := r.core.Status()
			fmt.Fprintf(&s.out, "%s %s promised %s leader %s decided slot %d, index %d\n", r.id, x.Role, Ballot{x.Term, x.Vote}, x.Leader, x.Slot, x.Commit)
		}
	case "log":
		for _, r := range s.replicas {
			if r.up {
				fmt.Fprintf(&s.out, "%s%s\n", r.id, drawLog(r.core))
			}
		}
	}
}

// drawLog writes each slot of a node: the ballot it was accepted in, the value, and
// "!" where it is decided.
func drawLog(c *Core) string {
	var b strings.Builder
	if k := c.checkpoint.snapshot.Term; k > 0 {
		fmt.Fprintf(&b, " ..%d", k)
	}
	for slot := c.acceptor.accepted.first; slot < max(c.acceptor.accepted.end(), c.learner.decided.end()); slot++ {
		p, mark := c.acceptor.accepted.at(slot), ""
		value := "nothing"
		if p != nil && !p.Ballot.IsZero() {
			value = p.Ballot.String() + " " + drawValue(p.Commands)
		}
		if d := c.learner.decided.at(slot); d != nil && d.known {
			mark = "!"
			if d.learned {
				value = drawValue(d.commands)
			}
		}
		fmt.Fprintf(&b, " | %d%s %s", slot, mark, value)
	}
	return b.String()
}

func drawValue(commands []consensus.Command) string {
	if len(commands) == 0 {
		return "no-op"
	}
	var words []string
	for _, c := range commands {
		words = append(words, string(c.Data))
	}
	return strings.Join(words, ",")
}

// describe writes a message in words.
func describe(e Envelope) string {
	m := e.Message
	head := fmt.Sprintf("%s to %s: %s", e.From, e.To, m.Kind)
	switch m.Kind {
	case Prepare:
		return fmt.Sprintf("%s %s from slot %d", head, m.Ballot, m.Slot)
	case Promise:
		return fmt.Sprintf("%s %s, decided %d, accepted%s", head, m.Ballot, m.Mark, drawProposals(m.Proposals))
	case Accept:
		return fmt.Sprintf("%s %s slot %d %s, decided %d", head, m.Ballot, m.Slot, drawValue(m.Commands), m.Mark)
	case Accepted:
		return fmt.Sprintf("%s %s slot %d", head, m.Ballot, m.Slot)
	case Refuse, TakeOver:
		return fmt.Sprintf("%s %s", head, m.Ballot)
	case Learn:
		return fmt.Sprintf("%s %s, slot %d, decided %d, round %d", head, m.Ballot, m.Slot, m.Mark, m.Tag)
	case Confirmed:
		return fmt.Sprintf("%s %s round %d", head, m.Ballot, m.Tag)
	case Decisions:
		return fmt.Sprintf("%s%s, decided %d", head, drawProposals(m.Proposals), m.Mark)
	case CatchUp:
		return fmt.Sprintf("%s from slot %d", head, m.Slot)
	case Fetch:
		return fmt.Sprintf("%s checkpoint of slot %d from byte %d", head, m.Slot, m.Offset)
	case Chunk:
		return fmt.Sprintf("%s of the checkpoint of slot %d: bytes %d to %d of %d", head, m.Slot, m.Offset, m.Offset+uint64(len(m.Data)), m.Total)
	case Forward:
		return fmt.Sprintf("%s %s", head, drawValue(m.Commands))
	case SlotAnswer:
		return fmt.Sprintf("%s highest slot %d, decided %d", head, m.Slot, m.Mark)
	case ReadAnswer:
		return fmt.Sprintf("%s index %d", head, m.Index)
	}
	return head
}

func drawProposals(proposals []Proposal) string {
	if len(proposals) == 0 {
		return " nothing"
	}
	var b strings.Builder
	for _, p := range proposals {
		fmt.Fprintf(&b, " [%d: %s %s]", p.Slot, p.Ballot, drawValue(p.Commands))
	}
	return b.String()
}
