package campaign

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"chaos/history"
	"chaos/nodes"
	"chaos/workload"
)

// ready waits until every node answers a linearizable read. The cause of an
// earlier end of ctx goes into the error.
func (r *run) ready(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	m, e, ok := r.answering(bounded)
	if ok {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s did not answer within %s of its start: %s (its log: %s); remedy: chaos doctor --provider %s looks at what nodes need, and at their ways to each other",
		m.ID, readyTimeout, e.Error, r.log(m.ID), r.Provider.Name())
}

// answering waits until each node in turn answers a linearizable read of a key
// that no workload uses. It names the node that did not before ctx ended.
func (r *run) answering(ctx context.Context) (m nodes.Member, last history.Event, ok bool) {
	for _, m = range r.cluster.Members() {
		for last = r.ask(ctx, m); last.Type != history.Ok; last = r.ask(ctx, m) {
			if !sleep(ctx, readyPoll) {
				return m, last, false
			}
		}
	}
	return m, last, true
}

// ask makes one unrecorded read over a connection of its own.
func (r *run) ask(ctx context.Context, m nodes.Member) history.Event {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := r.System.Dial(bounded, m, r.cluster.Dial, r.load.options)
	if err != nil {
		return history.Event{Type: history.Fail, Error: err.Error()}
	}
	defer c.Close()
	return c.Do(bounded, history.Event{Type: history.Invoke, F: history.Read, Key: r.nonce + "/probe/0",
		Mode: r.System.Modes()[0], Session: newSession(), Sequence: 1, Attempts: 1})
}

// phases is the run proper: storm, heal, settle, final reads, restart, final reads.
func (r *run) phases(ctx context.Context) (interrupted string, err error) {
	w, err := workload.Find(r.Plan.Spec.Workload)
	if err != nil {
		return "", err
	}
	r.gen = w.New(r.loadOptions(), stream(r.Plan.Seed, workloadStream))
	r.rec.use(r.gen)
	loading, stopLoad := context.WithCancel(context.Background())
	defer stopLoad()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.load.run(loading)
	}()
	if interrupted = r.strike(ctx); interrupted == "" {
		r.missedCrash()
	}
	r.recover(loading)
	stopLoad()
	r.load.hurry(graceTime)
	<-done
	r.finalReads(history.Final)
	if interrupted == "" {
		r.lastWrite()
		r.restart()
		r.finalReads(history.Again)
	}
	return interrupted, nil
}

func (r *run) loadOptions() workload.Options {
	s := r.Plan.Spec
	return workload.Options{Workers: s.Concurrency, Nodes: s.Nodes, Modes: r.System.Modes(), Keys: s.Keys, KeyOps: s.KeyOps,
		Mix: s.Mix, Election: 2 * s.Knobs.Election(), Pause: r.Plan.Schedule.LongestPause()}
}

// strike is the storm: it lasts its whole duration, or until ctx ends.
func (r *run) strike(ctx context.Context) (interrupted string) {
	r.enter(history.Storm)
	bounded, cancel := context.WithTimeout(ctx, time.Duration(r.Plan.Spec.Duration))
	hurt := make(chan struct{})
	defer func() {
		cancel()
		<-hurt
	}()
	go func() {
		defer close(hurt)
		r.storm.run(bounded, r.Plan.Schedule)
	}()
	for sleep(bounded, readyPoll) {
		switch c := r.rec.counts(); {
		case c.broken != nil:
			return "the record can't be kept: " + c.broken.Error()
		case c.full:
			return fmt.Sprintf("the history is full with %d events", eventsMax)
		}
	}
	if err := ctx.Err(); err != nil {
		return interruptedAfter(time.Since(r.phase.Load().since))
	}
	return ""
}

// interruptedAfter says how much of the storm there was.
func interruptedAfter(d time.Duration) string {
	return "interrupted after " + d.Round(time.Millisecond).String()
}

// recover heals what is live and lets the load go on until every node answers.
func (r *run) recover(ctx context.Context) {
	r.enter(history.Healing)
	bounded, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	if err := r.storm.healAll(bounded); err != nil {
		r.trouble = append(r.trouble, err.Error())
	}
	r.trouble = append(r.trouble, r.storm.trouble...)
	r.enter(history.Settle)
	r.settle()
}

// settle waits until every node answers, at least settleMin, at most settleMax.
func (r *run) settle() {
	end := time.Now().Add(settleMax)
	bounded, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	sleep(bounded, settleMin)
	r.answering(bounded)
}

// restart kills every node at once and starts all again: what was acknowledged
// must have survived it.
func (r *run) restart() {
	r.enter(history.Restart)
	var all []nodes.Effect
	for _, m := range r.cluster.Members() {
		all = append(all, nodes.Effect{Kind: nodes.Down, Node: m.ID})
	}
	bounded, cancel := context.WithTimeout(context.Background(), healTime)
	defer cancel()
	killed, err := r.cluster.Apply(bounded, "restart-all", all)
	if err == nil && !killed.Proven() {
		err = fmt.Errorf("that all were down is not proven: %s", strings.Join(killed.Failures(), "; "))
	}
	if _, undo := r.cluster.Revert(bounded, "restart-all"); undo != nil || err != nil {
		r.trouble = append(r.trouble, fmt.Sprintf("restarting every node: %v", errors.Join(err, undo)))
	}
	r.settle()
}

// finalReads reads every key through every node.
func (r *run) finalReads(name string) {
	r.enter(name)
	reads := workload.FinalReads(r.gen.(workload.Keeper).UsedKeys(), r.Plan.Spec.Nodes, r.System.Modes())
	bounded, cancel := context.WithTimeout(context.Background(), finalTime+time.Duration(len(reads))*finalEach)
	defer cancel()
	r.rec.use(newFinal(reads))
	r.load.resume()
	r.load.run(bounded)
}

// lastWrite acknowledges one command alone, so that it ends every journal when
// all nodes are killed: what loses the last record then loses something that was promised.
func (r *run) lastWrite() {
	op, ok := workload.LastWrite(r.gen.(workload.Keeper).UsedKeys())
	if !ok {
		return
	}
	bounded, cancel := context.WithTimeout(context.Background(), finalTime)
	defer cancel()
	r.rec.use(&once{op: op})
	r.load.resume()
	r.load.run(bounded)
}
