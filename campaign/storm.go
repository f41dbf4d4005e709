package campaign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"chaos/history"
	"chaos/nemesis"
	"chaos/nodes"
)

// Bounds of hurting.
const (
	effectTimeout = 5 * time.Second // for one call to the cluster
	conditionPoll = 5 * time.Millisecond
	howMax        = 12 // proofs in words kept in a note
)

// A noter puts what happened into the history.
type noter interface {
	note(t history.Type, f string, n history.Note) history.Event
}

// A storm carries a schedule out: one owner, which never overlaps its own calls.
type storm struct {
	rec     noter
	cluster nodes.Cluster
	leader  func() nodes.ID // as it is observed now
	members []nodes.ID
	live    []*injection
	trouble []string                 // calls that failed outright
	active  atomic.Pointer[[]string] // names of the live injections, for who watches
}

// An injection is one live fault with what it does.
type injection struct {
	nemesis.Injection
	recipe  string
	effects []nodes.Effect
	told    []string // the effects in words
	kinds   []string // and their kinds, each once
}

func newStorm(rec noter, c nodes.Cluster, leader func() nodes.ID) *storm {
	s := &storm{rec: rec, cluster: c, leader: leader}
	for _, m := range c.Members() {
		s.members = append(s.members, m.ID)
	}
	s.announce()
	return s
}

// run fires the steps when they are due, counted from now, until ctx ends.
func (s *storm) run(ctx context.Context, schedule nemesis.Schedule) {
	start, cursor := time.Now(), nemesis.NewCursor(schedule)
	for !cursor.Done() && ctx.Err() == nil {
		if wait, due := s.strike(ctx, cursor, time.Since(start)); !due && !sleep(ctx, wait) {
			return
		}
	}
}

// strike fires the step that is due; if none is, it says when to ask again.
func (s *storm) strike(ctx context.Context, cursor *nemesis.Cursor, now time.Duration) (wait time.Duration, due bool) {
	step, wait, due := cursor.Next(now, s.leader())
	if due {
		s.fire(ctx, step)
	}
	return min(wait, conditionPoll), due
}

func (s *storm) fire(ctx context.Context, step nemesis.Step) {
	var err error
	if step.Action != nemesis.Heal {
		err = s.inject(ctx, step)
	} else if i := s.find(step.ID); i == nil {
		err = errors.New("nothing of that name is live")
	} else {
		_ = s.heal(ctx, i) // noted as not proven; the final heal tries again
	}
	if err != nil {
		s.trouble = append(s.trouble, fmt.Sprintf("%s %s: %v", step.Action, step.ID, err))
	}
}

// inject resolves the victims, records the command, and carries it out. That
// the cluster failed to is a note without proof: the window does not count.
func (s *storm) inject(ctx context.Context, step nemesis.Step) error {
	fired, effects, err := nemesis.Fire(step, s.members, s.leader(), s.down())
	if err != nil {
		return err
	}
	i := &injection{Injection: fired, recipe: step.Recipe, effects: effects}
	note := s.describe(i)
	s.rec.note(history.Invoke, history.Inject, note)
	s.live = append(s.live, i)
	s.announce()
	bounded, cancel := whole(ctx, effectTimeout)
	defer cancel()
	evidence, err := s.cluster.Apply(bounded, i.ID, i.effects)
	s.conclude(history.Inject, note, evidence, err)
	return nil
}

// whole bounds a call to the cluster that the storm's end must not cut in two:
// half an injection or half a heal is neither.
func whole(ctx context.Context, bound time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), bound)
}

func (s *storm) down() (out []nodes.ID) {
	for _, i := range s.live {
		for _, e := range i.effects {
			if !e.OnLink() && e.Kind != nodes.Skewed {
				out = append(out, e.Node)
			}
		}
	}
	return out
}

func (s *storm) find(id string) *injection {
	for _, i := range s.live {
		if i.ID == id {
			return i
		}
	}
	return nil
}

// heal proves that the fault still bites, and takes it away.
func (s *storm) heal(ctx context.Context, i *injection) error {
	note := s.describe(i)
	verifying, verified := whole(ctx, effectTimeout)
	defer verified()
	evidence, err := s.cluster.Verify(verifying, i.ID)
	s.conclude(history.Verify, note, evidence, err)
	s.rec.note(history.Invoke, history.Heal, note)
	healing, healed := whole(ctx, effectTimeout) // its own time: a host that is lost may use up all that there is to verify
	defer healed()
	evidence, err = s.cluster.Revert(healing, i.ID)
	s.conclude(history.Heal, note, evidence, err)
	if err == nil {
		s.live = slices.DeleteFunc(s.live, func(o *injection) bool { return o == i })
		s.announce()
	}
	return err
}

// healAll takes away what is really live, the newest first.
func (s *storm) healAll(ctx context.Context) error {
	var first error
	for n := len(s.live); n > 0; n-- {
		if err := s.heal(ctx, s.live[n-1]); err != nil && first == nil {
			first = fmt.Errorf("healing %s: %w", s.live[n-1].ID, err)
		}
	}
	return first
}

// conclude records what a call to the cluster came to.
func (s *storm) conclude(f string, n history.Note, e nodes.Evidence, err error) {
	t := history.Ok
	n.Took = int64(e.Took)
	for _, p := range e.Proofs[:min(len(e.Proofs), howMax)] {
		n.How = append(n.How, p.What+": "+p.How)
	}
	if err != nil || !e.Proven() {
		t, n.Failures = history.Info, e.Failures()
	}
	if err != nil {
		n.Failures = append(n.Failures, err.Error())
	}
	s.rec.note(t, f, n)
}

func (s *storm) describe(i *injection) history.Note {
	n := history.Note{ID: i.ID, Fault: i.Fault, Recipe: i.recipe, Required: true}
	for _, v := range i.Victims {
		n.Victims = append(n.Victims, v.String())
	}
	all := slices.Clone(i.effects)
	for _, other := range s.live {
		if other != i {
			all = append(all, other.effects...)
		}
	}
	if i.told == nil {
		for _, e := range i.effects {
			i.told = append(i.told, e.String())
			if k := string(e.Kind); !slices.Contains(i.kinds, k) {
				i.kinds = append(i.kinds, k)
			}
		}
	}
	n.Effects, n.Kinds = i.told, i.kinds
	n.Quorum = nemesis.Quorum(s.members, all)
	return n
}

// announce tells who watches what is live now.
func (s *storm) announce() {
	names := []string{}
	for _, i := range s.live {
		names = append(names, i.ID)
	}
	s.active.Store(&names)
}
