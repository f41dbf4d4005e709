// Command chaos hurts replicated systems while clients use them, records what
// every client saw, and judges the record.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"chaos/campaign"
	"chaos/history"
	"chaos/results"
)

// A usageError is wrong usage or input: exit 64.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// An exitError ends the process with a status and nothing more to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func main() {
	os.Exit(run(os.Args[1:]))
}

// run is main with a status: 0 valid, 1 invalid, 2 harness failure, 3 unknown, 64 wrong usage.
func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	ctx, stop := interruptible(goingOn(args))
	defer stop()
	err := root.ExecuteContext(ctx)
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return results.ExitValid
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		complain("chaos: " + err.Error())
		return results.ExitUsage
	}
	complain("chaos: " + err.Error())
	return results.ExitHarness
}

// goingOn says what a command does when it is interrupted.
func goingOn(args []string) string {
	switch {
	case len(args) > 0 && (args[0] == "run" || args[0] == "control"):
		return "healing and judging what there is"
	case len(args) > 0 && args[0] == "sim":
		return "stopping, and judging what there is"
	case len(args) > 0 && args[0] == "agent":
		return "healing and stopping the node"
	}
	return "stopping"
}

// sameSignal is how long further signals count as the first one.
const sameSignal = 50 * time.Millisecond

// interruptible ends its context at the first Ctrl-C or SIGTERM; the second one
// leaves at once: what runs on hosts goes down with us.
func interruptible(next string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		fmt.Fprintf(os.Stderr, "\nchaos: interrupted: %s; once more leaves at once\n", next)
		cancel()
		time.Sleep(sameSignal) // a terminal or a supervisor may send one stop twice
		for len(signals) > 0 {
			<-signals
		}
		<-signals
		fmt.Fprintln(os.Stderr, "\nchaos: left at once; nothing keeps running, and chaos clean with the same --provider removes what is left")
		os.Exit(results.ExitHarness)
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}

// helpWidth is how wide help is, columns.
const helpWidth = 80

// version is what the toolchain knows of this build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	out := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(out, s.Value[:min(12, len(s.Value))]) {
			out += " " + s.Value
		}
	}
	return fmt.Sprintf("%s, plan %d, history %d, %s", out, campaign.PlanVersion, history.Version, info.GoVersion)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "chaos",
		Short: "Hurt a replicated system while clients use it, and judge what they saw",
		Long: `chaos starts a real cluster, drives clients against it, kills, pauses and
partitions its nodes, heals, and checks what it recorded for linearizability.

Exit status of every command: 0 it went well, 2 something failed or is missing
here, 64 what was asked for can be on no machine. Of a verdict, 1 is invalid and
3 unknown; kv has meanings of its own for these.`,
		Example:       "  chaos run\n  chaos run --system paxos --faults kill,partition --duration 20s\n  chaos check latest",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	root.SetVersionTemplate("chaos {{.Version}}\n")
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", helpWidth)))
	root.SetFlagErrorFunc(wrongFlag)
	root.AddCommand(newRunCommand(), newSimCommand(), newCheckCommand(), newResultsCommand(), newDoctorCommand(), newCleanCommand(),
		newBenchCommand(), newKVCommand(), newNodeCommand(), newAgentCommand(), newHubCommand(),
		newHostCommand(), newWatchdogCommand(), newImageCommand(), newReproCommand(), newHuntCommand(), newControlCommand(), newForgetCommand())
	return root
}

// unknownSub names the nearest right one of a command's own commands.
func unknownSub(c *cobra.Command, word string) error {
	var known []string
	for _, o := range c.Commands() {
		if o.IsAvailableCommand() {
			known = append(known, o.Name())
		}
	}
	return usageError{fmt.Errorf("%s has no command %q; %s", c.CommandPath(), word, meant(word, known))}
}

// noArgs refuses stray words as wrong usage.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, got %q", c.CommandPath(), args[0])}
	}
	return nil
}
