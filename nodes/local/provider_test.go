package local

import (
	"context"
	"strings"
	"testing"

	"chaos/nodes"
	"chaos/nodes/nodestest"
)

func TestNamespaces(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	nodestest.Provider(t, New(""), Namespaces)
}

func TestRelayed(t *testing.T) {
	t.Parallel()
	nodestest.Provider(t, New(""), Relay)
}

// An interruption is no lack of rights: it has no remedy.
func TestInterruptedLaunch(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New("").Launch(ctx, nodestest.Talker{}, nodestest.ProviderOptions(t.TempDir(), Namespaces))
	if err == nil || strings.Contains(err.Error(), "remedy") {
		t.Errorf("%v", err)
	}
}

// Resets are what relays alone do, which is said with the remedy.
func TestResetNeedsRelays(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	for network, want := range map[string]string{Namespaces: "--network relay", Relay: ""} {
		why, known := New("").Probe(t.Context(), nodes.Options{Network: network}).Effects[nodes.Reset]
		if !known || (why == nil) != (want == "") || why != nil && !strings.Contains(why.Error(), want) {
			t.Errorf("%s: %t, %v", network, known, why)
		}
	}
}

func needNamespaces(t *testing.T) {
	t.Helper()
	if a := New("").Probe(t.Context(), nodes.Options{}); a.Network != Namespaces {
		if required("namespaces") {
			t.Fatal(a.Note)
		}
		t.Skip(a.Note)
	}
}
