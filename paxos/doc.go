// Package paxos is multi-decree Paxos as a deterministic state machine, after
// Leslie Lamport, "Paxos Made Simple" (2001). A [Core] is one node: proposer,
// acceptor and learner, each in a file of its own. It has no clock, no
// goroutine and does no I/O; see package consensus for how it is driven.
//
// # The paper's rules and where they stand
//
//	Rule of "Paxos Made Simple"                             Function
//	P1a  accept unless a higher prepare was answered        acceptor.accept
//	P2c  the value is that of the highest accepted ballot   Core.choose
//	2.2  phase 1a, prepare                                  Core.prepare
//	2.2  phase 1b, promise                                  acceptor.promise, Core.onPrepare
//	2.2  phase 2a, accept request                           Core.propose, Core.issue, Core.ask2a
//	2.2  phase 2b, accepted                                 acceptor.accept, Core.onAccept
//	2.2  a majority accepted: chosen                        Core.countAccepted
//	2.2  abandon a ballot when a higher one is known        Core.onRefuse, Core.preempted
//	2.3  learning a chosen value                            Core.chosen, Core.onLearn, Core.onCatchUp
//	2.4  progress: who proposes                             multi.go, classic.go (Core.backOff), Core.signOfLife
//	2.5  stable storage, unique numbers                     Record, Core.Restore, Ballot
//	3    phase 1 for infinitely many instances at once      Core.prepare (slots from one on), Core.lead
//	3    gaps are filled with no-ops                        Core.issue
//	3    commands proposed ahead of earlier ones            pipelineSlots, learner.advance
//
// # Words
//
// A ballot is the paper's proposal number, a slot one instance of the algorithm
// (one decree). The value of a slot is a batch of commands; the empty batch is
// the no-op. Entries count commands, one index each, over all slots in order; a
// no-op has no entry, and Entry.Term is the slot. A mark is the slot up to which
// all are decided.
//
// # What is durable when
//
// Promises and acceptances are in Output.Records, and what answers a proposer
// is in Output.Messages, which leave after the records are synced. A proposer
// counts its own acceptor's vote in the step that records it. That is sound
// because whatever rests on the vote leaves later: an answer to a prepare request
// is handled after the output that held the request was carried out (a prepare
// request is Early only where a durable RecordRounds keeps its ballot from being
// used again, else it is one of Messages); accept requests (Early) rest only on phase 1, whose own promise was
// recorded in an earlier output, carried out before any other promise could
// arrive; and a decision needs, where there is more than one voter, an answer to
// an accept request that left together with the record of the own vote, in an
// output carried out before the answer could arrive. Heartbeats, decisions,
// confirmations and forwarded commands are Early for the same reason.
// Gathering several steps into one output changes none of this.
//
// Decisions need not be durable. RecordMark notes, with records that have to be
// synced anyway, how far the log is decided; after a restart the entries up to
// it come with the first output and the rest is learned again from a proposer's
// phase 1 or from peers. Status.Commit never falls in one incarnation.
//
// # What watches it
//
// A [Check] looks at all cores of a cluster in a simulation and names the
// invariant that they break; check.go lists them with their sections. For its
// sake alone the core counts acceptances and decisions (touch).
// testdata/defects holds patches, each of which puts one historical mistake in.
//
// # Where we differ from the paper
//
//   - One promise covers all slots, in Classic too; the paper runs one instance
//     at a time there.
//   - A promise names the slots that the acceptor knows to be decided by their
//     mark instead of by their values; the proposer proposes only above the
//     highest mark and learns the rest. It comes in parts where it is long.
//   - Values found in promises that are not yet complete, or beyond the first
//     majority, count as well: a higher ballot's value is never the worse one.
//   - An acceptor that knows a slot to be decided answers an accept request with
//     the decision instead of accepting again.
//   - A refusal is told instead of silence, which the paper allows as an
//     optimisation (end of section 2.2).
//   - Decisions travel as a mark and a ballot: a learner takes what its own
//     acceptor accepted in that ballot. A proposer that learns of a decision other
//     than its own proposal gives the ballot up before it tells a mark again.
//   - Multi: a node asks a majority whether anybody hears the distinguished
//     proposer before it runs phase 1 (Core.probe), so that one which comes back
//     from a partition disturbs nobody; who lacks many decisions is not let
//     either. Transfer and Bootstrap skip that.
//   - A request that goes further than all before it in its ballot is a sign of
//     life (pace.go): who promised that ballot waits anew for its proposer.
//   - Multi: commands sent to a proposer that was lost are forwarded again, so that
//     a command may be decided twice; sessions of the state machine absorb it. Who
//     knows that it lacks decisions catches up first.
//   - Classic: answers tell whether their sender has commands, and a proposer that
//     asks for votes names who goes next (contention), whose phase 1 then runs
//     beside its phase 2. These are hints: a proposer that sees nothing come of
//     them goes on its own, after a random time.
//   - Classic: rounds of ballots are reserved many at a time (Core.reserved), so
//     that phase 1 waits for one sync and not for two.
//   - Classic: a proposer that was preempted several times in a row raises its
//     ballot by more than one, so that it wins against those that start with it.
//   - Reads take no slot: see reader.
//   - Checkpoints and their transfer (checkpoint.go) are not in the paper. A
//     checkpoint must end where a slot ends.
package paxos
