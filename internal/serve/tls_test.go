package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
)

func TestConnectionsCanBeEncrypted(t *testing.T) {
	t.Parallel()
	lender := httptest.NewTLSServer(nil) // of a certificate
	lender.Close()
	var server *Server
	s := open(t, func(o *Options) {
		o.TLS = &tls.Config{Certificates: lender.TLS.Certificates}
		var err error
		server, err = New(*o)
		ok(t, err)
		o.TLS = nil
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	token := s.token("ada", access.Read, episodic.Scope{})
	s.url = "https://" + listener.Addr().String()
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	s.client = &http.Client{Transport: transport}
	if status, text, _ := s.do(s.request(token, "tools/list", "", "")); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	res, err := s.client.Get(s.url + "/healthz")
	ok(t, err)
	ok(t, res.Body.Close())
	if res.ProtoMajor != 1 {
		t.Errorf("a connection is spoken to in %s", res.Proto)
	}
	transport.CloseIdleConnections()
	cancel()
	ok(t, <-ended)
}
