package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
)

func stmt(sql string, args ...engine.Value) engine.Stmt { return engine.Stmt{SQL: sql, Args: args} }

func must(t testing.TB, e *Engine, stmts ...engine.Stmt) []engine.Result {
	t.Helper()
	r, err := e.Batch(t.Context(), stmts...)
	if err != nil {
		t.Fatalf("batch: %v", err)
	}
	return r
}

func count(t testing.TB, e *Engine, sql string, args ...engine.Value) int64 {
	t.Helper()
	r, err := e.Query(t.Context(), stmt(sql, args...))
	if err != nil {
		t.Fatalf("query: %v", err)
	}
	return r[0].Rows[0][0].(int64)
}

// wantError checks the kind and the text of an error.
func wantError(t *testing.T, err error, kind engine.Kind, stmt int, text string) {
	t.Helper()
	e, ok := errors.AsType[*engine.Error](err)
	if !ok || e.Kind != kind || e.Stmt != stmt || !strings.Contains(e.Error(), text) {
		t.Errorf("error is %#v: %v\nwant kind %d of statement %d: %s", err, err, kind, stmt, text)
	}
}

func TestOpenRefusesABadURL(t *testing.T) {
	if _, err := Open(Config{URL: "http://user:s3cret@host"}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error is %v", err)
	}
}

func TestSequentialCallsShareOneConnection(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k)"))
	for range 20 {
		must(t, e, stmt("INSERT INTO t VALUES(1)"))
		count(t, e, "SELECT count(*) FROM t")
	}
	// The pool's second connection is there for whoever comes next.
	if proxy.Conns() > 2 || proxy.Requests("") != 41 || e.Stats().Requests != 41 {
		t.Errorf("%d connections and %d requests (%d counted) for 41 calls", proxy.Conns(), proxy.Requests(""), e.Stats().Requests)
	}
}

func TestConcurrentQueriesShareAFewConnections(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 5 {
				if _, err := e.Query(t.Context(), stmt("SELECT 1")); err != nil {
					t.Errorf("query: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n := proxy.Conns(); n > 10 {
		t.Errorf("%d connections for 32 callers", n)
	}
	if got := e.Stats().Queries; got != 160 {
		t.Errorf("%d queries counted, want 160", got)
	}
}

func TestQueryIsCancelledAtOnce(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	ctx, cancel := context.WithCancel(t.Context())
	proxy.Next(hranatest.Then(cancel, hranatest.BlackHole))
	if _, err := e.Query(ctx, stmt("SELECT 1")); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if n := count(t, e, "SELECT 1"); n != 1 {
		t.Errorf("the next query gave %d", n)
	}
}

func TestQueryIsCancelledWhileAllConnectionsAreBusy(t *testing.T) {
	server := hranatest.Start(t)
	proxy := hranatest.NewProxy(t, server.URL())
	e, err := Open(Config{URL: proxy.URL(), Pool: pool.Options{MinConns: 1, MaxConns: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	busy, release := context.WithCancel(t.Context())
	held := make(chan struct{})
	proxy.Next(hranatest.Then(func() { close(held) }, hranatest.BlackHole))
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := e.Query(busy, stmt("SELECT 1")); !errors.Is(err, context.Canceled) {
			t.Errorf("held query: %v", err)
		}
	})
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := e.Query(ctx, stmt("SELECT 1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting query: %v", err)
	}
	release()
	first.Wait()
	if n := count(t, e, "SELECT 1"); n != 1 {
		t.Errorf("the next query gave %d", n)
	}
}

func TestBatchIsCancelledAtOnce(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k)"))
	ctx, cancel := context.WithCancel(t.Context())
	arrived, goOn := make(chan struct{}), make(chan struct{})
	proxy.Next(hranatest.Then(func() { close(arrived); <-goOn }, hranatest.Pass))
	go func() { <-arrived; cancel() }()
	_, err := e.Batch(ctx, stmt("INSERT INTO t VALUES(1)"))
	if !errors.Is(err, context.Canceled) || engine.KindOf(err) != engine.KindUnknownOutcome {
		t.Errorf("error is %v", err)
	}
	close(goOn)
	must(t, e, stmt("INSERT INTO t VALUES(2)"))
	if n := count(t, e, "SELECT count(*) FROM t"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k UNIQUE)"))

	// A write that is not said to be repeatable is not sent again.
	proxy.Next(hranatest.CutAnswer)
	_, err := e.Batch(t.Context(), insert(1))
	wantError(t, err, engine.KindUnknownOutcome, -1, "no usable answer from 127.0.0.1:")
	if n := e.Stats().Retries; n != 0 {
		t.Errorf("%d retries", n)
	}

	proxy.Next(hranatest.CutAnswer, hranatest.CutAnswer)
	if n := count(t, e, "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	proxy.Next(hranatest.CutAnswer, hranatest.CutAnswer, hranatest.CutAnswer)
	_, err = e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindUnavailable, -1, "no usable answer from 127.0.0.1:")
	if s := e.Stats(); s.Queries != 1 || s.Retries != 4 {
		t.Errorf("counted %+v", s)
	}
}

func TestRepeatableWrites(t *testing.T) {
	t.Parallel()
	put := stmt("INSERT INTO t VALUES(1) ON CONFLICT DO NOTHING")
	for _, tt := range []struct {
		name   string
		faults []hranatest.Fault
		stmt   engine.Stmt
		kind   engine.Kind
		stmtNo int
		text   string // empty if it is stored
	}{
		{"lost twice", []hranatest.Fault{hranatest.CutAnswer, hranatest.CutAnswer}, put, 0, 0, ""},
		{"gateway lost it", []hranatest.Fault{hranatest.Refuse(http.StatusBadGateway, "")}, put, 0, 0, ""},
		{"not sent again to a gateway that waits", []hranatest.Fault{hranatest.Refuse(http.StatusGatewayTimeout, "")}, put, engine.KindUnknownOutcome, -1, "HTTP 504"},
		// The failure of the second time comes from the success of the first.
		{"stored by the first", []hranatest.Fault{hranatest.CutAnswer}, insert(1), engine.KindUnique, 0, "UNIQUE constraint failed"},
		// Nothing that happens later makes the outcome known.
		{"refused later", []hranatest.Fault{hranatest.CutAnswer, hranatest.Refuse(http.StatusUnauthorized, `{"error":"Unauthorized: `+"`no`"+`"}`)},
			put, engine.KindUnknownOutcome, -1, "the answer was lost, and then: server refused the token: no"},
		{"overloaded later", []hranatest.Fault{hranatest.CutAnswer, hranatest.Refuse(http.StatusTooManyRequests, ""), hranatest.Refuse(http.StatusTooManyRequests, "")},
			put, engine.KindUnknownOutcome, -1, "the answer was lost, and then: server at "},
		{"lost for good", slices.Repeat([]hranatest.Fault{hranatest.CutAnswer}, maxAttempts), put, engine.KindUnknownOutcome, -1, "no usable answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, proxy := open(t, hrana.V3Protobuf)
			must(t, e, stmt("CREATE TABLE t(k UNIQUE)"))
			proxy.Next(tt.faults...)
			_, err := e.Repeatable(t.Context(), tt.stmt)
			if tt.text != "" {
				wantError(t, err, tt.kind, tt.stmtNo, tt.text)
			} else if err != nil || e.Stats().Retries != uint64(len(tt.faults)) {
				t.Errorf("error %v after %d retries", err, e.Stats().Retries)
			}
			if n := count(t, e, "SELECT count(*) FROM t"); n > 1 || n == 0 && tt.text == "" {
				t.Errorf("%d rows", n)
			}
		})
	}
}

// What can be sent again is, also if it travels with what cannot.
func TestMixedGroupWhoseAnswerIsLost(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k UNIQUE)"))
	group := units([]engine.Stmt{insert(1)}, []engine.Stmt{stmt("INSERT INTO t VALUES(2) ON CONFLICT DO NOTHING")})
	group[1].Repeatable = true
	proxy.Next(hranatest.CutAnswer)
	e.commit(group)
	wantError(t, group[0].Err, engine.KindUnknownOutcome, -1, "no usable answer")
	if group[1].Err != nil || len(group[1].Results) != 1 {
		t.Errorf("results %v, error %v", group[1].Results, group[1].Err)
	}
	if got := keys(t, e); got != "1 2" {
		t.Errorf("stored are %s", got)
	}
}

func TestGatewayErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status        int
		read, write   engine.Kind
		reads, writes int // times it is sent
		text          string
	}{
		{204, engine.KindOther, engine.KindUnknownOutcome, 1, 1, "server refused the request: HTTP 204: No Content"},
		{302, engine.KindOther, engine.KindOther, 1, 1, " leads elsewhere; use the address of the database itself: HTTP 302: Found"},
		{400, engine.KindOther, engine.KindOther, 1, 1, "server refused the request: HTTP 400: Bad Request"},
		{401, engine.KindAuth, engine.KindAuth, 1, 1, "or a gateway before it, refused the request; check the token and the address: HTTP 401: Unauthorized"},
		{407, engine.KindOther, engine.KindOther, 1, 1, "wants a user and password; write them in its URL: HTTP 407"},
		{408, engine.KindUnavailable, engine.KindUnknownOutcome, 3, 1, "is unavailable: HTTP 408: Request Timeout"},
		{413, engine.KindTooLarge, engine.KindTooLarge, 1, 1, "HTTP 413: Request Entity Too Large"},
		{418, engine.KindOther, engine.KindOther, 1, 1, "server refused the request: HTTP 418"},
		{421, engine.KindUnavailable, engine.KindUnavailable, 3, 3, "is unavailable: HTTP 421: Misdirected Request"},
		{425, engine.KindUnavailable, engine.KindUnavailable, 3, 3, "is unavailable: HTTP 425: Too Early"},
		{429, engine.KindUnavailable, engine.KindUnavailable, 3, 3, "is unavailable: HTTP 429: Too Many Requests"},
		{500, engine.KindOther, engine.KindUnknownOutcome, 1, 1, "server refused the request: HTTP 500: Internal Server Error"},
		{501, engine.KindOther, engine.KindOther, 1, 1, "server refused the request: HTTP 501: Not Implemented"},
		{502, engine.KindUnavailable, engine.KindUnknownOutcome, 3, 1, "is unavailable: HTTP 502: Bad Gateway"},
		{503, engine.KindUnavailable, engine.KindUnknownOutcome, 3, 1, "is unavailable: HTTP 503: Service Unavailable"},
		{504, engine.KindUnavailable, engine.KindUnknownOutcome, 3, 1, "is unavailable: HTTP 504: Gateway Timeout"},
		{520, engine.KindUnavailable, engine.KindUnknownOutcome, 3, 1, "is unavailable: HTTP 520: "},
		{521, engine.KindUnavailable, engine.KindUnavailable, 3, 3, "is unavailable: HTTP 521: "},
		{522, engine.KindUnavailable, engine.KindUnknownOutcome, 3, 1, "is unavailable: HTTP 522: "},
		{523, engine.KindUnavailable, engine.KindUnavailable, 3, 3, "is unavailable: HTTP 523: "},
		{524, engine.KindUnavailable, engine.KindUnknownOutcome, 3, 1, "is unavailable: HTTP 524: "},
		{526, engine.KindUnavailable, engine.KindUnavailable, 3, 3, "is unavailable: HTTP 526: "},
		{530, engine.KindUnavailable, engine.KindUnknownOutcome, 3, 1, "is unavailable: HTTP 530: "},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			t.Parallel()
			proxy := hranatest.NewProxy(t, "http://"+hranatest.Unused(t))
			e := openURL(t, proxy.URL())
			proxy.Next(slices.Repeat([]hranatest.Fault{hranatest.Refuse(tt.status, "")}, tt.reads+tt.writes)...)
			_, err := e.Query(t.Context(), stmt("SELECT 1"))
			wantError(t, err, tt.read, -1, tt.text)
			_, err = e.Batch(t.Context(), stmt("SELECT 1"))
			wantError(t, err, tt.write, -1, tt.text)
			if n := proxy.Requests("/v3-protobuf/pipeline"); n != tt.reads+tt.writes {
				t.Errorf("%d requests, want %d + %d", n, tt.reads, tt.writes)
			}
		})
	}
}

func TestKilledServer(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	e := openURL(t, server.URL())
	must(t, e, stmt("CREATE TABLE t(k)"))
	server.Kill()
	host := strings.TrimPrefix(server.URL(), "http://")
	_, err := e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindUnavailable, -1, "cannot reach "+host+": connection refused")
	_, err = e.Batch(t.Context(), stmt("INSERT INTO t VALUES(1)"))
	wantError(t, err, engine.KindUnavailable, -1, "cannot reach "+host+": connection refused")
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error does not wrap its cause: %v", err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	must(t, e, stmt("INSERT INTO t VALUES(2)"))
	if n := count(t, e, "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// untrusted starts a server whose certificate nobody has signed.
func untrusted(t *testing.T) *httptest.Server {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains about clients that go away
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestUnknownHostAndCertificate(t *testing.T) {
	server := untrusted(t)
	host := strings.TrimPrefix(server.URL, "https://")
	for url, text := range map[string]string{
		"http://host.invalid":     "cannot reach host.invalid:80: ",
		server.URL:                "no secure connection to " + host + ": x509: certificate signed by unknown authority",
		"https://" + freeProxy(t): "tls: first record does not look like a TLS handshake",
	} {
		_, err := openURL(t, url).Batch(t.Context(), stmt("SELECT 1"))
		kind := engine.KindUnavailable
		if url != "http://host.invalid" {
			kind = engine.KindOther // trying again is of no use
		}
		wantError(t, err, kind, -1, text)
	}
}

func TestTokens(t *testing.T) {
	key := hranatest.NewKey()
	server := hranatest.Start(t, hranatest.WithKey(key))
	token := ""
	var tokenErr error
	e, err := Open(Config{URL: server.URL(), Token: func(context.Context) (string, error) { return token, tokenErr }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	both := func(text string) {
		t.Helper()
		_, err := e.Query(t.Context(), stmt("SELECT 1"))
		wantError(t, err, engine.KindAuth, -1, text)
		_, err = e.Batch(t.Context(), stmt("CREATE TABLE t(k)"))
		wantError(t, err, engine.KindAuth, -1, text)
		if token != "" && strings.Contains(fmt.Sprintf("%v %#v", err, err), token) {
			t.Errorf("the error shows the token: %#v", err)
		}
	}
	both("server refused the token: Expected authorization header but none given")
	token = "garbage"
	both("server refused the token: The JWT is invalid")
	token = key.Token(false, time.Now().Add(-time.Hour))
	both("server refused the token: The JWT has expired")
	token = "line\nbreak"
	both("token holds a character that no token has")
	tokenErr = errors.New("vault is locked")
	_, err = e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindUnavailable, -1, "get token: vault is locked")
	if !errors.Is(err, tokenErr) {
		t.Errorf("error does not wrap its cause: %v", err)
	}

	token, tokenErr = key.Token(false, time.Now().Add(time.Hour))+"\n", nil
	must(t, e, stmt("CREATE TABLE t(k)"))
	token = key.Token(true, time.Now().Add(time.Hour))
	if r, err := e.Query(t.Context(), stmt("SELECT count(*) FROM t"), stmt("SELECT 1")); err != nil || r[0].Rows[0][0] != int64(0) {
		t.Errorf("read with a read-only token: %v, %v", r, err)
	}
	_, err = e.Batch(t.Context(), stmt("INSERT INTO t VALUES(1)"))
	wantError(t, err, engine.KindAuth, -1, "Write permission")
}

func TestUnknownDatabase(t *testing.T) {
	// With namespaces the first label of the host names the database.
	server := hranatest.Start(t, hranatest.WithArgs("--enable-namespaces"))
	e, text := openURL(t, server.URL()), "no such database at "+strings.TrimPrefix(server.URL(), "http://")+": Namespace `127` doesn't exist"
	for _, do := range []func(context.Context, ...engine.Stmt) ([]engine.Result, error){e.Query, e.Batch, e.Repeatable} {
		for n := range 2 {
			_, err := do(t.Context(), slices.Repeat([]engine.Stmt{stmt("SELECT 1")}, n+1)...)
			wantError(t, err, engine.KindNotFound, -1, text)
		}
	}
}

func TestWhatNoServerTakesIsNotSent(t *testing.T) {
	e := openURL(t, "http://"+hranatest.Unused(t))
	for _, tt := range []struct {
		stmt engine.Stmt
		kind engine.Kind
		text string
	}{
		{stmt("SELECT ?", int64(1), "\xff"), engine.KindOther, "argument 1: text is not valid UTF-8"},
		{stmt("SELECT ?", 1), engine.KindOther, "argument 0: type int is none of"},
		{stmt("SELECT '\xff'"), engine.KindOther, "text is not valid UTF-8"},
		{stmt("SELECT ?", make([]byte, maxValue+1)), engine.KindTooLarge, "argument 0: value of 5000001 bytes is over the limit of 5000000"},
		{stmt("SELECT ?", strings.Repeat("x", maxValue+1)), engine.KindTooLarge, "argument 0: value of 5000001 bytes"},
		{stmt("commit"), engine.KindOther, "COMMIT cannot be part of a batch or query"},
		{stmt(" Attach 'x' AS y"), engine.KindOther, "ATTACH cannot"},
		{stmt("-- first\nCOMMIT"), engine.KindOther, "text does not begin with a verb"},
	} {
		_, err := e.Batch(t.Context(), stmt("SELECT 1"), tt.stmt)
		wantError(t, err, tt.kind, 1, "statement 1: "+tt.text)
		_, err = e.Query(t.Context(), stmt("SELECT 1"), tt.stmt)
		wantError(t, err, tt.kind, 1, "statement 1: "+tt.text)
	}
	_, err := e.Query(t.Context(), stmt("INSERT INTO t VALUES(1)"))
	wantError(t, err, engine.KindReadOnly, 0, "a query cannot run INSERT")
	if s := e.Stats(); s != (engine.Stats{Failures: s.Failures}) {
		t.Errorf("counted %+v", s)
	}
}

// freeProxy is a server of plain HTTP.
func freeProxy(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(hranatest.NewProxy(t, "http://"+hranatest.Unused(t)).URL(), "http://")
}

func TestAnswersOverTheServersLimit(t *testing.T) {
	for protocol := range hrana.V2JSON + 1 {
		e, _ := open(t, protocol)
		_, err := e.Query(t.Context(), stmt("SELECT zeroblob(4000000), zeroblob(4000000), zeroblob(4000000)"))
		wantError(t, err, engine.KindTooLarge, 0, "Response is too large")
		big := stmt("SELECT zeroblob(4000000)")
		_, err = e.Query(t.Context(), big, big, big)
		wantError(t, err, engine.KindTooLarge, -1, "Response is too large")
		_, err = e.Batch(t.Context(), stmt("SELECT zeroblob(6000000)"))
		wantError(t, err, engine.KindTooLarge, 0, "string or blob too big")
	}
}

func TestAQueryStoresNothing(t *testing.T) {
	e, _ := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k)"))
	for _, sql := range []string{"PRAGMA user_version = 7", "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x"} {
		_, _ = e.Query(t.Context(), stmt(sql)) // whatever it says
	}
	r, err := e.Query(t.Context(), stmt("PRAGMA user_version"), stmt("VALUES ((SELECT count(*) FROM t))"))
	if err != nil || r[0].Rows[0][0] != int64(0) || r[1].Rows[0][0] != int64(0) {
		t.Errorf("stored by a query: %v, %v", r, err)
	}
}

func TestUnparsableStatementIsNamed(t *testing.T) {
	for protocol := range hrana.V2JSON + 1 {
		e, _ := open(t, protocol)
		_, err := e.Query(t.Context(), stmt("SELECT 1"), stmt("SELECT 2"), stmt("SELECT FROM WHERE"))
		wantError(t, err, engine.KindOther, 2, "syntax error")
		_, err = e.Batch(t.Context(), stmt("SELECT 1"), stmt("SELECT 1; SELECT 2"), stmt("SELECT 3"))
		wantError(t, err, engine.KindOther, 1, "more than one statement")
	}
}

// The server may never answer them.
func TestCloseEndsReadsUnderWay(t *testing.T) {
	const reads, prompt = 5, closeTimeout + time.Second
	r := openRoad(t, pool.Options{MaxConns: 2})
	for range streamStreak + 2 { // until a stream is kept
		count(t, r.Engine, "SELECT 1")
	}
	r.link.Blackhole(true)
	errs := make(chan error, reads)
	for range reads {
		go func() {
			_, err := r.Query(t.Context(), stmt("SELECT 1"))
			errs <- err
		}()
	}
	eventually(t, "under way", func() bool { return r.pool.Stats().InUse > 0 })
	begin := time.Now()
	_ = r.Close() // always nil
	if took := time.Since(begin); took > prompt {
		t.Errorf("Close took %v", took)
	}
	for range reads {
		if err := <-errs; !errors.Is(err, engine.ErrClosed) {
			t.Errorf("read under way: %v", err)
		}
	}
	if s := r.pool.Stats(); s.Open > 0 || s.InUse > 0 {
		t.Errorf("Close left connections: %+v", s)
	}
}
