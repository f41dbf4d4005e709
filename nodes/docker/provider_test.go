package docker

import (
	"testing"

	"chaos/nodes/nodestest"
)

// The provider is one, as far as the kit of providers can tell.
func TestProvider(t *testing.T) {
	t.Parallel() // it mostly waits
	nodestest.Provider(t, needEngine(t), "")
}
