// Package paxos is multi-decree Paxos as a deterministic state machine, after
// Leslie Lamport, "Paxos Made Simple" (2001). A [Core] is one node: proposer,
// acceptor and learner, each in a file of its own. It has no clock, no
// goroutine and does no I/O; see package consensus for how it is driven.
package paxos
