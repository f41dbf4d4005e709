package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"chaos/campaign"
	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/local"
)

// A promised provider can do what its abilities say.
type promised struct {
	nodes.Provider
	nodes.Abilities
}

func (p promised) Probe(context.Context, nodes.Options) nodes.Abilities { return p.Abilities }

// lacking is an able provider that lacks some kinds here.
func lacking(network string, kinds ...nodes.EffectKind) nodes.Abilities {
	a := nodes.Abilities{Network: network, Effects: map[nodes.EffectKind]error{nodes.Down: nil}}
	for _, k := range kinds {
		a.Effects[k] = errors.New("not here")
	}
	return a
}

// What is so on every machine is wrong usage, what is missing here is not, and the
// first is told whatever else is missing.
func TestWrongUsageIsNotWhatIsMissing(t *testing.T) {
	gone := lacking("containers", nodes.Down)
	gone.Err = errors.New("no engine")
	for _, c := range []struct {
		name  string
		w     where
		asked string
		a     nodes.Abilities
		fault nemesis.Fault
		usage bool
	}{
		{"a kernel without netem", where{provider: "local"}, "", lacking(local.Namespaces, nodes.Lossy), find(t, "lossy"), false},
		{"relays asked for", where{provider: "local"}, local.Relay, lacking(local.Relay, nodes.Lossy), find(t, "lossy"), true},
		{"relays for want of better", where{provider: "local"}, "", lacking(local.Relay, nodes.Lossy), find(t, "lossy"), false},
		{"reset without relays", where{provider: "local"}, "", lacking(local.Namespaces, nodes.Reset), nemesis.Reset{}, true},
		{"never", where{provider: "local"}, "", lacking(local.Namespaces), nemesis.MachineKill{}, true},
		{"simulated", where{provider: "sim"}, "", lacking("virtual", nodes.Reset), nemesis.Reset{}, true},
		{"no freezer", where{provider: "docker"}, "", lacking("containers", nodes.MachineFrozen), nemesis.MachinePause{}, false},
		{"containers of others", where{provider: "docker", sidecars: "n1=web"}, "", lacking("containers", nodes.MachineFrozen), nemesis.MachinePause{}, true},
		{"no engine to ask", where{provider: "docker", agents: "n1=10.0.0.1:7100"}, "", lacking("containers", nodes.MachineDown), nemesis.MachineKill{}, true},
		{"no engine", where{provider: "docker"}, "", gone, nemesis.Kill{}, false},
		{"no engine, and never", where{provider: "docker"}, "", gone, nemesis.Reset{}, true},
	} {
		v := venue{where: c.w, made: promised{Abilities: c.a}, asked: nodes.Options{Network: c.asked}}
		err := v.probe(t.Context(), c.fault)
		if err == nil || isUsage(err) != c.usage {
			t.Errorf("%s: %v is wrong usage: %t, want %t", c.name, err, isUsage(err), c.usage)
		}
	}
	v := venue{where: where{provider: "local"}, made: promised{Abilities: lacking(local.Namespaces, nodes.Lossy)}}
	if err := v.probe(t.Context(), nemesis.Kill{}); err != nil {
		t.Errorf("it has all that is needed: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := v.probe(ended, find(t, "lossy")); err == nil || isUsage(err) || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}
}

func isUsage(err error) bool { return errors.As(err, new(usageError)) }

func find(t *testing.T, name string) nemesis.Fault {
	t.Helper()
	f, err := nemesis.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What etcd can't be on any machine is wrong usage; what this machine lacks is not.
func TestVenueOfEtcd(t *testing.T) {
	t.Setenv(nodes.EtcdVariable, "/no/such/etcd")
	choose := func(network string, n int) (venue, error) {
		return where{provider: "local"}.choose(pflag.NewFlagSet("", pflag.ContinueOnError), "etcd", nodes.Options{Network: network, Nodes: n})
	}
	for _, c := range []struct {
		network string
		nodes   int
	}{{local.Relay, 3}, {"", 4}, {"wires", 3}} {
		if _, err := choose(c.network, c.nodes); !isUsage(err) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for network, want := range map[string]string{local.Namespaces: nodes.EtcdVariable, local.Relay: "relay"} {
		v, err := choose("", 3)
		if err != nil {
			t.Fatal(err)
		}
		v.abilities.Network = network // as the place chose it
		if err := v.suits(t.Context()); err == nil || isUsage(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", network, err)
		}
	}
}

// The widest lines of a benchmark fit a terminal.
func TestBenchTable(t *testing.T) {
	var b strings.Builder
	m := campaign.Measured{System: "etcd-serializable", Clients: campaign.ConcurrencyMax, F: "write", Rate: 999_999, Recorded: 999_999,
		P50: 123456789, P99: 4987654321, Errors: 99_999}
	if err := benchTable(&b, []campaign.Measured{m, {System: "raft", F: "read"}}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "123.5ms  4.99s") {
		t.Errorf("%q", lines)
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > helpWidth {
			t.Errorf("%d columns: %s", n, l)
		}
	}
}
