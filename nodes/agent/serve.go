package agent

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"chaos/nodes"
)

const (
	drainWait   = 500 * time.Millisecond // for the last answers to be written
	maxObserve  = 30 * time.Second       // the longest that a controller may let us wait for probes
	leaseTicks  = 16                     // looks at the clock within a lease
	observeTick = 200 * time.Microsecond // between two looks at counters and probes
)

// A server is one agent while it serves one controller. Its loop owns all of it.
type server struct {
	o      ServeOptions
	conn   *lineConn
	hello  Hello
	node   *node
	wall   *wall   // nil where there is none
	noWall error   // and why
	echo   *prober // nil without a probe port
}

func serve(ctx context.Context, stream io.ReadWriteCloser, o ServeOptions) error {
	s := &server{o: o, conn: newLineConn(stream)}
	defer s.conn.close(nil)
	stop := context.AfterFunc(ctx, func() { s.conn.close(ctx.Err()) })
	defer stop()
	first, err := s.greet()
	if err != nil {
		return err
	}
	if o.Sole != nil { // only now, so that a stranger can't keep the place taken
		if !o.Sole.TryLock() {
			return s.refuse(first.ID, errors.New("agent: another controller is being served"))
		}
		defer o.Sole.Unlock()
	}
	if err := s.open(); err != nil {
		s.heal()
		return s.refuse(first.ID, err)
	}
	o.vacancy.taken()
	s.reply(answer{ID: first.ID, Status: s.status()})
	err = s.loop()
	healed := s.heal()
	var silent *silence
	if errors.As(err, &silent) {
		o.vacancy.left(silent.lease)
	} else {
		o.vacancy.left(doorIdle)
	}
	return errors.Join(err, healed)
}

// A silence is why an agent ends when its lease has run out.
type silence struct{ lease time.Duration }

func (s *silence) Error() string { return fmt.Sprintf("agent: no beat came for %s", s.lease) }

// greet reads the hello, the only thing that a stranger can make us do.
func (s *server) greet() (*request, error) {
	t := time.AfterFunc(helloWait, func() { s.conn.close(errors.New("agent: no hello came")) })
	defer t.Stop()
	var r request
	if err := s.conn.receive(&r); err != nil {
		return nil, fmt.Errorf("agent: reading the hello: %w", err)
	}
	if r.Op != opHello || r.Hello == nil {
		return nil, s.refuse(r.ID, errors.New("agent: the first line must be a hello"))
	}
	s.hello = *r.Hello
	got, want := sha256.Sum256([]byte(s.hello.Key)), sha256.Sum256([]byte(s.o.Key))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return nil, s.refuse(r.ID, errors.New("agent: the key is wrong"))
	}
	if err := s.hello.check(); err != nil {
		return nil, s.refuse(r.ID, err)
	}
	return &r, nil
}

func (s *server) refuse(id uint64, err error) error {
	s.reply(answer{ID: id, Error: err.Error()})
	s.conn.drain(drainWait)
	return err
}

func (h *Hello) check() error {
	if h.Version != version {
		return fmt.Errorf("agent: the controller speaks version %d, this agent %d", h.Version, version)
	}
	if h.Lease == 0 {
		h.Lease = defaultLease
	}
	if h.Lease < minLease {
		return fmt.Errorf("agent: a lease of %s is shorter than %s", h.Lease, minLease)
	}
	if !wordOnly(h.Run) || len(h.Run) == 0 || len(h.Run) > 64 {
		return fmt.Errorf("agent: the run's name %q is not 1 to 64 letters, digits and _", h.Run)
	}
	if len(h.View) > maxPerHost || len(h.Clients) > maxPerHost {
		return fmt.Errorf("agent: more than %d members or client addresses", maxPerHost)
	}
	return nil
}

func wordOnly(s string) bool {
	for _, c := range s {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

func (s *server) open() (err error) {
	s.node = newNode(s.hello.Self.ID, s.log)
	if s.hello.Probe == 0 {
		return nil
	}
	if s.echo, err = listenProbes(s.hello); err != nil {
		return err
	}
	// Without a firewall the agent is still good for its node; the reason is
	// told when links are first named.
	s.wall, s.noWall = openWall(s.hello, s.echo, s.o.Seed)
	return nil
}

// loop obeys until the stream ends, the lease runs out or a farewell came.
func (s *server) loop() error {
	requests, ended := make(chan request), make(chan error, 1)
	go func() { ended <- s.read(requests) }()
	// Ticks, not a timer: who was frozen for longer than a lease has missed but
	// one of them, and finds the beats that wait for it before it gives up.
	lease, silent := time.NewTicker(s.hello.Lease/leaseTicks), 0
	defer lease.Stop()
	for {
		select {
		case r := <-requests:
			silent = 0
			if r.Op == opBye {
				err := s.heal()
				s.reply(answer{ID: r.ID, Error: text(err)})
				s.conn.drain(drainWait)
				return nil
			}
			s.handle(r)
		case exit := <-s.node.exits:
			s.reply(answer{Incident: &exit})
		case <-lease.C:
			if silent++; silent > leaseTicks {
				return &silence{s.hello.Lease}
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-s.conn.done:
			return s.conn.err
		}
	}
}

func (s *server) read(requests chan<- request) error {
	for {
		var r request
		if err := s.conn.receive(&r); err != nil {
			return err
		}
		select {
		case requests <- r:
		case <-s.conn.done:
			return s.conn.err
		}
	}
}

func (s *server) handle(r request) {
	if len(r.Links) > maxPerHost || len(r.Send) > maxPerHost || len(r.Watch) > maxPerHost {
		s.reply(answer{ID: r.ID, Error: fmt.Sprintf("agent: more than %d links in one request", maxPerHost)})
		return
	}
	if r.Op == opObserve && s.echo != nil {
		go s.observe(r, s.wall) // it may wait, and only reads
		return
	}
	a := answer{ID: r.ID}
	var err error
	switch r.Op {
	case opBeat:
		err = s.beat()
	case opExec:
		err = s.node.prepare(r.Exec, r.Dir)
	case opNode:
		a.Proofs, err = s.node.bring(r.State, r.Start)
	case opProve:
		a.Proofs = s.node.prove(r.State)
	case opLinks:
		err = s.links(r.Links)
	case opExpect:
		err = s.expect(r.Watch)
	case opSend:
		err = s.send(r.Send)
	case opObserve:
		err = errNoProbes
	case opStatus:
		a.Status = s.status()
	case opProbe:
		a.Effects = map[nodes.EffectKind]string{}
		for kind, why := range Probe(context.Background()) {
			a.Effects[kind] = text(why)
		}
	default:
		err = fmt.Errorf("agent: unknown request %q", r.Op)
	}
	a.Error = text(err)
	s.reply(a)
}

// beat renews what has a time limit, and reports what had lapsed.
func (s *server) beat() error {
	if what := s.node.lapsed(); what != "" {
		s.lapse(nil, what)
	}
	if s.wall == nil {
		return nil
	}
	lapsed, err := s.wall.renew()
	s.lapses(lapsed)
	return err
}

func (s *server) lapses(links []nodes.Link) {
	for _, l := range links {
		s.lapse(&l, linkName(l)+" was open: the kernel's time limit had passed without a beat")
	}
}

func (s *server) lapse(l *nodes.Link, what string) {
	s.reply(answer{Incident: &nodes.Incident{Node: s.hello.Self.ID, Kind: "lapse", Detail: what}, Link: l})
}

func (s *server) links(want []linkWant) (err error) {
	switch {
	case s.wall != nil:
	case len(want) == 0:
		return nil
	case s.noWall != nil:
		return s.noWall
	default:
		return errNoProbes
	}
	lapsed, err := s.wall.set(want)
	s.lapses(lapsed)
	return err
}

func (s *server) expect(watch []watching) error {
	counters := map[nodes.Link]uint64{}
	if s.wall != nil {
		lapsed, err := s.wall.renew()
		s.lapses(lapsed)
		if err != nil {
			return err
		}
		if counters, err = s.wall.counters(); err != nil {
			return err
		}
	}
	if s.echo == nil {
		return errNoProbes
	}
	for _, w := range watch {
		s.echo.expect(w, counters[w.Link])
	}
	return nil
}

func (s *server) send(probes []sending) error {
	if s.echo == nil {
		return errNoProbes
	}
	var err error
	for _, p := range probes {
		err = errors.Join(err, s.echo.send(p))
	}
	return err
}

// observe answers as soon as every probe has either arrived or been counted as
// dropped, at the latest after r.Wait.
func (s *server) observe(r request, w *wall) {
	until := time.Now().Add(min(r.Wait, maxObserve))
	for {
		a, decided := s.look(r, w)
		if decided || a.Error != "" || time.Now().After(until) {
			s.reply(a)
			return
		}
		select {
		case <-time.After(observeTick):
		case <-s.conn.done:
			return
		}
	}
}

func (s *server) look(r request, wall *wall) (a answer, decided bool) {
	a = answer{ID: r.ID}
	var counters map[nodes.Link]uint64
	if wall != nil {
		var err error
		if counters, err = wall.counters(); err != nil {
			a.Error = err.Error()
			return a, true
		}
	}
	decided = true
	for _, w := range r.Watch {
		one := s.echo.look(w, counters[w.Link])
		a.Seen = append(a.Seen, one)
		decided = decided && (one.Passed || one.Dropped > 0)
	}
	return a, decided
}

func (s *server) status() *Status {
	st := &Status{PID: os.Getpid(), OS: runtime.GOOS, Node: s.node.pid(), Starts: s.node.starts}
	if s.wall != nil {
		st.Table, st.Queue = s.wall.describe()
	}
	return st
}

// heal undoes everything: no rule, no delay, no node. It may be called twice.
func (s *server) heal() error {
	var err error
	if s.wall != nil {
		err = s.wall.close()
	}
	if s.node != nil {
		err = errors.Join(err, s.node.close())
	}
	if s.echo != nil {
		s.echo.close()
	}
	return err
}

func (s *server) reply(a answer) {
	if err := s.conn.send(a); err != nil {
		s.log("answer " + fmt.Sprint(a.ID) + ": " + err.Error())
	}
}

func (s *server) log(line string) {
	if s.o.Log != nil {
		s.o.Log(line)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// linkName reads "n1→n2" or "clients→n2".
func linkName(l nodes.Link) string {
	return endName(l.From) + "→" + endName(l.To)
}

func endName(id nodes.ID) string {
	if id == nodes.Clients {
		return "clients"
	}
	return id.String()
}

// localFile resolves a name that an Exec gives, which must stay in the folder.
func localFile(dir, name string) (string, error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("agent: the file name %q leads out of the node's folder", name)
	}
	return filepath.Join(dir, name), nil
}
