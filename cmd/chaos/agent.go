package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"chaos/nodes/agent"
)

const (
	minKey       = 16              // bytes of a key that guards a socket
	maxKey       = 4 << 10         // bytes of the file that holds it
	maxStrangers = 8               // connections served or refused at once
	acceptPause  = time.Second / 4 // after a failed accept, before the next
)

func newAgentCommand() *cobra.Command {
	var listen, keyFile string
	var door bool
	c := &cobra.Command{
		Use:    "agent",
		Short:  "be the hands of chaos on a host: start, hurt and heal one node",
		Hidden: true,
		Args:   cobra.NoArgs,
		Long: `An agent starts one node as its child, kills, stops and restarts it, drops or
delays what comes from its peers, proves what it did, and undoes all of it when
its controller goes silent or the stream ends.

It speaks JSON lines over its standard input and output, with one controller. So
it runs wherever a stream can be had: in a container's attach stream, in an SSH
session, beside the harness. With --door the stream carries
connections to the node and its files, too. With --listen doors are opened at a
TCP address, to who proves to know the key; the file is read for each one, so that
the key may be made later.

It needs CAP_NET_ADMIN in its network namespace for faults of links, and touches
no table of the firewall but its own, chaos_<run>.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			o := agent.ServeOptions{Seed: uint64(time.Now().UnixNano()), Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
			switch stdio := agent.Standard(); {
			case listen != "" && keyFile == "":
				return usageError{errors.New("--listen needs --key-file: whoever reaches the address could stop the node")}
			case listen != "":
				l, err := net.Listen("tcp", listen)
				if err != nil {
					return err
				}
				return serveDoors(ctx, l, keyFile, o)
			case door:
				return agent.ServeDoor(ctx, stdio, o)
			default:
				return agent.Serve(ctx, stdio, o)
			}
		},
	}
	c.Flags().StringVar(&listen, "listen", "", "take controllers at this TCP address instead of standard input and output")
	c.Flags().BoolVar(&door, "door", false, "carry connections and files over the stream, too")
	c.Flags().StringVar(&keyFile, "key-file", "", "file with the key that controllers must show; needed with --listen")
	return c
}

func readKey(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return "", err
	}
	b = bytes.TrimSpace(b)
	if len(b) < minKey {
		return "", fmt.Errorf("the key in %s has %d bytes; it needs %d", path, len(b), minKey)
	}
	return string(b), nil
}

// serveDoors opens doors until ctx ends. No more than one controller has the agent,
// whatever door it came through.
func serveDoors(ctx context.Context, l net.Listener, keyFile string, o agent.ServeOptions) error {
	o.Sole = &sync.Mutex{}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var work sync.WaitGroup
	defer work.Wait()
	room := make(chan struct{}, maxStrangers)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			o.Log("accepting a controller: " + err.Error())
			time.Sleep(acceptPause)
			continue
		}
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			one, err := o, error(nil)
			if one.Key, err = readKey(keyFile); err == nil {
				err = agent.ServeDoor(ctx, conn, one)
			} else {
				conn.Close()
			}
			if err != nil {
				o.Log(err.Error())
			}
		})
	}
}
