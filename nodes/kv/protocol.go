package kv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"chaos/nodes/consensus"
)

// Client and node talk over TCP in frames: four bytes of length, big endian, and
// that many bytes. The client's first frame is a [Hello]; the node answers with
// a [Welcome], and closes after one that refuses. Then each further frame of the
// client is a [Request], each of the node a [Response], in any order.

// The bounds of the protocol.
const (
	FrameMax       = 1 << 20 // bytes of one frame, without its length
	HelloMax       = 512     // bytes of the first frame of either side
	ClusterMax     = 256     // bytes of a cluster's name
	TextMax        = 256     // bytes of a text in a Welcome or a Response; longer ones are cut
	OutstandingMax = 64      // requests of one connection that are not answered yet
)

// protocolVersion is the version of the client protocol that this program speaks.
const protocolVersion = 1

const helloMagic = "chaoskv"

// Errors of the protocol. Whoever meets one closes the connection.
var (
	ErrFrame    = errors.New("kv: a frame is longer than the protocol allows")
	ErrHello    = errors.New("kv: not a greeting of this protocol")
	ErrVersion  = errors.New("kv: the other side speaks another version of the protocol")
	ErrRequest  = errors.New("kv: not a request")
	ErrResponse = errors.New("kv: not a response")
	ErrRefused  = errors.New("kv: the node refused the greeting")
)

// closeFrame writes the length of the frame that began at start. It panics where
// the frame is longer than FrameMax; no bounded message is.
func closeFrame(b []byte, start int) []byte {
	n := len(b) - start - 4
	if n > FrameMax {
		panic(fmt.Sprintf("kv: a frame of %d bytes; at most %d are allowed", n, FrameMax))
	}
	binary.BigEndian.PutUint32(b[start:], uint32(n))
	return b
}

// NextFrame takes one frame of at most limit bytes off the front of b. The body
// aliases b. ok is false where b holds no whole frame yet. A length past limit
// is ErrFrame.
func NextFrame(b []byte, limit int) (body, rest []byte, ok bool, err error) {
	if len(b) < 4 {
		return nil, b, false, nil
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n > int64(limit) {
		return nil, b, false, ErrFrame
	}
	if int64(len(b)) < 4+n {
		return nil, b, false, nil
	}
	return b[4 : 4+n : 4+n], b[4+n:], true, nil
}

// AppendHello returns b grown by the client's first frame, which names the
// cluster that it means to talk to.
func AppendHello(b []byte, cluster string) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, helloMagic...)
	b = append(b, protocolVersion)
	return closeFrame(appendBytes(b, cluster), start)
}

// ParseHello reads the body of a client's first frame.
func ParseHello(body []byte) (cluster string, err error) {
	r, err := greeting(body)
	if err != nil {
		return "", err
	}
	cluster = string(r.bytes(ClusterMax))
	if !r.done() {
		return "", ErrHello
	}
	return cluster, nil
}

// greeting checks magic and version, and leaves the rest to be read.
func greeting(body []byte) (reader, error) {
	n := len(helloMagic)
	if len(body) < n+1 || string(body[:n]) != helloMagic {
		return reader{}, ErrHello
	}
	if body[n] != protocolVersion {
		return reader{}, fmt.Errorf("%w: %d, not %d", ErrVersion, body[n], protocolVersion)
	}
	return reader{rest: body[n+1:]}, nil
}

// AppendWelcome returns b grown by the node's first frame: refusal is empty, or
// says why the node will not talk.
func AppendWelcome(b []byte, refusal string) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, helloMagic...)
	b = append(b, protocolVersion, flag(refusal != ""))
	return closeFrame(appendBytes(b, cut(refusal)), start)
}

// ParseWelcome reads the body of a node's first frame.
func ParseWelcome(body []byte) (refusal string, err error) {
	r, err := greeting(body)
	if err != nil {
		return "", err
	}
	refused := r.uint8()
	refusal = string(r.bytes(TextMax))
	if !r.done() || refused > 1 || (refused == 1) != (refusal != "") {
		return "", ErrHello
	}
	return refusal, nil
}

func cut(text string) string { return text[:min(len(text), TextMax)] }

// A Mode is the way that a request takes through the node.
type Mode uint8

// The modes. Only a Get may ask for ModeIndex.
const (
	ModeLog   Mode = 0 // the command goes through the log
	ModeIndex Mode = 1 // the core confirms an index, then the state is read
)

// A Request asks a node for one operation.
type Request struct {
	ID      uint64 // chosen by the client; unique on its connection
	Mode    Mode
	Command Command
}

// AppendRequest returns b grown by one frame.
func AppendRequest(b []byte, r Request) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, r.ID)
	b = append(b, byte(r.Mode))
	return closeFrame(AppendCommand(b, r.Command), start)
}

// ParseRequest reads the body of a request's frame. The command's Value and Old
// alias body; encoded is the command as [AppendCommand] wrote it, and aliases
// body too.
func ParseRequest(body []byte) (r Request, encoded []byte, err error) {
	in := reader{rest: body}
	r.ID, r.Mode = in.uvarint(), Mode(in.uint8())
	if in.bad || r.Mode > ModeIndex {
		return Request{}, nil, ErrRequest
	}
	if r.Command, err = DecodeCommand(in.rest); err != nil {
		return Request{}, nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return r, in.rest, nil
}

// Refusal tells whether a request that could be read must be refused all the
// same, before anything is done for it: a command without a session, or a mode
// that its operation does not have.
func (r Request) Refusal() (Response, bool) {
	text := ""
	switch {
	case r.Mode == ModeIndex && r.Command.Op != Get:
		text = "only a get can be read without the log"
	case r.Mode == ModeLog && (r.Command.Session == 0 || r.Command.Sequence == 0):
		text = "a command needs a session and a sequence from 1"
	default:
		return Response{}, false
	}
	return Response{ID: r.ID, Grade: Refused, Code: BadRequest, Text: text}, true
}

// A Response answers the request of the same ID.
type Response struct {
	ID     uint64
	Grade  Grade
	Code   Code
	Text   string       // a few plain words beside a Code; "" with Answered
	Leader consensus.ID // who may know better; 0 when unknown
	Result Result       // of an Answered command
}

// AppendResponse returns b grown by one frame.
func AppendResponse(b []byte, r Response) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, r.ID)
	b = append(b, byte(r.Grade), byte(r.Code))
	b = appendBytes(b, cut(r.Text))
	b = binary.AppendUvarint(b, uint64(r.Leader))
	return closeFrame(AppendResult(b, r.Result), start)
}

// ParseResponse reads the body of a response's frame. The result's value aliases
// body. What comes with a code of a later version is Doubtful.
func ParseResponse(body []byte) (Response, error) {
	in := reader{rest: body}
	r := Response{ID: in.uvarint(), Grade: Grade(in.uint8()), Code: Code(in.uint8())}
	r.Text = string(in.bytes(TextMax))
	leader := in.uvarint()
	r.Leader = consensus.ID(leader)
	r.Result = in.result()
	if !in.done() || r.Grade > Doubtful || leader != uint64(r.Leader) {
		return Response{}, ErrResponse
	}
	grade, ok := r.believed()
	if !ok || (grade == Answered && r.Result.Status != Done) {
		return Response{}, ErrResponse
	}
	r.Grade = grade
	return r, nil
}
