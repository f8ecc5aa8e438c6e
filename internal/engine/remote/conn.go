package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/episodic-memory/episodic/internal/pool"
)

const dialTimeout = 5 * time.Second

// lease is the right to use one connection to the server.
type lease = pool.Lease[*conn]

// newTransport speaks HTTP/1.1 only: over HTTP/2 a server takes the namespace
// from a header that is not there and answers from the wrong database.
func newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols:           protocols,
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialRaw,
		TLSClientConfig:     &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout: dialTimeout,
		// Servers compress every answer if asked, which costs more time than it
		// saves on any link above 100 Mbit/s.
		DisableCompression: true,
		WriteBufferSize:    32 << 10,
		ReadBufferSize:     32 << 10,
	}
}

// conn is one connection to the server.
type conn struct {
	*http.ClientConn
	raw syscall.RawConn // of the socket below TLS
}

// rawKey is the context key under which dialRaw finds where to leave the socket.
type rawKey struct{}

// dialRaw dials and leaves the socket for Engine.dial, to which the transport
// does not show it.
func dialRaw(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if slot, ok := ctx.Value(rawKey{}).(*syscall.RawConn); ok {
		if *slot, err = c.(*net.TCPConn).SyscallConn(); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func (e *Engine) connector() pool.Connector[*conn] {
	return pool.Connector[*conn]{
		Dial: e.dial,
		// Without a token and a stream: it wakes no database and holds none of the
		// server's permits, which SELECT 1 would.
		Ping:  func(ctx context.Context, c *conn) error { return e.client.Ping(ctx, c) },
		Close: (*conn).Close,
		Dead:  (*conn).dead,
	}
}

func (e *Engine) dial(ctx context.Context) (*conn, error) {
	c := &conn{}
	start := time.Now()
	var err error
	if c.ClientConn, err = e.transport.NewClientConn(context.WithValue(ctx, rawKey{}, &c.raw), e.scheme, e.host); err != nil {
		return nil, err
	}
	if took := int64(time.Since(start)); e.fastestDial.Load() == 0 || took < e.fastestDial.Load() {
		e.fastestDial.Store(took)
	}
	c.SetStateHook(func(*http.ClientConn) {
		if c.dead() {
			e.pool.ConnDied(c)
		}
	})
	return c, nil
}

// dead reports whether the connection is of no use any more. The socket knows
// that the server has closed it a moment before the ClientConn does.
func (c *conn) dead() bool {
	return c.Err() != nil || c.Available() == 0 && c.InFlight() == 0 || c.raw != nil && hungUp(c.raw)
}

// oneConn is a leased connection for the length of one exchange.
type oneConn struct {
	*conn
	closing bool // the server said that it closes it behind its answer
}

func (c *oneConn) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.conn.RoundTrip(req)
	if resp != nil && resp.Close {
		c.closing = true
	}
	return resp, err
}
