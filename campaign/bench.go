package campaign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/workload"
)

// benchTimeout bounds one operation of a benchmark.
const benchTimeout = 5 * time.Second

// A Bench measures a cluster without faults.
type Bench struct {
	System   nodes.System
	Provider nodes.Provider
	Nodes    int
	Knobs    Knobs
	Network  string
	Folder   string        // for the nodes' files
	Window   time.Duration // of each measurement
	Clients  []int         // how many closed-loop clients, a measurement each
	Log      func(string)
}

// A Measured is one line of a benchmark.
type Measured struct {
	System  string  `json:"system"`
	Clients int     `json:"clients"`
	F       string  `json:"f"` // write or read
	Rate    float64 `json:"rate"`
	// Recorded is the rate with generator, history and its file, as in a run.
	Recorded float64       `json:"recorded"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	Errors   int           `json:"errors"`
}

// Run launches a cluster and measures writes, then reads, for each number of
// clients. Clients are spread over all nodes; each has a key of its own.
func (b Bench) Run(ctx context.Context) (out []Measured, err error) {
	o := nodes.Options{Nodes: b.Nodes, Dir: b.Folder, Cluster: nonce(), Knobs: b.Knobs.Nodes(), Lease: 15 * time.Second, Network: b.Network}
	r := &run{Live: Live{System: b.System, Provider: b.Provider, Folder: b.Folder}, nonce: o.Cluster}
	if r.cluster, err = b.Provider.Launch(ctx, b.System, o); err != nil {
		return nil, err
	}
	defer r.cluster.Close(context.WithoutCancel(ctx))
	r.load = &load{options: o}
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	for _, n := range b.Clients {
		for _, f := range []string{history.Write, history.Read} {
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
			m := b.measure(ctx, r.cluster, o, n, f)
			if m.Recorded, err = b.recorded(ctx, r.cluster, o, n, f); err != nil {
				return out, err
			}
			out = append(out, m)
			if b.Log != nil {
				b.Log(fmt.Sprintf("%s %d clients %s: %.0f/s, recorded %.0f/s", m.System, n, f, m.Rate, m.Recorded))
			}
		}
	}
	return out, nil
}

// Check tells what is wrong with a benchmark, naming the flag.
func (b Bench) Check() error {
	errs := []error{between("--nodes", b.Nodes, 1, NodesMax),
		between("--window (ms)", int(b.Window/time.Millisecond), 100, int(time.Hour/time.Millisecond))}
	for _, n := range b.Clients {
		errs = append(errs, between("--clients", n, 1, ConcurrencyMax))
	}
	return errors.Join(errs...)
}

// measure drives n closed-loop clients for one window.
func (b Bench) measure(ctx context.Context, c nodes.Cluster, o nodes.Options, n int, f string) Measured {
	var all sync.WaitGroup
	took := make([][]time.Duration, n)
	failed := make([]int, n)
	end := time.Now().Add(b.Window)
	for i := range n {
		all.Add(1)
		go func() {
			defer all.Done()
			took[i], failed[i] = b.client(ctx, c, o, i, f, end)
		}()
	}
	all.Wait()
	m := Measured{System: b.System.Name(), Clients: n, F: f}
	flat := slices.Concat(took...)
	slices.Sort(flat)
	for _, e := range failed {
		m.Errors += e
	}
	m.Rate = float64(len(flat)) / b.Window.Seconds()
	if len(flat) > 0 {
		m.P50, m.P99 = flat[len(flat)/2], flat[len(flat)*99/100]
	}
	return m
}

// recorded drives the same load as a run does: through a generator, into a
// history on disk.
func (b Bench) recorded(ctx context.Context, c nodes.Cluster, o nodes.Options, n int, f string) (float64, error) {
	name := filepath.Join(b.Folder, fmt.Sprintf("bench-%s-%d.jsonl", f, n))
	rec, err := newRecorder(name, history.Header{History: history.Version})
	if err != nil {
		return 0, err
	}
	l := newLoad(rec, b.System, c, o, o.Cluster, Spec{Concurrency: n})
	rec.use(&closedLoop{f: f, nodes: len(l.members), mode: b.System.Modes()[0], end: rec.now() + b.Window})
	l.run(ctx)
	l.close()
	ok := rec.counts().ok
	_, err = rec.close()
	return float64(ok) / b.Window.Seconds(), err
}

// A closedLoop is the generator of a benchmark: one key for each worker.
type closedLoop struct {
	f     string
	nodes int
	mode  string
	end   time.Duration
	value int64
}

// Next gives the same operation over and over until the window ends.
func (g *closedLoop) Next(now time.Duration, worker, _ int) (workload.Op, time.Duration, bool) {
	op := workload.Op{F: g.f, Key: "bench/" + strconv.Itoa(worker), Node: worker % g.nodes, Mode: g.mode, Timeout: benchTimeout}
	if g.f == history.Write {
		g.value++
		op.Value = strconv.AppendInt(nil, int64(1e15)+g.value, 10)
		op.Mode = ""
	}
	return op, 0, now < g.end
}

// Observe needs to know nothing.
func (g *closedLoop) Observe(history.Event) {}

// client is one closed loop: the next operation starts when the last is answered.
func (b Bench) client(ctx context.Context, c nodes.Cluster, o nodes.Options, i int, f string, end time.Time) (took []time.Duration, failed int) {
	m := c.Members()[i%len(c.Members())]
	client, err := b.System.Dial(ctx, m, c.Dial, o)
	if err != nil {
		return nil, 1
	}
	defer client.Close()
	e := history.Event{Type: history.Invoke, F: f, Key: o.Cluster + "/bench/" + strconv.Itoa(i),
		Session: newSession(), Attempts: 1, Mode: b.System.Modes()[0]}
	for time.Now().Before(end) && ctx.Err() == nil {
		e.Sequence++
		if f == history.Write {
			e.Value = json.RawMessage(strconv.FormatInt(int64(1e15)+int64(e.Sequence), 10))
		}
		bounded, cancel := context.WithTimeout(ctx, benchTimeout)
		began := time.Now()
		done := client.Do(bounded, e)
		cancel()
		if done.Type != history.Ok {
			failed++
			continue
		}
		took = append(took, time.Since(began))
	}
	return took, failed
}
