package nodes

import (
	"encoding/json"
	"fmt"
	"slices"
)

// etcdRefusals are the errors that etcd gives before it proposes anything. After
// them a change certainly did not happen and never will; after any other it may.
//
// Some are missing on purpose. "mvcc: database space exceeded" comes before a
// proposal and also after it was applied. "request timed out", "leader changed",
// "server stopped" and an ended context leave the proposal where it is, and the
// gateway's own complaints ("transport is closing") do not say how far it came.
var etcdRefusals = []string{
	"etcdserver: no leader", // asked for by the request: see etcdLed
	"etcdserver: not capable",
	"etcdserver: too many requests",
	"etcdserver: request is too large",
	"etcdserver: too many operations in txn request",
	"etcdserver: duplicate key given in txn request",
	"etcdserver: key is not provided",
	"raft proposal dropped", // by the member's own raft, which neither kept nor passed it on
}

// gradeEtcd tells how certain the end of a request is that was answered with an
// error: in words that name the cause, in the body; the status alone proves nothing.
func gradeEtcd(status int, body []byte) *etcdEnd {
	var a struct {
		Error   string `json:"error"` // up to version 3.4
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &a); err != nil || a.Error == "" && a.Message == "" {
		return &etcdEnd{false, fmt.Sprintf("HTTP status %d: %.128q", status, body)}
	}
	if a.Message == "" {
		a.Message = a.Error
	}
	return &etcdEnd{slices.Contains(etcdRefusals, a.Message), fmt.Sprintf("%.256s", a.Message)}
}
