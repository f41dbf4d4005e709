package sim

import (
	"strings"

	"chaos/nodes/consensus"
)

// A moment is a rare situation of the world around the nodes, by its place in
// worldMoments.
type moment int

const (
	diedInStep moment = iota
	diedAtPoint
	lostUnsynced
	tornBatch
	damageRefused
	diskEnded
	electedParted
	startedParted
	lateMessage
	wokenBehind
	worldMomentsCount
)

var worldMoments = [worldMomentsCount]string{
	diedInStep:    "node dies in the middle of a step",
	diedAtPoint:   "node dies at a crash point",
	lostUnsynced:  "power is lost with writes that are not durable",
	tornBatch:     "journal is cut behind a torn batch",
	damageRefused: "damaged journal is refused",
	diskEnded:     "failing disk ends a node",
	electedParted: "leader elected while links are cut",
	startedParted: "node starts while its links are cut",
	lateMessage:   "message to an earlier incarnation arrives",
	wokenBehind:   "frozen node wakes in an older term",
}

// Moments are the rare situations that were reached: the protocol's own, then
// those of the world around it.
func (w *World) Moments() []Moment {
	out := append([]Moment{}, w.watch.Moments()...)
	for i, name := range worldMoments {
		out = append(out, Moment{Name: name, Seen: w.moments[i]})
	}
	return out
}

func (w *World) count(m moment, seen bool) {
	if seen {
		w.moments[m]++
	}
}

// parted tells whether a link of the node to another one is cut.
func (w *World) parted(h *host) bool {
	for _, other := range w.hosts[1:] {
		if other != h && w.cutOff(h.id, other.id) {
			return true
		}
	}
	return false
}

// noticeRole counts elections that matter. Where nobody leads, who succeeds last counts.
func (w *World) noticeRole(h *host, s consensus.Status) {
	w.count(electedParted, s.Leader == h.id && h.last.Leader != h.id && w.parted(h))
}

// noticeLog counts what a node says of its recovery.
func (w *World) noticeLog(line string) {
	w.count(tornBatch, strings.Contains(line, "was not written to its end"))
}

// newest is the highest term or round that any node is in.
func (w *World) newest() (term uint64) {
	for _, h := range w.hosts[1:] {
		term = max(term, h.last.Term)
	}
	return term
}
