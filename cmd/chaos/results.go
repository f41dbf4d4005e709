package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"chaos/results"
)

func newResultsCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use:     "results",
		Short:   "List runs, or show one again",
		Example: "  chaos results list\n  chaos results show latest",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownSub(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return listResults(c, root, false) },
	}
	c.PersistentFlags().StringVar(&root, "out", runsRoot, "folder of run folders")
	c.AddCommand(newListCommand(&root), newShowCommand(&root))
	return c
}

func newListCommand(root *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "One line for each run, the oldest first",
		Example: "  chaos results list\n  chaos results list --json",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return listResults(c, *root, asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}

func listResults(c *cobra.Command, root string, asJSON bool) error {
	runs, err := results.List(root)
	if errors.Is(err, os.ErrNotExist) {
		return usageError{fmt.Errorf("there are no runs yet: no folder %s; chaos run makes one", root)}
	}
	if err != nil {
		return usageError{err}
	}
	if asJSON {
		all := []results.Summary{}
		for _, r := range runs {
			if r.Err == nil {
				all = append(all, r.Summary)
			}
		}
		return encode(c.OutOrStdout(), all)
	}
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, r := range runs {
		switch name := filepath.Base(r.Folder); {
		case errors.Is(r.Err, results.ErrUnfinished):
			fmt.Fprintf(t, "%s\tunfinished\tsee chaos check\n", name)
			continue
		case errors.Is(r.Err, results.ErrNotBegun):
			fmt.Fprintf(t, "%s\tnever began\n", name)
			continue
		case r.Err != nil:
			fmt.Fprintf(t, "%s\t%v\n", name, r.Err)
			continue
		}
		word := r.Summary.Word()
		if r.Summary.Stopped() {
			word += ", interrupted"
		}
		fmt.Fprintf(t, "%s\t%s\t%d ok\t%.0f/s\n", r.Summary.Run, word, r.Summary.Figures.All.Ok, r.Summary.Figures.Rate)
	}
	return t.Flush()
}

func newShowCommand(root *string) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:     "show [RUN...]",
		Short:   "The table of one run, or of several side by side",
		Example: "  chaos results show\n  chaos results show latest\n  chaos results show RUN1 RUN2",
	}
	c.Flags().BoolVar(&f.json, "json", false, "print the result as one JSON document")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "print only the verdict")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{results.LatestLink}
		}
		var runs []results.Summary
		for _, name := range args {
			s, err := summaryOf(*root, name)
			if err != nil {
				return err
			}
			runs = append(runs, s)
		}
		if len(runs) == 1 {
			return f.show(c, runs[0])
		}
		return results.Table(c.OutOrStdout(), runs...)
	}
	return c
}

// findRun finds a run's folder by what people call it: latest, the name of its
// folder below root, or a path. All of its errors are wrong usage.
func findRun(root, name string) (folder string, err error) {
	folder = filepath.Clean(name)
	if folder == filepath.Base(folder) && !strings.HasPrefix(folder, ".") {
		if _, err := os.Stat(filepath.Join(root, folder)); err == nil {
			folder = filepath.Join(root, folder)
		}
	}
	if _, err := os.Stat(folder); err != nil {
		return "", usageError{fmt.Errorf("there is no run %q below %s, nor a path of that name; chaos results list names the runs, chaos run makes one", name, root)}
	}
	if _, err := os.Stat(filepath.Join(folder, results.PlanFile)); err != nil {
		return "", usageError{fmt.Errorf("%s is not a run's folder: it holds no %s", folder, results.PlanFile)}
	}
	return folder, nil
}

// summaryOf reads the verdict of a run.
func summaryOf(root, name string) (results.Summary, error) {
	folder, err := findRun(root, name)
	if err != nil {
		return results.Summary{}, err
	}
	s, err := results.ReadSummary(folder)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%s has %w", folder, results.Unjudged(folder))
	}
	return s, wrong(err)
}
