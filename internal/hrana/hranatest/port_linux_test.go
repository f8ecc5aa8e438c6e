package hranatest

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
)

// TestAHeldPortIsNobodyElses asks for any free port where there is only the one that is held.
func TestAHeldPortIsNobodyElses(t *testing.T) {
	p, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	addr, err := net.ResolveTCPAddr("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	const ipLocalPortRange = 51 // IP_LOCAL_PORT_RANGE, Linux 6.3
	only := func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipLocalPortRange, addr.Port<<16|addr.Port)
		}); e != nil {
			return e
		}
		return err
	}
	any := net.ListenConfig{Control: only}
	switch l, err := any.Listen(context.Background(), "tcp", "127.0.0.1:0"); {
	case errors.Is(err, syscall.ENOPROTOOPT):
		t.Skip("the range of ports of a socket needs Linux 6.3")
	case !errors.Is(err, syscall.EADDRINUSE):
		t.Errorf("listen to any port: %v, error %v", l, err)
	}
	for range 2 { // what has named the port and listened leaves it held
		l, err := net.Listen("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if l, err := any.Listen(context.Background(), "tcp", "127.0.0.1:0"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen to any port, once somebody has: %v, error %v", l, err)
		}
	}
	if c, err := net.Dial("tcp", p.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect to it: %v, error %v", c, err)
	}
}
