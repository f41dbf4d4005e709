package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"chaos/nodes"
	"chaos/nodes/kv"
)

// How `chaos kv` ends, beside 0 and wrong usage.
const (
	kvNotSwapped = 1 // the compare-and-set found another value
	kvRefused    = 2 // it certainly did not happen, or it was a get without an answer
	kvDoubtful   = 3 // perhaps it happened
)

// kvStatuses stands in the help of each kv command.
const kvStatuses = `Exit status: 0 it happened; 1 a cas found another value, which is printed;
2 it certainly did not happen, or a get was not answered; 3 perhaps it happened,
or will; 64 wrong usage.`

// kvTarget is what every kv command is told about where to go.
type kvTarget struct {
	node, cluster, mode string
	timeout             time.Duration
}

func newKVCommand() *cobra.Command {
	t := &kvTarget{}
	c := &cobra.Command{
		Use:   "kv",
		Short: "Read and change keys of a running node by hand",
		Long: `kv sends one operation to one node of our own systems and prints the answer.
It never tries again by itself.

` + kvStatuses,
		Example: `  chaos kv put colour blue --node 127.0.0.1:7001 --cluster demo
  chaos kv get colour --node 127.0.0.1:7001 --cluster demo
  chaos kv cas colour blue green --node 127.0.0.1:7002 --cluster demo`,
	}
	c.Args, c.RunE = cobra.ArbitraryArgs, unknownKV
	f := c.PersistentFlags()
	f.StringVar(&t.node, "node", "", "the node's client address, HOST:PORT")
	f.StringVar(&t.cluster, "cluster", "", "the cluster's name; a node refuses clients of another")
	f.DurationVar(&t.timeout, "timeout", 5*time.Second, "how long to wait for the answer")
	c.AddCommand(newKVGet(t), newKVPut(t), newKVCas(t), newKVDelete(t), newKVAdd(t), newKVAppend(t))
	return c
}

// unknownKV names the nearest right operation; without a word it helps.
func unknownKV(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	return unknownSub(c, args[0])
}

func newKVGet(t *kvTarget) *cobra.Command {
	c := kvCommand(t, "get KEY", "Print what a key holds, or (absent); a list one element a line", 1,
		"  chaos kv get colour --node 127.0.0.1:7001 --cluster demo\n  chaos kv get colour --mode log --node 127.0.0.1:7001 --cluster demo",
		func(args []string) (kv.Command, error) { return kv.Command{Op: kv.Get, Key: args[0]}, nil })
	c.Flags().StringVar(&t.mode, "mode", nodes.ModeIndex, "how to read: index (ask a quorum) or log (as an entry of the log)")
	return c
}

func newKVPut(t *kvTarget) *cobra.Command {
	return kvCommand(t, "put KEY VALUE", "Store a text", 2,
		"  chaos kv put colour blue --node 127.0.0.1:7001 --cluster demo",
		func(args []string) (kv.Command, error) {
			return kv.Command{Op: kv.Put, Key: args[0], Value: []byte(args[1])}, nil
		})
}

func newKVCas(t *kvTarget) *cobra.Command {
	absent := false
	c := kvCommand(t, "cas KEY [OLD] NEW", "Store NEW over OLD, else print what the key holds and exit 1", -1,
		"  chaos kv cas colour blue green --node 127.0.0.1:7001 --cluster demo\n  chaos kv cas colour --absent blue --node 127.0.0.1:7001 --cluster demo",
		func(args []string) (kv.Command, error) {
			want := 3
			if absent {
				want = 2
			}
			if len(args) != want {
				return kv.Command{}, fmt.Errorf("cas takes KEY OLD NEW, or KEY NEW with --absent; got %d arguments", len(args))
			}
			command := kv.Command{Op: kv.CAS, Key: args[0], Value: []byte(args[want-1]), OldAbsent: absent}
			if !absent {
				command.Old = []byte(args[1])
			}
			return command, nil
		})
	c.Flags().BoolVar(&absent, "absent", false, "store NEW where the key holds nothing")
	return c
}

func newKVDelete(t *kvTarget) *cobra.Command {
	return kvCommand(t, "delete KEY", "Remove a key, if it is there", 1,
		"  chaos kv delete colour --node 127.0.0.1:7001 --cluster demo",
		func(args []string) (kv.Command, error) { return kv.Command{Op: kv.Delete, Key: args[0]}, nil })
}

func newKVAdd(t *kvTarget) *cobra.Command {
	return kvCommand(t, "add KEY DELTA", "Add to a number and print the sum; an absent key counts as 0", 2,
		"  chaos kv add visits 1 --node 127.0.0.1:7001 --cluster demo\n  chaos kv add visits --node 127.0.0.1:7001 --cluster demo -- -1",
		func(args []string) (kv.Command, error) {
			delta, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return kv.Command{}, fmt.Errorf("%q is not a whole number of 64 bits", args[1])
			}
			return kv.Command{Op: kv.Add, Key: args[0], Delta: delta}, nil
		})
}

func newKVAppend(t *kvTarget) *cobra.Command {
	return kvCommand(t, "append KEY VALUE", "Append to a list and print its length; an absent key is empty", 2,
		"  chaos kv append guests ada --node 127.0.0.1:7001 --cluster demo",
		func(args []string) (kv.Command, error) {
			return kv.Command{Op: kv.Append, Key: args[0], Value: []byte(args[1])}, nil
		})
}

// kvCommand makes one subcommand that takes n arguments, or where n is negative as many as build accepts.
func kvCommand(t *kvTarget, use, short string, n int, example string, build func([]string) (kv.Command, error)) *cobra.Command {
	return &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    short + ".\n\n" + kvStatuses,
		Example: example,
		Args: func(c *cobra.Command, args []string) error {
			if n >= 0 && len(args) != n {
				return usageError{fmt.Errorf("usage: chaos kv %s; got %d arguments", use, len(args))}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			command, err := build(args)
			if err != nil {
				return usageError{err}
			}
			if err := t.check(); err != nil {
				return usageError{err}
			}
			if err := command.Check(); err != nil {
				return usageError{err}
			}
			return t.print(c.OutOrStdout(), c.ErrOrStderr(), command.Op, t.do(c.Context(), command))
		},
	}
}

// check finds wrong usage of the common flags.
func (t *kvTarget) check() error {
	if _, _, err := net.SplitHostPort(t.node); err != nil {
		return fmt.Errorf("--node must name a client address, HOST:PORT, not %q", t.node)
	}
	switch {
	case t.cluster == "":
		return errors.New("--cluster must name the node's cluster")
	case t.timeout <= 0:
		return fmt.Errorf("--timeout must be above 0, not %s", t.timeout)
	case t.mode != "" && t.mode != nodes.ModeIndex && t.mode != nodes.ModeLog:
		return fmt.Errorf("--mode %q: %s", t.mode, meant(t.mode, []string{nodes.ModeIndex, nodes.ModeLog}))
	}
	return nil
}

// do sends one command under a session of its own.
func (t *kvTarget) do(ctx context.Context, command kv.Command) kv.Response {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	client := nodes.NewKVClient(t.cluster, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", t.node)
	})
	defer client.Close()
	command.Session, command.Sequence = rand.Uint64()|1, 1 // never 0
	mode := kv.ModeLog
	if command.Op == kv.Get && t.mode == nodes.ModeIndex {
		mode = kv.ModeIndex
	}
	return client.Do(ctx, mode, command)
}

// print shows the response, and turns it into an exit status.
func (t *kvTarget) print(stdout, stderr io.Writer, op kv.Op, r kv.Response) error {
	switch {
	case r.Grade == kv.Answered:
		return printResult(stdout, op, r.Result)
	case op == kv.Get:
		fmt.Fprintf(stderr, "chaos: the get has no answer: %s\n", nodes.Explain(r))
		return exitError(kvRefused)
	case r.Grade == kv.Refused:
		fmt.Fprintf(stderr, "chaos: the %s certainly did not happen: %s\n", op, nodes.Explain(r))
		return exitError(kvRefused)
	}
	fmt.Fprintf(stderr, "chaos: the %s may or may not have happened, or may yet: %s\n", op, nodes.Explain(r))
	return exitError(kvDoubtful)
}

func printResult(w io.Writer, op kv.Op, r kv.Result) error {
	switch op {
	case kv.Put, kv.Delete:
		return nil
	case kv.CAS:
		if r.Swapped {
			return nil
		}
	}
	switch r.Value.Kind {
	case kv.Absent:
		fmt.Fprintln(w, "(absent)")
	case kv.Text:
		fmt.Fprintf(w, "%s\n", r.Value.Text)
	case kv.List:
		for _, e := range r.Value.List {
			fmt.Fprintf(w, "%s\n", e)
		}
	}
	if op == kv.CAS {
		return exitError(kvNotSwapped)
	}
	return nil
}
