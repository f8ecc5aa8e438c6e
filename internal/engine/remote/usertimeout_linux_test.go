package remote

import (
	"net"
	"syscall"
	"testing"
	"time"
)

func TestSocketsEndWhenNothingIsAcknowledged(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		s, err := newDialer(nil, true)(t.Context(), "tcp", net.JoinHostPort(host, port(t, l.Addr().String())))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		raw, err := s.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var ms int
		if controlErr := raw.Control(func(fd uintptr) { ms, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 0x12) }); controlErr != nil || err != nil {
			t.Fatal(controlErr, err)
		}
		if d := time.Duration(ms) * time.Millisecond; d != unackedTimeout {
			t.Errorf("%s: the timeout is %v", host, d)
		}
	}
}
