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
const drawnBefore = "930c7c4e0f8ed244f9f85fedeb8f033e69f835951e7e46c86871b2d0c73ca45e"

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
