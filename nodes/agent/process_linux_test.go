package agent

import (
	"path/filepath"
	"testing"
)

// What can't be looked at is proven neither gone nor frozen.
func TestUnreadableGroupProvesNothing(t *testing.T) {
	left := groupIn(filepath.Join(t.TempDir(), "nowhere"), 7)
	if len(left) == 0 || allStopped(left) {
		t.Errorf("without /proc a group is said to be %v", left)
	}
}
