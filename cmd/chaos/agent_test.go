package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

// An agent that listens serves one controller at a time: another one is refused,
// by a door of its own too, until the first has left.
func TestOneController(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	const secret = "a key of many bytes"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = os.WriteFile(key, []byte(secret), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- serveDoors(ctx, l, key, agent.ServeOptions{}) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	control := func() (*agent.Door, error) {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		d, err := agent.OpenDoor(ctx, conn, secret)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := d.Agent(ctx)
		if err == nil {
			_, err = agent.Connect(ctx, stream, agent.Hello{Run: "one", Lease: time.Minute, Self: nodes.Member{ID: 1}}, nil)
		}
		return d, err
	}
	first, err := control()
	if err != nil {
		t.Fatal(err)
	}
	second, err := control()
	if err == nil || !strings.Contains(err.Error(), "another controller is being served") {
		t.Errorf("a second one is taken: %v", err)
	}
	second.Close()
	first.Close()
	for end := time.Now().Add(wordWait); ; time.Sleep(pollEvery) {
		third, err := control()
		third.Close()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody is taken after the first has left: %v", err)
		}
	}
}
