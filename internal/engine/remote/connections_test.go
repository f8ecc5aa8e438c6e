package remote

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// Closings that cross a request on its way cannot be avoided, but are hidden.
func TestConnectionsClosedAtRandomMoments(t *testing.T) {
	const callers = 3
	calls := testkit.Effort(1000, 2000, 5000)
	const pause = 30 * time.Millisecond // at most, between two closings
	r := openRoad(t, pool.Options{})
	must(t, r.Engine, stmt("CREATE TABLE t(k UNIQUE)"))
	// A call has three attempts, so it must not meet three closings: the next one
	// waits until all that were under way have ended.
	var calling sync.RWMutex
	closings := 0
	ctx, stop := context.WithCancel(t.Context())
	var closer sync.WaitGroup
	closer.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(rand.N(pause))
			r.link.CloseIdle()
			calling.Lock()
			closings++
			calling.Unlock()
		}
	})
	for i, err := range callAll(calls, callers, func(i int) error {
		calling.RLock()
		defer calling.RUnlock()
		do, sql := r.Query, "SELECT ?"
		if i%10 == 0 {
			do, sql = r.Repeatable, "INSERT INTO t VALUES(?) ON CONFLICT DO NOTHING"
		}
		_, err := do(t.Context(), stmt(sql, int64(i)))
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	stop()
	closer.Wait()
	s, l := r.pool.Stats(), r.link.Counts()
	t.Logf("%d connections closed at %d moments, %d of them under a call", l.ClosedByLink, closings, s.FirstUseFailures)
	if l.ClosedByLink < 10 {
		t.Error("that tried nothing")
	}
}

// A connection that the server has closed while it was idle is not used, once its
// end has come here.
func TestConnectionsClosedWhileIdle(t *testing.T) {
	t.Parallel()
	const callers, between = 3, 100 // calls between two closings, on average
	calls := testkit.Effort(1000, 3000, 10_000)
	r := openRoad(t, pool.Options{})
	must(t, r.Engine, stmt("CREATE TABLE t(k UNIQUE)"))
	// A closing that crosses a request on its way cannot be known in time, so
	// there is none under way. The calls that come next do not wait. Nor is a stream
	// kept: the request that closes it half a second later is nobody's call.
	r.streams.disable()
	var quiet sync.RWMutex
	var made atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var closer sync.WaitGroup
	closer.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			next := made.Load() + rand.Int64N(2*between)
			eventually(t, "called", func() bool { return made.Load() >= next || ctx.Err() != nil })
			quiet.Lock()
			if n%10 > 0 {
				r.link.CloseIdle()
			} else {
				r.link.IdleClose(time.Millisecond)
				eventually(t, "closed", func() bool { return r.link.Counts().Open == 0 })
				r.link.IdleClose(0)
			}
			quiet.Unlock()
		}
	})
	for i, err := range callAll(calls, callers, func(i int) error {
		quiet.RLock()
		defer quiet.RUnlock()
		made.Add(1)
		do, sql := r.Query, "SELECT ?"
		if i%10 == 0 {
			do, sql = r.Batch, "INSERT INTO t VALUES(?)" // which is never sent again
		}
		_, err := do(t.Context(), stmt(sql, int64(i)))
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	stop()
	closer.Wait()
	s, l := r.pool.Stats(), r.link.Counts()
	t.Logf("%d connections closed in %d calls", l.ClosedByLink, calls)
	// On a busy machine the kernel sometimes delivers the end of a connection after
	// close has returned: 2 of 1,001 were seen, and 2 of 83 at a load of 11. Without a look
	// at the socket 393 of 924 calls failed.
	if n := s.FirstUseFailures; n > 2+uint64(l.ClosedByLink)/20 {
		t.Errorf("%d calls failed on a closed connection", n)
	}
	if l.ClosedByLink < calls/between {
		t.Errorf("%d connections closed in %d calls, which tried nothing", l.ClosedByLink, calls)
	}
}

func TestSilentlyDeadIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	const conns, interval, timeout = 3, 5 * time.Second, 500 * time.Millisecond
	r := openRoad(t, pool.Options{MinConns: conns, KeepAlive: pool.KeepAlive{Interval: interval, PingTimeout: timeout}})
	must(t, r.Engine, stmt("CREATE TABLE t(k)"))
	if err := r.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.link.Blackhole(true)
	r.link.Blackhole(false) // for connections to come
	begin := time.Now()
	for n := range conns { // one is pinged at a time
		eventually(t, "detected", func() bool { return r.pool.Stats().PingTimeouts > uint64(n) })
		took, limit := time.Since(begin), interval+time.Duration(n+1)*timeout
		t.Logf("%d detected after %v", n+1, took)
		if took > limit+timeout/2 {
			t.Errorf("%d dead connections were detected after %v, want %v", n+1, took, limit)
		}
	}
	start := time.Now()
	must(t, r.Engine, stmt("INSERT INTO t VALUES(1)"))
	count(t, r.Engine, "SELECT count(*) FROM t")
	if took := time.Since(start); took > soon()/2 || r.pool.Stats().FirstUseFailures > 0 || r.Stats().Retries > 0 {
		t.Errorf("the next calls took %v: %+v", took, r.ServerStats())
	}
}

func TestPeerThatDiesUnderACall(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	const limit, calls, callers = suspectAfter*3/2 + 300*time.Millisecond, 100, 4
	r := openRoad(t, pool.Options{})
	must(t, r.Engine, stmt("CREATE TABLE t(k)"))
	arrived := make(chan struct{})
	r.proxy.Next(hranatest.Then(func() { close(arrived) }, hranatest.BlackHole))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var victim sync.WaitGroup
	begin := time.Now()
	victim.Go(func() {
		if _, err := r.Query(ctx, stmt("SELECT 1")); err != nil {
			t.Errorf("call whose peer died: %v", err)
		}
		if took := time.Since(begin); took < limit*2/3 {
			t.Errorf("it took %v, which tried nothing", took)
		}
	})
	<-arrived
	for i, err := range callAll(calls, callers, func(i int) error {
		do, sql := r.Query, "SELECT 1"
		if i%2 == 0 {
			do, sql = r.Batch, "INSERT INTO t VALUES(1)"
		}
		_, err := do(t.Context(), stmt(sql))
		return err
	}) {
		if err != nil {
			t.Errorf("other call %d: %v", i, err)
		}
	}
	if took := time.Since(begin); took > soon() {
		t.Errorf("the others took %v", took)
	}
	victim.Wait()
	if s := r.pool.Stats(); s.ClosedBy[pool.ClosedBroken] != 1 || r.Stats().Retries != 1 {
		t.Errorf("%d connections were lost, %d calls repeated", s.ClosedBy[pool.ClosedBroken], r.Stats().Retries)
	}
}

func TestPeerThatDiesUnderReadsThatTravelTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	const limit, n = suspectAfter*3/2 + 300*time.Millisecond, 5
	r, held := openHeld(t, hranatest.BlackHole)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	begin := time.Now()
	replies := r.together(t, []context.Context{ctx}, slices.Repeat([][]engine.Stmt{{stmt("SELECT 1")}}, n)...)
	close(held.open)
	for i, c := range replies {
		if got := <-c; got.err != nil {
			t.Errorf("read %d: %v", i, got.err)
		}
	}
	if took := time.Since(begin); took < suspectAfter {
		t.Errorf("it took %v, which tried nothing", took)
	}
	if n := r.Stats().Retries; n != 1 {
		t.Errorf("%d requests were repeated", n)
	}
}
