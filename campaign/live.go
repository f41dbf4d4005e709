package campaign

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/workload"
)

// Bounds of a live run's phases.
const (
	readyTimeout  = 20 * time.Second // from launched to every node answering
	readyPoll     = 10 * time.Millisecond
	askTimeout    = 500 * time.Millisecond // for one read that asks whether a node answers
	settleMin     = 250 * time.Millisecond
	settleMax     = 10 * time.Second // from the final heal to every node answering again
	graceTime     = 300 * time.Millisecond
	finalTime     = 10 * time.Second     // for one round of final reads, and
	finalEach     = 2 * time.Millisecond // more for each of them
	healTime      = 20 * time.Second
	closeTime     = 20 * time.Second
	progressEvery = 100 * time.Millisecond
)

// Progress is what a person who watches a run may see.
type Progress struct {
	Phase     string
	Simulated bool          // its times are simulated ones
	Elapsed   time.Duration // since the phase began
	Left      time.Duration // of the storm
	Ok        int
	Fail      int
	Info      int
	Active    []string // live injections
	Leader    string
	Messages  []string // lines that are news since the last call
}

// Live carries a plan out on a real cluster.
type Live struct {
	Plan     Plan
	System   nodes.System
	Provider nodes.Provider
	Network  string         // how links are hurt, as the provider's probe resolved it
	Folder   string         // the run's folder; exists
	Progress func(Progress) // called from one goroutine; may be nil
}

// A Record is what a carried-out plan leaves for judging.
type Record struct {
	History     history.History
	Interrupted string   // why it ended early; empty if it did not
	Trouble     []string // what the harness itself failed to do
}

// run is the state of one execution.
type run struct {
	Live
	rec     *recorder
	cluster nodes.Cluster
	load    *load
	seen    *observer
	storm   *storm
	gen     workload.Generator
	nonce   string
	phase   atomic.Pointer[phase]
	crashed atomic.Bool             // the plan's crash point was reached
	failed  context.CancelCauseFunc // ends the wait for the first answers
	trouble []string
}

type phase struct {
	name  string
	since time.Time
}

// Run carries the plan out. It returns an error only where there is nothing to
// judge; whatever it started is gone when it returns.
func (l Live) Run(ctx context.Context) (Record, error) {
	r := &run{Live: l, nonce: nonce()}
	spec := l.Plan.Spec
	rec, err := newRecorder(filepath.Join(l.Folder, "history.jsonl"), history.Header{History: history.Version,
		System: spec.System, Provider: spec.Provider, Seed: l.Plan.Seed, Nonce: r.nonce, Workload: spec.Workload})
	if err != nil {
		return Record{}, err
	}
	r.rec = rec
	interrupted, err := r.carryOut(ctx)
	events, closing := rec.close()
	if err != nil {
		return Record{}, errors.Join(err, closing)
	}
	if closing != nil {
		r.trouble = append(r.trouble, closing.Error())
	}
	return Record{History: history.History{Header: history.Header{History: history.Version, System: spec.System,
		Provider: spec.Provider, Seed: l.Plan.Seed, Nonce: r.nonce, Workload: spec.Workload}, Events: events},
		Interrupted: interrupted, Trouble: r.trouble}, nil
}

// nonce is drawn afresh for every execution, so that a plan carried out twice
// never meets its own past.
func nonce() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// errEarly is the end of a run that was interrupted while it began.
var errEarly = errors.New("interrupted before the nodes were launched")

// besides are the parts of an error that an interrupt does not explain.
func besides(err error) (out []error) {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range all.Unwrap() {
			out = append(out, besides(e)...)
		}
		return out
	}
	for _, explained := range []error{context.Canceled, net.ErrClosed, io.ErrClosedPipe, io.EOF} {
		if errors.Is(err, explained) {
			return nil
		}
	}
	return []error{err}
}

func (r *run) carryOut(ctx context.Context) (interrupted string, err error) {
	r.enter(history.WarmUp)
	o := nodes.Options{Nodes: r.Plan.Spec.Nodes, Dir: r.Folder, Cluster: r.nonce, Knobs: r.Plan.Spec.Knobs.Nodes(),
		Lease: time.Duration(r.Plan.Spec.Lease), Network: r.Network}
	if r.cluster, err = r.Provider.Launch(ctx, r.System, o); ctx.Err() != nil && err != nil {
		return "", errors.Join(append([]error{errEarly}, besides(err)...)...)
	} else if err != nil {
		return "", fmt.Errorf("launching %d nodes: %w", o.Nodes, err)
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		if closing := r.cluster.Close(bounded); closing != nil {
			r.trouble = append(r.trouble, "closing the cluster: "+closing.Error())
		}
	}()
	r.load = newLoad(r.rec, r.System, r.cluster, o, r.nonce, r.Plan.Spec)
	defer r.load.close()
	var pumps sync.WaitGroup
	defer pumps.Wait()
	watching, stop := context.WithCancel(context.Background())
	defer stop()
	starting, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	r.failed = failed
	r.watch(watching, &pumps)
	if err := r.ready(starting); ctx.Err() != nil {
		return "interrupted before every node answered", nil
	} else if err != nil {
		return "", err
	}
	return r.phases(ctx)
}

// watch starts what looks on: observers, incidents, progress.
func (r *run) watch(ctx context.Context, pumps *sync.WaitGroup) {
	r.seen = observe(ctx, r.rec, r.System, r.cluster)
	r.storm = newStorm(r.rec, r.cluster, r.seen.current)
	pumps.Add(1)
	go func() {
		defer pumps.Done()
		r.pump(ctx)
		r.seen.ended.Wait()
	}()
}

// pump records incidents and shows progress until ctx ends.
func (r *run) pump(ctx context.Context) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var news []string
	var revived sync.WaitGroup
	defer revived.Wait()
	incidents := r.cluster.Incidents()
	for {
		select {
		case <-ctx.Done():
			return
		case i, open := <-incidents:
			if !open {
				incidents = nil
				continue
			}
			news = append(news, fmt.Sprintf("%s %s: %s", i.Node, i.Kind, firstLine(i.Detail)))
			if r.crashedAsAsked(i) {
				r.rec.note(history.Info, history.Incident, history.Note{Node: i.Node.String(), Detail: history.CrashPoint + firstLine(i.Detail)})
				revived.Go(func() { r.revive(ctx, i.Node) })
				continue
			}
			r.incident(i)
		case <-tick.C:
			r.show(news)
			news = nil
		}
	}
}

// ends joins the first and the last line of what a node left: how it ended, and
// what it said last.
func ends(s string) string {
	s = strings.TrimSpace(s)
	first, last := firstLine(s), s[strings.LastIndexByte(s, '\n')+1:]
	if last == first {
		return first
	}
	return first + ": " + last
}

// log is where a node's own words go.
func (r *run) log(id nodes.ID) string {
	return filepath.Join(r.Folder, "nodes", id.String(), "log.txt")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// incident records it. A node that ends by itself before it ever answered will
// not answer any more: nobody asked for its end, so nobody starts it again.
func (r *run) incident(i nodes.Incident) {
	kind := i.Kind
	if kind == "exit" {
		r.failed(fmt.Errorf("%s ended at its start: %s (its log: %s)", i.Node, ends(i.Detail), r.log(i.Node)))
	}
	if i.Panic {
		kind = "panic"
	}
	r.rec.note(history.Info, history.Incident, history.Note{Node: i.Node.String(), Detail: kind + ": " + strings.TrimSpace(i.Detail)})
}

func (r *run) show(news []string) {
	if r.Progress == nil {
		return
	}
	at, c := r.phase.Load(), r.rec.counts()
	p := Progress{Phase: at.name, Elapsed: time.Since(at.since), Ok: c.ok, Fail: c.fail, Info: c.info,
		Active: *r.storm.active.Load(), Leader: r.seen.current().String(), Messages: news}
	if at.name == history.Storm {
		p.Left = max(0, time.Duration(r.Plan.Spec.Duration)-p.Elapsed)
	}
	r.Progress(p)
}

func (r *run) enter(name string) {
	r.phase.Store(&phase{name, time.Now()})
	r.rec.note(history.Info, history.Phase, history.Note{Phase: name})
}
