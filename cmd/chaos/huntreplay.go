package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/campaign/hunt"
	"chaos/results"
)

// A replay is what chaos hunt replay was asked for.
type replay struct {
	*huntFlags
	in, system string
	seed       uint64
	name       string
	more       []string          // handed on
	set        func(string) bool // tells whether a flag of ours was given

	scenario string // the file of a plan that was made smaller; "": none
}

// newHuntReplay makes chaos hunt replay, which shows a find again.
func newHuntReplay(f *huntFlags) *cobra.Command {
	r := replay{huntFlags: f}
	c := &cobra.Command{
		Use:   "replay NAME [-- FLAG...]",
		Short: "Build a defect and run one seed of it, to see what was found",
		Long: `replay builds a defect (or "sound") and runs one seed of it: in simulation with
"chaos sim", else with "chaos run --provider local". What stands behind -- is
handed on to it; with --plan FILE that plan is run instead of a seed. The exit
status is that of the run.

With --shrink the failing plan is made as small as it still fails. Then the
sound build runs it, too, and the scenario says what came of that.`,
		Example: `  chaos hunt replay commit-by-count --system raft --seed 42
  chaos hunt replay commit-by-count --system raft --seed 42 -- --trace /tmp/t
  chaos hunt replay commit-by-count --system raft --seed 42 -- --shrink
  chaos hunt replay commit-by-count -- --plan results/runs/shrunk-raft-42.json`,
		Args: func(c *cobra.Command, args []string) error {
			if at := c.ArgsLenAtDash(); at >= 0 {
				args = args[:at]
			}
			return oneDefect(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			r.name, r.more, r.set = args[0], args[1:], c.Flags().Changed
			return r.run(c)
		},
	}
	c.Flags().StringVar(&r.in, "in", "sim", "where: sim or local (real processes)")
	c.Flags().StringVar(&r.system, "system", "", "raft, paxos or paxos-classic (default: the defect's first)")
	c.Flags().Uint64Var(&r.seed, "seed", 1, "the seed that showed it")
	c.Flags().StringVar(&f.builds, "builds", "", "folder in which builds are kept (default: the user's cache)")
	return c
}

func (r *replay) run(c *cobra.Command) error {
	source, d, err := r.find()
	if err != nil {
		return usageError{err}
	}
	builder, err := r.builder(source)
	if err != nil {
		return err
	}
	program, err := builder.Build(c.Context(), d)
	if err != nil {
		return err
	}
	out := &rewriter{w: c.OutOrStdout(), change: r.retell}
	status, err := r.execute(c, out, program, r.args(d))
	if err = errors.Join(err, out.end()); err != nil {
		return err
	}
	if r.scenario != "" && r.name != hunt.Sound {
		err = r.complete(c, builder)
	}
	if err == nil && status != 0 {
		err = exitError(status)
	}
	return err
}

// find loads what is to be replayed, and refuses what makes no sense.
func (r *replay) find() (source hunt.Source, d hunt.Defect, err error) {
	if !slices.Contains([]string{"sim", "local"}, r.in) {
		return source, d, fmt.Errorf("--in %q: %s", r.in, meant(r.in, []string{"sim", "local"}))
	}
	if r.given("shrink") && r.given("json") {
		return source, d, errors.New("--json with --shrink: leave --json out; what is printed tells where the scenario is")
	}
	source, defects, err := hunt.Load(r.source)
	if err != nil {
		return source, d, err
	}
	d = hunt.Defect{Systems: hunt.Systems}
	if r.name != hunt.Sound {
		if d, err = findDefect("replay", defects, r.name); err != nil {
			return source, d, err
		}
	}
	if r.system != "" && !slices.Contains(d.Systems, r.system) {
		return source, d, fmt.Errorf("--system %q: %s is in %s", r.system, r.name, strings.Join(d.Systems, ", "))
	}
	return source, d, source.Fit(d)
}

// given tells whether a flag is handed on.
func (r *replay) given(flag string) bool {
	return slices.ContainsFunc(r.more, func(word string) bool {
		name, _, _ := strings.Cut(word, "=")
		return name == "--"+flag
	})
}

// args are those of the program. A plan holds seed and system of its own.
func (r *replay) args(d hunt.Defect) (args []string) {
	runners := map[string]hunt.Runner{"sim": hunt.Sim{}, "local": hunt.Local{}}
	if !r.given("plan") {
		system := r.system
		if system == "" {
			system = d.Systems[0]
		}
		return append(runners[r.in].Again(system, r.seed), r.more...)
	}
	args = map[string][]string{"sim": {"sim"}, "local": {"run", "--provider", "local"}}[r.in]
	if r.set("system") {
		args = append(args, "--system", r.system)
	}
	if r.set("seed") {
		args = append(args, "--seed", strconv.FormatUint(r.seed, 10))
	}
	return append(args, r.more...)
}

// execute runs the program. What a simulation prints goes through out; a live
// run tells nothing that has to be told otherwise, and may want the terminal.
func (r *replay) execute(c *cobra.Command, out io.Writer, program string, args []string) (int, error) {
	if r.in != "sim" {
		out = c.OutOrStdout()
	}
	return hunt.Execute(c.Context(), out, c.ErrOrStderr(), program, args...)
}

var (
	simLine      = regexp.MustCompile(`^( +)chaos sim( --system \S+ --seed \d+)(.*)$`)
	scenarioLine = regexp.MustCompile(`^scenario +(.+)$`)
	breaksLine   = regexp.MustCompile(`^# Breaks: `)
)

// retell makes of a line that a build printed what is so from outside: only the
// replay shows its seeds again, and its scenarios are those of a defect.
func (r *replay) retell(line string) string {
	if m := scenarioLine.FindStringSubmatch(line); m != nil {
		r.scenario = m[1]
	}
	switch m := simLine.FindStringSubmatch(line); {
	case m != nil && m[3] != "":
		return m[1] + r.command() + m[2] + " --" + m[3]
	case m != nil:
		return m[1] + r.command() + m[2]
	case breaksLine.MatchString(line) && r.name != hunt.Sound:
		return "# Defect: " + r.name + "\n" + line
	}
	return line
}

// command is how this build is run.
func (r *replay) command() string {
	s := "chaos hunt replay " + r.name
	if r.set("source") {
		s += " --source " + quoted(r.source)
	}
	if r.set("builds") {
		s += " --builds " + quoted(r.builds)
	}
	return s
}

var plainWord = regexp.MustCompile(`^[\w./:@%+=,-]+$`)

// quoted is a word as a shell takes it.
func quoted(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// complete names the defect in the scenario that the shrinker left, has the sound
// build run it, and says what came of it.
func (r *replay) complete(c *cobra.Command, builder *hunt.Builder) error {
	text, err := os.ReadFile(r.scenario)
	if err != nil {
		return err
	}
	s, err := campaign.ParseScenario(text)
	if err != nil {
		return fmt.Errorf("%s: %w", r.scenario, err)
	}
	save := func() error {
		return results.Write(filepath.Dir(r.scenario), filepath.Base(r.scenario), s.Encode())
	}
	s.Defect = r.name
	if err := save(); err != nil {
		return err
	}
	shown, err := soundly(c.Context(), builder, r.scenario)
	said := "no violation; the end of the scenario says so now"
	switch {
	case c.Context().Err() != nil:
		said = "not run: interrupted"
	case err != nil:
		return fmt.Errorf("the sound build with %s: %w", r.scenario, err)
	case shown != "":
		said = "INVALID " + shown + "\n          so this is no scenario of the defect: the sound build is accused"
	default:
		s.Sound = true
		err = save()
	}
	if err == nil || c.Context().Err() != nil {
		_, err = fmt.Fprintf(c.OutOrStdout(), "sound     %s\nagain     %s -- --plan %s\n", said, r.command(), quoted(r.scenario))
	}
	return err
}

// soundly is what the sound build shows when it runs a plan.
func soundly(ctx context.Context, builder *hunt.Builder, plan string) (string, error) {
	program, err := builder.Build(ctx, hunt.Defect{})
	if err != nil {
		return "", err
	}
	return hunt.Sim{}.Plan(ctx, program, plan)
}

// A rewriter hands on lines, each changed before.
type rewriter struct {
	w      io.Writer
	change func(line string) string
	rest   []byte // of a line that is not whole yet
}

// Write implements io.Writer.
func (r *rewriter) Write(b []byte) (int, error) {
	r.rest = append(r.rest, b...)
	for {
		line, rest, whole := bytes.Cut(r.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		r.rest = rest
		if _, err := io.WriteString(r.w, r.change(string(line))+"\n"); err != nil {
			return 0, err
		}
	}
}

// end hands on a last line without an end.
func (r *rewriter) end() error {
	if len(r.rest) == 0 {
		return nil
	}
	_, err := io.WriteString(r.w, r.change(string(r.rest)))
	return err
}
