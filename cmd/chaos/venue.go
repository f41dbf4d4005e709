package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"chaos/campaign"
	"chaos/nemesis"
	"chaos/nodes"
	"chaos/nodes/local"
)

// A venue is a system and the place where it is to run. Whatever starts one, or
// is asked whether one would start, goes the same way: choose, probe, suits.
type venue struct {
	where
	system    nodes.System
	made      nodes.Provider
	asked     nodes.Options   // network, nodes and knobs
	abilities nodes.Abilities // once it was probed
}

// choose finds system and provider by their names, and refuses what can be on no
// machine: all of its errors are wrong usage. It asks the machine for nothing.
func (w where) choose(d *pflag.FlagSet, system string, o nodes.Options) (v venue, err error) {
	v = venue{where: w, asked: o}
	if v.made, err = w.find(); err == nil {
		err = w.check(d)
	}
	if err != nil {
		return v, err
	}
	if n := o.Network; !slices.Contains([]string{"", local.Namespaces, local.Relay}, n) {
		return v, usageError{fmt.Errorf("--network %q: it is %s or %s", n, local.Namespaces, local.Relay)}
	}
	if o.Nodes < 1 || o.Nodes > campaign.NodesMax {
		return v, usageError{fmt.Errorf("--nodes is %d; it must be from 1 to %d", o.Nodes, campaign.NodesMax)}
	}
	if v.system, err = pick("system", system, systems()); err != nil {
		return v, err
	}
	if able := names(simulated()); w.provider == "sim" && !slices.Contains(able, system) {
		return v, usageError{fmt.Errorf("--system %s: only our own nodes can be simulated, with --provider sim: %s", system, strings.Join(able, ", "))}
	}
	return v, wrong(v.refused(o))
}

// wrong marks an error as wrong usage.
func wrong(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// refused asks the system whether it can be tested with those options.
func (v venue) refused(o nodes.Options) error {
	if picky, ok := v.system.(interface{ Refuse(nodes.Options) error }); ok {
		if err := picky.Refuse(o); err != nil {
			return fmt.Errorf("--system %s: %w", v.system.Name(), err)
		}
	}
	return nil
}

// enough refuses, as wrong usage, more nodes than the hosts file names hosts.
func (v venue) enough() error {
	if v.provider != "ssh" {
		return nil
	}
	return wrong(v.remote().Check(v.asked.Nodes))
}

// probe asks the place what it can do, and refuses what those faults can't have:
// as wrong usage what is so on every machine, else as what is missing here.
func (v *venue) probe(ctx context.Context, faults ...nemesis.Fault) error {
	if err := v.enough(); err != nil {
		return err
	}
	v.abilities = v.made.Probe(ctx, v.asked)
	if ctx.Err() != nil {
		return errEarly
	}
	lacks := func(f nemesis.Fault) error {
		if err := nemesis.Unable(f, v.abilities); err != nil {
			return fmt.Errorf("the plan can't be carried out with --provider %s: %w%s", v.provider, err, v.elsewhere(f))
		}
		return nil
	}
	for _, f := range faults {
		if err := lacks(f); err != nil && slices.ContainsFunc(f.Kinds(), v.never) {
			return usageError{err}
		}
	}
	if err := v.abilities.Err; err != nil {
		return fmt.Errorf("nothing can run with --provider %s: %w", v.provider, err)
	}
	for _, f := range faults {
		if err := lacks(f); err != nil {
			return err
		}
	}
	return nil
}

// errEarly is what an interrupt makes of a run that has not begun.
var errEarly = errors.New("interrupted before anything was started: there is nothing to judge")

// elsewhere says which providers have machines to hurt, to who asks for one where there is none.
func (v venue) elsewhere(f nemesis.Fault) string {
	for _, k := range f.Kinds() {
		_, known := v.abilities.Effects[k]
		if !known && (k == nodes.MachineDown || k == nodes.MachineFrozen) {
			return ": --provider docker and --provider sim have it"
		}
	}
	return ""
}

// never tells whether an effect that can't be had here could be had on no other
// machine either, with what was asked for.
func (v venue) never(k nodes.EffectKind) bool {
	why, known := v.abilities.Effects[k]
	switch {
	case !known:
		return true
	case why == nil:
		return false
	case v.provider == "docker": // agents that listen have no engine, and sidecars nobody's leave
		return (k == nodes.MachineDown || k == nodes.MachineFrozen) && v.agents+v.sidecars != ""
	case v.provider == "local":
		return v.asked.Network == local.Relay || k == nodes.Reset
	}
	return v.provider == "sim"
}

// note is what people should know of the choice that the place made for them.
func (v venue) note() {
	if n := v.abilities.Note; n != "" {
		complain("note: " + n)
	}
}

// suits says what the system lacks in a place that was probed: no error of it is
// wrong usage, and it is told before there is a run's folder.
func (v venue) suits(ctx context.Context) error {
	o := v.asked
	o.Network = v.abilities.Network
	if err := v.refused(o); err != nil { // of the network that the place chose
		return err
	}
	if needy, ok := v.system.(interface{ Missing(nodes.Options) error }); ok {
		if err := needy.Missing(o); err != nil {
			return fmt.Errorf("--system %s: %w", v.system.Name(), err)
		}
	}
	if picky, ok := v.made.(interface {
		Refuse(context.Context, nodes.System, nodes.Options) error
	}); ok {
		return picky.Refuse(ctx, v.system, o)
	}
	return nil
}
