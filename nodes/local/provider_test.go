package local

import (
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

func needNamespaces(t *testing.T) {
	t.Helper()
	if a := New("").Probe(t.Context(), nodes.Options{}); a.Network != Namespaces {
		if required("namespaces") {
			t.Fatal(a.Note)
		}
		t.Skip(a.Note)
	}
}
