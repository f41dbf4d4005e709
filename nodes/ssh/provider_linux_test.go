package ssh

import (
	"testing"

	"chaos/nodes/nodestest"
)

func harness(string, []string) error { return nil }

func TestProvider(t *testing.T) {
	l := needLab(t)
	nodestest.Provider(t, l.provider(t, 3), "")
}
