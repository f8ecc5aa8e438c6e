package remote

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func staticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

func openConfig(t *testing.T, cfg Config) *Engine {
	t.Helper()
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() }) // always nil
	return e
}

// outside starts a server on an address of this machine that is not loopback, and
// counts the connections to it.
func outside(t *testing.T, h http.Handler) (addr string, conns *atomic.Int32) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.IsLoopback() || ip.IP.IsLinkLocalUnicast() {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(ip.IP.String(), "0"))
		if err != nil {
			continue
		}
		conns := &atomic.Int32{}
		s := httptest.NewUnstartedServer(h)
		s.Listener.Close()
		s.Listener = l
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		}
		s.Start()
		t.Cleanup(s.Close)
		return l.Addr().String(), conns
	}
	t.Skip("this machine has no address but loopback")
	return "", nil
}

// port is that of a URL or an address.
func port(t *testing.T, of string) string {
	t.Helper()
	if u, err := url.Parse(of); err == nil && u.Port() != "" {
		return u.Port()
	}
	_, p, err := net.SplitHostPort(of)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlainTextReachesNoOtherMachine(t *testing.T) {
	const says = "data and token would travel unencrypted to "
	addr, conns := outside(t, http.NotFoundHandler())
	cfg := Config{URL: "http://" + addr, Token: staticToken("s3cret")}
	e := openConfig(t, cfg)
	_, err := e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindOther, -1, says+addr)
	_, err = e.Batch(t.Context(), stmt("CREATE TABLE t(k)"))
	wantError(t, err, engine.KindOther, -1, says+addr)
	_, failures := Probe(t.Context(), cfg)
	wantFailures(t, failures, "connection", says+addr)
	if n := conns.Load(); n > 0 || e.Stats().Retries > 0 {
		t.Errorf("%d connections, %d retries", n, e.Stats().Retries)
	}
	cfg.AllowPlaintext = true
	_, err = openConfig(t, cfg).Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindUnavailable, -1, "no libSQL server answers at "+addr)
	if conns.Load() == 0 {
		t.Error("no connection where they are allowed")
	}
}

// A name that DNS says to be loopback is as good as its address.
func TestPlainTextIsAllowedByTheAddress(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		"10.9.9.9:80": false, "0.0.0.0:80": false, "[::]:80": false, "[::ffff:10.0.0.1]:80": false, "[fe80::1%lo]:80": false,
	} {
		if err := refuseRemote(address); (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// Names under localhost are not looked up: this machine's resolver knows none.
func TestNamesUnderLocalhost(t *testing.T) {
	server := hranatest.Start(t, hranatest.WithArgs("--enable-namespaces"))
	at := func(host string) error {
		_, err := openConfig(t, Config{URL: fmt.Sprintf("http://%s:%s", host, port(t, server.URL()))}).Query(t.Context(), stmt("SELECT 1"))
		return err
	}
	wantError(t, at("ns.localhost"), engine.KindNotFound, -1, "Namespace `ns` doesn't exist")
	if err := at("default.LocalHost."); err != nil {
		t.Error(err)
	}
}

func TestNoProxyGetsWhatStaysHere(t *testing.T) {
	for _, tt := range []struct {
		url       string
		plaintext bool
		proxied   bool
	}{
		{"http://127.0.0.1:1", true, false},
		{"http://ns.localhost:1", true, false},
		{"https://ns.localhost", false, false},
		{"http://db.example", false, false},
		{"http://db.example", true, true},
		{"https://db.example", false, true},
	} {
		transport, err := newTransport(&Config{URL: tt.url, AllowPlaintext: tt.plaintext})
		if err != nil || (transport.Proxy != nil) != tt.proxied {
			t.Errorf("%+v: a proxy may be used: %v, %v", tt, transport.Proxy != nil, err)
		}
	}
}

func TestLocalhostOnIPv6Only(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	dial := newDialer(nil, true)
	s, err := dial(t.Context(), "tcp", "db.localhost:"+port(t, l.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	l.Close()
	if _, err = dial(t.Context(), "tcp", "db.localhost:"+port(t, l.Addr().String())); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("error is %v", err)
	}
}
