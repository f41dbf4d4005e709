package campaign

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"chaos/history"
	"chaos/linearizability"
	"chaos/results"
)

// auditName is each node's own record below nodes/<id>.
const auditName = "audit.jsonl"

// Execute makes the run's folder, writes the plan into it, carries the plan
// out, has it judged, and leaves every file of the folder. started is for the
// folder's name. A summary is returned whenever there is one to show.
func (l Live) Execute(ctx context.Context, root string, started time.Time, checkTimeout time.Duration) (results.Summary, error) {
	spec := l.Plan.Spec
	folder, err := results.Create(root, spec.System, spec.Provider, l.Plan.Seed, started)
	if err != nil {
		return results.Summary{}, err
	}
	l.Folder = folder
	if err := results.Write(folder, results.PlanFile, l.Plan.Encode()); err != nil {
		return results.Summary{}, err
	}
	rec, err := l.Run(ctx)
	if err != nil {
		return results.Summary{Run: filepath.Base(folder)}, err
	}
	if l.Progress != nil {
		l.Progress(Progress{Phase: "judging"})
	}
	s, err := Judge(context.WithoutCancel(ctx), folder, &l.Plan, rec, checkTimeout)
	if err != nil {
		return s, err
	}
	s.Started, s.Network = started, l.Network
	if err := Save(folder, s, &l.Plan, rec.History); err != nil {
		s.Harness = append(s.Harness, err.Error())
		s.Grade()
	}
	return s, nil
}

// Judge judges what a run recorded. folder is "" and plan nil where only a history
// is known.
func Judge(ctx context.Context, folder string, plan *Plan, rec Record, timeout time.Duration) (results.Summary, error) {
	s := results.Summary{Version: results.SummaryVersion, System: rec.History.Header.System,
		Provider: rec.History.Header.Provider, Seed: rec.History.Header.Seed, Workload: rec.History.Header.Workload,
		Interrupted: rec.Interrupted, Harness: rec.Trouble}
	in := linearizability.Input{History: rec.History, Options: linearizability.Options{Timeout: timeout}}
	if plan != nil {
		s.Nodes, s.Network = plan.Spec.Nodes, plan.Spec.Network
		s.Duration = time.Duration(plan.Spec.Duration).String()
		in.Required = plan.Spec.Faults
		in.Options.Settle = settleBound(*plan)
	}
	if folder != "" { // a history alone has no run, and no audits beside it
		var err error
		s.Run = filepath.Base(folder)
		if in.Audits, err = readAudits(folder); err != nil {
			return s, err
		}
	}
	var err error
	if s.Verdict, err = linearizability.Judge(ctx, in); err != nil {
		return s, err
	}
	if plan != nil && rec.Interrupted == "" {
		holdToPlan(&s.Verdict, *plan, rec.History)
	}
	s.Figures = history.Measure(rec.History)
	rec.qualify(&s.Verdict)
	s.Grade()
	return s, nil
}

// qualify makes unknown what was not seen to its end.
func (r Record) qualify(v *linearizability.Verdict) {
	if r.Interrupted != "" && v.Outcome != linearizability.Invalid {
		v.Outcome = linearizability.Unknown
		v.Reason = r.Interrupted + "; until then: " + v.Reason
	}
}

// readAudits reads nodes/*/audit.jsonl below the folder; none is no error.
func readAudits(folder string) (map[string][]history.Audit, error) {
	names, err := filepath.Glob(filepath.Join(folder, results.NodesFolder, "*", auditName))
	if err != nil {
		return nil, err
	}
	out := map[string][]history.Audit{}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		lines, err := history.ReadAudit(f, name)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		out[filepath.Base(filepath.Dir(name))] = lines
	}
	return out, nil
}

// Save writes verdict, report, and on a violation Porcupine's page.
func Save(folder string, s results.Summary, plan *Plan, h history.History) error {
	if err := results.Write(folder, results.VerdictFile, s.Encode()); err != nil {
		return err
	}
	page, err := results.Report(s, h)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := results.Write(folder, results.ReportFile, page); err != nil {
		return err
	}
	return visualize(folder, s, h)
}

// visualize leaves Porcupine's page of the key that shows the violation.
func visualize(folder string, s results.Summary, h history.History) error {
	key := results.Violated(s.Verdict)
	if key == "" {
		return nil
	}
	f, err := os.Create(filepath.Join(folder, results.PorcupineFile))
	if err != nil {
		return err
	}
	return errors.Join(linearizability.Visualize(context.Background(), h, key, linearizability.Options{}, f), f.Close())
}
