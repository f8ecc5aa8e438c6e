package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
)

// hurried makes a repeatable write that has d.
func hurried(t *testing.T, e *Engine, d time.Duration, stmts ...engine.Stmt) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := e.Repeatable(ctx, stmts...)
	return err
}

func TestDeadConnectionsFailOneHurriedWrite(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	e := deadConns(t)
	wantError(t, hurried(t, e, suspectAfter, stmt("CREATE TABLE t(k)")), engine.KindUnknownOutcome, -1, "gave up waiting for a commit under way")
	begin := time.Now()
	if err := hurried(t, e, 2*soon(), stmt("CREATE TABLE t(k)"), insert(1)); err != nil {
		t.Errorf("the next write: %v", err)
	}
	t.Logf("the next write took %v", time.Since(begin))
	if got := keys(t, e); got != "1" || !e.breaker.IsClosed() {
		t.Errorf("stored are %q", got)
	}
}

// A write that waits in the server keeps its place in the lane: a server bears few that
// do.
func TestAServerThatIsSlowWithWritesGetsFewOfThem(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k)"))
	end := make(chan struct{})
	var writes atomic.Int32
	proxy.Always(func(x *hranatest.Exchange) {
		if body := string(x.Body()); strings.Contains(body, "INSERT") || strings.Contains(body, "IMMEDIATE") {
			writes.Add(1)
			<-end
		}
		hranatest.Pass(x)
	})
	unknown := 0
	for i, d := range []time.Duration{suspectAfter + 100*time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond} {
		err := hurried(t, e, d, insert(int64(i)))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("write %d: %v", i, err)
		}
		if engine.KindOf(err) == engine.KindUnknownOutcome {
			unknown++
		}
	}
	if n := writes.Load(); n != 2 || unknown != 1 { // the first one, and a probe
		t.Errorf("%d writes were sent, want 2; %d outcomes are unknown, want 1", n, unknown)
	}
	close(end)
	must(t, e, insert(7))
	if got := keys(t, e); got != "7" && got != "0 7" { // the probe may be answered first
		t.Errorf("stored are %s", got)
	}
}

// A write whose callers have gone waits for no connection.
func TestWritesThatNobodyWaitsForAreNotSent(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	e := openConfig(t, Config{URL: proxy.URL(), Pool: pool.Options{MinConns: 1, MaxConns: 1}})
	must(t, e, stmt("CREATE TABLE t(k)"))
	busy, err := e.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = hurried(t, e, 50*time.Millisecond, insert(1))
	if kind := engine.KindOf(err); kind != engine.KindUnknownOutcome && kind != engine.KindUnavailable { // as it is seen first
		t.Errorf("error is %v", err)
	}
	waiting := func(n int) func() bool { return func() bool { return e.pool.Stats().Waiting == n } }
	eventually(t, "given up", waiting(0))
	var next sync.WaitGroup
	next.Go(func() { must(t, e, insert(2)) })
	eventually(t, "at the next write", waiting(1))
	busy.Release(nil)
	next.Wait()
	if got := keys(t, e); got != "2" {
		t.Errorf("stored are %s", got)
	}
}

// silentConn is a socket of which the system has given up that anybody is there.
type silentConn struct{ net.Conn }

func (silentConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
}

func TestASocketThatTheSystemGaveUpCastsDoubtOnTheOthers(t *testing.T) {
	s := &socket{Conn: silentConn{}, bytes: &atomic.Pointer[traffic]{}}
	s.bytes.Store(&traffic{})
	_, err := s.Read(nil)
	if !errors.Is(err, pool.ErrNoResponse) || !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("error is %v", err)
	}
	err = &hrana.TransportError{Sent: true, Err: fmt.Errorf("send pipeline: %w", err)}
	if d := dispositionOf(err); d != maybeExecuted {
		t.Errorf("disposition is %d", d)
	}
	e := openURL(t, "http://127.0.0.1:1")
	wantError(t, e.requestError(err), engine.KindUnavailable, -1, "no usable answer from 127.0.0.1:1: connection timed out")
}
