package kv

import "fmt"

// A Grade says how certain the end of a request is.
type Grade uint8

// The grades. They are on the wire: never renumber them.
const (
	Answered Grade = 0 // it happened, and Result says what came of it
	Refused  Grade = 1 // this attempt certainly did nothing, and never will
	Doubtful Grade = 2 // perhaps, now or at any later time
)

// A Code says why a request was not answered.
type Code uint8

// The codes. Those up to 99 are on the wire: never renumber them. Those from 100
// on are made by the client itself.
const (
	Fine         Code = 0
	NoLeader     Code = 1   // Refused: this node can't propose it and handed it to nobody
	Busy         Code = 2   // Refused: too many commands are under way
	BadRequest   Code = 3   // Refused: not a request that can be served
	Type         Code = 4   // Refused: applied as WrongType
	Full         Code = 5   // Refused: applied as TooLong
	NoSession    Code = 6   // Refused: applied as UnknownSession; of a retry, it proves nothing about the attempts before
	Stale        Code = 7   // Doubtful: applied as StaleSequence
	Superseded   Code = 8   // Doubtful: proposed, and its place in the log may have gone to another
	Overdue      Code = 9   // Doubtful: the node gave up waiting
	Stopping     Code = 10  // Refused: the node is shutting down and took nothing more
	Unreachable  Code = 100 // Refused: no connection, or none that was greeted, before anything was sent
	WrongCluster Code = 101 // Refused: the node's greeting refused us
	Lost         Code = 102 // Doubtful: the connection broke after sending began
	TimedOut     Code = 103 // Doubtful: no answer in time
	Garbled      Code = 104 // Doubtful: the node's answer is not of this protocol
	Crowded      Code = 105 // Refused: OutstandingMax requests are not answered yet
	NotSent      Code = 106 // Refused: time was up before anything was sent
)

var codeNames = map[Code]string{
	Fine: "fine", NoLeader: "no leader", Busy: "busy", BadRequest: "bad request", Type: "wrong type",
	Full: "too long", NoSession: "unknown session", Stale: "stale sequence", Superseded: "superseded",
	Overdue: "overdue", Stopping: "stopping", Unreachable: "unreachable", WrongCluster: "refused by the node",
	Lost: "connection lost", TimedOut: "timed out", Garbled: "garbled answer", Crowded: "too many outstanding",
	NotSent: "not sent in time",
}

// grades tells the one grade that each code of the wire comes with.
var grades = map[Code]Grade{
	Fine: Answered, NoLeader: Refused, Busy: Refused, BadRequest: Refused, Type: Refused, Full: Refused,
	NoSession: Refused, Stale: Doubtful, Superseded: Doubtful, Overdue: Doubtful, Stopping: Refused,
}

// believed is the grade of a response from outside: a code that this program
// doesn't know proves nothing, and one that contradicts its grade is a mistake.
func (r Response) believed() (Grade, bool) {
	grade, known := grades[r.Code]
	if !known {
		return Doubtful, r.Grade != Answered
	}
	return grade, r.Grade == grade
}

// String is the code in words.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// Respond turns what a machine made of a command into the answer to request id.
// A Result that is not Done changed nothing.
func Respond(id uint64, r Result) Response {
	switch r.Status {
	case Done:
		return Response{ID: id, Result: r}
	case WrongType:
		return Response{ID: id, Grade: Refused, Code: Type, Result: r}
	case TooLong:
		return Response{ID: id, Grade: Refused, Code: Full, Result: r}
	case UnknownSession:
		return Response{ID: id, Grade: Refused, Code: NoSession, Result: r}
	case StaleSequence:
		return Response{ID: id, Grade: Doubtful, Code: Stale, Result: r}
	}
	return Response{ID: id, Grade: Refused, Code: BadRequest, Result: r}
}

// After is the grade of a response to the given attempt, counted from 1. That a
// session is unknown is certain for a first attempt only: a later one may have
// found evicted what an earlier one did.
func (r Response) After(attempt int) Grade {
	if r.Code == NoSession && attempt > 1 {
		return Doubtful
	}
	return r.Grade
}
