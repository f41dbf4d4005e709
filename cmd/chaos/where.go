package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"chaos/campaign"
	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/docker"
	"chaos/nodes/local"
	"chaos/nodes/sim"
	"chaos/nodes/ssh"
)

// where are the flags that say where nodes run.
type where struct {
	provider  string
	hosts     string
	container docker.Config
	agents    string
	sidecars  string
}

// providerNames are the places where nodes can run, in the order of help.
var providerNames = []placeName{"local", "docker", "ssh", "sim"}

type placeName string

// Name is the word itself.
func (n placeName) Name() string { return string(n) }

// register adds the flags. The first is the caller's, whose spec may hold it.
func (w *where) register(d *pflag.FlagSet) {
	d.StringVar(&w.hosts, "hosts", "", "ssh: the YAML file that names the hosts")
	d.StringVar(&w.container.Project, "project", "", "docker: name of what is made; containers n1, n2, … of it that are there are used")
	d.StringVar(&w.container.Image, "image", "", "docker: the image (default "+docker.DefaultImage+", made where it is missing)")
	d.StringVar(&w.container.Subnet, "subnet", "", "docker: an IPv4 network of 24 bits for the containers (default: a free one)")
	d.StringVar(&w.agents, "agents", "", "docker: agents that listen, n1=10.77.0.11:7100,n2=…; then no engine is needed")
	d.StringVar(&w.container.KeyFile, "key-file", "", "docker: where the key that those agents ask for is written")
	d.StringVar(&w.sidecars, "sidecars", "", "docker: containers of others whose links are hurt, n1=CONTAINER,n2=…")
}

// check finds flags that don't fit the provider.
func (w *where) check(d *pflag.FlagSet) error {
	of := map[string]string{"network": "local", "hosts": "ssh", "project": "docker", "image": "docker", "subnet": "docker", "agents": "docker",
		"key-file": "docker", "sidecars": "docker"}
	var errs []error
	d.Visit(func(f *pflag.Flag) {
		if p := of[f.Name]; p != "" && p != w.provider {
			errs = append(errs, usageError{fmt.Errorf("--%s is for --provider %s, and the provider is %s", f.Name, p, w.provider)})
		}
	})
	if w.provider == "docker" {
		c, err := w.containers()
		if err = errors.Join(err, c.Check()); err != nil {
			errs = append(errs, usageError{err})
		}
	}
	if w.provider == "ssh" {
		if w.hosts == "" {
			errs = append(errs, usageError{errors.New("--provider ssh needs --hosts FILE; docs/ssh.md shows one")})
		} else if err := w.remote().Check(0); err != nil {
			errs = append(errs, usageError{err})
		}
	}
	return errors.Join(errs...)
}

// find makes the provider.
func (w *where) find() (nodes.Provider, error) {
	name, err := pick("provider", w.provider, providerNames)
	if err != nil {
		return nil, err
	}
	switch name {
	case "docker":
		c, err := w.containers()
		return docker.New(program(), c), err
	case "ssh":
		return ssh.New(program(), w.remote()), nil
	case "sim":
		return sim.Provider{}, nil
	}
	return local.New(program()), nil
}

func (w *where) remote() ssh.Config {
	return ssh.Config{HostsFile: w.hosts, Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
}

func (w *where) containers() (c docker.Config, err error) {
	c = w.container
	if c.Agents, err = docker.ParseAgents(w.agents); err != nil {
		return c, usageError{fmt.Errorf("--agents: %w", err)}
	}
	if c.Sidecars, err = docker.ParseSidecars(w.sidecars); err != nil {
		return c, usageError{fmt.Errorf("--sidecars: %w", err)}
	}
	return c, nil
}

// A finding is one line of a diagnosis.
type finding struct {
	name, note string
	err        error
}

// diagnose asks the provider what it can do, and what is missing.
func (w *where) diagnose(ctx context.Context, network string) (out []finding, err error) {
	switch w.provider {
	case "docker":
		c, err := w.containers()
		if err != nil {
			return nil, err
		}
		for _, f := range docker.Doctor(ctx, program(), c) {
			out = append(out, finding{f.Name, f.Note, f.Err})
		}
	case "ssh":
		for _, f := range ssh.Doctor(ctx, program(), w.remote()) {
			out = append(out, finding{f.Name, f.Note, f.Err})
		}
	case "sim":
		out = append(out, finding{"simulation", "ok: it needs nothing but this program", nil})
	default:
		return diagnoseLocal(ctx, network), nil
	}
	return out, nil
}

func diagnoseLocal(ctx context.Context, network string) (out []finding) {
	a := local.New(program()).Probe(ctx, nodes.Options{Network: network})
	out = append(out, finding{"network", a.Network, a.Err})
	if a.Note != "" {
		out = append(out, finding{"", a.Note, nil})
	}
	for _, f := range nemesis.All() {
		if offered := !slices.ContainsFunc(f.Kinds(), func(k nodes.EffectKind) bool { _, has := a.Effects[k]; return !has }); offered && a.Err == nil {
			out = append(out, diagnoseFault(f, a))
		}
	}
	left, err := local.Leftovers()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d processes of dead runs are left; chaos clean removes them", len(left))
	}
	return append(out, finding{"clean", "ok", err})
}

// diagnoseFault says whether a fault can be had.
func diagnoseFault(f nemesis.Fault, a nodes.Abilities) finding {
	name, err := "fault "+f.Name(), nemesis.Unable(f, a)
	if err == nil {
		return finding{name, "ok", nil}
	}
	why := strings.TrimPrefix(err.Error(), name+": ")
	if !asDefault(f) { // a run that does not ask for it is none the worse
		return finding{name, "not here: " + why, nil}
	}
	return finding{name, "", errors.New(why)}
}

// asDefault tells whether a run hurts so where nobody says how.
func asDefault(f nemesis.Fault) bool {
	return slices.ContainsFunc(campaign.DefaultSpec().Faults, func(asked string) bool { return nemesis.Covers(asked, f.Name()) })
}

// clean removes what dead runs left, or with dry only tells.
func (w *where) clean(ctx context.Context, dry bool) ([]fmt.Stringer, error) {
	switch w.provider {
	case "docker":
		c, err := w.containers()
		if err != nil {
			return nil, err
		}
		left, err := docker.Clean(ctx, c, dry)
		return lines(left), err
	case "ssh":
		left, err := ssh.Clean(ctx, program(), w.remote(), dry)
		return lines(left), err
	case "sim":
		return nil, nil // a simulation has nothing that could be left
	}
	if dry {
		left, err := local.Leftovers()
		return lines(left), err
	}
	left, err := local.Clean(ctx)
	return lines(left), err
}

func lines[T fmt.Stringer](list []T) (out []fmt.Stringer) {
	for _, v := range list {
		out = append(out, v)
	}
	return out
}
