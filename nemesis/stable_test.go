package nemesis

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"
)

// drawnBefore is what the schedules of fault sets hashed to that a seed had to
// draw before there was any weather. Recipes that are added change it, other faults must not.
const drawnBefore = "59a923b9479056390844911e57244b06bd56d3b364c3a5dd5ba2fd1f7f3c4929"

func TestOldFaultSetsDrawTheSame(t *testing.T) {
	h := sha256.New()
	for _, list := range []string{"all", "kill", "pause", "partition", "slow", "kill,partition-ring", "kill,pause,partition", "none"} {
		for seed := range uint64(60) {
			o := everything(time.Duration(5+seed%40) * time.Second)
			o.Faults, _ = Parse(list)
			o.Nodes = []int{1, 2, 3, 4, 5, 7}[seed%6]
			o.Recipes, o.Background = seed%4 > 0, seed%3 > 0
			for _, st := range drawn(seed, o) {
				line, err := json.Marshal(st)
				if err != nil {
					t.Fatal(err)
				}
				h.Write(append(line, '\n'))
			}
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != drawnBefore {
		t.Errorf("schedules that were drawn before hash to %s now, not to %s", got, drawnBefore)
	}
}
