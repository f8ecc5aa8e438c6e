package episodic

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// authority signs certificates.
type authority struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	ok(t, err)
	a.cert, err = x509.ParseCertificate(der)
	ok(t, err)
	a.file = a.write(t, "ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return key
}

func (a *authority) write(t *testing.T, name string, blocks ...*pem.Block) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(b)...)
	}
	ok(t, os.WriteFile(path, text, 0o600))
	return path
}

// issue signs a certificate for a server with these names, or for a client.
func (a *authority) issue(t *testing.T, name string, hosts ...string) (cert, key *pem.Block) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: hosts, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	ok(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	ok(t, err)
	return &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}
}

// gateway is in front of a server. It speaks TLS.
type gateway struct {
	*httptest.Server
	mu      sync.Mutex
	clients []string // the names in the certificates of those who asked
}

func newGateway(t *testing.T, a *authority, to string, auth tls.ClientAuthType, hosts ...string) *gateway {
	t.Helper()
	back, err := url.Parse(to)
	ok(t, err)
	transport := &http.Transport{}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(back) }, Transport: transport}
	g := &gateway{}
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			g.mu.Lock()
			g.clients = append(g.clients, r.TLS.PeerCertificates[0].Subject.CommonName)
			g.mu.Unlock()
		}
		pass.ServeHTTP(w, r)
	}))
	g.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains about clients that it refuses
	cert, key := a.issue(t, "gateway", hosts...)
	pair, err := tls.X509KeyPair(pem.EncodeToMemory(cert), pem.EncodeToMemory(key))
	ok(t, err)
	g.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: auth, ClientCAs: x509.NewCertPool()}
	g.TLS.ClientCAs.AddCert(a.cert)
	g.StartTLS()
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
		transport.CloseIdleConnections()
	})
	return g
}

func (g *gateway) lastClient() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.clients) == 0 {
		return ""
	}
	return g.clients[len(g.clients)-1]
}

// stores checks that an episode can be put and read at target.
func stores(t *testing.T, target string, opts *Options) {
	t.Helper()
	s, err := Open(t.Context(), target, direct(opts))
	ok(t, err)
	defer s.Close()
	e := &Episode{Description: "x"}
	ok(t, s.PutEpisode(t.Context(), e))
	_, err = s.Episode(t.Context(), e.ID)
	ok(t, err)
	if r := probe(t, target, opts); !r.Usable {
		t.Errorf("probe says: %s", r.Reason)
	}
}

// refuses checks that neither Open nor Probe gets through.
func refuses(t *testing.T, target string, opts *Options, sentinel error, says string) {
	t.Helper()
	_, err := Open(t.Context(), target, direct(opts))
	if err == nil || sentinel != nil && !errors.Is(err, sentinel) || !strings.Contains(err.Error(), says) {
		t.Errorf("open: %v, want %q", err, says)
	}
	unusable(t, probe(t, target, opts), says)
}

func TestCertificates(t *testing.T) {
	a := newAuthority(t)
	sqld := hranatest.Start(t).URL()
	server := newGateway(t, a, sqld, tls.NoClientCert).URL
	refuses(t, server, nil, nil, "certificate signed by unknown authority")
	stores(t, server, &Options{TLS: TLS{CAFile: a.file}})
	stores(t, server+"?ca="+url.QueryEscape(a.file), nil)
	refuses(t, server, &Options{TLS: TLS{CAFile: newAuthority(t).file}}, nil, "certificate signed by unknown authority")

	mutual := newGateway(t, a, sqld, tls.RequireAndVerifyClientCert)
	refuses(t, mutual.URL, &Options{TLS: TLS{CAFile: a.file}}, nil, "certificate required")
	cert, key := a.issue(t, "me")
	own := TLS{CAFile: a.file, CertFile: a.write(t, "me.pem", cert), KeyFile: a.write(t, "me.key", key)}
	stores(t, mutual.URL, &Options{TLS: own})
	stores(t, mutual.URL, &Options{TLS: TLS{CAFile: a.file, CertFile: a.write(t, "both.pem", cert, key)}})
	stores(t, mutual.URL+"?"+url.Values{"ca": {own.CAFile}, "cert": {own.CertFile}, "key": {own.KeyFile}}.Encode(), nil)
	stranger, strangersKey := newAuthority(t).issue(t, "stranger")
	refuses(t, mutual.URL, &Options{TLS: TLS{CAFile: a.file, CertFile: a.write(t, "s.pem", stranger), KeyFile: a.write(t, "s.key", strangersKey)}}, nil, "tls: ")
}

func TestACertificateIsRenewedWhileTheStoreIsOpen(t *testing.T) {
	a := newAuthority(t)
	g := newGateway(t, a, hranatest.Start(t).URL(), tls.RequireAndVerifyClientCert)
	cert, key := a.issue(t, "old")
	files := TLS{CAFile: a.file, CertFile: a.write(t, "me.pem", cert), KeyFile: a.write(t, "me.key", key)}
	s := open(t, g.URL, &Options{TLS: files, Cache: Cache{Disabled: true}})
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
	if got := g.lastClient(); got != "old" {
		t.Errorf("the gateway saw %q", got)
	}
	cert, key = a.issue(t, "new")
	a.write(t, "me.pem", cert)
	a.write(t, "me.key", key)
	// A new configuration of the same server: no session of the old one can be resumed.
	g.TLS.SetSessionTicketKeys([][32]byte{{1}})
	g.CloseClientConnections()
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "y"}))
	if got := g.lastClient(); got != "new" {
		t.Errorf("the gateway saw %q after the renewal", got)
	}
}

func TestNamespaces(t *testing.T) {
	admin := hranatest.Unused(t)
	server := hranatest.Start(t, hranatest.WithArgs("--enable-namespaces", "--admin-listen-addr", admin))
	for _, name := range []string{"alpha", "beta"} {
		resp, err := http.Post("http://"+admin+"/v1/namespaces/"+name+"/create", "application/json", strings.NewReader("{}"))
		ok(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	refuses(t, server.URL(), nil, ErrUnknownDatabase, "Namespace `127` doesn't exist")
	refuses(t, server.URL(), &Options{Namespace: "gamma"}, ErrUnknownDatabase, "Namespace `gamma` doesn't exist")
	stores(t, server.URL(), &Options{Namespace: "alpha"})
	stores(t, server.URL()+"?namespace=beta", nil)
	stores(t, server.URL()+"?namespace=gamma", &Options{Namespace: "beta"})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(server.URL(), "http://"))
	ok(t, err)
	byName := "http://beta.localhost:" + port
	stores(t, byName, nil)
	for target, want := range map[string]int64{server.URL() + "?namespace=alpha": 1, server.URL() + "?namespace=beta": 3, byName: 3} {
		counts, err := open(t, target, nil).Counts(t.Context())
		ok(t, err)
		if counts.Episodes != want {
			t.Errorf("%s holds %d episodes, want %d", target, counts.Episodes, want)
		}
	}
	if got := probe(t, server.URL()+"?namespace=alpha", nil).Target; got != server.URL()+"?namespace=alpha" {
		t.Errorf("the target is shown as %s", got)
	}
}

func TestBasicAuthentication(t *testing.T) {
	const user = "me:s3cret:x"
	server := hranatest.Start(t, hranatest.WithArgs("--http-auth", "basic:"+base64.StdEncoding.EncodeToString([]byte(user)))).URL()
	refuses(t, server, nil, ErrUnauthorized, "")
	refuses(t, server, &Options{BasicAuth: "me:wrong"}, ErrUnauthorized, "")
	stores(t, server, &Options{BasicAuth: user})
	stores(t, strings.Replace(server, "://", "://me:s3cret%3Ax@", 1), nil)
	stores(t, strings.Replace(server, "://", "://me:wrong@", 1), &Options{BasicAuth: user})
}

// proxyServer is an HTTP proxy that finds every host at one address. It wants a
// password.
func proxyServer(t *testing.T, to string) (address string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var hosts []string
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, to)
	}}
	var tunnels sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("me:s3cret")) {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		mu.Lock()
		hosts = append(hosts, r.Method+" "+r.Host)
		mu.Unlock()
		if r.Method != http.MethodConnect {
			(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport}).ServeHTTP(w, r)
			return
		}
		back, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		front, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			back.Close()
			return
		}
		_, _ = io.WriteString(front, "HTTP/1.1 200 OK\r\n\r\n")
		for _, way := range [][2]net.Conn{{front, back}, {back, front}} {
			tunnels.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				way[0].Close()
			})
		}
	}))
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
	})
	return s.Listener.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return hosts
	}
}

func TestProxies(t *testing.T) {
	sqld := hranatest.Start(t).URL()
	plain, asked := proxyServer(t, strings.TrimPrefix(sqld, "http://"))
	o := &Options{Proxy: "http://me:s3cret@" + plain, AllowPlaintext: true}
	stores(t, "http://db.example", o)
	if hosts := asked(); len(hosts) == 0 || hosts[0] != "POST db.example" {
		t.Errorf("the proxy was asked for %q", hosts)
	}
	a := newAuthority(t)
	g := newGateway(t, a, sqld, tls.NoClientCert, "db.example")
	tunnel, asked := proxyServer(t, g.Listener.Addr().String())
	o = &Options{Proxy: "http://me:s3cret@" + tunnel, TLS: TLS{CAFile: a.file}}
	stores(t, "https://db.example", o)
	if hosts := asked(); len(hosts) == 0 || hosts[0] != "CONNECT db.example:443" {
		t.Errorf("the proxy was asked for %q", hosts)
	}
	if r := probe(t, "https://db.example", o); r.Server.Proxy != tunnel || strings.Contains(r.Server.Proxy, "s3cret") {
		t.Errorf("probe tells the proxy %q", r.Server.Proxy)
	}
	n := len(asked())
	stores(t, sqld, o) // it is on this machine
	if len(asked()) != n {
		t.Errorf("the proxy was asked for a server on this machine: %q", asked()[n:])
	}
	wrong := &Options{Proxy: "http://me:s3cretx@" + tunnel, TLS: o.TLS}
	_, err := Open(t.Context(), "https://db.example", wrong)
	if err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("with a wrong password: %v", err)
	}
}

func TestOptionsOfAServerThatCannotBe(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue(t, "me")
	certFile, keyFile := a.write(t, "me.pem", cert), a.write(t, "me.key", key)
	_, anothers := a.issue(t, "another")
	another := a.write(t, "another.key", anothers)
	for _, tt := range []struct {
		target string
		opts   Options
		says   string
	}{
		{"https://h", Options{TLS: TLS{CAFile: "missing.pem"}}, "TLS.CAFile: cannot be read: open missing.pem"},
		{"https://h", Options{TLS: TLS{CAFile: keyFile}}, "TLS.CAFile: names a file without a certificate in PEM format: " + keyFile},
		{"https://h", Options{TLS: TLS{CertFile: certFile}}, "TLS.CertFile: and its key cannot be used"},
		{"https://h", Options{TLS: TLS{KeyFile: keyFile}}, "TLS.KeyFile: names a key without a certificate"},
		{"https://h", Options{TLS: TLS{CertFile: certFile, KeyFile: another}}, "TLS.CertFile: and its key cannot be used: tls: private key does not match"},
		{"https://h?ca=missing.pem", Options{}, "target: parameter ca cannot be read: open missing.pem"},
		{"https://h?key=x", Options{}, "target: parameter key names a key without a certificate"},
		{"https://h", Options{BasicAuth: "s3cret"}, "BasicAuth: basic authentication needs USER:PASSWORD"},
		{"https://h", Options{BasicAuth: "me:s3cret\n"}, "BasicAuth: basic authentication needs USER:PASSWORD"},
		{"https://:s3cret@h", Options{}, "target: basic authentication needs USER:PASSWORD"},
		{"https://h?authToken=s3cret", Options{BasicAuth: "me:s3cret"}, "BasicAuth: basic authentication and a token exclude each other"},
		{"https://me:s3cret@h?authToken=s3cret", Options{}, "target: basic authentication and a token exclude each other"},
		{"https://h", Options{Namespace: "a\nb"}, "Namespace: the name of a namespace"},
		{"https://h?namespace=a%0ab", Options{}, "target: the name of a namespace"},
		{"https://h", Options{Proxy: "s3cret@h:1"}, "Proxy: is not the URL of a proxy"},
		{"https://h", Options{Proxy: "http://me:s3cret@ho st"}, "Proxy: is not the URL of a proxy"},
		{"https://h", Options{Proxy: "ftp://h"}, "Proxy: is not the URL of a proxy"},
	} {
		_, openErr := Open(t.Context(), tt.target, &tt.opts)
		_, probeErr := Probe(t.Context(), tt.target, &tt.opts)
		for _, err := range []error{openErr, probeErr} {
			wants(t, err, ErrInvalid, tt.says)
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the secret is in: %v", err)
			}
		}
	}
}
