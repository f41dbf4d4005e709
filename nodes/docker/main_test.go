package docker

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"chaos/nodes"
	"chaos/nodes/agent"
	"chaos/nodes/nodestest"
)

// testImage keeps the tests away from the image that people use.
var testImage = fmt.Sprintf("chaos-test-%d:latest", os.Getpid())

// TestMain makes this test binary an agent, a node, a watchdog or a harness, too.
func TestMain(m *testing.M) {
	nodestest.TalkerMain()
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "agent":
		o := agent.ServeOptions{Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
		exit(agent.ServeDoor(context.Background(), agent.Standard(), o))
	case "wait": // a first process of somebody else's
		exit(waiting())
	case "forget":
		exit(Forget(os.Args[2]))
	case "list":
		exit(list(os.Args[2]))
	case "rights":
		exit(rights())
	case "reach":
		if c, err := net.DialTimeout("tcp", os.Args[2], reachWait); err == nil {
			c.Close()
			fmt.Println("reached")
		} else {
			fmt.Println(err)
		}
		os.Exit(0)
	case "rules":
		exit(printRules(os.Stdout))
	case "foreign":
		exit(makeForeignRules())
	case "watchdog":
		exit(Watchdog(context.Background(), os.Stdin, os.Stdout))
	case "harness":
		exit(harness(os.Args[2], os.Args[3], os.Args[4], os.Args[5]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "chaos-docker-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	code := nodestest.Run(m)
	if err := removeImage(testImage); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// required tells whether the person who runs the tests insists on a need.
func required(need string) bool {
	return strings.Contains(os.Getenv("CHAOS_REQUIRE"), need)
}

// needEngine gives a provider whose image is made from these tests.
func needEngine(t testing.TB) *Provider {
	t.Helper()
	program := ""
	e, err := connect(t.Context())
	if err == nil {
		e.Close()
		program, err = staticTests()
	}
	if err != nil {
		if required("docker") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return New(program, Config{Image: testImage})
}

// buildWait bounds the making of a static copy of these tests.
const buildWait = 5 * time.Minute

// staticTests is a program like this one that runs in an empty container.
var staticTests = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil || checkBinary(self, runtime.GOARCH) == nil {
		return self, err
	}
	path := filepath.Join(scratch, "docker.test")
	ctx, cancel := context.WithTimeout(context.Background(), buildWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", path, ".")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building these tests anew: %w\n%s", err, out)
	}
	return path, nil
})

// waitPort is where a process of somebody else's answers.
const waitPort = "7999"

// waiting takes connections until the end.
func waiting() error {
	l, err := net.Listen("tcp", ":"+waitPort)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		c.Close()
	}
}

// list prints what is in a folder.
func list(folder string) error {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	return err
}

// rights prints what this process may do.
func rights() error {
	b, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "CapBnd:") || strings.HasPrefix(line, "NoNewPrivs:") {
			fmt.Println(strings.Join(strings.Fields(line), " "))
		}
	}
	if os.Mkdir("/written", 0o755) == nil {
		fmt.Println("its root can be written")
	}
	return err
}

// reachWait is for a connection that may never come about.
const reachWait = 500 * time.Millisecond

// scratch is a folder that is removed at the end.
var scratch string

// removeImage takes an image of the tests away, if there is an engine and it has one.
func removeImage(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), engineWait)
	defer cancel()
	e, err := connect(ctx)
	if err != nil {
		return nil
	}
	defer e.Close()
	_, err = e.ImageRemove(ctx, name, client.ImageRemoveOptions{PruneChildren: true})
	return gone(err)
}

// launchWait is for a node to accept clients; it is no measurement.
const launchWait = 20 * time.Second

// harness launches a cluster, applies effects like cut+frozen, says so, and waits for its end.
func harness(dir, program, image, kinds string) error {
	o := nodestest.ProviderOptions(dir, "")
	o.Lease = testLease
	c, err := New(program, Config{Image: image, Project: os.Getenv("CHAOS_TEST_PROJECT")}).Launch(context.Background(), nodestest.Talker{}, o)
	if err != nil {
		return err
	}
	var effects []nodes.Effect
	for _, kind := range strings.Split(kinds, "+") {
		e := nodes.Effect{Kind: nodes.EffectKind(kind), Node: 1}
		if e.OnLink() {
			e.Node, e.From, e.To = 0, 1, 2
		}
		switch e.Kind {
		case nodes.Delayed:
			e.Delay = 20 * time.Millisecond
		case nodes.Lossy:
			e.PerMille = 300
		}
		effects = append(effects, e)
	}
	ev, err := c.Apply(context.Background(), "hurt", effects)
	if err != nil {
		return err
	}
	if !ev.Proven() {
		return fmt.Errorf("not proven: %v", ev.Failures())
	}
	fmt.Println("launched")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
