package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/episodic-memory/episodic/internal/pool"
)

// lease is the right to use one connection to the server.
type lease = pool.Lease[*conn]

// conn is one connection to the server.
type conn struct {
	*http.ClientConn
	raw   syscall.RawConn         // of the socket below TLS
	addr  netip.Addr              // of the other side
	bytes atomic.Pointer[traffic] // what its bytes are counted as now
}

// traffic is bytes on sockets, those of TLS included.
type traffic struct{ sent, received atomic.Uint64 }

// connKey is the context key under which dialConn finds the conn that is dialled,
// to which the transport does not show its socket.
type connKey struct{}

// dialConn is dial for a conn, whose bytes it counts.
func dialConn(ctx context.Context, dial dialFunc, network, addr string) (net.Conn, error) {
	s, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return s, nil
	}
	c.addr = s.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if c.raw, err = s.(*net.TCPConn).SyscallConn(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &socket{s, &c.bytes}, nil
}

// socket counts the bytes of a conn.
type socket struct {
	net.Conn
	bytes *atomic.Pointer[traffic]
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.bytes.Load().received.Add(uint64(n))
	if errors.Is(err, syscall.ETIMEDOUT) { // the system has given up, see unackedTimeout
		err = fmt.Errorf("%w: %w", pool.ErrNoResponse, err)
	}
	return n, err
}

func (s *socket) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.bytes.Load().sent.Add(uint64(n))
	return n, err
}

func (e *Engine) connector() pool.Connector[*conn] {
	return pool.Connector[*conn]{
		Dial: e.dial,
		// It needs neither token nor stream. SELECT 1 would wake the database and hold
		// one of the server's stream permits.
		Ping:  func(ctx context.Context, c *conn) error { return e.client.Ping(ctx, c) },
		Close: (*conn).Close,
		Dead:  (*conn).dead,
	}
}

func (e *Engine) dial(ctx context.Context) (*conn, error) {
	c := &conn{}
	c.bytes.Store(&e.upkeepBytes)
	var err error
	if c.ClientConn, err = e.transport.NewClientConn(context.WithValue(ctx, connKey{}, c), e.scheme, e.host); err != nil {
		return nil, err
	}
	c.SetStateHook(func(*http.ClientConn) {
		if c.dead() {
			e.pool.ConnDied(c)
		}
	})
	return c, nil
}

// dead reports whether the connection is of no use any more. The socket shows
// that the server has closed it slightly before the ClientConn does.
func (c *conn) dead() bool {
	return c.Err() != nil || c.Available() == 0 && c.InFlight() == 0 || c.raw != nil && hungUp(c.raw)
}

// oneConn is a leased connection for the length of one exchange.
type oneConn struct {
	*conn
	closing bool // the server announced that it closes it after its answer
}

func (c *oneConn) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.conn.RoundTrip(req)
	if resp != nil && resp.Close {
		c.closing = true
	}
	return resp, err
}
