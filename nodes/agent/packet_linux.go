package agent

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A packet is one that the kernel handed to a queue.
type packet struct {
	id   uint32
	size int    // bytes, IP header included
	data []byte // as much of it as we asked for
}

// parse reads what the kernel tells of a packet.
func (q *queue) parse(m netlink.Message) (p packet, ok bool) {
	if m.Header.Type != netlink.HeaderType(subsystemQueue<<8|messagePacket) || len(m.Data) < 4 {
		return p, false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return p, false
	}
	for ad.Next() {
		switch b := ad.Bytes(); ad.Type() {
		case attrPacketHead:
			if len(b) >= 4 {
				p.id, ok = binary.BigEndian.Uint32(b), true
			}
		case attrPayload:
			p.data, p.size = b, length(b)
		}
	}
	return p, ok && ad.Err() == nil
}

// length is the length that an IP packet says it has.
func length(b []byte) int {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return int(binary.BigEndian.Uint16(b[2:]))
	case len(b) >= 40 && b[0]>>4 == 6:
		return 40 + int(binary.BigEndian.Uint16(b[4:]))
	}
	return len(b)
}

// probe is what a datagram to the port of probes carries, or its beginning.
func (p packet) probe(port int) ([]byte, bool) {
	b, head := p.data, 0
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
		head = int(b[0]&15) * 4
	case len(b) >= 40 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
		head = 40
	}
	if head == 0 || len(b) < head+8+probeSize || int(binary.BigEndian.Uint16(b[head+2:])) != port {
		return nil, false
	}
	return b[head+8:], true
}

// twinMark marks the second copy of a packet, so that it is hurt no more.
const twinMark = 0x63686177

// twins sends packets a second time, from within the host that receives them or
// that sent them, just as they were: a verdict can't double a packet.
type twins struct{ v4, v6 int }

func openTwins() (*twins, error) {
	t := &twins{v4: -1, v6: -1}
	var err error
	if t.v4, err = rawSocket(unix.AF_INET, unix.IPPROTO_IP, unix.IP_HDRINCL); err != nil {
		return nil, fmt.Errorf("agent: a raw socket, to double packets by: %w: it needs CAP_NET_RAW in its own network namespace", err)
	}
	t.v6, _ = rawSocket(unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL) // a host may have no IPv6
	return t, nil
}

func rawSocket(family, level, ownHeader int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return -1, err
	}
	if err = unix.SetsockoptInt(fd, level, ownHeader, 1); err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, twinMark)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// send sends one packet once more. Where that fails it arrives once, as a
// doubled packet may that is lost after all.
func (t *twins) send(b []byte) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		to := unix.SockaddrInet4{Addr: [4]byte(b[16:20])}
		_ = unix.Sendto(t.v4, b, unix.MSG_DONTWAIT, &to)
	case len(b) >= 40 && b[0]>>4 == 6 && t.v6 >= 0:
		to := unix.SockaddrInet6{Addr: netip.AddrFrom16([16]byte(b[24:40])).As16()}
		_ = unix.Sendto(t.v6, b, unix.MSG_DONTWAIT, &to)
	}
}

func (t *twins) close() {
	for _, fd := range []int{t.v4, t.v6} {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
	}
}
