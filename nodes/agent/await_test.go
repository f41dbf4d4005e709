package agent_test

import (
	"testing"
	"time"
)

const enoughTime = 20 * time.Second // bounds every wait for what must come; it is no measurement

// await takes what comes next, and fails by name where nothing does.
func await[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(enoughTime):
		t.Fatalf("%s: nothing came for %s", what, enoughTime)
		panic("unreachable")
	}
}

// rest takes what is left in a channel that somebody has closed.
func rest[T any](t *testing.T, what string, from <-chan T) (all []T) {
	t.Helper()
	late := time.After(enoughTime)
	for {
		select {
		case v, ok := <-from:
			if !ok {
				return all
			}
			all = append(all, v)
		case <-late:
			t.Fatalf("%s: it was not closed for %s", what, enoughTime)
		}
	}
}
