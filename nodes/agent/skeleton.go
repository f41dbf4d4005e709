package agent

import (
	"context"
	"errors"
	"io"

	"chaos/nodes"
)

var errNotYet = errors.New("agent: not built yet")

func serve(context.Context, io.ReadWriteCloser, ServeOptions) error { return errNotYet }

func probe(context.Context) map[nodes.EffectKind]error { return nil }

type controller struct{}

func connect(context.Context, io.ReadWriteCloser, Hello) (*controller, error) { return nil, errNotYet }

type fleet struct {
	o         FleetOptions
	incidents chan nodes.Incident
}

func newFleet(context.Context, FleetOptions) (*fleet, error) { return nil, errNotYet }

func (f *fleet) members() (out []nodes.Member) {
	for _, h := range f.o.Hosts {
		out = append(out, h.Self)
	}
	return out
}

func (f *fleet) apply(context.Context, string, []nodes.Effect) (nodes.Evidence, error) {
	return nodes.Evidence{}, errNotYet
}

func (f *fleet) verify(context.Context, string) (nodes.Evidence, error) {
	return nodes.Evidence{}, errNotYet
}

func (f *fleet) revert(context.Context, string) (nodes.Evidence, error) {
	return nodes.Evidence{}, errNotYet
}
func (f *fleet) close(context.Context) error { return errNotYet }
