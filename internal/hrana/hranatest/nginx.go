package hranatest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// ErrNoNginx says that there is no nginx on this machine.
var ErrNoNginx = errors.New(`no nginx found: run "make nginx" on Debian or Ubuntu, or install it, or name the program in $EPISODIC_NGINX`)

// nginxConf takes servers, the arguments of listen, and
// directives. A single process is enough, and runs as who started it.
const nginxConf = `daemon off;
master_process off;
pid pid;
error_log error.log;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $http_host;
	upstream servers {
%s		keepalive 8;
	}
	server {
		listen %s;
		location / { proxy_pass http://servers; }
%s
	}
}
`

// StartNginx runs nginx in front of servers for the length of a test, and returns its
// URL. Requests go to one server after the other. The directives are added to nginx's
// server block, beside what makes it a proxy that keeps its own connections to the
// servers. Without the program the test is skipped; on a continuous integration
// machine ($CI is true) it fails instead.
func StartNginx(t testing.TB, directives string, servers ...*Server) string {
	t.Helper()
	return "http://" + startNginx(t, t.TempDir(), "", directives, servers)
}

// StartSecureNginx is StartNginx with TLS. The certificate is signed by a, whose own is
// ca.pem to the directives.
func StartSecureNginx(t testing.TB, a *Authority, directives string, servers ...*Server) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := a.issue(t)
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "https://" + startNginx(t, dir, " ssl", "ssl_certificate cert.pem;\nssl_certificate_key key.pem;\n"+directives, servers)
}

// startNginx returns the address.
func startNginx(t testing.TB, dir, listen, directives string, servers []*Server) string {
	t.Helper()
	program, err := findNginx()
	switch {
	case err != nil && os.Getenv("CI") != "true":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	addr := Unused(t)
	var upstream bytes.Buffer
	for _, s := range servers {
		fmt.Fprintf(&upstream, "\t\tserver %s;\n", s.port.addr)
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, upstream.Bytes(), addr+listen, directives), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-p", dir, "-c", conf, "-e", filepath.Join(dir, "error.log")}
	if out, err := exec.Command(program, append(args, "-t")...).CombinedOutput(); err != nil {
		t.Fatalf("nginx does not take its configuration: %v\n%s", err, out)
	}
	// The shell ends nginx when its input ends, as it also does when the test dies
	// without a cleanup.
	cmd := exec.Command("sh", append([]string{"-c", `"$@" & read -r _; kill -9 $!`, "sh", program}, args...)...)
	alive, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		alive.Close()
		_ = cmd.Wait() // its code is that of kill
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx said:\n%s", log)
		}
	})
	for giveUp := time.Now().Add(startTimeout); ; time.Sleep(portRetry) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return addr
		}
		if time.Now().After(giveUp) {
			t.Fatalf("nginx is not there after %v: %v", startTimeout, err)
		}
	}
}

func findNginx() (string, error) {
	if program := os.Getenv("EPISODIC_NGINX"); program != "" {
		return program, nil
	}
	if root, ok := moduleRoot(); ok {
		program := filepath.Join(root, ".cache", "nginx", "usr", "sbin", "nginx")
		if _, err := os.Stat(program); err == nil {
			return program, nil
		}
	}
	if program, err := exec.LookPath("nginx"); err == nil {
		return program, nil
	}
	return "", ErrNoNginx
}

// Authority signs certificates that nobody else trusts.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{key: newPrivateKey(t)}
	template := newTemplate("an authority for tests")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// Pool holds the authority's certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Certificate returns a new certificate, for a server on 127.0.0.1 and for clients.
func (a *Authority) Certificate(t testing.TB) tls.Certificate {
	t.Helper()
	cert, key := a.issue(t)
	pair, err := tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// issue returns a certificate and its key, in DER.
func (a *Authority) issue(t testing.TB) (cert, key []byte) {
	t.Helper()
	private := newPrivateKey(t)
	template := newTemplate("127.0.0.1")
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	cert, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func newPrivateKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newTemplate(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(time.Hour),
	}
}
