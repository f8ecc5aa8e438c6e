//go:build unix

package remote

import "syscall"

// hungUp reports whether the other side has closed the socket and all that it
// sent before was read. It waits for nothing, as the socket does not.
func hungUp(raw syscall.RawConn) (gone bool) {
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		gone = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	})
	return gone || err != nil // we have closed it
}
