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
// judged, and leaves every file of the folder, as a live run does.
func (s Simulated) Execute(ctx context.Context, root string, started time.Time, checkTimeout time.Duration) (results.Summary, error) {
	spec := s.Plan.Spec
	folder, err := results.Create(root, spec.System, spec.Provider, s.Plan.Seed, started)
	if err != nil {
		return results.Summary{}, err
	}
	summary := results.Summary{Run: filepath.Base(folder)}
	if err := results.Write(folder, results.PlanFile, s.Plan.Encode()); err != nil {
		return summary, err
	}
	s.Audit = true
	out, err := s.Run()
	if err != nil {
		return summary, err
	}
	if err := out.save(folder); err != nil {
		return summary, err
	}
	if summary, err = Judge(ctx, folder, &s.Plan, out.Record, checkTimeout); err != nil {
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
