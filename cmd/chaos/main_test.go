package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// actAsChaos makes the test binary behave as chaos: nodes, agents and hubs are
// started as this very program.
const actAsChaos = "CHAOS_TEST_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(actAsChaos) != "" && len(os.Args) > 1 {
		os.Exit(run(os.Args[1:]))
	}
	os.Setenv(actAsChaos, "1")
	testscript.Main(m, map[string]func(){"chaos": func() { os.Exit(run(os.Args[1:])) }})
}

// TestScripts runs the command line as people and CI do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv(actAsChaos, "1")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status},
	})
}

// status runs chaos and wants an exact exit status: status 64 run --nope.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: status CODE arguments of chaos")
	}
	err := ts.Exec("chaos", args[1:]...)
	got := "0"
	if err != nil {
		got = exitStatus(err)
	}
	if got != args[0] {
		ts.Fatalf("chaos %v: exit status %s, want %s", args[1:], got, args[0])
	}
}
