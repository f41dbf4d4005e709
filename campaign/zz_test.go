package campaign

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"
)

func TestBatchTry(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("N"))
	first, _ := strconv.Atoi(os.Getenv("FIRST"))
	for _, name := range []string{"raft", "paxos", "paxos-classic"} {
		if s := os.Getenv("S"); s != "" && s != name {
			continue
		}
		tally, err := Batch{System: simSystems[name], First: uint64(max(first, 1)), Seeds: n, Duration: 10 * time.Second, Jobs: 2, KeepGoing: true}.Run(context.Background())
		t.Logf("%s: %d seeds, %.1f CPU s, %.0f simulated, %d events, %d ops, %d applied, %d states, %d unknown err %v", name, tally.Seeds, tally.CPU, tally.Simulated, tally.Events, tally.Operations, tally.Applied, tally.States, tally.Unknown, err)
		for i, v := range tally.Violations {
			if i < 12 {
				t.Log(v)
			}
		}
		t.Log(len(tally.Violations), "violations")
	}
}
