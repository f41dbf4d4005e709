package nodestest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"chaos/nodes"
)

const (
	providerNodes = 3
	providerLease = 10 * time.Second
	providerPause = 100 * time.Millisecond // for a dial that must not end
)

// Provider checks that p hosts clusters as a provider has to: that it tells
// what it can do, that its clusters can be dialled and hurt in every way that it
// says, that they keep everything below the run's folder, and that they can be
// closed while hurt. network goes into [nodes.Options]; "" is p's own choice.
func Provider(t *testing.T, p nodes.Provider, network string) {
	if p.Name() == "" {
		t.Error("the provider has no name")
	}
	launch := func(t *testing.T) nodes.Cluster {
		t.Helper()
		c, err := p.Launch(t.Context(), Talker{}, ProviderOptions(t.TempDir(), network))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Run("effects", func(t *testing.T) {
		Effects(t, func(t *testing.T) (nodes.Cluster, nodes.Abilities) {
			return launch(t), abilities(t, p, network)
		})
	})
	t.Run("dial", func(t *testing.T) { dials(t, launch(t)) })
	t.Run("close", func(t *testing.T) { closes(t, launch(t)) })
	t.Run("folder", func(t *testing.T) { folder(t, p, network) })
	t.Run("refuse", func(t *testing.T) { refuses(t, p, network) })
}

// ProviderOptions are options for a small cluster in the run's folder dir.
func ProviderOptions(dir, network string) nodes.Options {
	return nodes.Options{Nodes: providerNodes, Dir: dir, Cluster: "kit", Lease: providerLease, Network: network}
}

// abilities asks the provider what it can do, which must be something.
func abilities(t *testing.T, p nodes.Provider, network string) nodes.Abilities {
	t.Helper()
	a := p.Probe(t.Context(), nodes.Options{Network: network})
	if a.Network == "" {
		t.Error("the provider does not say how it hurts links")
	}
	for _, kind := range []nodes.EffectKind{nodes.Down, nodes.Frozen} {
		if why, listed := a.Effects[kind]; !listed || why != nil {
			t.Errorf("a provider that can't make a node %s is none: %v", kind, why)
		}
	}
	return a
}

// dials checks what a client sees of a node: served, refused, silent.
func dials(t *testing.T, c nodes.Cluster) {
	defer closing(t, c)
	k := &kit{cluster: c, members: c.Members()}
	if len(k.members) != providerNodes {
		t.Fatalf("%d members, want %d", len(k.members), providerNodes)
	}
	a, b := k.members[0], k.members[1]
	k.pid(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), providerPause)
	cancel()
	if _, err := c.Dial(ctx, a, nodes.ClientPort); !errors.Is(err, context.Canceled) {
		t.Errorf("a dial that was given up before: %v", err)
	}
	k.apply(t, "down", nodes.Effect{Kind: nodes.Down, Node: a.ID})
	if _, err := c.Dial(t.Context(), a, nodes.ClientPort); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial of a node that is down: %v, want it refused", err)
	}
	cut := nodes.Effect{Kind: nodes.Cut, From: nodes.Clients, To: b.ID}
	ev, err := c.Apply(t.Context(), "cut", []nodes.Effect{cut})
	if err != nil {
		t.Logf("links of clients can't be cut here: %v", err)
		return
	}
	check(t, "apply", ev, err)
	for _, wait := range []time.Duration{time.Nanosecond, providerPause} {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		if _, err := c.Dial(ctx, b, nodes.ClientPort); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial of a node that clients are cut off from: %v, want the deadline", err)
		}
		cancel()
	}
	waiting, giveUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var dialing sync.WaitGroup
	dialing.Go(func() {
		_, err := c.Dial(waiting, b, nodes.ClientPort)
		ended <- err
	})
	defer dialing.Wait()
	defer giveUp() // before the wait, where the test ends early
	time.Sleep(providerPause)
	k.pid(t, k.members[2])
	select {
	case err := <-ended:
		t.Errorf("a dial into a cut ended by itself, or kept others waiting until it did: %v", err)
	default:
	}
	giveUp()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a dial that was given up: %v", err)
	}
}

// closes checks that a cluster can be closed while everything is wrong with it.
func closes(t *testing.T, c nodes.Cluster) {
	k := &kit{cluster: c, members: c.Members()}
	k.meshed(t)
	a, b := k.members[0], k.members[1]
	k.apply(t, "frozen", nodes.Effect{Kind: nodes.Frozen, Node: a.ID})
	k.apply(t, "down", nodes.Effect{Kind: nodes.Down, Node: b.ID})
	conn, err := c.Dial(t.Context(), a, nodes.ClientPort)
	if err != nil {
		t.Fatalf("a frozen node's system still takes connections: %v", err)
	}
	defer conn.Close()
	closing(t, c)
	for range c.Incidents() { // must end
	}
	conn.SetReadDeadline(time.Now().Add(kitEnough))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to a node outlived its cluster: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), kitEnough)
	defer cancel()
	if _, err := c.Dial(ctx, a, nodes.ClientPort); err == nil || ctx.Err() != nil {
		t.Errorf("dial after Close: %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func closing(t *testing.T, c nodes.Cluster) {
	t.Helper()
	began := time.Now()
	if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("closing the cluster: %v", err)
	}
	t.Logf("closed in %s", time.Since(began).Round(time.Millisecond))
}

// folder checks that what a run leaves lies below its folder, a node's own
// files below nodes/<id>.
func folder(t *testing.T, p nodes.Provider, network string) {
	dir := t.TempDir()
	began := time.Now()
	c, err := p.Launch(t.Context(), Talker{}, ProviderOptions(dir, network))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("launched in %s", time.Since(began).Round(time.Millisecond))
	k := &kit{cluster: c, members: c.Members()}
	k.meshed(t)
	t.Logf("all connected after %s", time.Since(began).Round(time.Millisecond))
	closing(t, c)
	for _, m := range k.members {
		if _, err := os.Stat(filepath.Join(dir, "nodes", m.ID.String())); err != nil {
			t.Error(err)
		}
	}
}

// refuses checks that what can't be launched is an error, and leaves nothing.
func refuses(t *testing.T, p nodes.Provider, network string) {
	for name, change := range map[string]func(*nodes.Options){
		"no nodes":        func(o *nodes.Options) { o.Nodes = 0 },
		"too many nodes":  func(o *nodes.Options) { o.Nodes = 1 << 20 },
		"unknown network": func(o *nodes.Options) { o.Network = "tin cans" },
		"a file as folder": func(o *nodes.Options) {
			o.Dir = filepath.Join(o.Dir, "file")
			if err := os.WriteFile(o.Dir, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		o := ProviderOptions(t.TempDir(), network)
		change(&o)
		if c, err := p.Launch(t.Context(), Talker{}, o); err == nil {
			t.Errorf("%s: launched", name)
			closing(t, c)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := p.Launch(ctx, Talker{}, ProviderOptions(t.TempDir(), network)); err == nil {
		t.Error("launched although given up")
		closing(t, c)
	}
}
