package workload

import (
	"time"

	"chaos/history"
)

// finalTimeout bounds one try of a final read.
const finalTimeout = time.Second

// FinalReads lists a linearizable read of every key through every node; keys
// keep their order, and each key's reads go through all read modes.
func FinalReads(keys []string, nodes int, modes []string) []Op {
	out := make([]Op, 0, len(keys)*nodes)
	for k, key := range keys {
		for n := range nodes {
			op := Op{F: history.Read, Key: key, Value: null, Node: n, Timeout: finalTimeout, Final: true}
			if len(modes) > 0 {
				op.Mode = modes[(k+n)%len(modes)]
			}
			out = append(out, op)
		}
	}
	return out
}
