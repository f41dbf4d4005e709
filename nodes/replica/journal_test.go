package replica_test

import (
	"testing"

	"chaos/nodes/nodestest"
	"chaos/nodes/replica"
)

func TestJournalOnOSDisk(t *testing.T) {
	nodestest.Journal(t, func(t *testing.T) replica.Disk {
		d, err := replica.OpenDisk(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func TestJournalOnMemDisk(t *testing.T) {
	nodestest.Journal(t, func(*testing.T) replica.Disk { return replica.NewMemDisk() })
}

func TestJournalPower(t *testing.T) {
	nodestest.JournalPower(t, 40, replica.NewMemDisk, (*replica.MemDisk).Restored)
}
