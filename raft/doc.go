// Package raft is the Raft consensus algorithm as a deterministic state machine:
// a [Core] takes ticks, messages, commands and reads, and answers each with one
// Output that says what to journal, send and apply. It has no clock, goroutine,
// lock or I/O. Names and sections are those of the paper ("In Search of an
// Understandable Consensus Algorithm", extended version) and of Ongaro's thesis
// ("Consensus: Bridging Theory and Practice").
//
//	election.go     terms, votes, pre-vote, time-outs   paper 5.2, 5.4.1; thesis 4.2.3, 9.6
//	replication.go  appends, commitment, check-quorum   paper 5.3, 5.4.2; thesis 6.2, 10.2
//	read.go         read-index                          thesis 6.4
//	snapshot.go     compaction and chunked transfer     paper 7
//	log.go          the log itself
//	codec.go        bytes of messages and records
//	check*.go       watches all cores of a cluster      paper, figure 3
//
// # What its owner must know
//
// Outputs are carried out one after the other, each field by field. Nothing may
// be fed to the core between sending Early and making the Records of the same
// output durable. The owner may gather several outputs into one and shrink the
// sum with [Core.Merge].
//
// A leader counts itself as holding an entry from the moment it appends it,
// although its own journal is written at the same time as the followers'
// (thesis 10.2.1). This is safe because of that order: an acknowledgement of the
// entry can only be fed after its append was sent in Early, so after the whole
// output was carried out, journal included. In a cluster of one the entry is
// committed in the same output, where Committed stands behind Records.
//
// A vote, an acknowledgement of entries and every request for votes leave in
// Messages, so after the hard state and entries they speak of. Only what a leader
// sends its followers goes in Early: its term was durable before its candidacy
// was sent anywhere.
//
// Records are a journal: later ones win. Hard holds term and vote; Entry holds
// an entry, and drops every earlier record of that index or a higher one; Base
// says that the log starts anew behind a snapshot.
//
// A Read at a follower is asked of the leader. It ends in Output.Reads, or in
// Output.Rejected when the leader is lost or silent for two election time-outs,
// but an owner should have a time-out of its own. A Propose at a follower is
// forwarded once and then forgotten: its end is seen only when it is committed.
//
// Options.Rand must differ between incarnations of a node: it also names the
// node's reads, so that an answer meant for an earlier incarnation is not taken
// for one to this.
//
// # Where it differs from the paper, and why
//
//   - A vote is refused, term and all, while a leader is being heard, and an
//     election begins with a pre-vote (thesis 4.2.3, 9.6): a node that comes back
//     from a partition must not depose a leader that works.
//   - A leader that does not hear from a majority for an election time-out steps
//     down (thesis 6.2), so that its clients look elsewhere.
//   - [Core.PeerReset] with the leader's name makes a node forget that leader and
//     stand for election within two ticks: the kernel tells of a killed process
//     much sooner than a time-out does. The next few time-outs are short too. The
//     term rises only after a pre-vote of a majority that has lost the leader.
//   - The first election of a new cluster has no wait and no pre-vote; the lowest
//     voter stands at its first tick.
//   - A heartbeat is an empty append with the consistency check at the end of
//     what was sent, so it also discovers lost appends.
//   - The commit index also travels in a message of its own that nobody answers,
//     cut to what the follower is known to hold: waiters at followers are served
//     at once without another round of appends.
//   - A follower's refusal names the conflicting term and its first index there
//     (end of paper 5.3), and appends are sent ahead of acknowledgements.
//   - Snapshot chunks are acknowledged one by one, and the one in flight is sent
//     again when nothing came back, so that a transfer goes on where it stopped.
//   - A leader keeps some entries below its snapshot in memory while a live
//     follower still needs them, so that frequent compaction does not force a
//     snapshot on a follower that is a few messages behind.
//   - Voters do not change: entries of kind Configure are refused. A quorum is
//     still asked of the configuration that the log or snapshot holds.
package raft
