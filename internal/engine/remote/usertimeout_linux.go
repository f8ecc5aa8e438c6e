package remote

import (
	"syscall"
	"time"
)

// setUserTimeout makes a socket end with ETIMEDOUT when what was sent on it has not
// been acknowledged for d. The other side's kernel does that, so that a server that is
// slow is not taken for a network that lost it.
func setUserTimeout(raw syscall.RawConn, d time.Duration) error {
	const tcpUserTimeout = 0x12 // TCP_USER_TIMEOUT, which package syscall lacks
	var err error
	if controlErr := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
	}); controlErr != nil {
		return controlErr
	}
	return err
}
