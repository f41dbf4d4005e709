package replica

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"chaos/nodes/consensus"
)

// A Status is what a node tells of itself over HTTP.
type Status struct {
	consensus.Status
	Hash        string         `json:"hash"`        // hash chain over applied commands, at Applied
	Incarnation uint64         `json:"incarnation"` // counts the node's starts, from 1
	System      string         `json:"system"`
	Cluster     string         `json:"cluster"`
	Voters      []consensus.ID `json:"voters"`
	LogBytes    int64          `json:"log_bytes"` // of the journal, since its last restart
	Syncs       uint64         `json:"syncs"`     // of the journal, since the start
	Snapshot    uint64         `json:"snapshot"`  // index of the last durable one
	Waiting     int            `json:"waiting"`   // requests without an answer
}

// Status is a copy of what the node believes. Between Flushes Applied is what
// the machine has applied.
func (n *Node[M, R]) Status() Status {
	s := Status{
		Status: n.core.Status(), Hash: n.machine.HashString(), Incarnation: n.incarnation, System: n.config.System,
		Cluster: n.config.Cluster, Voters: n.voters.Voters, LogBytes: n.journal.Bytes(), Syncs: n.journal.Syncs(),
		Snapshot: n.last, Waiting: len(n.waiting.by),
	}
	s.Applied = n.machine.Applied()
	return s
}

// published is the last Status that the owner gave out.
type published struct{ atomic.Pointer[Status] }

func (s *server[M, R]) publish() {
	v := s.node.Status()
	s.status.Store(&v)
}

// statusTimeout bounds one request of the status page.
const statusTimeout = 2 * time.Second

// serveStatus serves GET / and /status, POST /transfer?to=n2 and /compact. Its
// answers are as old as the last tick.
func (s *server[M, R]) serveStatus() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(s.status.Load())
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		v := s.status.Load()
		fmt.Fprintf(w, "%s %s of cluster %s\nrole %s, leader %s, term %d, commit %d, applied %d, log %d bytes\n",
			v.System, v.ID, v.Cluster, v.Role, v.Leader, v.Term, v.Commit, v.Applied, v.LogBytes)
	})
	mux.HandleFunc("POST /transfer", func(w http.ResponseWriter, r *http.Request) {
		to, err := consensus.ParseID(r.URL.Query().Get("to"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.relay(w, input[M]{kind: inTransfer, peer: to})
	})
	mux.HandleFunc("POST /compact", func(w http.ResponseWriter, _ *http.Request) {
		s.relay(w, input[M]{kind: inCompact})
	})
	h := http.Server{Handler: mux, ReadTimeout: statusTimeout, WriteTimeout: statusTimeout, IdleTimeout: peerIdle}
	s.spawn(func() {
		<-s.ctx.Done()
		h.Close()
	})
	h.Serve(s.Status)
}

// relay passes an order on to the owner.
func (s *server[M, R]) relay(w http.ResponseWriter, in input[M]) {
	if s.inbox.put(in) == 0 {
		http.Error(w, "the node's queue is full", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
