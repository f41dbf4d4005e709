//go:build !linux

package agent

import (
	"context"
	"errors"

	"chaos/nodes"
)

var errNoWall = errors.New("agent: hurting links by a firewall needs Linux; use the relay here")

// A wall is the host's firewall, which only Linux has in the form that we need.
type wall struct{}

func openWall(Hello, *prober, uint64) (*wall, error)   { return nil, errNoWall }
func (*wall) set([]linkWant) ([]nodes.Link, error)     { return nil, errNoWall }
func (*wall) renew() ([]nodes.Link, error)             { return nil, errNoWall }
func (*wall) counters() (map[nodes.Link]uint64, error) { return nil, errNoWall }
func (*wall) describe() (table, queue string)          { return "", "" }
func (*wall) close() error                             { return nil }

func probe(context.Context) map[nodes.EffectKind]error {
	out := map[nodes.EffectKind]error{nodes.Down: nil, nodes.Frozen: nil}
	for _, k := range []nodes.EffectKind{nodes.Cut, nodes.CutData, nodes.Delayed,
		nodes.Lossy, nodes.Duplicated, nodes.Reordered, nodes.Limited} {
		out[k] = errNoWall
	}
	return out
}
