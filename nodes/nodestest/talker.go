package nodestest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"chaos/nodes"
)

const (
	talkerVariable = "CHAOS_TALKER" // makes a test binary a talker; holds its settings
	talkerPatience = 2 * time.Second
	talkerRedial   = 20 * time.Millisecond // after a failed dial, before the next
	talkerQueue    = 1024                  // words that wait for one peer
	talkerWords    = 64 << 10              // words remembered, then a talker gives up
)

// A Talker is a [nodes.System] without any algorithm: every node keeps one TCP
// connection to each of its peers and sends words over it, as it is told to by
// whoever dials its client port. So it shows how links and processes are.
//
// Its program is the running test binary itself, which must call [TalkerMain]
// first thing in its TestMain.
type Talker struct{ nodes.System }

// Name is "talker".
func (Talker) Name() string { return "talker" }

// Modes: a talker reads nothing.
func (Talker) Modes() []string { return nil }

type talkerSettings struct {
	Self nodes.Member
	All  []nodes.Member
}

// Exec starts the running binary anew.
func (Talker) Exec(self nodes.Member, all []nodes.Member, _ string, _ nodes.Options) nodes.Exec {
	path, err := os.Executable()
	if err != nil {
		panic(fmt.Sprintf("nodestest: the running binary has no path: %v", err))
	}
	b, err := json.Marshal(talkerSettings{self, all})
	if err != nil {
		panic(fmt.Sprintf("nodestest: members can't be encoded: %v", err))
	}
	return nodes.Exec{Path: path, Env: []string{talkerVariable + "=" + string(b)}, Ready: nodes.ClientPort}
}

// Dial and Observe have no meaning for a talker.
func (Talker) Dial(context.Context, nodes.Member, nodes.DialFunc, nodes.Options) (nodes.Client, error) {
	return nil, errors.New("nodestest: a talker has no client")
}

// Observe has no meaning for a talker.
func (Talker) Observe(context.Context, nodes.Member, nodes.DialFunc) (nodes.Status, error) {
	return nodes.Status{}, errors.New("nodestest: a talker believes nothing")
}

// TalkerMain does nothing, unless the process was started as a talker: then it
// is one, and never returns.
func TalkerMain() {
	text := os.Getenv(talkerVariable)
	if text == "" {
		return
	}
	var s talkerSettings
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = newTalker(s).run()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A talker is one node.
type talker struct {
	settings talkerSettings
	work     sync.WaitGroup
	queues   map[nodes.ID]chan string // of words to each peer
	showers  showers
	mu       sync.Mutex
	heard    map[string]bool
}

func newTalker(s talkerSettings) *talker {
	t := &talker{settings: s, queues: map[nodes.ID]chan string{}, heard: map[string]bool{}}
	for _, m := range s.All {
		if m.ID != s.Self.ID {
			t.queues[m.ID] = make(chan string, talkerQueue)
		}
	}
	return t
}

// run serves until something fails for good.
func (t *talker) run() error {
	peers, err := net.Listen("tcp", t.settings.Self.Addr(nodes.PeerPort))
	if err != nil {
		return err
	}
	clients, err := net.Listen("tcp", t.settings.Self.Addr(nodes.ClientPort))
	if err != nil {
		return err
	}
	if err := t.openShowers(); err != nil {
		return err
	}
	for _, m := range t.settings.All {
		if q := t.queues[m.ID]; q != nil {
			t.work.Go(func() { t.feed(m, q) })
		}
	}
	t.work.Go(func() { t.accept(peers, t.listen) })
	t.accept(clients, t.obey)
	return errors.New("nodestest: a talker can't accept any more")
}

func (t *talker) accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		t.work.Go(func() {
			defer c.Close()
			serve(c)
		})
	}
}

// feed keeps one connection to a peer and writes words into it. A word that is
// written when the connection breaks is lost.
func (t *talker) feed(m nodes.Member, words <-chan string) {
	for {
		c, err := net.DialTimeout("tcp", m.Addr(nodes.PeerPort), talkerPatience)
		if err != nil {
			time.Sleep(talkerRedial)
			continue
		}
		for word := range words {
			if _, err := fmt.Fprintln(c, word); err != nil {
				break
			}
		}
		c.Close()
	}
}

// listen takes words from a peer.
func (t *talker) listen(c net.Conn) {
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), fillWord) {
			continue
		}
		t.mu.Lock()
		if len(t.heard) >= talkerWords {
			panic(fmt.Sprintf("nodestest: a talker heard %d words", talkerWords))
		}
		t.heard[lines.Text()] = true
		t.mu.Unlock()
	}
}

// obey answers a client's lines: "pid", "send <peer> <word>", "heard <word>",
// and those of weather.
func (t *talker) obey(c net.Conn) {
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if _, err := fmt.Fprintln(c, t.answer(strings.Fields(lines.Text()))); err != nil {
			return
		}
	}
}

func (t *talker) answer(f []string) string {
	switch {
	case len(f) == 1 && f[0] == "pid":
		return strconv.Itoa(os.Getpid())
	case len(f) == 3 && f[0] == "send":
		id, _ := strconv.Atoi(f[1])
		select {
		case t.queues[nodes.ID(id)] <- f[2]:
			return "ok"
		default:
			return "no room for " + f[1]
		}
	case len(f) == 2 && f[0] == "heard":
		t.mu.Lock()
		defer t.mu.Unlock()
		return strconv.FormatBool(t.heard[f[1]])
	}
	return t.weather(f)
}
