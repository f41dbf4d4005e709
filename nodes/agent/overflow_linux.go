package agent

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/sock_diag.h: what SO_MEMINFO tells, and where in it are the losses.
const (
	memInfoFields = 9
	memInfoDrops  = 8
)

// overflow is how many datagrams the system has lost at the socket of probes,
// since nobody read them in time; 0 where it does not tell.
func (p *prober) overflow() (drops uint64) {
	if p.socket == nil {
		return 0
	}
	raw, err := p.socket.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // an error says that it is closed
		var info [memInfoFields]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 && size >= 4*(memInfoDrops+1) {
			drops = uint64(info[memInfoDrops])
		}
	})
	return drops
}
