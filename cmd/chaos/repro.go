package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/nemesis"
	"chaos/nodes/docker"
	"chaos/results"
)

func newReproCommand() *cobra.Command {
	var out, bundle, binary string
	var with []string
	c := &cobra.Command{
		Use:   "repro RUN",
		Short: "Pack a run's plan and this program, to reproduce it anywhere",
		Long: `repro makes a folder that holds the plan of a run, this very program, and what
docker-compose needs to carry the plan out: a colleague who has only Docker runs
one command in it. For a bug in the program, pack the program that has it.

A plan fixes what is done to whom and when, not how threads interleave: a rare
violation may need several runs.`,
		Example: "  chaos repro latest --bundle /tmp/repro\n  cd /tmp/repro && docker-compose up --build --exit-code-from control\n  chaos repro latest --bundle /tmp/repro --with ./etcd",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("repro takes one argument: a run (latest, the name of its folder, or a path)")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if bundle == "" {
				return usageError{errors.New("repro needs --bundle DIR, the folder to make; without Docker, chaos run --plan RUN/plan.json reproduces a run here")}
			}
			if err := makeBundle(out, args[0], bundle, binary, with); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s reproduces %s:\n  cd %s && docker-compose up --build --exit-code-from control\n", bundle, args[0], bundle)
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", runsRoot, "folder of run folders")
	c.Flags().StringVar(&bundle, "bundle", "", "the folder to make")
	c.Flags().StringVar(&binary, "binary", "", "the program to pack, a static one for Linux; default: this one")
	c.Flags().StringSliceVar(&with, "with", nil, "static programs to pack beside it: a system under test that is not ours")
	return c
}

// bundleREADME is all that a colleague needs.
const bundleREADME = `This folder reproduces the chaos run %s (%s, %d nodes, seed %d) with nothing but Docker:
    docker-compose up --build --exit-code-from control; echo $?
0 is valid, 1 is a violation, 3 is unknown; the report is in results/latest/report.html, and docker-compose down -v --rmi all removes the rest.
`

// makeBundle writes the folder: compose file, plan, build file, program, README.
func makeBundle(root, name, bundle, binary string, with []string) error {
	folder, err := findRun(root, name)
	if err == nil {
		err = refuseOld(bundle)
	}
	if err != nil {
		return err
	}
	plan, err := campaign.ReadPlan(filepath.Join(folder, results.PlanFile))
	if err != nil {
		return usageError{err}
	}
	if err := errors.Join(packable(plan.Spec.System, with), playable(plan)); err != nil {
		return usageError{err}
	}
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	plan.Spec.Provider, plan.Spec.Network = "docker", ""
	packed, err := docker.FindBinary(cmp.Or(binary, program()), runtime.GOARCH)
	if err != nil && binary != "" {
		return usageError{fmt.Errorf("--binary: %w", err)}
	}
	if err != nil {
		return err
	}
	compose, err := docker.BundleCompose("chaos-repro:" + imageTag(filepath.Base(folder)))
	if err != nil {
		return err
	}
	err = os.MkdirAll(filepath.Dir(bundle), 0o755)
	if err == nil {
		err = os.Mkdir(bundle, 0o755)
	}
	if err != nil {
		return fmt.Errorf("--bundle: %w; remedy: name a folder that can be made", err)
	}
	for _, f := range []struct {
		name string
		b    []byte
	}{
		{"docker-compose.yml", []byte(compose)},
		{"Dockerfile", []byte(docker.Dockerfile(len(with) > 0))},
		{filepath.Join("plan", results.PlanFile), plan.Encode()},
		{"README.md", fmt.Appendf(nil, bundleREADME, filepath.Base(folder), plan.Spec.System, plan.Spec.Nodes, plan.Seed)},
		{".dockerignore", []byte("*\n!chaos\n!bin\n")},
	} {
		path := filepath.Join(bundle, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.b, 0o644); err != nil {
			return err
		}
	}
	for _, f := range with {
		to := filepath.Join(bundle, "bin", filepath.Base(f))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := copyProgram(f, to); err != nil {
			return err
		}
	}
	return copyProgram(packed, filepath.Join(bundle, "chaos"))
}

// packable tells what keeps a bundle from running the system: nobody downloads
// anything for it.
func packable(system string, with []string) error {
	if len(with) == 0 && !slices.Contains(names(simulated()), system) {
		return fmt.Errorf("the run is of %s, which is not our program: pack a static build of it with --with FILE", system)
	}
	for _, f := range with {
		if err := docker.CheckExtra(f, runtime.GOARCH); err != nil {
			return err
		}
	}
	return nil
}

// playable tells what a bundle can't do: its control service has no engine to ask.
func playable(p campaign.Plan) error {
	for _, step := range p.Schedule {
		f, err := nemesis.Find(step.Fault)
		if err != nil {
			continue // a heal
		}
		for _, k := range f.Kinds() {
			if !docker.InControl(k) {
				return fmt.Errorf("the plan has %s, which the control service of a bundle can't do: pass %s on instead, for chaos run --provider %s --plan %s",
					step.Fault, results.PlanFile, p.Spec.Provider, results.PlanFile)
			}
		}
	}
	return nil
}

// refuseOld refuses a folder that is there: what is in it is not ours.
func refuseOld(folder string) error {
	if _, err := os.Lstat(folder); err != nil {
		return nil
	}
	what := "a file"
	if entries, err := os.ReadDir(folder); err == nil {
		what = fmt.Sprintf("a folder with %d entries", len(entries))
	}
	return usageError{fmt.Errorf("--bundle %s: %s is there already, and nothing is written over; remove it, or name another folder", folder, what)}
}

// imageTag makes a run's name fit for an image's tag.
func imageTag(run string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, run)
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
