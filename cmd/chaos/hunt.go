package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"chaos/campaign/hunt"
)

// huntPlaces are where defects are looked for, and what a try may cost there.
var huntPlaces = map[string]struct {
	budget time.Duration
	tries  int
	jobs   int
}{
	"sim":   {20 * time.Second, 3, runtime.NumCPU()},
	"local": {5 * time.Minute, 2, 1},
}

// huntFlags are the flags of chaos hunt.
type huntFlags struct {
	source, builds string
	in             string
	budget         time.Duration
	tries, jobs    int
	confirm        int
	seed           uint64
	only           []string
	state, keep    string
	record         bool
	json, quiet    bool
}

func newHuntCommand() *cobra.Command {
	f := &huntFlags{}
	c := &cobra.Command{
		Use:   "hunt",
		Short: "Put deliberate bugs into our nodes, and see that they are found",
		Long: `hunt builds each defect (a small patch to our own nodes), looks for it in
simulation or on real processes, and tells what saw it and how soon. The sound
build is looked at as hard and must stay silent. The source tree and go are
needed.

Exit status: 0 every defect was found and the sound build is silent; 1 one was
missed or the sound build was accused; 2 it is not finished: something failed,
the machine was too busy, or Ctrl-C; 64 wrong usage, or a patch that does not
fit the sources.`,
		Example: `  chaos hunt
  chaos hunt list
  chaos hunt --only commit-by-count,fsync-skipped --budget 1m
  chaos hunt --in local --state hunt.jsonl
  chaos hunt replay commit-by-count --system raft --seed 42`,
		Args: huntArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	p := c.PersistentFlags()
	p.StringVar(&f.source, "source", ".", "the source tree: the folder of go.mod")
	f.register(c)
	c.AddCommand(newHuntList(f), newHuntShow(f), newHuntReplay(f))
	return c
}

func (f *huntFlags) register(c *cobra.Command) {
	d := c.Flags()
	d.StringVar(&f.in, "in", "sim", "where to look: sim or local (real processes)")
	d.StringVar(&f.builds, "builds", "", "folder in which builds are kept (default: the user's cache)")
	d.DurationVar(&f.budget, "budget", 0, "what a try may take (default 20s of CPU time in sim, 5m in local)")
	d.IntVar(&f.tries, "tries", 0, "tries of each defect in each system (default 3 in sim, 2 in local)")
	d.IntVar(&f.jobs, "jobs", 0, "tries at a time (default: one a core in sim, 1 in local)")
	d.IntVar(&f.confirm, "confirm", 3, "sim: how often a find must show itself again")
	d.Uint64Var(&f.seed, "seed", 1, "the first seed of the first try")
	d.StringSliceVar(&f.only, "only", nil, "hunt these defects only")
	d.StringVar(&f.state, "state", "", "keep finished tries in this file, and go on from it")
	d.StringVar(&f.keep, "keep", "", "local: folder for the runs that found something, or failed")
	d.BoolVar(&f.record, "record", false, "write "+hunt.RecordFile+" in the source tree")
	d.BoolVar(&f.json, "json", false, "print the result as one JSON document; --quiet keeps the progress back")
	d.BoolVar(&f.quiet, "quiet", false, "no progress, and of the result only the verdict")
	c.RegisterFlagCompletionFunc("in", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"sim", "local"}, cobra.ShellCompDirectiveNoFileComp
	})
}

// huntArgs names the nearest right word.
func huntArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("hunt %q: %s; --only NAME hunts single defects", args[0], meant(args[0], []string{"list", "show", "replay"}))}
}

// check fills in what depends on the place, and refuses what makes no sense.
func (f *huntFlags) check(c *cobra.Command) error {
	place, ok := huntPlaces[f.in]
	if !ok {
		return fmt.Errorf("--in %q: %s", f.in, meant(f.in, []string{"sim", "local"}))
	}
	set := c.Flags().Changed
	if !set("budget") {
		f.budget = place.budget
	}
	if !set("tries") {
		f.tries = place.tries
	}
	if !set("jobs") {
		f.jobs = place.jobs
	}
	switch {
	case f.budget < time.Millisecond:
		return fmt.Errorf("--budget is %s; it must be 1ms or more", f.budget)
	case f.tries < 1 || f.tries > 100:
		return fmt.Errorf("--tries is %d; it must be from 1 to 100", f.tries)
	case f.jobs < 1 || f.jobs > 64:
		return fmt.Errorf("--jobs is %d; it must be from 1 to 64", f.jobs)
	case f.confirm < 0 || f.confirm > 1000:
		return fmt.Errorf("--confirm is %d; it must be from 0 to 1000", f.confirm)
	case f.seed == 0 || f.seed > 1<<40:
		return fmt.Errorf("--seed is %d; it must be from 1 to %d", f.seed, uint64(1)<<40)
	case f.in == "sim" && f.keep != "":
		return errors.New("--keep is for --in local: a simulation is run again from its seed")
	case f.in == "local" && set("confirm"):
		return errors.New("--confirm is for --in sim: a live run shares the plan of its seed, not the interleaving")
	case set("only") && len(f.only) == 0:
		return errors.New("--only is empty; it takes names of defects with commas between them")
	case f.record && len(f.only) > 0:
		return errors.New("--record with --only would leave the other defects out of the record")
	}
	return nil
}

// runner is who looks.
func (f *huntFlags) runner() (hunt.Runner, error) {
	if f.in == "sim" {
		return hunt.Sim{Base: f.seed, Budget: f.budget, Confirm: f.confirm}, nil
	}
	l := hunt.Local{Base: f.seed, Budget: f.budget}
	if f.keep == "" {
		return l, nil
	}
	var err error
	if l.Keep, err = filepath.Abs(f.keep); err == nil {
		err = os.MkdirAll(l.Keep, 0o755)
	}
	return l, err
}

func (f *huntFlags) run(c *cobra.Command) error {
	if err := f.check(c); err != nil {
		return usageError{err}
	}
	source, defects, err := hunt.Load(f.source)
	if err == nil && len(defects) == 0 {
		err = fmt.Errorf("%s holds no defects: they are patches below testdata/defects of a package", source.Root())
	}
	if err == nil {
		defects, err = choose(defects, f.only)
	}
	if err == nil {
		err = source.Fit(defects...)
	}
	if err != nil {
		return usageError{err}
	}
	h := hunt.Hunt{Defects: defects, Tries: f.tries, Jobs: f.jobs}
	if h.Runner, err = f.runner(); err != nil {
		return err
	}
	if h.Builds, err = f.builder(source); err != nil {
		return err
	}
	if f.state != "" {
		if h.State, err = hunt.OpenState(f.state, source, h.Runner); err != nil {
			return usageError{err}
		}
		defer h.State.Close()
	}
	screen := newScreen(c.ErrOrStderr(), f.quiet)
	h.Progress = func(p hunt.Progress) { showHunt(screen, p) }
	r, err := h.Run(c.Context())
	screen.done()
	if err != nil {
		return err
	}
	return f.finish(c, source, r)
}

// choose keeps the named defects, all if none is named. One that a live run can
// hardly show is hunted there if it is named.
func choose(all []hunt.Defect, only []string) (out []hunt.Defect, err error) {
	if len(only) == 0 {
		return all, nil
	}
	named := map[string]bool{}
	for _, name := range only {
		if _, err := findDefect("--only", all, name); err != nil {
			return nil, err
		}
		named[name] = true
	}
	for _, d := range all {
		if named[d.Name] {
			d.Hidden = ""
			out = append(out, d)
		}
	}
	return out, nil
}

func findDefect(where string, all []hunt.Defect, name string) (hunt.Defect, error) {
	names := []string{hunt.Sound}
	for _, d := range all {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	if near := nearest(name, names); near != "" {
		return hunt.Defect{}, fmt.Errorf("%s %q: did you mean %q? chaos hunt list names all", where, name, near)
	}
	return hunt.Defect{}, fmt.Errorf("%s %q: there is no such defect; chaos hunt list names all", where, name)
}

func (f *huntFlags) builder(s hunt.Source) (*hunt.Builder, error) {
	folder := f.builds
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("%w; name a folder for builds with --builds", err)
		}
		folder = filepath.Join(cache, "chaos", "builds")
	}
	return hunt.NewBuilder(s, folder)
}

func showHunt(s *screen, p hunt.Progress) {
	if p.News != "" {
		s.line("%s", p.News)
	}
	text := fmt.Sprintf("%d/%d tries, %d found", p.Done, p.All, p.Found)
	if len(p.Running) > 0 {
		text += " · " + strings.Join(p.Running, " · ")
	}
	s.status("hunt", text)
}

// finish shows the report and keeps the record.
func (f *huntFlags) finish(c *cobra.Command, s hunt.Source, r hunt.Report) error {
	w := c.OutOrStdout()
	var err error
	switch {
	case f.json:
		err = encode(w, r)
	case f.quiet:
		_, err = fmt.Fprintln(w, r.Verdict())
	default:
		err = r.Table(w)
	}
	if err == nil && f.record {
		err = s.SaveRecord(r)
	}
	if err == nil && r.Exit() != 0 {
		err = exitError(r.Exit())
	}
	return err
}

func newHuntList(f *huntFlags) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "Name each defect, its systems, and what it breaks",
		Example: "  chaos hunt list\n  chaos hunt list --source ~/chaos --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, defects, err := hunt.Load(f.source)
			if err != nil {
				return usageError{err}
			}
			if asJSON {
				return encode(c.OutOrStdout(), append([]hunt.Defect{}, defects...))
			}
			for _, d := range defects {
				fmt.Fprintf(c.OutOrStdout(), "%s (%s)\n%s", d.Name, strings.Join(d.Systems, ", "), indented(d.Breaks))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}

// indented breaks a text at blanks into lines that fit a terminal.
func indented(text string) string {
	const indent = "    "
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > helpWidth {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}

// oneDefect wants the name of one defect.
func oneDefect(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("%s takes one argument: the name of a defect; chaos hunt list names them", c.CommandPath())}
	}
	return nil
}

func newHuntShow(f *huntFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Print a defect: its head and its patch, and what does not fit",
		Example: "  chaos hunt show commit-by-count",
		Args:    oneDefect,
		RunE: func(c *cobra.Command, args []string) error {
			source, defects, err := hunt.Load(f.source)
			if err != nil {
				return usageError{err}
			}
			d, err := findDefect("show", defects, args[0])
			if err != nil {
				return usageError{err}
			}
			if _, err = fmt.Fprintf(c.OutOrStdout(), "File: %s\n%s", d.File, d.Text); err != nil {
				return err
			}
			if err := source.Fit(d); err != nil {
				return usageError{err}
			}
			return nil
		},
	}
}
