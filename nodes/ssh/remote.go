package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

const (
	greetWait = 15 * time.Second       // for an agent that was started to greet
	reuseWait = 3 * time.Second        // for one that runs to take us again, before another takes its place
	lastWords = 300 * time.Millisecond // for what a command that failed complains
	stopWait  = 15 * time.Second       // for one host to be left as it was, where ctx allows more
)

// A remote is one host as a run, a doctor or a cleaner uses it.
type remote struct {
	p   *Provider
	e   entry
	way []target
	log io.Writer // takes what the host's programs complain of; may be nil

	id      nodes.ID          // of its node; 0: none
	inside  netip.Addr        // the node's address; valid once connected
	run     string            // the run's folder there; "": no run
	name    string            // of the run's folder, before the folder of all is known
	program string            // ours, there
	fresh   bool              // it was not there before
	placed  map[string]string // other programs: where they are there, by where they are here

	mu     sync.Mutex // one change of the connection at a time
	conn   *connection
	facts  facts
	sudo   []string // before a command that needs rights
	stream *sessionStream
	door   atomic.Pointer[agent.Door]
	begun  bool // an agent has run there
	closed bool
}

// connect brings the connection about, or back, with our program at the other end.
func (r *remote) connect(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.connected(ctx)
}

func (r *remote) connected(ctx context.Context) error {
	if r.closed {
		return fmt.Errorf("ssh: %s: the cluster is closed", r.e.name)
	}
	if r.conn != nil && r.conn.alive() {
		return nil
	}
	r.hangUp()
	c, err := r.p.dialer.connect(ctx, r.way)
	if err != nil {
		return &errorAt{r.e.name, err}
	}
	if err := r.settle(ctx, c); err != nil {
		err = errors.Join(err, r.tidied(context.WithoutCancel(ctx), c))
		c.close()
		return err
	}
	r.conn = c
	return nil
}

// settle learns what the host is and brings our program there.
func (r *remote) settle(ctx context.Context, c *connection) error {
	if err := r.learn(ctx, c); err != nil {
		return err
	}
	if err := r.facts.usable(r.e); err != nil {
		return err
	}
	var err error
	if r.sudo, err = r.facts.prefix(r.e); err != nil {
		return err
	}
	if err := r.locate(); err != nil {
		return err
	}
	return r.bringOurs(ctx, c)
}

// learn asks the host what it is. Most need the same program as this machine,
// so the question after that is asked at once.
func (r *remote) learn(ctx context.Context, c *connection) (err error) {
	have := ""
	if guess, err := r.p.binaries.ours(ctx, hostArch); err == nil {
		have = guess.name()
	}
	r.facts, err = c.learn(ctx, r.e, have)
	return err
}

// bringOurs brings our program to the host.
func (r *remote) bringOurs(ctx context.Context, c *connection) error {
	own, err := r.p.binaries.ours(ctx, r.facts.arch)
	if err != nil {
		return &errorAt{r.e.name, err}
	}
	if r.facts.arch != hostArch {
		f, err := c.learn(ctx, r.e, own.name())
		if err != nil {
			return err
		}
		r.facts.sum = f.sum
	}
	r.fresh = r.fresh || r.facts.sum != own.sum
	r.program, err = c.place(ctx, r.e, r.facts, own)
	if r.name != "" {
		r.run = path.Join(r.facts.folder, "runs", r.name)
	}
	return err
}

// locate decides which address the other nodes use.
func (r *remote) locate() error {
	r.inside = parseAddr(r.e.inside)
	if !r.inside.IsValid() {
		r.inside = r.facts.at
	}
	if !r.inside.IsValid() {
		return fmt.Errorf("ssh: %s: the address for other nodes is not known, since %s is a name and the host does not tell what it leads to; remedy: inside: in the hosts file",
			r.e.name, r.e.address)
	}
	return nil
}

// ask lets our program on the host carry out one request, with the rights that
// an agent would have there.
func (r *remote) ask(ctx context.Context, q request) (a answer, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.connected(ctx); err != nil {
		return a, err
	}
	return r.asked(ctx, r.conn, q)
}

func (r *remote) asked(ctx context.Context, c *connection, q request) (a answer, err error) {
	q.Folder = r.facts.folder
	b, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	out, err := c.run(ctx, b, r.with(r.program, "host")...)
	if err != nil {
		return a, fmt.Errorf("ssh: %s: our program does not work there: %w%s", r.e.name, err, r.remedy(ctx, c, err))
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return a, fmt.Errorf("ssh: %s: our program answers %q", r.e.name, short(string(out)))
	}
	if a.Error != "" {
		return a, fmt.Errorf("ssh: %s: %s", r.e.name, strings.TrimPrefix(a.Error, "ssh: "))
	}
	return a, nil
}

// with puts what gives rights before a command.
func (r *remote) with(words ...string) []string {
	return append(append([]string{}, r.sudo...), words...)
}

// remedy knows the usual reasons why a program that was brought to a host does
// not run.
func (r *remote) remedy(ctx context.Context, conn *connection, err error) string {
	var c, no *commandError
	if !errors.As(err, &c) {
		return ""
	}
	if _, err := conn.run(ctx, nil, "test", "-f", r.program); errors.As(err, &no) {
		return fmt.Sprintf("; %s is gone, which was there before: somebody cleaned up meanwhile; remedy: try again, and where hosts share a file system give each a folder: of its own in the hosts file", r.program)
	}
	switch c.status {
	case 126:
		return fmt.Sprintf("; remedy: if %s is mounted noexec, name another folder: in the hosts file", r.facts.folder)
	case 127:
		return "; remedy: build chaos with CGO_ENABLED=0, so that it needs no libraries there"
	}
	return ""
}

// open returns a stream to the host's agent, for [agent.Host]. Where the last
// connection or agent is gone it makes another.
func (r *remote) open(ctx context.Context) (io.ReadWriteCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doubt()
	if d := r.door.Load(); d != nil && r.conn.alive() {
		soon, cancel := context.WithTimeout(ctx, reuseWait)
		defer cancel()
		if s, err := d.Agent(soon); err == nil {
			return s, nil
		}
	}
	r.shut()
	if err := r.connected(ctx); err != nil {
		return nil, err
	}
	if _, err := r.asked(ctx, r.conn, request{
		Op: opPrepare, Run: r.run, Owner: self(), Inside: r.inside.String(), Ports: r.e.ports,
	}); err != nil {
		return nil, err
	}
	d, err := r.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("ssh: %s: starting the agent: %w", r.e.name, err)
	}
	r.door.Store(d)
	r.begun = true
	return d.Agent(ctx)
}

// dial connects to a port of the host's node, from the host itself.
func (r *remote) dial(ctx context.Context, m nodes.Member, p nodes.Port) (net.Conn, error) {
	if d := r.door.Load(); d != nil {
		return d.Dial(ctx, m, p)
	}
	return nil, fmt.Errorf("ssh: %s: no agent is reached", r.e.name)
}

// fetch brings the node's folder into the run's.
func (r *remote) fetch(ctx context.Context, into string) error {
	r.mu.Lock()
	begun := r.begun
	r.mu.Unlock()
	d := r.door.Load()
	switch {
	case !begun:
		return nil // there is nothing to bring
	case d == nil:
		return fmt.Errorf("ssh: %s: no agent is reached, so the node's files stay there in %s", r.e.name, r.nodeDir())
	}
	return d.Fetch(ctx, r.nodeDir(), into)
}

// nodeDir is the node's folder on the host.
func (r *remote) nodeDir() string { return path.Join(r.run, r.id.String()) }

// adapt says how a node is started there.
func (r *remote) adapt(e nodes.Exec) nodes.Exec {
	if there := r.placed[absolute(e.Path)]; there != "" && strings.Contains(e.Path, "/") {
		e.Path = there
	}
	e.Env = append(append([]string(nil), e.Env...), runMark+"="+r.run)
	return e
}

func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// bring puts the program of a system in its place on the host: ours is there,
// another may be there by itself.
func (r *remote) bring(ctx context.Context, program string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.connected(ctx); err != nil {
		return err
	}
	if !strings.Contains(program, "/") { // the host's own, wherever it is there
		if _, err := r.conn.run(ctx, nil, r.with("sh", "-c", `command -v "$1"`, "chaos", program)...); err != nil {
			return fmt.Errorf("ssh: %s: there is no program %q in the PATH of its user; remedy: install it there", r.e.name, program)
		}
		return nil
	}
	program = absolute(program)
	if program == absolute(r.p.binaries.own) {
		r.placed = map[string]string{program: r.program}
		return nil
	}
	if _, err := r.conn.run(ctx, nil, "test", "-f", program, "-a", "-x", program); err == nil {
		return nil
	}
	b, err := r.p.binaries.read(program, r.facts.arch)
	if err != nil {
		return fmt.Errorf("%w; remedy: install it on %s as %s", err, r.e.name, program)
	}
	f := r.facts
	f.sum = ""
	there, err := r.conn.place(ctx, r.e, f, b)
	if err != nil {
		return err
	}
	r.placed = map[string]string{program: there}
	return nil
}

// doubt finds out at once whether the connection still leads anywhere: a stream
// that ended, or is to end, may have died with the network.
func (r *remote) doubt() {
	if r.door.Load() != nil && r.conn.alive() {
		r.conn.sign(signWait)
	}
}

// shut closes the door, if there is one.
func (r *remote) shut() {
	if d := r.door.Swap(nil); d != nil {
		d.Close()
	}
	if r.stream != nil {
		r.stream.Close()
		r.stream = nil
	}
}

// hangUp ends the connection, if there is one.
func (r *remote) hangUp() {
	r.shut()
	if r.conn != nil {
		r.conn.close()
		r.conn = nil
	}
}

// tidy takes away what asking alone has brought to the host, and hangs up.
func (r *remote) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.hangUp()
	if r.conn == nil || !r.conn.alive() {
		return nil // nothing can be left that was not there
	}
	return r.tidied(ctx, r.conn)
}

func (r *remote) tidied(ctx context.Context, c *connection) error {
	if r.facts.folder == "" {
		return nil // not even the first command worked
	}
	program := ""
	if r.fresh {
		program = r.program
	}
	_, err := c.run(ctx, nil, "sh", "-c", `[ -z "$2" ] || rm -f "$2"; [ ! -e "$2" ] || exit 1; rmdir "$1/bin" "$1/runs" "$1" 2>/dev/null; true`, "chaos", r.facts.folder, program)
	if err != nil {
		return fmt.Errorf("ssh: %s: tidying up: %w", r.e.name, err)
	}
	return nil
}

// leave takes the run away from the host and hangs up. keep says that files
// there could not be fetched, so the folder stays. A host that can't be reached
// any more heals itself.
func (r *remote) leave(ctx context.Context, keep bool) error {
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.closed = true }()
	defer r.hangUp()
	if r.run == "" {
		return nil // nothing was begun there
	}
	r.doubt()
	r.shut()
	if err := r.connected(ctx); err != nil {
		return fmt.Errorf("ssh: %s: the run's folder %s stays there until chaos clean --provider ssh --hosts %s, and its node ends with the lease: %w", r.e.name, r.run, r.p.c.HostsFile, err)
	}
	q := request{Op: opRemove, Run: r.run}
	if keep {
		q.Op = opEnd
	}
	_, err := r.asked(ctx, r.conn, q)
	return err
}
