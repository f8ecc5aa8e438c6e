package remote

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// behindNginx opens an engine at the end of a link to nginx, in front of a server.
func behindNginx(t *testing.T, directives string) *road {
	t.Helper()
	r := &road{server: hranatest.Start(t)}
	var err error
	if r.link, err = hranatest.NewLink(hranatest.StartNginx(t, directives, r.server)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.link.Close)
	r.Engine = openURL(t, r.link.URL())
	return r
}

// zipEverything leaves only JSON, for which the engine asks for gzip, and keeps the
// server from zipping by itself.
const zipEverything = `
	gzip on;
	gzip_types *;
	gzip_min_length 1;
	gzip_proxied any;
	proxy_set_header Accept-Encoding "";
	proxy_set_header Connection "";
	proxy_set_header Host $http_host;
	location /v3-protobuf { return 404; }`

// Whatever nginx does to connections and answers, no call fails and nothing is stored
// twice.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	const callers, calls, bursts = 4, 40, 4
	const total = calls * bursts
	text := strings.Repeat("the build fails in internal/engine, ", 200)
	tests := []struct {
		name, directives string
		closes           int  // connections that nginx must close, at least; calls that wait share requests
		rests            bool // until nginx closes what is idle
		zipped           bool
	}{
		{name: "no keep-alive", directives: "keepalive_timeout 0;", closes: total / callers},
		{name: "short keep-alive", directives: "keepalive_timeout 50ms;", closes: bursts, rests: true},
		{name: "few requests a connection", directives: "keepalive_requests 10;", closes: total / callers / 10},
		{name: "HTTP/1.0 behind", directives: "proxy_http_version 1.0;"},
		{name: "everything zipped", directives: zipEverything, zipped: true},
		{name: "unbuffered", directives: "proxy_buffering off; proxy_request_buffering off;"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := behindNginx(t, tt.directives)
			must(t, r.Engine, stmt("CREATE TABLE t(k INTEGER PRIMARY KEY, text)"))
			var stored []int64
			for burst := range bursts {
				for i, err := range callAll(calls, callers, func(i int) error {
					k := int64(burst*calls + i)
					if i%2 == 1 {
						_, err := r.Query(t.Context(), stmt("SELECT text FROM t ORDER BY k LIMIT 5"))
						return err
					}
					_, err := r.Repeatable(t.Context(), stmt("INSERT OR IGNORE INTO t VALUES(?, ?)", k, text))
					return err
				}) {
					if err != nil {
						t.Errorf("call %d of burst %d: %v", i, burst, err)
					}
					if i%2 == 0 {
						stored = append(stored, int64(burst*calls+i))
					}
				}
				if closed := r.link.Counts().ClosedByServer; tt.rests {
					eventually(t, "closed by nginx", func() bool { return r.link.Counts().ClosedByServer > closed })
				}
			}
			rows, err := r.Query(t.Context(), stmt("SELECT k FROM t WHERE text = ? ORDER BY k", text))
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, row := range rows[0].Rows {
				got = append(got, row[0].(int64))
			}
			if !slices.Equal(got, stored) {
				t.Errorf("%v are stored, want %v", got, stored)
			}
			c := r.link.Counts()
			t.Logf("nginx closed %d of %d connections and sent %d KB", c.ClosedByServer, c.Accepted, c.BytesDown>>10)
			if c.ClosedByServer < tt.closes {
				t.Errorf("nginx closed %d connections, which tries too little; want %d", c.ClosedByServer, tt.closes)
			}
			if zipped := c.BytesDown < 1<<20; zipped != tt.zipped { // they are 2.8 MB otherwise
				t.Errorf("nginx sent %d bytes; zipped: %v", c.BytesDown, zipped)
			}
		})
	}
}

// The certificate is checked when the connection is there already, by the first answer.
func TestNginxThatWantsACertificate(t *testing.T) {
	t.Parallel()
	authority := hranatest.NewAuthority(t)
	url := hranatest.StartSecureNginx(t, authority, "ssl_client_certificate ca.pem;\nssl_verify_client on;", hranatest.Start(t))
	with := func(certificate tls.Certificate) *Engine {
		return openConfig(t, Config{URL: url, TLS: &tls.Config{
			RootCAs: authority.Pool(),
			// Of Certificates a client keeps those back that the server would refuse.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil },
		}})
	}
	known := with(authority.Certificate(t))
	must(t, known, stmt("CREATE TABLE t(k)"))
	must(t, known, insert(1))
	if n := count(t, known, "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	for title, e := range map[string]*Engine{
		"No required SSL certificate was sent": with(tls.Certificate{}),
		"The SSL certificate error":            with(hranatest.NewAuthority(t).Certificate(t)),
	} {
		t.Run(title, func(t *testing.T) {
			_, err := e.Query(t.Context(), stmt("SELECT 1"))
			wantError(t, err, engine.KindOther, -1, title)
			_, err = e.Batch(t.Context(), insert(2))
			wantError(t, err, engine.KindOther, -1, title)
		})
	}
	if n := count(t, known, "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// nginx takes bodies of 1 MB unless told otherwise. Each of the writes is smaller than
// that, and a group of them is not.
func TestNginxThatLimitsBodies(t *testing.T) {
	t.Parallel()
	const writers, size = 16, 131_000 // eight of them just fit in a group, and not in a body
	r := behindNginx(t, "")
	must(t, r.Engine, stmt("CREATE TABLE t(k INTEGER PRIMARY KEY, text)"))
	text := strings.Repeat("x", size)
	for round := range 3 {
		for i, err := range callAll(writers, writers, func(i int) error {
			_, err := r.Repeatable(t.Context(), stmt("INSERT OR IGNORE INTO t VALUES(?, ?)", int64(round*writers+i), text))
			return err
		}) {
			if err != nil {
				t.Errorf("write %d of round %d: %v", i, round, err)
			}
		}
	}
	if n := count(t, r.Engine, "SELECT count(*) FROM t WHERE length(text) = ?", int64(size)); n != 3*writers {
		t.Errorf("%d rows, want %d", n, 3*writers)
	}
	_, err := r.Batch(t.Context(), stmt("INSERT INTO t VALUES(?, ?)", int64(-1), strings.Repeat("x", 2<<20)))
	wantError(t, err, engine.KindTooLarge, -1, "413")
	if n := count(t, r.Engine, "SELECT count(*) FROM t"); n != 3*writers {
		t.Errorf("%d rows, want %d", n, 3*writers)
	}
}

// A balancer passes each request to another replica, so that none goes on with a
// stream that was opened by the one before.
func TestNginxOverTwoReplicas(t *testing.T) {
	t.Parallel()
	const callers, calls, fewest = 4, 480, 20
	primary := hranatest.Start(t, hranatest.WithReplication())
	e := openURL(t, hranatest.StartNginx(t, "", hranatest.StartReplica(t, primary), hranatest.StartReplica(t, primary)))
	must(t, e, stmt("CREATE TABLE t(k INTEGER PRIMARY KEY)"))
	for i, err := range callAll(calls, callers, func(i int) error {
		if i%4 == 0 {
			_, err := e.Repeatable(t.Context(), stmt("INSERT OR IGNORE INTO t VALUES(?)", int64(i)))
			return err
		}
		_, err := e.Query(t.Context(), stmt("SELECT count(*) FROM t"))
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if n := count(t, e, "SELECT count(*) FROM t"); n != calls/4 {
		t.Errorf("%d rows, want %d", n, calls/4)
	}
	if s := e.ServerStats(); s.StreamsLost > fewest {
		t.Errorf("%d streams were lost in %d calls", s.StreamsLost, calls)
	}
}
