package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/history"
	"chaos/results"
)

func newCheckCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "check PATH",
		Short: "Judge a run's folder or a history file again",
		Long: `check judges a recorded history: of a run's folder, with its plan and the
nodes' audits, or of a single history file. Nothing is written; --save renews
the folder's verdict and report.`,
		Example: "  chaos check results/runs/latest\n  chaos check history.jsonl --json\n  chaos check results/kept/invalid.jsonl",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("check takes one argument: a run's folder or a history file")}
			}
			return nil
		},
	}
	save := c.Flags().Bool("save", false, "renew verdict.json and report.html in the folder")
	c.Flags().DurationVar(&f.checkTimeout, "check-timeout", time.Minute, "how long checking may take; past it the verdict is unknown")
	c.Flags().BoolVar(&f.json, "json", false, "print the result as one JSON document")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "print only the verdict")
	c.RunE = func(c *cobra.Command, args []string) error { return f.check(c, args[0], *save) }
	return c
}

func (f *runFlags) check(c *cobra.Command, path string, save bool) error {
	r, err := load(path)
	if err != nil {
		return usageError{err}
	}
	s, err := campaign.Judge(c.Context(), r.folder, r.plan, r.record, f.checkTimeout)
	if err != nil {
		return usageError{err}
	}
	s.Started = r.before.Started
	s.Network = cmp.Or(r.before.Network, s.Network)
	if save && r.folder != "" {
		if err := campaign.Save(r.folder, s, r.plan, r.record.History); err != nil {
			return err
		}
	}
	if err := f.show(c, s); err != nil {
		return err
	}
	if s.Exit != results.ExitValid {
		return exitError(s.Exit)
	}
	return nil
}

func (f *runFlags) show(c *cobra.Command, s results.Summary) error {
	w := c.OutOrStdout()
	switch {
	case f.json:
		_, err := w.Write(s.Encode())
		return err
	case f.quiet:
		_, err := fmt.Fprintln(w, s.Word())
		return err
	}
	if err := results.Table(w, s); err != nil {
		return err
	}
	return results.Tell(w, s)
}

// recorded is what path names: a run's folder, or one history file.
type recorded struct {
	folder string         // "" of a single file
	plan   *campaign.Plan // nil of a single file
	record campaign.Record
	before results.Summary // what was judged before, zero if nothing was
}

func load(path string) (r recorded, err error) {
	name := path
	info, err := os.Stat(path)
	if err != nil {
		return r, err
	}
	if info.IsDir() {
		if r.folder, err = filepath.EvalSymlinks(path); err != nil {
			return r, err
		}
		name = filepath.Join(r.folder, results.HistoryFile)
		p, err := campaign.ReadPlan(filepath.Join(r.folder, results.PlanFile))
		if errors.Is(err, os.ErrNotExist) {
			return r, fmt.Errorf("%s is not a run's folder: it holds no %s", path, results.PlanFile)
		}
		if err != nil {
			return r, err
		}
		r.plan = &p
		switch s, err := results.ReadSummary(r.folder); {
		case err == nil:
			r.before = s
			r.record.Interrupted, r.record.Trouble = s.Interrupted, s.Harness
		case errors.Is(err, os.ErrNotExist):
			r.record.Interrupted = "the run did not finish: its folder holds no verdict"
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return r, err
	}
	defer f.Close()
	r.record.History, err = history.ReadAll(f, name)
	if r.record.History.Torn && r.record.Interrupted == "" {
		r.record.Interrupted = "the history ends within a line, which is left out"
	}
	return r, err
}
