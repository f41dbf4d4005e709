package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Control names files as people outside its container find them, wherever it says so.
func TestPathsOutside(t *testing.T) {
	inside := fmt.Sprintf("plan %s: /results/1-raft/nodes/n1/log.txt, results/runs/latest", controlPlan)
	if got := pathsOutside(inside); got != inside {
		t.Errorf("nobody said where they are: %s", got)
	}
	t.Setenv(controlOut, "/tmp/my runs/")
	t.Setenv(controlPlans, "./plans")
	want := "plan ./plans/plan.json: /tmp/my runs/1-raft/nodes/n1/log.txt, results/runs/latest"
	var b strings.Builder
	if n, err := (outside{&b}).Write([]byte(inside)); n != len(inside) || err != nil || b.String() != want {
		t.Errorf("%d, %v: %s", n, err, &b)
	}
	err := error(seenOutside{usageError{errors.New(inside)}})
	if err.Error() != want || !isUsage(err) {
		t.Errorf("%v, wrong usage: %t", err, isUsage(err))
	}
	if err := controlRoom(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := controlRoom("image_test.go/runs"); err == nil || !strings.Contains(err.Error(), "/tmp/my runs, which CHAOS_OUT names: not a directory; remedy: ") {
		t.Errorf("%v", err)
	}
}
