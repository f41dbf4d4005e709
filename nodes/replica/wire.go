package replica

import (
	"errors"
	"fmt"

	"chaos/nodes/consensus"
)

// Nodes talk to each other over TCP, whose checksum is enough beside the
// decoders' own checks: nothing here is trusted, and nothing is kept on disk.
// Each node dials each other one and sends its messages on that connection; the
// other side answers hello with welcome and each ping with a pong that echoes it, and sends
// nothing else. Frames, little-endian: length of the payload 4 · type 1 · payload.
const (
	frameHello   = 1 // magic, version 2, from 2, to 2, the cluster's name
	frameWelcome = 2
	frameMessage = 3 // a message, by the core's codec
	framePing    = 4
	framePong    = 5
	frameBye     = 6 // the connection is given up, and its sender lives

	frameHeader = 5
	// peerFrameMax is the longest payload, bytes.
	peerFrameMax = 8 << 20
	// pingBytes is the length of a ping and of its pong.
	pingBytes = 8
	// greetingMax is the longest payload before the other side is known, bytes.
	greetingMax = 512

	peerVersion = 1
	peerMagic   = "chaospeer"
)

var errFrame = errors.New("replica: a frame from a peer is too long or of an unknown type")

// appendFrame returns b grown by one frame, as fill appends its payload.
func appendFrame(b []byte, kind byte, fill func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, kind)
	if fill != nil {
		b = fill(b)
	}
	le.PutUint32(b[at:], uint32(len(b)-at-frameHeader))
	return b
}

// nextFrame takes a frame of at most limit bytes off the front of b. The payload
// aliases b; ok is false where b holds no whole frame yet.
func nextFrame(b []byte, limit int) (kind byte, payload, rest []byte, ok bool, err error) {
	if len(b) < frameHeader {
		return 0, nil, b, false, nil
	}
	n := int64(le.Uint32(b))
	if n > int64(limit) || b[4] < frameHello || b[4] > frameBye {
		return 0, nil, b, false, errFrame
	}
	if int64(len(b)) < frameHeader+n {
		return 0, nil, b, false, nil
	}
	return b[4], b[frameHeader : frameHeader+n], b[frameHeader+n:], true, nil
}

// A hello says who dials, and whom of which cluster it means to reach.
type hello struct {
	from, to consensus.ID
	cluster  string
}

func (h hello) append(b []byte) []byte {
	return appendFrame(b, frameHello, func(b []byte) []byte {
		b = append(b, peerMagic...)
		b = le.AppendUint16(b, peerVersion)
		b = le.AppendUint16(b, uint16(h.from))
		b = le.AppendUint16(b, uint16(h.to))
		return append(b, h.cluster...)
	})
}

func parseHello(p []byte) (hello, error) {
	n := len(peerMagic)
	if len(p) < n+6 || string(p[:n]) != peerMagic {
		return hello{}, errors.New("replica: a peer's greeting is not one")
	}
	if v := le.Uint16(p[n:]); v != peerVersion {
		return hello{}, fmt.Errorf("replica: a peer speaks version %d, not %d", v, peerVersion)
	}
	return hello{
		from:    consensus.ID(le.Uint16(p[n+2:])),
		to:      consensus.ID(le.Uint16(p[n+4:])),
		cluster: string(p[n+6:]),
	}, nil
}
