package workload

import (
	"strconv"
	"strings"
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

// lastValue is larger than any that a generator writes, and exact in every language's numbers.
const lastValue = 1 << 50

// LastWrite is one more command for the last of the keys, for a time when nothing
// else is written: then it is the end of every journal. ok is false without keys.
func LastWrite(keys []string) (op Op, ok bool) {
	if len(keys) == 0 {
		return Op{}, false
	}
	key := keys[len(keys)-1]
	op = Op{F: history.Write, Key: key, Value: digits(lastValue), Timeout: finalTimeout}
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case appends.name:
		op.F = history.Append
	case counter.name:
		op.F, op.Value = history.Add, digits(1)
	}
	return op, true
}

func digits(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
