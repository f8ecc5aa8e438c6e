package hranatest

import (
	"net"
	"os"
	"testing"
)

// port is a port of this machine. Where the system can do it, no socket that asks for any free
// port gets this one while it is held, so that a client whose server was killed, or refuses,
// meets nobody else there. Listeners that name it do.
type port struct {
	addr string   // host:port
	held *os.File // nil: it cannot be held
}

// release lets others have the port. The garbage collector does the same.
func (p *port) release() {
	if p.held != nil {
		p.held.Close()
	}
}

// freePort returns a port that nobody has, and holds it.
func freePort() (*port, error) {
	if p, err := holdPort(); p != nil || err != nil {
		return p, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &port{addr: l.Addr().String()}, l.Close()
}

// Unused returns an address of this machine at which nobody listens while the test runs.
func Unused(t testing.TB) string {
	t.Helper()
	p, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	return p.addr
}
