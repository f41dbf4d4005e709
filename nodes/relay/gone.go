package relay

import (
	"net"
	"syscall"
)

// gone tells whether the dialer closed its connection before it sent anything:
// then its opening would never have reached the target.
func gone(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		again := err == syscall.EAGAIN || err == syscall.EINTR
		ended = !again && (err != nil || n == 0)
		return true
	})
	return err != nil || ended
}
