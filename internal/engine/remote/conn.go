package remote

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/episodic-memory/episodic/internal/pool"
)

const dialTimeout = 5 * time.Second

// lease is the right to use one connection to the server.
type lease = pool.Lease[*http.ClientConn]

// newTransport speaks HTTP/1.1 only: over HTTP/2 a server takes the namespace
// from a header that is not there and answers from the wrong database.
func newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols:           protocols,
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout: dialTimeout,
		// Servers compress every answer if asked, which costs more time than it
		// saves on any link above 100 Mbit/s.
		DisableCompression: true,
		WriteBufferSize:    32 << 10,
		ReadBufferSize:     32 << 10,
	}
}

func (e *Engine) connector() pool.Connector[*http.ClientConn] {
	return pool.Connector[*http.ClientConn]{
		Dial: e.dial,
		// Without a token and a stream: it wakes no database and holds none of the
		// server's permits, which SELECT 1 would.
		Ping:  func(ctx context.Context, c *http.ClientConn) error { return e.client.Ping(ctx, c) },
		Close: (*http.ClientConn).Close,
		Dead:  dead,
	}
}

func (e *Engine) dial(ctx context.Context) (*http.ClientConn, error) {
	start := time.Now()
	c, err := e.transport.NewClientConn(ctx, e.scheme, e.host)
	if err != nil {
		return nil, err
	}
	if took := int64(time.Since(start)); e.fastestDial.Load() == 0 || took < e.fastestDial.Load() {
		e.fastestDial.Store(took)
	}
	c.SetStateHook(func(c *http.ClientConn) {
		if dead(c) {
			e.pool.ConnDied(c)
		}
	})
	return c, nil
}

func dead(c *http.ClientConn) bool {
	return c.Err() != nil || c.Available() == 0 && c.InFlight() == 0
}

// oneConn is a leased connection for the length of one exchange.
type oneConn struct {
	*http.ClientConn
	closing bool // the server said that it closes it behind its answer
}

func (c *oneConn) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.ClientConn.RoundTrip(req)
	if resp != nil && resp.Close {
		c.closing = true
	}
	return resp, err
}
