package campaign

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"chaos/history"
	"chaos/nodes"
)

// BenchmarkRecord is what recording one operation costs, from asking the
// generator to both its events being in the file; cpu-µs/op counts the flusher too.
func BenchmarkRecord(b *testing.B) {
	rec, err := newRecorder(filepath.Join(b.TempDir(), "history.jsonl"), history.Header{History: history.Version})
	if err != nil {
		b.Fatal(err)
	}
	rec.use(&closedLoop{f: history.Write, nodes: 5, end: time.Hour})
	w := &worker{load: &load{rec: rec, members: make([]nodes.Member, 5)}, identity: identity{session: 1, draw: newSession}}
	before := cpu(b)
	for b.Loop() {
		_, e, _, _ := rec.next(w)
		e.Type, e.Attempts, e.At = history.Ok, 1, 12345
		rec.complete(e)
	}
	close(rec.stop)
	<-rec.stopped // all is in the file
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
	rec.file.Close()
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
