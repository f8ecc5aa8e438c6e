package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	dialTimeout = 5 * time.Second
	// unackedTimeout ends a connection whose other side acknowledges nothing, such as
	// one that a router between has forgotten. It leaves time for a network that is
	// away for some seconds.
	unackedTimeout = 5 * time.Second
)

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// newTransport returns the transport to the server of cfg. It speaks HTTP/1.1 only:
// over HTTP/2 a server takes the namespace from a header that is not there and
// answers from the wrong database.
func newTransport(cfg *Config) (*http.Transport, error) {
	server, err := url.Parse(cfg.URL)
	if err != nil { // its text contains the URL
		return nil, errors.New("malformed server URL")
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	t := &http.Transport{
		Protocols:           protocols,
		TLSClientConfig:     &tls.Config{},
		TLSHandshakeTimeout: dialTimeout,
		// hrana.Client requests gzip where it helps: payloads are already compressed.
		DisableCompression: true,
		WriteBufferSize:    32 << 10,
		ReadBufferSize:     32 << 10,
	}
	if cfg.TLS != nil {
		t.TLSClientConfig = cfg.TLS.Clone()
	}
	t.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	// What must not leave this machine cannot go through a proxy, and what is on this
	// machine no proxy finds.
	loopbackOnly := server.Scheme == "http" && !cfg.AllowPlaintext
	if !loopbackOnly && !IsLoopback(server.Hostname()) {
		t.Proxy = http.ProxyFromEnvironment
		if cfg.Proxy != nil {
			t.Proxy = http.ProxyURL(cfg.Proxy)
		}
	}
	t.DialContext = newDialer(cfg.resolver, loopbackOnly)
	return t, nil
}

// newDialer returns a function that dials TCP sockets. If loopbackOnly, it refuses to
// connect to any address that is not of this machine, whatever its name.
func newDialer(resolver *net.Resolver, loopbackOnly bool) dialFunc {
	d := &net.Dialer{Timeout: dialTimeout, Resolver: resolver, Control: func(_, address string, raw syscall.RawConn) error {
		if loopbackOnly {
			if err := refuseRemote(address); err != nil {
				return err
			}
		}
		_ = setUserTimeout(raw, unackedTimeout) // without it a dead connection is found out later
		return nil
	}}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || !isLocalhost(host) {
			return d.DialContext(ctx, network, addr)
		}
		for _, address := range localhostAddresses {
			s, dialErr := d.DialContext(ctx, network, net.JoinHostPort(address, port))
			if dialErr == nil {
				return s, nil
			}
			if err == nil { // the first one says more: many machines have no IPv6
				err = dialErr
			}
		}
		return nil, err
	}
}

// localhostAddresses are the addresses of isLocalhost, in the order in which they are
// tried.
var localhostAddresses = []string{"127.0.0.1", "::1"}

// refuseRemote refuses all addresses but loopback. address is what a socket is about to
// connect to.
func refuseRemote(address string) error {
	a, err := netip.ParseAddrPort(address)
	if err == nil && a.Addr().Unmap().IsLoopback() {
		return nil
	}
	return &engine.Error{Stmt: -1, Err: fmt.Errorf("data and token would travel unencrypted to %s, which is not this machine; use TLS, or allow it explicitly (AllowPlaintext)", address)}
}

// IsLoopback reports whether host, a name or an address, always means this machine.
// Such a name is never looked up.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return isLocalhost(host) || err == nil && ip.Unmap().IsLoopback()
}

// isLocalhost reports whether host is localhost or a name under it. They mean this
// machine (RFC 6761), but not every resolver knows it: some ask DNS, which may give
// any answer or none.
func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
