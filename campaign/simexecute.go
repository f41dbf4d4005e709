package campaign

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"chaos/history"
	"chaos/results"
)

// Execute makes the run's folder, carries the plan out in virtual time, has it
// judged, and leaves every file of the folder, as a live run does. An interrupted
// one is judged by what there is, too.
func (s Simulated) Execute(ctx context.Context, root string, started time.Time, checkTimeout time.Duration) (results.Summary, error) {
	folder, err := s.begin(root, started)
	if err != nil {
		return unjudged(folder), err
	}
	s.Audit = true
	out, err := s.Run(ctx)
	if err != nil {
		return unjudged(folder), err
	}
	return s.leave(ctx, folder, out, started, checkTimeout)
}

// Keep leaves the folder that Execute would have left of what was simulated, if
// with an audit.
func (s Simulated) Keep(ctx context.Context, out Simulation, root string, started time.Time, checkTimeout time.Duration) (results.Summary, error) {
	folder, err := s.begin(root, started)
	if err != nil {
		return unjudged(folder), err
	}
	return s.leave(ctx, folder, out, started, checkTimeout)
}

// unjudged is the summary of a run that has a folder at most.
func unjudged(folder string) (s results.Summary) {
	if folder != "" {
		s.Run = filepath.Base(folder)
	}
	return s
}

// begin makes the run's folder, with the plan in it.
func (s Simulated) begin(root string, started time.Time) (folder string, err error) {
	spec := s.Plan.Spec
	if folder, err = results.Create(root, spec.System, spec.Provider, s.Plan.Seed, started); err != nil {
		return "", err
	}
	return folder, results.Write(folder, results.PlanFile, s.Plan.Encode())
}

// leave has what was simulated judged, and writes all but the plan.
func (s Simulated) leave(ctx context.Context, folder string, out Simulation, started time.Time, checkTimeout time.Duration) (results.Summary, error) {
	if s.Progress != nil {
		s.Progress(Progress{Phase: "judging", Simulated: true})
	}
	if err := out.save(folder); err != nil {
		return unjudged(folder), err
	}
	summary, err := Judge(context.WithoutCancel(ctx), folder, &s.Plan, out.Record, checkTimeout)
	if err != nil {
		return summary, err
	}
	summary.Started, summary.Network = started, "virtual"
	return summary, Save(folder, summary, &s.Plan, out.History)
}

// save writes the history and what each node kept of its own.
func (s *Simulation) save(folder string) error {
	if err := results.Write(folder, results.HistoryFile, s.Encode()); err != nil {
		return err
	}
	for node, audit := range s.Audits {
		dir := filepath.Join(folder, results.NodesFolder, node)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("results: %w", err)
		}
		if err := results.Write(dir, auditName, audit); err != nil {
			return err
		}
	}
	return nil
}

// Encode is the history as its file holds it.
func (s *Simulation) Encode() []byte {
	b := history.AppendHeader(nil, s.History.Header)
	for _, e := range s.History.Events {
		b = history.AppendEvent(b, e)
	}
	return b
}
