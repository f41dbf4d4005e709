package docker

import (
	"testing"

	"chaos/nodes/nodestest"
)

// The provider is one, as far as the kit of providers can tell.
func TestProvider(t *testing.T) {
	nodestest.Provider(t, needEngine(t), "")
}
