package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"chaos/nodes"
)

// A Finding is one line of a diagnosis: what is well, or what is not and the remedy.
type Finding struct {
	Name string
	Note string // what was found, where all is well
	Err  error
}

// always are the effects of a run that nobody tells how to hurt.
var always = []nodes.EffectKind{nodes.Down, nodes.Frozen, nodes.Cut, nodes.CutData, nodes.Delayed}

// Doctor looks at everything that a run in containers needs, in the order in
// which it is needed, and stops where the rest can't be told. It leaves nothing
// in the engine but the image.
func Doctor(ctx context.Context, program string, c Config) (out []Finding) {
	add := func(name, note string, err error) bool {
		out = append(out, Finding{name, note, err})
		return err == nil
	}
	e, err := connect(ctx)
	if err != nil {
		add("engine", "", err)
		return out
	}
	defer e.Close()
	info, err := e.info(ctx)
	if !add("engine", fmt.Sprintf("%s at %s (%s), API %s, %s/%s, %s", info.ServerVersion, e.at.host, e.at.from, e.ClientVersion(),
		info.OSType, architecture(info.Architecture), rootless(info.SecurityOptions)+", cgroup v"+info.CgroupVersion), err) {
		return out
	}
	p := New(program, c)
	began := time.Now()
	image, err := p.image(ctx, e, nil)
	note := fmt.Sprintf("%s, %d MB", image.Name, image.Size>>20)
	if image.Built {
		note += fmt.Sprintf(", made just now in %s", time.Since(began).Round(time.Millisecond))
	}
	if !add("image", note, err) {
		return out
	}
	a := p.Probe(ctx, nodes.Options{})
	for _, k := range everything {
		err, known := a.Effects[k]
		if !known {
			err = errors.New("the agent did not say")
		}
		note := "ok"
		if err != nil && a.Err == nil && !slices.Contains(always, k) { // a run that does not ask for it is none the worse
			note, err = "not here: "+err.Error(), nil
		}
		add("effect "+string(k), note, err)
	}
	add("network", "a private network can be made", e.tryNetwork(ctx, p))
	left, err := Clean(ctx, c, true)
	if err == nil && len(left) > 0 && slices.ContainsFunc(left, func(l Leftover) bool { return !l.harmless() }) {
		err = fmt.Errorf("%d things of dead runs are left, %v the first: chaos clean --provider docker removes them", len(left), left[0])
	}
	note = "nothing is left of dead runs"
	if len(left) > 0 {
		note = fmt.Sprintf("%v is left and empty: chaos clean --provider docker removes it", left[0])
	}
	add("clean", note, err)
	return out
}

func rootless(options []string) string {
	for _, o := range options {
		if strings.Contains(o, "rootless") {
			return "rootless"
		}
	}
	return "with root"
}

// tryNetwork makes a network as a run does, and removes it.
func (e *engine) tryNetwork(ctx context.Context, p *Provider) error {
	try := New(p.program, Config{Image: p.config.Image, Subnet: p.config.Subnet})
	s, err := try.newSet(ctx, e, "", "a trial")
	if err != nil {
		return err
	}
	return s.remove(ctx)
}
