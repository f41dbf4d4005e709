package history

// The functions of nemesis events. Their Value is a [Note].
//
//	inject    invoke when commanded; ok when proven, info when not
//	verify    ok or info, just before a heal: did it hold until now
//	heal      invoke when commanded; ok when proven, info when not
//	phase     info: Note.Phase begins; Note.Detail may say more of it
//	leader    info: Note.Leader was seen to lead in Note.Term (leader "-": none seen)
//	incident  info: something happened to Note.Node unasked
//
// A fault's window is from the completion of inject to the invocation of heal.
const (
	Inject   = "inject"
	Verify   = "verify"
	Heal     = "heal"
	Phase    = "phase"
	Leader   = "leader"
	Incident = "incident"
)

// CrashPoint begins the Detail of an incident that the plan asked for: a node
// that ended itself at its armed crash point.
const CrashPoint = "crash point: "

// Invariant begins the Detail of an incident that a simulation saw from the
// side: a promise of the protocol was broken, as what follows says.
const Invariant = "invariant: "

// LeftBroken begins the Detail of the phase heal of a simulation, which first
// heals no more than a majority: what was wrong with the others until that answered.
const LeftBroken = "left broken: "

// Damage begins what a node of ours says last when it refuses to start, since its
// own disk does not hold what it had made durable.
const Damage = "its own disk is damaged: "

// The phases of a run, in order.
const (
	WarmUp  = "warm-up"
	Storm   = "storm"
	Healing = "heal"
	Settle  = "settle"
	Final   = "final" // final reads through every node
	Restart = "restart"
	Again   = "again" // final reads again, after all nodes were restarted
)

// A Note is the value of a nemesis event.
type Note struct {
	ID       string   `json:"id,omitempty"`     // of the injection
	Fault    string   `json:"fault,omitempty"`  // as the plan names it
	Recipe   string   `json:"recipe,omitempty"` // the compound it belongs to; its windows count as one
	Required bool     `json:"required,omitempty"`
	Victims  []string `json:"victims,omitempty"`
	Kinds    []string `json:"kinds,omitempty"`   // of effects: down, frozen, cut, …
	Effects  []string `json:"effects,omitempty"` // in words: "n1→n2 cut"
	Quorum   bool     `json:"quorum,omitempty"`  // a majority was up and connected while only this and earlier injections lived
	Failures []string `json:"failures,omitempty"`
	How      []string `json:"how,omitempty"`  // what proved it, bounded
	Took     int64    `json:"took,omitempty"` // ns, from command to evidence
	Phase    string   `json:"phase,omitempty"`
	Leader   string   `json:"leader,omitempty"`
	Term     uint64   `json:"term,omitempty"`
	Node     string   `json:"node,omitempty"`
	Detail   string   `json:"detail,omitempty"`
}

// An Audit is one line of a node's own record, nodes/<id>/audit.jsonl. It is the
// suspect's claim: it can convict, but never acquit.
//
// A line is written at each start (Start), at each change of Term, Vote or
// Role, before any message that tells of it leaves, and whenever Applied
// reaches a multiple of AuditEvery (then Hash is set).
type Audit struct {
	System      string `json:"system"` // raft or paxos
	Node        string `json:"node"`
	Incarnation uint64 `json:"incarnation"`
	Start       bool   `json:"start,omitempty"`
	Term        uint64 `json:"term"` // Paxos: round of the highest promised ballot
	Vote        string `json:"vote"` // Paxos: node of the highest promised ballot
	Role        string `json:"role"`
	Applied     uint64 `json:"applied"`
	Hash        string `json:"hash,omitempty"`
}

// AuditEvery is the distance between applied indices whose hash is audited.
const AuditEvery = 64
