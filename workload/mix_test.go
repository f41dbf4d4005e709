package workload

import (
	"strings"
	"testing"
)

// TestCheckMix: weights are for functions that the workload has, and something is written.
func TestCheckMix(t *testing.T) {
	for _, c := range []struct {
		workload string
		mix      map[string]int
		wrong    string
	}{
		{"register", nil, ""},
		{"register", map[string]int{"read": 3, "write": 1}, ""},
		{"mixed", map[string]int{"append": 1}, ""},
		{"register", map[string]int{"read": 1}, "nothing would be written"},
		{"register", map[string]int{"append": 1}, "has no function \"append\"; it has read, write"},
		{"counter", map[string]int{"add": -1}, "weights are 0 or more"},
		{"cas", map[string]int{"bogus": 1, "cas": 1}, "bogus"},
	} {
		w, err := Find(c.workload)
		if err != nil {
			t.Fatal(err)
		}
		err = w.CheckMix(c.mix)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s %v: %v, want %q", c.workload, c.mix, err, c.wrong)
		}
	}
}
