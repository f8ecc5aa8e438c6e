package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

var everyProtocol = []string{"Hrana 3 protobuf", "Hrana 3 JSON", "Hrana 2 JSON"}

// front serves handle, on TLS if secure is set, and passes what it leaves alone
// on to a libSQL server. handle returns whether it has answered.
func front(t *testing.T, secure bool, to string, handle func(w http.ResponseWriter, r *http.Request, body string) bool) *httptest.Server {
	t.Helper()
	back, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(back) }, Transport: transport}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || handle(w, r, string(body)) {
			return // an error means that the client is gone
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		pass.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains about clients that go away
	s.EnableHTTP2 = secure
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		transport.CloseIdleConnections()
	})
	return s
}

func passAll(http.ResponseWriter, *http.Request, string) bool { return false }

func probeOf(t *testing.T, base, token string) *prober {
	t.Helper()
	p, err := newProber(Config{URL: base, Token: func(context.Context) (string, error) { return token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// probed probes with a token and fails the test if the report shows it.
func probed(t *testing.T, p *prober) (*ServerReport, []Failure) {
	t.Helper()
	p.run(t.Context())
	if p.secret != "" && strings.Contains(fmt.Sprintf("%+v %+v", p.report, p.failures), p.secret) {
		t.Errorf("the token is in %+v %+v", p.report, p.failures)
	}
	return &p.report, p.failures
}

// wantFailures checks the failures, given as check and part of the error in turn.
func wantFailures(t *testing.T, got []Failure, want ...string) {
	t.Helper()
	bad := len(got) != len(want)/2
	for i := 0; !bad && i < len(got); i++ {
		bad = got[i].Check != want[2*i] || !strings.Contains(got[i].Error, want[2*i+1])
	}
	if bad {
		t.Errorf("failures are %q\nwant %q", got, want)
	}
}

func TestProbeOfAServer(t *testing.T) {
	server := hranatest.Start(t)
	r, failures := Probe(t.Context(), Config{URL: server.URL()})
	wantFailures(t, failures)
	for name, ms := range map[string]float64{
		"cold": r.Cold, "first query": r.FirstQuery, "warm": r.Warm, "new stream": r.NewStream, "kept stream": r.KeptStream,
	} {
		if ms <= 0 || ms > 5000 {
			t.Errorf("%s took %v ms", name, ms)
		}
	}
	if !slices.Equal(r.Addresses, []string{"127.0.0.1"}) || !slices.Equal(r.HTTP, []string{"1.1"}) || r.TLS != "" || !r.KeepAlive ||
		!strings.HasPrefix(r.Version, "sqld 0.") || !slices.Equal(r.Protocols, everyProtocol) || r.Protocol != everyProtocol[0] ||
		r.Token != "not needed" || r.Role != "primary" || r.Writes != "allowed" || r.BaseURL != "" ||
		r.LargestValue != 5e6 || r.RefusedValue != 10e6 || r.Parameters != 32766 {
		t.Errorf("report is %+v", r)
	}
}

func TestProbeWritesNothing(t *testing.T) {
	server := hranatest.Start(t)
	if r, _ := Probe(t.Context(), Config{URL: server.URL()}); r.ReplicationIndex != 0 {
		t.Errorf("an untouched database has the index %d", r.ReplicationIndex)
	}
	if r, _ := Probe(t.Context(), Config{URL: server.URL()}); r.ReplicationIndex != 0 {
		t.Errorf("the first probe left the index %d", r.ReplicationIndex)
	}
	client, err := hrana.NewClient(server.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	rt := &http.Transport{}
	defer rt.CloseIdleConnections()
	create := hrana.Execute{Stmt: hrana.Stmt{SQL: "CREATE TABLE t(k)"}}
	if _, err := client.Do(t.Context(), rt, hrana.Pipeline{Requests: []hrana.Request{create, hrana.Close{}}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, _ := Probe(t.Context(), Config{URL: server.URL()}); r.ReplicationIndex != 1 {
			t.Errorf("after one commit the index is %d", r.ReplicationIndex)
		}
	}
}

func TestProbeFindsTheProtocols(t *testing.T) {
	for _, tt := range []struct {
		hidden []string
		want   []string
	}{
		{[]string{"/v3-protobuf"}, everyProtocol[1:]},
		{[]string{"/v3"}, everyProtocol[2:]},
	} {
		proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
		proxy.Hide(tt.hidden...)
		r, failures := Probe(t.Context(), Config{URL: proxy.URL()})
		wantFailures(t, failures)
		if !slices.Equal(r.Protocols, tt.want) || r.Protocol != tt.want[0] || r.Writes != "allowed" || r.LargestValue != 5e6 || r.KeptStream == 0 {
			t.Errorf("without %q: report is %+v", tt.hidden, r)
		}
		if n := proxy.Conns(); n != 1 {
			t.Errorf("without %q: %d connections", tt.hidden, n)
		}
	}
}

func TestProbeOfTokens(t *testing.T) {
	key := hranatest.NewKey()
	server := hranatest.Start(t, hranatest.WithKey(key))
	hour := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name, token   string
		says, writes  string
		check, failed string
	}{
		{"none", "", "missing", "", "first query", "the server wants a token: HTTP 401: Unauthorized: `Expected authorization header"},
		{"garbage", "garbage", "refused", "", "first query", "the server refuses the token: HTTP 401: Unauthorized: `The JWT is invalid`"},
		{"another server's", hranatest.NewKey().Token(false, hour), "refused", "", "first query", "The JWT is invalid"},
		{"expired", key.Token(false, hour.Add(-2*time.Hour)), "refused", "", "first query", "The JWT has expired"},
		{"no header", "line\nbreak", "", "", "first query", "invalid header field value"},
		{"full, from a file", key.Token(false, hour) + "\n", "accepted", "allowed", "", ""},
		{"read only", key.Token(true, hour), "accepted", "forbidden", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, failures := probed(t, probeOf(t, server.URL(), tt.token))
			if tt.check == "" {
				wantFailures(t, failures)
			} else {
				wantFailures(t, failures, tt.check, tt.failed)
			}
			if r.Token != tt.says || r.Writes != tt.writes || (r.Protocol != "") != (tt.check == "") || !slices.Equal(r.Protocols, everyProtocol) {
				t.Errorf("report is %+v", r)
			}
		})
	}
	if r, failures := probed(t, probeOf(t, hranatest.Start(t).URL(), "garbage")); r.Token != "not needed" || len(failures) > 0 {
		t.Errorf("a server that wants no token: %+v %q", r, failures)
	}
	_, failures := Probe(t.Context(), Config{URL: server.URL(), Token: func(context.Context) (string, error) { return "", errors.New("vault is locked") }})
	wantFailures(t, failures, "first query", "get token: vault is locked")
}

func TestProbeTellsTheRole(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	key := hranatest.NewKey()
	primary := hranatest.Start(t, hranatest.WithReplication(), hranatest.WithKey(key))
	replica := hranatest.StartReplica(t, primary, hranatest.WithKey(key))
	full, reader := staticToken(key.Token(false, time.Now().Add(time.Hour))), staticToken(key.Token(true, time.Now().Add(time.Hour)))
	must(t, openConfig(t, Config{URL: replica.URL(), Token: full}), stmt("CREATE TABLE t(k)"))
	for writes, token := range map[string]func(context.Context) (string, error){"allowed": full, "forbidden": reader} {
		for protocol := range hrana.V2JSON + 1 {
			for server, want := range map[*hranatest.Server][2]string{primary: {"primary", ""}, replica: {"replica", "answers"}} {
				proxy := hranatest.NewProxy(t, server.URL())
				proxy.Hide(hidden[protocol]...)
				r, failures := Probe(t.Context(), Config{URL: proxy.URL(), Token: token})
				wantFailures(t, failures)
				if r.Role != want[0] || r.Primary != want[1] || r.Writes != writes {
					t.Errorf("%v: role %q, primary %q, writes %s; want %q, %s", protocol, r.Role, r.Primary, r.Writes, want, writes)
				}
				if told := server == replica && writes == "allowed"; (r.Lag != nil) != told || told && *r.Lag > 10 {
					t.Errorf("%v, writes %s: lag %v", protocol, writes, r.Lag)
				}
			}
		}
	}
	primary.Kill()
	eventually(t, "answering again", func() bool { // it starts over when it loses its primary
		_, err := openConfig(t, Config{URL: replica.URL(), Token: full}).Query(t.Context(), stmt("SELECT 1"))
		return err == nil
	})
	r, failures := Probe(t.Context(), Config{URL: replica.URL(), Token: full})
	wantFailures(t, failures, "writing", "this is a replica, and its primary did not answer it within 2s")
	if r.Role != "replica" || r.Primary != "does not answer" || r.Writes != "" || r.LargestValue != 5e6 {
		t.Errorf("report is %+v", r)
	}
}

func TestProbeDoesNotTakeASlowServerForAReplica(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	var slow atomic.Bool
	s := front(t, false, hranatest.Start(t).URL(), func(w http.ResponseWriter, r *http.Request, body string) bool {
		slow.CompareAndSwap(false, strings.Contains(body, "foreign_key_check"))
		if slow.Load() {
			<-r.Context().Done()
		}
		return slow.Load()
	})
	p := probeOf(t, s.URL, "")
	p.timeout = probePrimaryWait + 200*time.Millisecond
	r, failures := probed(t, p)
	wantFailures(t, failures[:1], "role", "no answer within")
	if r.Role != "" || r.Primary != "" {
		t.Errorf("report is %+v", r)
	}
}

func TestProbeHidesATokenThatTheServerRepeats(t *testing.T) {
	s := front(t, false, "http://127.0.0.1:1", func(w http.ResponseWriter, r *http.Request, _ string) bool {
		http.Error(w, "what is "+r.Header.Get("Authorization")+strings.Repeat("!", 900), http.StatusBadRequest)
		return true
	})
	_, failures := probed(t, probeOf(t, s.URL, "s3cret"))
	wantFailures(t, failures[1:], "first query", "HTTP 400: what is Bearer [redacted]!!")
	if n := len(failures[1].Error); n != maxProbeText+3 {
		t.Errorf("error of %d bytes", n)
	}
}

func TestProbeOfSomethingElse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		handle http.HandlerFunc
		want   []string
	}{
		{"nothing there", http.NotFound, []string{"first query", "what answers is no libSQL server: HTTP 404: no libSQL server at this URL: 404 page not found; check the URL"}},
		{"only GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) },
			[]string{"protocols", "GET /v3-protobuf: HTTP 405 Method Not Allowed\nGET /v3: ", "first query", "what answers is no libSQL server: HTTP 405"}},
		{"only pages", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusNotImplemented)
			} else {
				http.NotFound(w, r)
			}
		}, []string{"first query", "what answers is no libSQL server: HTTP 501: Not Implemented"}},
		{"a gateway that lets nobody through", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "denied", http.StatusForbidden) },
			[]string{"protocols", "HTTP 403", "first query", "what answers is no libSQL server: HTTP 403: denied"}},
		{"a page for every path", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "<html>welcome</html>") },
			[]string{"first query", "perhaps this is no libSQL server: read pipeline answer: "}},
		{"out of order", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, []string{"protocols", "HTTP 503", "first query", "HTTP 503: Service Unavailable"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := front(t, false, "http://127.0.0.1:1", func(w http.ResponseWriter, r *http.Request, _ string) bool {
				w.Header().Set("Server", "nginx/1.27")
				tt.handle(w, r)
				return true
			})
			r, failures := Probe(t.Context(), Config{URL: s.URL})
			wantFailures(t, failures, tt.want...)
			if r.ServerHeader != "nginx/1.27" || r.Version != "" || r.Protocol != "" || r.Token != "" || r.Warm <= 0 || (r.RetryAfter == "30") != (tt.name == "out of order") {
				t.Errorf("report is %+v", r)
			}
		})
	}
}

func TestProbeOfAnUnknownDatabase(t *testing.T) {
	server := hranatest.Start(t, hranatest.WithArgs("--enable-namespaces"))
	_, failures := Probe(t.Context(), Config{URL: server.URL()})
	wantFailures(t, failures[len(failures)-1:], "first query", "no such database on this server: HTTP 404: Namespace `127` doesn't exist")
}

func TestProbeOverTLS(t *testing.T) {
	s := front(t, true, hranatest.Start(t).URL(), passAll)
	p := probeOf(t, s.URL, "")
	p.transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	p.transport.TLSClientConfig.RootCAs.AddCert(s.Certificate())
	r, failures := probed(t, p)
	wantFailures(t, failures)
	if !slices.Equal(r.HTTP, []string{"1.1", "2"}) || r.TLS != "TLS 1.3" || !r.CertificateExpires.Equal(s.Certificate().NotAfter) || r.Writes != "allowed" {
		t.Errorf("report is %+v", r)
	}
}

func TestProbeSaysWhyThereIsNoConnection(t *testing.T) {
	secure := front(t, true, "http://127.0.0.1:1", passAll)
	plain := front(t, false, "http://127.0.0.1:1", passAll)
	nobody := hranatest.Unused(t)
	address := func(url string) string { _, a, _ := strings.Cut(url, "://"); return a }
	for base, want := range map[string][]string{
		"http://" + nobody:                 {"connection", "nothing listens at " + nobody + " (connection refused)"},
		"https://host.invalid":             {"address", "host.invalid"},
		secure.URL:                         {"connection", "x509: certificate signed by unknown authority"},
		"https://" + address(plain.URL):    {"connection", "the server speaks no TLS; begin the target with http://"},
		"http://" + address(secure.URL):    {"connection", "the server speaks only TLS; begin the target with libsql://"},
		"http://user:s3cret@127.0.0.1:1/x": {"address", "server URL holds credentials"},
	} {
		r, failures := Probe(t.Context(), Config{URL: base})
		wantFailures(t, failures, want...)
		if r.Protocol != "" {
			t.Errorf("%s: report is %+v", base, r)
		}
	}
}

func TestProbeDoesNotHang(t *testing.T) {
	sqld := hranatest.Start(t).URL()
	for _, tt := range []struct {
		name  string
		hangs func(path, body string) bool
		want  []string
		usual string // the protocol that is reported
	}{
		{"at once", func(path, body string) bool { return true },
			[]string{"connection", "no answer within"}, ""},
		{"every statement", func(path, body string) bool { return body != "" },
			[]string{"first query", "no answer within"}, ""},
		{"writers", func(path, body string) bool { return strings.Contains(body, "BEGIN IMMEDIATE") },
			[]string{"writing", "no answer to BEGIN IMMEDIATE within 2s: another program is writing, or writers hang; if it stays so, restart the server"}, everyProtocol[0]},
		{"large values", func(path, body string) bool { return strings.Contains(body, "zeroblob") },
			[]string{"largest value", "no answer within 2s"}, everyProtocol[0]},
		{"version", func(path, body string) bool { return path == "/version" },
			[]string{"server", "no answer within 2s"}, everyProtocol[0]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := front(t, false, sqld, func(w http.ResponseWriter, r *http.Request, body string) bool {
				if tt.hangs(r.URL.Path, body) {
					<-r.Context().Done()
					return true
				}
				return false
			})
			p := probeOf(t, s.URL, "")
			p.timeout = 2 * time.Second
			r, failures := probed(t, p)
			wantFailures(t, failures, tt.want...)
			if r.Protocol != tt.usual {
				t.Errorf("report is %+v", r)
			}
		})
	}
}

func TestProbeLeavesTheWriteLockToItsHolder(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	server := hranatest.Start(t)
	client, err := hrana.NewClient(server.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	rt := &http.Transport{}
	defer rt.CloseIdleConnections()
	send := func(baton string, requests ...hrana.Request) string {
		t.Helper()
		a, err := client.Do(t.Context(), rt, hrana.Pipeline{Baton: baton, Requests: requests})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range a.Results {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		return a.Baton
	}
	execute := func(sql string) hrana.Request { return hrana.Execute{Stmt: hrana.Stmt{SQL: sql}} }
	baton := send("", execute("BEGIN IMMEDIATE"), execute("CREATE TABLE t(k)"))
	r, failures := Probe(t.Context(), Config{URL: server.URL()})
	wantFailures(t, failures, "writing", "another program is writing")
	if r.Writes != "" || r.LargestValue != 5e6 {
		t.Errorf("report is %+v", r)
	}
	send(baton, execute("COMMIT"), hrana.Close{})
	send("", execute("INSERT INTO t VALUES(1)"), hrana.Close{})
}

func TestProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := front(t, false, hranatest.Start(t).URL(), func(w http.ResponseWriter, r *http.Request, body string) bool {
		if body == "" {
			return false
		}
		cancel()
		<-r.Context().Done()
		return true
	})
	_, failures := Probe(ctx, Config{URL: s.URL})
	wantFailures(t, failures, "first query", "context canceled")
}

func TestProbeSeesConnectionsThatAreNotKept(t *testing.T) {
	s := front(t, false, hranatest.Start(t).URL(), passAll)
	s.Config.SetKeepAlivesEnabled(false)
	r, failures := Probe(t.Context(), Config{URL: s.URL})
	wantFailures(t, failures)
	if r.KeepAlive || r.Warm <= 0 || r.KeptStream <= 0 {
		t.Errorf("report is %+v", r)
	}
}

func TestProbeOfOtherAnswers(t *testing.T) {
	const (
		ok        = `{"type":"ok","response":{"type":"execute","result":{"cols":[],"rows":[[{"type":"integer","value":"1"}]],"affected_row_count":0}}}`
		closed    = `{"type":"ok","response":{"type":"close"}}`
		batch     = `{"type":"ok","response":{"type":"batch","result":{"step_results":[null,null,null],"step_errors":[%s,null,null]}}}`
		locked    = `{"message":"SQLite error: database is locked","code":"SQLITE_BUSY"}`
		blocked   = `{"message":"Operation was blocked: over the quota","code":"BLOCKED"}`
		elsewhere = `{"baton":"b","base_url":"https://eu.example","results":[` + ok + `]}`
		noBaton   = `{"baton":null,"base_url":null,"results":[` + ok + `]}`
	)
	answer := func(results ...string) string {
		return `{"baton":null,"base_url":null,"results":[` + strings.Join(results, ",") + `]}`
	}
	for _, tt := range []struct {
		name  string
		when  func(body string) bool
		reply string
		want  []string
		sees  func(r *ServerReport) bool
	}{
		{"another writer", func(body string) bool { return strings.Contains(body, "IMMEDIATE") }, answer(fmt.Sprintf(batch, locked), closed),
			nil, func(r *ServerReport) bool { return r.Writes == "busy" }},
		{"writes blocked", func(body string) bool { return strings.Contains(body, "IMMEDIATE") }, answer(fmt.Sprintf(batch, blocked), closed),
			[]string{"writing", "Operation was blocked: over the quota (BLOCKED)"}, func(r *ServerReport) bool { return r.Writes == "" }},
		{"streams elsewhere", func(body string) bool { return !strings.Contains(body, `"close"`) }, elsewhere,
			[]string{"kept stream", "another URL"}, func(r *ServerReport) bool { return r.BaseURL == "https://eu.example" && r.KeptStream == 0 }},
		{"no streams", func(body string) bool { return !strings.Contains(body, `"close"`) }, noBaton,
			[]string{"kept stream", "keeps no streams open"}, func(r *ServerReport) bool { return r.KeptStream == 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := front(t, false, hranatest.Start(t).URL(), func(w http.ResponseWriter, r *http.Request, body string) bool {
				if strings.HasPrefix(r.URL.Path, "/v3-protobuf") {
					w.WriteHeader(http.StatusNotFound) // so that the bodies can be read here
					return true
				}
				if body == "" || !tt.when(body) {
					return false
				}
				_, _ = io.WriteString(w, tt.reply)
				return true
			})
			r, failures := Probe(t.Context(), Config{URL: s.URL})
			wantFailures(t, failures, tt.want...)
			if !tt.sees(r) || r.LargestValue != 5e6 {
				t.Errorf("report is %+v", r)
			}
		})
	}
}

func TestMedianOfWhatWasTakenInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	ms, err := median(ctx, func() error {
		if calls++; calls == 4 {
			cancel()
		}
		return ctx.Err()
	})
	if err != nil || calls != 4 || ms < 0 {
		t.Errorf("%v ms, %v after %d calls", ms, err, calls)
	}
	if _, err := median(ctx, func() error { return ctx.Err() }); !errors.Is(err, context.Canceled) {
		t.Errorf("without a sample: %v", err)
	}
	if _, err := median(t.Context(), func() error { return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after a failure: %v", err)
	}
}
