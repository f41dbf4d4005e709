//go:build !linux

package local

import (
	"context"
	"errors"

	"chaos/nodes"
)

var errNoNamespaces = errors.New("local: network namespaces exist on Linux only")

func (p *Provider) probeNamespaces(context.Context) (map[nodes.EffectKind]error, error) {
	return nil, errNoNamespaces
}

func (p *Provider) launchNamespaces(context.Context, nodes.System, nodes.Options) (nodes.Cluster, error) {
	return nil, errNoNamespaces
}

// Hub is the life of "chaos hub", which exists on Linux only.
func Hub() error { return errNoNamespaces }
