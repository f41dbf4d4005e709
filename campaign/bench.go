package campaign

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"chaos/history"
	"chaos/nodes"
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
	System  string        `json:"system"`
	Clients int           `json:"clients"`
	F       string        `json:"f"` // write or read
	Rate    float64       `json:"rate"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	Errors  int           `json:"errors"`
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
			out = append(out, m)
			if b.Log != nil {
				b.Log(fmt.Sprintf("%s %d clients %s: %.0f/s", m.System, n, f, m.Rate))
			}
		}
	}
	return out, nil
}

// measure drives n closed-loop clients for one window.
func (b Bench) measure(ctx context.Context, c nodes.Cluster, o nodes.Options, n int, f string) Measured {
	var all sync.WaitGroup
	took := make([][]time.Duration, n)
	errors := make([]int, n)
	end := time.Now().Add(b.Window)
	for i := range n {
		all.Add(1)
		go func() {
			defer all.Done()
			took[i], errors[i] = b.client(ctx, c, o, i, f, end)
		}()
	}
	all.Wait()
	m := Measured{System: b.System.Name(), Clients: n, F: f}
	flat := slices.Concat(took...)
	slices.Sort(flat)
	for _, e := range errors {
		m.Errors += e
	}
	m.Rate = float64(len(flat)) / b.Window.Seconds()
	if len(flat) > 0 {
		m.P50, m.P99 = flat[len(flat)/2], flat[len(flat)*99/100]
	}
	return m
}

// client is one closed loop: the next operation starts when the last is answered.
func (b Bench) client(ctx context.Context, c nodes.Cluster, o nodes.Options, i int, f string, end time.Time) (took []time.Duration, errors int) {
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
			errors++
			continue
		}
		took = append(took, time.Since(began))
	}
	return took, errors
}
