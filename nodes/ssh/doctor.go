package ssh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"chaos/nodes"
)

const (
	doctorWait = 2 * time.Minute // for one host
	clockOff   = time.Second     // by which a host's clock may differ from ours
)

// errInterrupted says that nothing can be told.
var errInterrupted = errors.New("interrupted: not every host was looked at")

// A Finding is one thing that a campaign needs of a host, as it was found.
type Finding struct {
	Name string // of the host and what was looked at: "db1 clock"
	Note string // what was found
	Err  error  // nil: it is as it should be; else what is missing, and the remedy
}

// Doctor looks at every host of the hosts file for what a campaign needs there:
// the connection, the machine, the folder and its disk space, rights, the
// firewall, the clock, ports, the way to the other nodes, and remains of earlier
// runs. program is this one where it is empty. It leaves nothing behind.
func Doctor(ctx context.Context, program string, c Config) []Finding {
	return New(program, c).examine(ctx)
}

func (p *Provider) examine(ctx context.Context) []Finding {
	rs, err := p.remotes(0)
	if err != nil {
		return []Finding{{Name: "hosts file", Note: p.c.HostsFile, Err: err}}
	}
	all := make([]*checkup, len(rs))
	_ = each(rs, func(r *remote) error {
		c := &checkup{r: r}
		c.reached = c.arrive(ctx)
		all[r.id-1] = c
		return nil
	})
	var well []*remote
	for _, c := range all {
		if c.reached {
			well = append(well, c.r)
		}
	}
	same := apart(well)
	_ = each(well, func(r *remote) error {
		if same == nil && ctx.Err() == nil { // else they would find each other's traces
			all[r.id-1].examine(ctx, well)
		}
		return nil
	})
	_ = each(rs, func(r *remote) error { // only now: hosts may share a file system, and so the program
		if err := r.tidy(context.WithoutCancel(ctx)); err != nil {
			all[r.id-1].add("tidying up", "", err)
		}
		return nil
	})
	var out []Finding
	for _, c := range all {
		out = append(out, c.found...)
	}
	if why := ctx.Err(); why != nil { // which every host tells
		out = slices.DeleteFunc(out, func(f Finding) bool { return errors.Is(f.Err, why) })
		return append(out, Finding{"hosts", "", errInterrupted})
	}
	if len(well) == len(rs) || same != nil {
		_, err := membersOf(well)
		out = append(out, Finding{"addresses", "every node has its own, and none is the harness's", err})
	}
	return out
}

// A checkup is one host's findings.
type checkup struct {
	r       *remote
	reached bool
	found   []Finding
}

// add notes a finding, and tells whether it is good.
func (c *checkup) add(what, note string, err error) bool {
	if note == "" {
		note = "ok"
	}
	c.found = append(c.found, Finding{c.r.e.name + " " + what, note, err})
	return err == nil
}

// arrive does what must work before our program can look around itself.
func (c *checkup) arrive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	r := c.r
	began := time.Now()
	conn, err := r.p.dialer.connect(ctx, r.way)
	to := r.way[len(r.way)-1].String()
	if len(r.way) > 1 {
		to += fmt.Sprintf(", over %d others", len(r.way)-1)
	}
	if !c.add("connection", fmt.Sprintf("%s, %s", to, time.Since(began).Round(time.Millisecond)), err) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = conn
	if err := r.learn(ctx, conn); err != nil {
		return c.add("shell", "", err)
	}
	f := r.facts
	machine := f
	machine.trouble = ""
	if !c.add("machine", f.os+" "+f.arch, machine.usable(r.e)) {
		return false
	}
	own, err := r.p.binaries.ours(ctx, f.arch)
	if !c.add("program for it", "", err) {
		return false
	}
	if c.add("folder", f.folder, f.usable(r.e)) && f.free >= 0 {
		var room error
		if f.free < own.size+roomBeside {
			room = errNoRoom(r.e, f.folder, f.free, own.size)
		}
		c.add("disk space", fmt.Sprintf("%d MiB free", f.free>>20), room)
	}
	rights, _ := f.rights(r.e) // what a plain user lacks, the firewall tells
	r.sudo, err = f.prefix(r.e)
	if !c.add("rights", rights, err) {
		return false
	}
	if err := r.locate(); err != nil {
		return c.add("address for other nodes", "", err)
	}
	if err := r.bringOurs(ctx, conn); err != nil {
		return c.add("program", "", err)
	}
	return true
}

// examine lets our program look around on the host.
func (c *checkup) examine(ctx context.Context, all []*remote) {
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	r := c.r
	q := request{Op: opLook, Inside: r.inside.String(), Ports: r.e.ports}
	for _, other := range all {
		if other != r {
			q.Peers = append(q.Peers, other.inside.String())
		}
	}
	sent := time.Now()
	a, err := r.ask(ctx, q)
	back := time.Now()
	if !c.add("program", strings.TrimPrefix(r.program, r.facts.folder+"/"), err) {
		return
	}
	c.add("kernel", a.Kernel, nil)
	before, same := "", "" // of kinds that lack the same, one tells it
	for _, e := range []struct {
		kind nodes.EffectKind
		what string
	}{{nodes.Down, "kill and pause"}, {nodes.Cut, "nftables (cuts)"}, {nodes.Delayed, "NFQUEUE (weather)"}, {nodes.Duplicated, "packet sockets (doubling)"}} {
		why, asked := a.Effects[e.kind]
		err = nil
		switch {
		case why != "" && why == before:
			err = fmt.Errorf("as %s", same)
		case why != "" || !asked:
			err = fmt.Errorf("%s%s", why, r.plainRemedy())
			before, same = why, e.what
		}
		c.add(e.what, "", err)
	}
	c.add("address and ports", fmt.Sprintf("%s, %d to %d", r.inside, r.e.ports, r.e.ports+portCount-1), errorOf(a.Ports))
	var cut error
	if len(a.Peers) > 0 {
		cut = fmt.Errorf("%s; remedy: let the hosts reach each other on ports %d to %d (docs/ssh.md says what Docker does to bridges)", join(a.Peers), r.e.ports, r.e.ports+portCount-1)
	}
	c.add("way to the others", fmt.Sprintf("%d hosts", len(q.Peers)), cut)
	c.clock(time.Unix(0, a.Clock), sent, back, a.Took)
	c.remains(ctx)
}

// clock compares the host's clock with ours. It was read at the end of a request
// that the host looked around for, so the rest of the time is all that is unsure.
func (c *checkup) clock(theirs, sent, back time.Time, looked time.Duration) {
	off, unsure := theirs.Sub(back), back.Sub(sent)-looked
	var err error
	if off > clockOff || off < -clockOff-unsure {
		err = fmt.Errorf("it is %s off; remedy: run chrony or systemd-timesyncd there", off.Round(time.Millisecond))
	}
	note := fmt.Sprintf("%s off, give or take %s", off.Round(time.Millisecond), unsure.Round(time.Millisecond))
	if unsure > clockOff {
		note += ": the way there is too slow to tell"
	}
	c.add("clock", note, err)
}

func (c *checkup) remains(ctx context.Context) {
	a, err := c.r.ask(ctx, request{Op: opFind})
	var left []string
	for _, l := range c.r.sort(a.Found) {
		if l.kept == "" && l.Kind != string(programItem) {
			left = append(left, l.Name)
		}
	}
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%s of dead runs; remedy: chaos clean --provider ssh --hosts %s", join(left), c.r.p.c.HostsFile)
	}
	c.add("remains", "none", err)
}

func errorOf(text string) error {
	if text == "" {
		return nil
	}
	return fmt.Errorf("%s", text)
}
