package docker

import (
	"errors"
	"net"
	"os"
)

// A throughConn is a connection through a door. A deadline that passed is told as
// the sockets of this machine tell it, which clients look for.
type throughConn struct{ net.Conn }

func (c throughConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, deadline(err)
}

func (c throughConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, deadline(err)
}

func deadline(err error) error {
	var t net.Error
	if errors.As(err, &t) && t.Timeout() {
		return os.ErrDeadlineExceeded
	}
	return err
}
