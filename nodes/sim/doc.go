// Package sim runs clusters of our own nodes in virtual time: one loop, one
// source of chance, no clock, no goroutine, no I/O. Equal options make equal
// runs, event for event.
//
// What runs here is what runs on real machines: the consensus core, the driver
// (replica.Node), the journal's format, the state machine, the client and its
// protocol. Only what lies below them is made up:
//
//	world.go    time, the queue of events, and what is true of the whole cluster
//	host.go     a machine: it starts, feeds, freezes and kills its node
//	node.go     the node on it, whatever its messages are
//	network.go  links: delays, losses, doubles, cuts
//	disk.go     files: what is written, what is durable, what power loss leaves
//	client.go   one client's connection to one node, and the node's end of it
//	cluster.go  the cluster as providers show it: effects with evidence
//
// # Time within a step
//
// A node's step runs at once, but takes time: every sync moves the host's own
// clock on, and what the step does behind it (a message, an answer, a write)
// happens at that later time. A kill in between takes back what had not
// happened yet: messages that had not left, answers, writes, names. Inputs that
// arrive meanwhile wait, and are carried out together, as in a live node.
//
// Everything is computed with integers, so that machines agree.
package sim
