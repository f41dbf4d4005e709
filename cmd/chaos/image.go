package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"chaos/nodes/docker"
)

func newImageCommand() *cobra.Command {
	var image, binary string
	var with []string
	c := &cobra.Command{
		Use:   "image",
		Short: "Make the image of --provider docker from this program alone",
		Long: `image makes an image that holds this very program and nothing else: no base
image, no download. It is what docker-compose.yml runs; chaos run --provider
docker makes it by itself. Equal programs give equal images, and an image that
is there already is left alone.

The program must be a static one for Linux: build it with CGO_ENABLED=0. On
other systems chaos-linux-ARCH is taken from beside it.`,
		Example: "  chaos image\n  chaos image --with /usr/local/bin/etcd",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := (docker.Config{Image: image}).Check(); err != nil {
				return usageError{err}
			}
			for _, name := range append(slices.Clone(with), binary) {
				if _, err := os.Stat(name); name != "" && err != nil {
					return usageError{fmt.Errorf("a program for the image: %w", err)}
				}
			}
			made, err := docker.BuildImage(c.Context(), image, binary, with)
			var unfit docker.UnfitError
			if errors.As(err, &unfit) && (unfit.File == binary || slices.Contains(with, unfit.File)) {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			word := "was there"
			if made.Built {
				word = "made"
			}
			fmt.Fprintf(c.OutOrStdout(), "%s %s: %d MB, %s\n", made.Name, word, made.Size>>20, made.ID)
			return nil
		},
	}
	c.Flags().StringVar(&image, "image", docker.DefaultImage, "its name")
	c.Flags().StringVar(&binary, "binary", "", "the program that goes into it; default: this one")
	c.Flags().StringSliceVar(&with, "with", nil, "static programs to put beside it, into /bin: a system under test")
	return c
}

// forgettable is where the folders of runs stand on a host.
const forgettable = "/data/"

func newForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "forget FOLDER",
		Short:  "remove what a run left on a host that is used again",
		Hidden: true,
		Args:   func(c *cobra.Command, args []string) error { return wrong(cobra.ExactArgs(1)(c, args)) },
		RunE: func(_ *cobra.Command, args []string) error {
			folder := path.Clean(args[0])
			if name, ok := strings.CutPrefix(folder, forgettable); !ok || name == "" || strings.Contains(name, "/") {
				return usageError{fmt.Errorf("%q is no folder of a run below %s", args[0], forgettable)}
			}
			return docker.Forget(folder)
		},
	}
}

// The folders of a control service, as docker-compose.yml mounts them.
const (
	controlPlan    = "/plan/plan.json"
	controlResults = "/results"
	controlKey     = "/key/key"
)

// The variables that say where those folders are outside.
const (
	controlPlans = "CHAOS_PLAN"
	controlOut   = "CHAOS_OUT"
)

func newControlCommand() *cobra.Command {
	var agents string
	c := &cobra.Command{
		Use:    "control [flags of run]",
		Short:  "run the plan of a compose project against its hosts",
		Hidden: true,
		Long: `control is what the service of that name in docker-compose.yml runs: a run with
the plan in /plan/plan.json, or where there is none with the default plan, or what
the flags after -- say. Run folders go to /results; the exit status is the run's.`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := controlRoom(controlResults); err != nil {
				return err
			}
			run := newRunCommand()
			run.SilenceUsage, run.SilenceErrors = true, true
			run.SetFlagErrorFunc(wrongFlag)
			run.SetArgs(controlArgs(agents, args))
			run.SetOut(outside{c.OutOrStdout()})
			run.SetErr(outside{c.ErrOrStderr()})
			if err := run.ExecuteContext(c.Context()); err != nil {
				return seenOutside{err}
			}
			return nil
		},
	}
	c.Flags().StringVar(&agents, "agents", "", "the hosts' agents, n1=10.77.0.11:7100,…")
	return c
}

// controlArgs are the flags of the run that control makes.
func controlArgs(agents string, more []string) []string {
	args := []string{"--provider", "docker", "--agents", agents, "--key-file", controlKey, "--out", controlResults}
	if _, err := os.Stat(controlPlan); err == nil {
		args = append(args, "--plan", controlPlan)
	} else if !errors.Is(err, os.ErrNotExist) {
		args = append(args, "--plan", controlPlan) // run tells what is wrong with it
	} else {
		fmt.Fprintf(os.Stderr, "no %s: a fresh plan is drawn\n", pathsOutside(controlPlan))
	}
	return append(args, more...)
}

// folderOutside is what the variable says of a folder of the control service: where
// people who started it find that folder. Without it the folder is as it is inside.
func folderOutside(variable, inside string) string {
	return strings.TrimSuffix(cmp.Or(os.Getenv(variable), inside), "/")
}

// pathsOutside names files as people outside the container do.
func pathsOutside(text string) string {
	return strings.NewReplacer(controlResults+"/", folderOutside(controlOut, controlResults)+"/",
		controlPlan, folderOutside(controlPlans, path.Dir(controlPlan))+"/"+path.Base(controlPlan)).Replace(text)
}

// An outside writes for people outside the container. Each write is whole lines.
type outside struct{ io.Writer }

func (o outside) Write(b []byte) (int, error) {
	if _, err := io.WriteString(o.Writer, pathsOutside(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// A seenOutside is an error for them.
type seenOutside struct{ error }

func (e seenOutside) Error() string { return pathsOutside(e.error.Error()) }

func (e seenOutside) Unwrap() error { return e.error }

// controlRoom refuses a folder into which no run's folder can be written.
func controlRoom(folder string) error {
	err := writable(folder)
	if err == nil {
		return nil
	}
	return fmt.Errorf("user %d:%d, as CHAOS_USER says, can't write run folders to %s, which CHAOS_OUT names: %w; remedy: "+
		"make that folder yourself before compose does, and name yourself: CHAOS_USER=$(id -u):$(id -g)",
		os.Getuid(), os.Getgid(), folderOutside(controlOut, controlResults), err)
}
