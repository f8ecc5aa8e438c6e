package remote

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// within runs a query that has d.
func within(t *testing.T, e *Engine, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := e.Query(ctx, stmt("SELECT 1"))
	return err
}

func TestAWriteThatAGatewayDeliversTwice(t *testing.T) {
	for _, protocol := range []hrana.Protocol{hrana.V3Protobuf, hrana.V3JSON} {
		e, proxy := open(t, protocol)
		must(t, e, stmt("CREATE TABLE t(k)"))
		for range streamStreak + 1 {
			count(t, e, "SELECT 1")
		}
		requests, reused := proxy.Requests("/v3"), e.ServerStats().StreamsReused
		if reused == 0 {
			t.Fatal("no stream is kept")
		}
		proxy.Next(func(x *hranatest.Exchange) {
			_, _, _, _ = x.Forward() // the gateway has lost that answer
			hranatest.Pass(x)
		})
		_, err := e.Batch(t.Context(), insert(7))
		wantError(t, err, engine.KindUnknownOutcome, -1, "baton that has already been used")
		if n := proxy.Requests("/v3") - requests; n != 1 || e.Stats().Retries != 0 {
			t.Errorf("%v: %d requests, %d retries", protocol, n, e.Stats().Retries)
		}
		if got := keys(t, e); got != "7" {
			t.Errorf("%v: stored are %s", protocol, got)
		}
	}
}

func TestCallsThatAreKeptBackAreNotSent(t *testing.T) {
	for name, call := range map[string]func(*Engine, context.Context, ...engine.Stmt) ([]engine.Result, error){
		"write": (*Engine).Batch, "repeatable write": (*Engine).Repeatable, "read": (*Engine).Query,
	} {
		t.Run(name, func(t *testing.T) {
			proxy := hranatest.NewProxy(t, "http://"+hranatest.Unused(t))
			proxy.Always(hranatest.Refuse(http.StatusServiceUnavailable, ""))
			e := openURL(t, proxy.URL())
			for range breakerCalls {
				e.record(&hrana.Error{Status: http.StatusServiceUnavailable}, false)
			}
			_, err := call(e, t.Context(), stmt("SELECT 1"))
			wantError(t, err, engine.KindUnavailable, -1, "not sent, the server has been failing: ")
			if s := e.Stats(); s.Retries != 0 || e.ServerStats().BreakerRejected != 1 || proxy.Requests("") != 0 {
				t.Errorf("%d retries, %d withheld, %d requests", s.Retries, e.ServerStats().BreakerRejected, proxy.Requests(""))
			}
			e.breaker.HalfOpen()
			_, err = call(e, t.Context(), stmt("SELECT 1"))
			wantError(t, err, engine.KindUnavailable, -1, "HTTP 503")
			if pings, all := e.client.Pings(), proxy.Requests(""); pings == 0 || all != int(pings) {
				t.Errorf("%d requests, %d of them pings, want nothing else", all, pings)
			}
		})
	}
}

func TestRecoveryBehindAServerThatKeepsNoConnection(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	proxy.Always(hranatest.GoAway)
	count(t, e, "SELECT 1")
	e.breaker.Open()
	<-time.After(e.breaker.RemainingDelay() + time.Millisecond)
	count(t, e, "SELECT 1")
	if !e.breaker.IsClosed() {
		t.Error("breaker is not closed")
	}
}

func TestASlowFirstCallAfterAnOutageKeepsNobodyOut(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	e.breaker.HalfOpen()
	arrived, goOn := make(chan struct{}), make(chan struct{})
	proxy.Next(hranatest.Then(func() { close(arrived); <-goOn }, hranatest.Pass))
	slow := make(chan error, 1)
	go func() {
		_, err := e.Query(t.Context(), stmt("SELECT 1"))
		slow <- err
	}()
	<-arrived
	for range 3 {
		if err := within(t, e, 5*time.Second); err != nil {
			t.Errorf("query beside the slow one: %v", err)
		}
	}
	close(goOn)
	if err := <-slow; err != nil {
		t.Errorf("slow query: %v", err)
	}
}

func TestFailingReadsDoomNoStream(t *testing.T) {
	e, _ := open(t, hrana.V3Protobuf)
	for range streamStreak + 1 {
		count(t, e, "SELECT 1")
	}
	streams := func() [3]uint64 {
		return [3]uint64{e.streams.opened.Load(), e.streams.closed.Load(), e.streams.lost.Load()}
	}
	before := streams()
	for range 20 {
		_, err := e.Query(t.Context(), stmt("SELECT absent"))
		wantError(t, err, engine.KindOther, 0, "no such column: absent")
		_, err = e.Query(t.Context(), stmt("SELECT 1"), stmt("SELECT FROM WHERE"))
		wantError(t, err, engine.KindOther, 1, "syntax error")
	}
	if after := streams(); after != before {
		t.Errorf("streams opened, closed and lost: %d, before the failures %d", after, before)
	}
}

// deadConns makes an engine whose ten idle connections have died without a word.
// New ones work.
func deadConns(t *testing.T) *Engine {
	t.Helper()
	link, err := hranatest.NewLink(hranatest.Start(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	e := openURL(t, link.URL())
	leases := make([]*lease, 10)
	for i := range leases {
		if leases[i], err = e.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := e.client.Ping(t.Context(), leases[i].Conn()); err != nil { // the link has it for certain
			t.Fatal(err)
		}
	}
	for _, l := range leases {
		l.Release(nil)
	}
	link.Blackhole(true)
	link.Blackhole(false)
	return e
}

func TestDeadConnectionsFailOneHurriedRead(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	e := deadConns(t)
	if err := within(t, e, suspectAfter+100*time.Millisecond); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("first read: %v", err)
	}
	for i := range 5 {
		if err := within(t, e, time.Second); err != nil {
			t.Errorf("read %d after the first: %v", i, err)
		}
	}
}

func TestReadsOnDeadConnectionsAreAnsweredByOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	e := deadConns(t)
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			if err := within(t, e, 3500*time.Millisecond); err != nil {
				t.Errorf("read: %v", err)
			}
		})
	}
	callers.Wait()
}

func TestProtocolOfAServerThatClosesBehindItsRefusal(t *testing.T) {
	for _, protocol := range []hrana.Protocol{hrana.V3JSON, hrana.V2JSON} {
		e, proxy := open(t, hrana.V3Protobuf)
		proxy.Always(func(x *hranatest.Exchange) {
			if slices.ContainsFunc(hidden[protocol], func(prefix string) bool { return strings.HasPrefix(x.Path, prefix) }) {
				x.Answer(http.StatusNotFound, http.Header{"Connection": {"close"}}, nil)
			} else {
				hranatest.GoAway(x)
			}
		})
		must(t, e, stmt("CREATE TABLE t(k)"), insert(1))
		requests := proxy.Requests("")
		count(t, e, "SELECT 1")
		if n := proxy.Requests("") - requests; n != 1 || e.client.Protocol() != protocol {
			t.Errorf("%d requests for a read of %v, want 1 of %v", n, e.client.Protocol(), protocol)
		}
	}
}

func TestProtocolIsAskedForAnewWhereNoneIsKnown(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	proxy.Hide("/")
	_, err := e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindUnavailable, -1, "no libSQL server answers at ")
	proxy.Hide()
	count(t, e, "SELECT 1")
	if p := e.client.Protocol(); p != hrana.V3Protobuf {
		t.Errorf("speaks %v", p)
	}
	// What answers for the server while it is restarted knows none of its paths.
	proxy.Next(hranatest.Refuse(http.StatusNotFound, "default backend"), hranatest.Refuse(http.StatusNotFound, "default backend"))
	for range 3 {
		count(t, e, "SELECT 1")
	}
	if p := e.client.Protocol(); p != hrana.V3Protobuf {
		t.Errorf("speaks %v after two refusals", p)
	}
}

// Overload is one whatever becomes of the connection.
func TestOverloadIsSeenOnAConnectionThatIsClosed(t *testing.T) {
	for _, header := range []http.Header{nil, {"Connection": {"close"}}} {
		e, proxy := open(t, hrana.V3Protobuf)
		proxy.Next(func(x *hranatest.Exchange) { x.Answer(http.StatusTooManyRequests, header, nil) })
		count(t, e, "SELECT 1")
		if s := e.pool.Stats(); s.Overloads != 1 {
			t.Errorf("%v: %d overloads", header, s.Overloads)
		}
	}
}

// Close gives up on a server that is gone, not on one that refused something.
func TestCloseStoresWhatWasAccepted(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k)"))
	e.shut()
	proxy.Next(hranatest.Refuse(http.StatusTooManyRequests, ""))
	for k := range int64(2) {
		group := units([]engine.Stmt{insert(k)})
		e.commit(group)
		if err := group[0].Err; err != nil {
			t.Errorf("write %d: %v", k, err)
		}
	}
	if got := keys(t, openURL(t, proxy.URL())); got != "0 1" {
		t.Errorf("stored are %s", got)
	}
}

// A caller in a hurry does not end the read of the patient one it travels with.
func TestReadsThatTravelTogetherHaveTheLongestDeadline(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	e, proxy := open(t, hrana.V3Protobuf)
	count(t, e, "SELECT 1")
	proxy.Delay(2200 * time.Millisecond)
	hurried, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	reads := []*read{{ctx: hurried, stmts: []engine.Stmt{stmt("SELECT 1")}}, {ctx: t.Context(), stmts: []engine.Stmt{stmt("SELECT 2")}}}
	e.answerTogether(reads, nil, nil)
	for i, r := range reads {
		if r.err != nil {
			t.Errorf("read %d: %v", i, r.err)
		}
	}
	if s := e.Stats(); s.Retries != 0 {
		t.Errorf("%d retries", s.Retries)
	}
}

func TestASlowAnswerInTimeIsWaitedFor(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	e, proxy := open(t, hrana.V3Protobuf)
	count(t, e, "SELECT 1")
	requests := proxy.Requests("")
	proxy.Delay(600 * time.Millisecond)
	for range 2 {
		if err := within(t, e, 850*time.Millisecond); err != nil {
			t.Errorf("read: %v", err)
		}
	}
	if n := proxy.Requests("") - requests; n != 2 || e.Stats().Retries != 0 {
		t.Errorf("%d requests and %d retries for 2 reads", n, e.Stats().Retries)
	}
}

func TestAnIndexThatIsNeverReachedIsForgotten(t *testing.T) {
	for name, answer := range map[string]func(e *Engine, r *read){
		"alone":    func(e *Engine, r *read) { e.answer(r.ctx, []*read{r}, nil, nil) },
		"together": func(e *Engine, r *read) { e.answerTogether([]*read{r}, nil, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, proxy := open(t, hrana.V3JSON)
			count(t, e, "SELECT 1")
			const never = 1 << 40
			e.index.Store(never)
			proxy.Always(func(x *hranatest.Exchange) {
				if strings.Contains(string(x.Body()), `"replication_index"`) {
					x.Hold()
				} else {
					hranatest.Pass(x)
				}
			})
			ask := func(d time.Duration) error {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				r := &read{ctx: ctx, stmts: []engine.Stmt{stmt("SELECT 1")}}
				answer(e, r)
				return r.err
			}
			for i := range 2 {
				if e.index.Load() != never { // one may be slow for another reason
					t.Errorf("forgotten after %d reads", i)
				}
				if err := ask(suspectAfter/2 + 100*time.Millisecond); engine.KindOf(err) != engine.KindUnavailable {
					t.Errorf("error is %v", err)
				}
			}
			if err := ask(time.Second); err != nil {
				t.Errorf("read after two in vain: %v", err)
			}
		})
	}
}

func TestABusyReadDoesNotFailItsCompany(t *testing.T) {
	proxy := hranatest.NewProxy(t, "http://"+hranatest.Unused(t))
	proxy.Hide(hidden[hrana.V3JSON]...)
	proxy.Next(slices.Repeat([]hranatest.Fault{script("ok", "ok", "SQLITE_BUSY: database is locked", "ok", "ok")}, maxAttempts)...)
	e := openURL(t, proxy.URL())
	var reads []*read
	for range 3 {
		reads = append(reads, &read{ctx: t.Context(), stmts: []engine.Stmt{stmt("SELECT 1")}})
	}
	e.answer(t.Context(), reads, nil, nil)
	wantError(t, reads[1].err, engine.KindBusy, 0, "database is locked")
	for _, i := range []int{0, 2} {
		if r := reads[i]; r.err != nil || len(r.results) != 1 {
			t.Errorf("read %d: %v, %v", i, r.results, r.err)
		}
	}
	if s := e.Stats(); s.Queries != 2 || s.Retries != maxAttempts-1 {
		t.Errorf("counted %+v", s)
	}
}

func TestALostAnswerAndThenAFailureIsUnknown(t *testing.T) {
	proxy := hranatest.NewProxy(t, "http://"+hranatest.Unused(t))
	proxy.Hide(hidden[hrana.V3JSON]...)
	proxy.Next(hranatest.CutAnswer, script("ok", "SQLITE_FULL: database or disk is full", "", "", "ok"))
	_, err := openURL(t, proxy.URL()).Repeatable(t.Context(), insert(1), insert(2))
	wantError(t, err, engine.KindUnknownOutcome, -1, "the answer was lost, and then: statement 0: database or disk is full")
}

func TestAHangingDialHoldsUpNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers the TLS handshake
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := openURL(t, "https://"+l.Addr().String())
	e.breaker.Open()
	start := time.Now()
	_, err = e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindUnavailable, -1, "not sent, the server has been failing")
	if took := time.Since(start); took > time.Second {
		t.Errorf("open breaker refused after %v", took)
	}

	e.breaker.Close()
	if err := within(t, e, 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	start = time.Now()
	_ = e.Close()
	if took := time.Since(start); took > time.Second {
		t.Errorf("Close took %v while nobody waited", took)
	}
}

// queued is a context that tells when a write that it is for is in the lane.
type queued struct {
	context.Context
	once sync.Once
	in   chan struct{}
}

func (q *queued) Done() <-chan struct{} {
	q.once.Do(func() { close(q.in) })
	return q.Context.Done()
}

// Otherwise each group would take a timeout where the network has gone.
func TestCloseSendsNothingAfterALostAnswer(t *testing.T) {
	proxy := hranatest.NewProxy(t, "http://"+hranatest.Unused(t))
	e := openURL(t, proxy.URL())
	arrived, goOn := make(chan struct{}), make(chan struct{})
	proxy.Next(hranatest.Then(func() { close(arrived); <-goOn }, hranatest.CutAnswer))
	var calls sync.WaitGroup
	calls.Go(func() {
		_, err := e.Repeatable(t.Context(), insert(1))
		wantError(t, err, engine.KindUnknownOutcome, -1, "no usable answer")
	})
	<-arrived
	ctx := &queued{Context: t.Context(), in: make(chan struct{})}
	calls.Go(func() {
		_, err := e.Repeatable(ctx, insert(2))
		wantError(t, err, engine.KindUnavailable, -1, "not sent: ")
	})
	<-ctx.in
	calls.Go(func() { _ = e.Close() })
	for closed := false; !closed; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := e.Batch(ctx, insert(3)) // withdrawn: the lane is busy
		closed = errors.Is(err, engine.ErrClosed)
		cancel()
	}
	close(goOn)
	calls.Wait()
	if n := proxy.Requests(""); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestTLSFailuresKeepTheirKind(t *testing.T) {
	server := untrusted(t)
	e := openURL(t, server.URL)
	_, refusal := e.acquire(t.Context())
	for range 100 { // real ones would wait for the pool, which dials ever more slowly
		e.record(refusal, false)
	}
	_, err := e.Query(t.Context(), stmt("SELECT 1"))
	wantError(t, err, engine.KindOther, -1, "no secure connection to ")
	_, err = e.Batch(t.Context(), insert(1))
	wantError(t, err, engine.KindOther, -1, "no secure connection to ")
}
