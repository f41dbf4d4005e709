package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/history"
	"chaos/results"
)

func newCheckCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "check RUN",
		Short: "Judge a run's folder or a history file again",
		Long: `check judges a recorded history: of a run, named as latest, by its folder's name
or by a path, with its plan and the nodes' audits; or of a single history file.
Nothing is written; --save renews the folder's verdict and report.

Exit status: 0 valid, 1 invalid, 2 the harness had failed, 3 unknown, 64 wrong
usage, or nothing that can be read.`,
		Example: "  chaos check latest\n  chaos check history.jsonl --json\n  chaos check results/kept/invalid.jsonl",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("check takes one argument: a run (latest, the name of its folder, or a path) or a history file")}
			}
			return nil
		},
	}
	save := c.Flags().Bool("save", false, "renew verdict.json and report.html in the folder")
	c.Flags().StringVar(&f.out, "out", runsRoot, "folder of run folders")
	c.Flags().DurationVar(&f.checkTimeout, "check-timeout", time.Minute, "how long checking may take; past it the verdict is unknown")
	c.Flags().BoolVar(&f.json, "json", false, "print the result as one JSON document")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "print only the verdict")
	c.RunE = func(c *cobra.Command, args []string) error { return f.check(c, args[0], *save) }
	return c
}

func (f *runFlags) check(c *cobra.Command, path string, save bool) error {
	r, err := load(f.out, path)
	if err != nil {
		return wrong(err)
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
	var story strings.Builder
	if err := results.Tell(&story, s); err != nil {
		return err
	}
	_, err := io.WriteString(w, storyForPeople(w, story.String()))
	return err
}

// recorded is what path names: a run's folder, or one history file.
type recorded struct {
	folder string         // "" of a single file
	plan   *campaign.Plan // nil of a single file
	record campaign.Record
	before results.Summary // what was judged before, zero if nothing was
}

func load(root, path string) (r recorded, err error) {
	name := path
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		if err := r.open(root, path); err != nil {
			return r, err
		}
		name = filepath.Join(r.folder, results.HistoryFile)
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

// open reads what stands beside the history in a run's folder.
func (r *recorded) open(root, name string) error {
	folder, err := findRun(root, name)
	if err == nil {
		folder, err = filepath.Abs(folder)
	}
	if err == nil {
		r.folder, err = filepath.EvalSymlinks(folder) // its last part is the run's name
	}
	if err != nil {
		return err
	}
	p, err := campaign.ReadPlan(filepath.Join(r.folder, results.PlanFile))
	if err != nil {
		return err
	}
	r.plan = &p
	switch s, err := results.ReadSummary(r.folder); {
	case err == nil:
		r.before = s
		r.record.Interrupted, r.record.Trouble = s.Interrupted, s.Harness
	case !errors.Is(err, os.ErrNotExist):
	case errors.Is(results.Unjudged(r.folder), results.ErrNotBegun):
		r.record.Interrupted = "the run ended before its first operation"
	default:
		r.record.Interrupted = "the run did not finish: its folder holds no verdict"
	}
	return nil
}
