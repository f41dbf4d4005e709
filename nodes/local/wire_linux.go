package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"chaos/nodes"
)

// The harness and its hub talk over a socket that keeps messages apart. Each
// message is one JSON document; an answer may carry one file descriptor.
const (
	messageMax = 64 << 10 // bytes
	controlFD  = 3        // in the hub

	opSetup  = "setup"  // make Nodes hosts
	opProbe  = "probe"  // try what agents could do
	opAgent  = "agent"  // start Host's agent anew and hand out its stream
	opDial   = "dial"   // connect to Addr from From and hand out the connection
	opCancel = "cancel" // give up the dial with this ID
)

type request struct {
	ID      uint64        `json:"id"`
	Op      string        `json:"op"`
	Nodes   int           `json:"nodes,omitempty"`
	Host    int           `json:"host,omitempty"` // from 1
	From    string        `json:"from,omitempty"` // an address
	Addr    string        `json:"addr,omitempty"` // address and port
	Timeout time.Duration `json:"timeout,omitempty"`
}

type response struct {
	ID      uint64                      `json:"id"`
	Error   string                      `json:"error,omitempty"`
	Errno   syscall.Errno               `json:"errno,omitempty"`   // the system's reason, if there is one
	Timeout bool                        `json:"timeout,omitempty"` // the reason is time
	Effects map[nodes.EffectKind]string `json:"effects,omitempty"` // "" for nil
}

// failed puts an error into a response.
func (r response) failed(err error) response {
	if err == nil {
		return r
	}
	r.Error = err.Error()
	errors.As(err, &r.Errno)
	var t net.Error
	r.Timeout = errors.As(err, &t) && t.Timeout() && r.Errno != syscall.ETIMEDOUT
	return r
}

// receive reads one message, and the descriptor beside it, nil if there is none.
func receive(c *net.UnixConn, buf []byte, into any) (*os.File, error) {
	oob := make([]byte, syscall.CmsgSpace(4))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	file, err := descriptor(oob[:oobn])
	if err == nil && flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("local: a message of more than %d bytes", messageMax)
	}
	if err == nil {
		err = json.Unmarshal(buf[:n], into)
	}
	if err != nil && file != nil {
		file.Close()
		file = nil
	}
	return file, err
}

func descriptor(oob []byte) (*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "handed over"), nil
}

// send writes one message with a descriptor beside it; a negative fd is none.
func send(c *net.UnixConn, message any, fd int) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var oob []byte
	if fd >= 0 {
		oob = syscall.UnixRights(fd)
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	return err
}
