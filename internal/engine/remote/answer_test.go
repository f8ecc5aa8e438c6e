package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// limitBodies refuses requests of more than n bytes as a gateway does.
func limitBodies(n int, status int) hranatest.Fault {
	return func(x *hranatest.Exchange) {
		if len(x.Body()) > n {
			x.Answer(status, nil, nil)
		} else {
			hranatest.Pass(x)
		}
	}
}

func TestAGroupOverTheBodyLimitOfAGateway(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k, v)"))
	proxy.Always(limitBodies(100_000, http.StatusRequestEntityTooLarge))
	var batches [][]engine.Stmt
	for k := range int64(16) {
		size := 20_000
		if k == 5 {
			size = 200_000 // too large by itself
		}
		batches = append(batches, []engine.Stmt{stmt("INSERT INTO t VALUES(?, ?)", k, make([]byte, size))})
	}
	group := units(batches...)
	before := proxy.Requests("")
	e.commit(group)
	for k, u := range group {
		if k == 5 {
			wantError(t, u.Err, engine.KindTooLarge, -1, "exceeds the limit of the server or of a gateway")
		} else if u.Err != nil {
			t.Errorf("unit %d: %v", k, u.Err)
		}
	}
	if got := keys(t, e); got != "0 1 2 3 4 6 7 8 9 10 11 12 13 14 15" {
		t.Errorf("stored are %s", got)
	}
	if n := proxy.Requests("") - before; n > 12 {
		t.Errorf("%d requests", n)
	}
}

func TestReadsOverTheBodyLimitOfAGateway(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge} {
		e, proxy := open(t, hrana.V3Protobuf)
		proxy.Always(limitBodies(100_000, status))
		var batch []*read
		for range 8 {
			batch = append(batch, &read{ctx: t.Context(), stmts: []engine.Stmt{stmt("SELECT length(?)", make([]byte, 40_000))}})
		}
		e.answerTogether(batch, nil, nil)
		for i, r := range batch {
			if r.err != nil || r.results[0].Rows[0][0] != int64(40_000) {
				t.Errorf("%d: read %d: %v, %v", status, i, r.results, r.err)
			}
		}
	}
}

// A router answers for a server that is being replaced.
func TestA404OfARouter(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k UNIQUE)"))
	var mu sync.Mutex
	left := 0
	proxy.Always(func(x *hranatest.Exchange) {
		mu.Lock()
		defer mu.Unlock()
		if left--; left >= 0 {
			x.Answer(http.StatusNotFound, nil, []byte("404 page not found"))
		} else {
			hranatest.Pass(x)
		}
	})
	for _, requests := range []int{4, 7} { // each attempt tries all three protocols
		left = requests
		if _, err := e.Batch(t.Context(), insert(int64(requests))); err != nil {
			t.Errorf("write: %v", err)
		}
		left = requests
		count(t, e, "SELECT 1")
	}
	left = 1000
	_, err := e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindUnavailable, -1, "no libSQL server answers at 127.0.0.1:")
	for range breakerCalls {
		e.record(&hrana.Error{Status: http.StatusNotFound, Foreign: true}, false)
	}
	if !e.breaker.IsClosed() {
		t.Error("breaker has opened")
	}
}

func TestWhatCountsAgainstTheBreaker(t *testing.T) {
	for status, down := range map[int]bool{302: false, 400: false, 404: false, 408: false, 429: false, 500: false, 502: true, 503: true, 504: true, 521: true, 530: true} {
		e := &Engine{host: "db:80"}
		for name, h := range map[string]*hrana.Error{
			"":                  {Status: status},
			" with Retry-After": {Status: status, RetryAfter: time.Second},
		} {
			e.breaker = e.newBreaker()
			e.log = slog.New(slog.DiscardHandler)
			for range breakerCalls {
				e.record(h, false)
			}
			if want := down && h.RetryAfter == 0; e.breaker.IsOpen() != want {
				t.Errorf("%d%s: open is %v, want %v", status, name, e.breaker.IsOpen(), want)
			}
		}
	}
}

func later(status int, seconds string) hranatest.Fault {
	return func(x *hranatest.Exchange) { x.Answer(status, http.Header{"Retry-After": {seconds}}, nil) }
}

func TestRetryAfterIsHeeded(t *testing.T) {
	if testing.Short() {
		t.Skip("waits as long as it is told, in whole seconds")
	}
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		for name, ask := range map[string]func(*Engine, context.Context) error{
			"read":  func(e *Engine, ctx context.Context) error { _, err := e.Query(ctx, stmt("SELECT 1")); return err },
			"write": func(e *Engine, ctx context.Context) error { _, err := e.Repeatable(ctx, insert(1)); return err },
		} {
			t.Run(fmt.Sprint(status, name), func(t *testing.T) {
				t.Parallel()
				e, proxy := open(t, hrana.V3Protobuf)
				must(t, e, stmt("CREATE TABLE t(k)"))
				for e.budget.take(time.Now()) { // it is not needed
				}
				// More often than attempts are made without being asked.
				proxy.Next(later(status, "1"), later(status, "1"), later(status, "1"))
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				start := time.Now()
				if err := ask(e, ctx); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < 3*time.Second {
					t.Errorf("took %v", took)
				}
				if n := e.Stats().Retries; n != 3 {
					t.Errorf("%d retries", n)
				}
			})
		}
	}
}

func TestRetryAfterThatIsTooLate(t *testing.T) {
	t.Parallel()
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k)"))
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for seconds, ctx := range map[string]context.Context{"11": soon, "31": t.Context(), "2147483647": t.Context()} {
		requests := proxy.Requests("")
		start := time.Now()
		proxy.Next(later(http.StatusTooManyRequests, seconds), later(http.StatusTooManyRequests, seconds))
		_, err := e.Query(ctx, stmt("SELECT 1"))
		wantError(t, err, engine.KindUnavailable, -1, "HTTP 429: Too Many Requests, to be repeated in ")
		_, err = e.Batch(ctx, insert(1))
		wantError(t, err, engine.KindUnavailable, -1, "HTTP 429: Too Many Requests, to be repeated in ")
		if n := proxy.Requests("") - requests; n != 2 || time.Since(start) > 5*time.Second {
			t.Errorf("%d requests in %v", n, time.Since(start))
		}
	}
}

// Nobody waits for a server that asks for time longer than somebody waits for the call.
func TestNobodyWaitsForALaneThatWaits(t *testing.T) {
	t.Parallel()
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k)"))
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan struct{}) // a refusal that comes before is what the write fails with
	proxy.Next(hranatest.Then(func() { cancel(); <-gaveUp }, later(http.StatusTooManyRequests, "20")))
	_, err := e.Batch(ctx, insert(1))
	close(gaveUp)
	wantError(t, err, engine.KindUnknownOutcome, -1, "gave up waiting")
	start := time.Now()
	must(t, e, insert(2))
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the next write took %v", took)
	}

	arrived := make(chan struct{})
	proxy.Next(hranatest.Then(func() { close(arrived) }, later(http.StatusTooManyRequests, "20")))
	var writer sync.WaitGroup
	writer.Go(func() {
		_, err := e.Batch(t.Context(), insert(3))
		wantError(t, err, engine.KindUnavailable, -1, "HTTP 429")
	})
	<-arrived
	start = time.Now()
	must(t, openURL(t, proxy.URL()), insert(4)) // of another program on this machine
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the write of another took %v", took)
	}
	start = time.Now()
	_ = e.Close() // always nil
	writer.Wait()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestPausesEnd(t *testing.T) {
	const long = time.Hour
	for name, tt := range map[string]struct {
		end  func(e *Engine, ctx, first, second context.CancelFunc)
		long bool
		want time.Duration
	}{
		"by themselves":                    {func(*Engine, context.CancelFunc, context.CancelFunc, context.CancelFunc) {}, true, long},
		"with the context":                 {func(_ *Engine, ctx, _, _ context.CancelFunc) { ctx() }, true, time.Minute},
		"not while somebody waits":         {func(_ *Engine, _, _, second context.CancelFunc) { second() }, true, long},
		"when all have left":               {func(_ *Engine, _, first, second context.CancelFunc) { first(); second() }, true, time.Minute},
		"with Close":                       {func(e *Engine, _, _, _ context.CancelFunc) { e.shut() }, true, time.Minute},
		"not with Close if they are short": {func(e *Engine, _, _, _ context.CancelFunc) { e.shut() }, false, long},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &Engine{}
				e.open, e.shut = context.WithCancel(t.Context())
				defer e.shut()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				first, leaveFirst := context.WithCancel(t.Context())
				defer leaveFirst()
				second, leaveSecond := context.WithCancel(t.Context())
				defer leaveSecond()
				time.AfterFunc(time.Minute, func() { tt.end(e, cancel, leaveFirst, leaveSecond) })
				start := time.Now()
				again := e.pause(ctx, &call{callers: []context.Context{first, second}}, long, tt.long)
				if took := time.Since(start); took != tt.want || again != (tt.want == long) {
					t.Errorf("ended after %v with %v", took, again)
				}
			})
		})
	}
}

// An error says who refused, and where to go on.
func TestErrorsNameTheCulprit(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect:
			w.WriteHeader(http.StatusProxyAuthRequired)
		case strings.HasPrefix(r.URL.Path, "/moved"):
			http.Redirect(w, r, "https://user:s3cret@db.test"+r.URL.Path+"?authToken=s3cret", http.StatusPermanentRedirect)
		case strings.HasPrefix(r.URL.Path, "/login"):
			fmt.Fprint(w, "<html><title>Sign in</title></html>")
		default:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<html><title>Blocked by the firewall</title></html>")
		}
	}))
	defer page.Close()
	for _, tt := range []struct{ url, proxy, text string }{
		{page.URL + "/moved", "", "leads elsewhere; use the address of the database itself: HTTP 308: Permanent Redirect, to https://db.test/moved"},
		{page.URL + "/login", "", `: it is the page "Sign in"`},
		{page.URL, "", "or a gateway before it, refused the request; check the token and the address: HTTP 403: Blocked by the firewall"},
		{strings.Replace(page.URL, "http:", "https:", 1), "", "if the server speaks no TLS, begin its address with http://"},
		{"https://db.test", page.URL, "cannot reach db.test:443 through the proxy " + strings.TrimPrefix(page.URL, "http://") + ": Proxy Authentication Required"},
		{"https://db.test", "http://user:s3cret@127.0.0.1:1", "cannot reach db.test:443 through the proxy 127.0.0.1:1: the proxy does not answer: connection refused"},
		{"http://db.test", "http://user:s3cret@127.0.0.1:1", "cannot reach db.test:80 through the proxy 127.0.0.1:1: the proxy does not answer: connection refused"},
	} {
		cfg := Config{URL: tt.url, AllowPlaintext: true}
		if tt.proxy != "" {
			var err error
			if cfg.Proxy, err = url.Parse(tt.proxy); err != nil {
				t.Fatal(err)
			}
		}
		e := openConfig(t, cfg)
		_, err := e.Query(t.Context(), stmt("SELECT 1"))
		if err == nil || !strings.Contains(err.Error(), tt.text) || strings.Contains(fmt.Sprintf("%v %#v", err, errors.Unwrap(err)), "s3cret") {
			t.Errorf("error is %v\nwant %s", err, tt.text)
		}
	}
}

// docs/operations.md shows the table as it is.
func TestTheTableOfAnswersIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	table := "| answer | executed | repeated | taken apart | breaker | error |\n|---|---|---|---|---|---|\n"
	for _, c := range answerClasses {
		table += documented(c)
	}
	if !strings.Contains(string(doc), table) {
		t.Errorf("docs/operations.md does not hold\n%s", table)
	}
}

// A server that wants a client's certificate says so only after its handshake.
func TestAServerThatWantsACertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	e := openConfig(t, Config{URL: server.URL, TLS: &tls.Config{RootCAs: roots}})
	_, err := e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindOther, -1, "no secure connection to 127.0.0.1:")
	wantError(t, err, engine.KindOther, -1, ": tls: certificate required")
}

// alert is one of TLS, as crypto/tls has it.
type alert uint8

func (a alert) Error() string { return fmt.Sprintf("alert %d", uint8(a)) }

// A handshake that is refused has executed nothing; other alerts tell less.
func TestAlertsOfTLS(t *testing.T) {
	e := &Engine{host: "db:443"}
	for code, want := range map[alert]engine.Kind{116: engine.KindOther, 48: engine.KindOther, 80: engine.KindUnknownOutcome} {
		err := &hrana.TransportError{Sent: true, Err: &net.OpError{Op: "remote error", Err: code}}
		wantError(t, e.writeError(err, nil), want, -1, code.Error())
	}
}

func documented(c answerClass) string {
	status := fmt.Sprint(c.from)
	switch {
	case c.to-c.from == 99 && c.from%100 == 0 && c.from != 400:
		status = fmt.Sprintf("%dxx", c.from/100)
	case c.to-c.from >= 99:
		status = fmt.Sprintf("other %dxx", c.from/100)
	case c.to > c.from:
		status = fmt.Sprintf("%d, %d", c.from, c.to)
	}
	if c.from == 200 {
		status += " but 200"
	}
	if c.foreign {
		status += ", not from a libSQL server"
	}
	kind, known := map[engine.Kind]string{
		engine.KindAuth: "`ErrUnauthorized`", engine.KindNotFound: "`ErrUnknownDatabase`", engine.KindTooLarge: "`ErrTooLarge`",
		engine.KindUnavailable: "Retryable", engine.KindOther: "other",
	}[c.kind]
	if !known {
		kind = fmt.Sprint(c.kind)
	}
	executed, repeated := "no", "no"
	switch c.disposition {
	case notExecuted:
		repeated = "yes"
	case maybeExecuted:
		executed, repeated = "perhaps", "reads, repeatable writes"
	case maybeStillRunning:
		executed, repeated = "perhaps, or later", "reads"
	}
	if c.final {
		repeated = "no"
	}
	if executed != "no" {
		kind += "; writes `ErrUnknownOutcome`"
	}
	yes := map[bool]string{true: "yes", false: "no"}
	breaker := yes[c.down]
	if c.overload {
		breaker = "no; the pool shrinks"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", status, executed, repeated, yes[c.apart], breaker, kind)
}
