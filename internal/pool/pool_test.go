package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneConnectionServesCallersInTurn(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		var first *link
		for i := range 10 {
			l := mustAcquire(t, p, 1)[0]
			if i == 0 {
				first = l.Conn()
				sleep(time.Second) // the refill to Min has ended
			} else if l.Conn() != first {
				t.Errorf("lease %d is on connection %d", i, l.Conn().id)
			}
			l.Release(nil)
		}
		if st := p.Stats(); st.Dials != 2 || st.Waits != 1 || st.Returned != 10 || st.Open != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestTryAcquireTakesIdleConnection(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		if p.TryAcquire() != nil || p.Stats().Dials != 0 {
			t.Error("there was nothing to take")
		}
		mustAcquire(t, p, 1)[0].Release(nil)
		l := p.TryAcquire()
		if l == nil || p.TryAcquire() != nil {
			t.Fatal("one connection is one lease")
		}
		proof := p.Stats()
		l.ReleaseUnused()
		l.Release(errBroken) // too late to say so
		if st := p.Stats(); st.Idle != 1 || st.ReleasedUnused != 1 || st.Returned != proof.Returned {
			t.Errorf("%+v", st)
		}
		// A connection given back unused has not proved to be alive.
		l = p.TryAcquire()
		sleep(p.opts.KeepAlive.StaleAfter + time.Second)
		l.ReleaseUnused()
		if p.TryAcquire() != nil {
			t.Error("a stale connection was acquired")
		}
	})
}

func TestWaitersAreServedInOrderOfArrival(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		held := mustAcquire(t, p, 1)[0]
		var waiting []<-chan acquired
		for range 5 {
			waiting = append(waiting, acquire(t.Context(), p))
		}
		for i := range waiting {
			held.Release(nil)
			synctest.Wait()
			select {
			case a := <-waiting[i]:
				held = a.lease
			default:
				t.Fatalf("caller %d got nothing", i)
			}
			if w := p.Stats().Waiting; w != 4-i {
				t.Errorf("%d wait, not %d", w, 4-i)
			}
		}
		held.Release(nil)
	})
}

func TestWaiterTakesReleasedConnectionBeforeSlowDial(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 2}, func(t *testing.T, p *Pool[*link], s *peer) {
		held := mustAcquire(t, p, 1)[0]
		sleep(500 * time.Millisecond) // so that a lease is expected to last long
		held.Release(nil)
		held = mustAcquire(t, p, 1)[0]
		s.set(func(s *peer) { s.dialTime = time.Minute })
		a := acquire(t.Context(), p)
		if st := p.Stats(); st.Dialing != 1 {
			t.Fatalf("no dial for a waiter: %+v", st)
		}
		sleep(2 * time.Second)
		held.Release(nil)
		got := <-a
		if got.took != 2*time.Second {
			t.Errorf("waited %v", got.took)
		}
		got.lease.Release(nil)
	})
}

func TestDialContinuesWhenItsCallerStopsWaiting(t *testing.T) {
	bubble(t, Options{MinConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := p.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) || err.Error() != "wait for a connection: context deadline exceeded" {
			t.Error(err)
		}
		sleep(time.Second)
		if st := p.Stats(); st.Open != 1 || st.Dials != 1 || st.Timeouts != 1 || st.WaitTimes.Sum != 10*time.Millisecond {
			t.Errorf("%+v", st)
		}
	})
}

// lastMoment is a context that ends just after the pool has seen it alive.
type lastMoment struct {
	context.Context
	cancel func()
	armed  atomic.Bool
}

func (c *lastMoment) Err() error {
	err := c.Context.Err()
	if c.armed.Load() {
		c.cancel()
	}
	return err
}

func TestConnectionForACancelledWaiterGoesToTheNext(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		held := mustAcquire(t, p, 1)[0]
		ctx := &lastMoment{}
		ctx.Context, ctx.cancel = context.WithCancel(t.Context())
		first, second := acquire(ctx, p), acquire(t.Context(), p)
		// Whether the first caller, who has been chosen, sees the connection or its
		// end first, it must not keep the connection.
		ctx.armed.Store(true)
		held.Release(nil)
		if a := <-first; !errors.Is(a.err, context.Canceled) || a.lease != nil {
			t.Fatalf("%+v", a)
		}
		a := <-second
		if a.err != nil || a.took != 0 {
			t.Fatalf("%+v", a)
		}
		a.lease.Release(nil)
		if st := p.Stats(); st.Cancelled != 0 || st.ReleasedUnused != 1 {
			t.Errorf("cancelled %d, abandoned %d", st.Cancelled, st.ReleasedUnused)
		}
	})
}

func TestTimeoutIncludesTheDialError(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 2}, func(t *testing.T, p *Pool[*link], s *peer) {
		held := mustAcquire(t, p, 1)[0]
		s.set(func(s *peer) { s.dialErr = errRefused })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a := <-acquire(ctx, p)
		if !errors.Is(a.err, context.DeadlineExceeded) || a.err.Error() != "wait for a connection: context deadline exceeded (dial: connection refused)" {
			t.Error(a.err)
		}
		held.Release(nil)
	})
}

func TestConcurrentDialsAreLimited(t *testing.T) {
	bubble(t, Options{MinConns: 2, MaxConns: 10}, func(t *testing.T, p *Pool[*link], s *peer) {
		var waiting []<-chan acquired
		for range 10 {
			waiting = append(waiting, acquire(t.Context(), p))
		}
		if n := s.get(func(s *peer) int { return s.dialing }); n != maxColdDials {
			t.Errorf("%d dials at the start", n)
		}
		for _, w := range waiting {
			defer func(a acquired) { a.lease.Release(nil) }(<-w)
		}
		if n := s.get(func(s *peer) int { return s.maxDialing }); n != maxDials {
			t.Errorf("at most %d dials at a time", n)
		}
	})
}

func TestSaturated(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1, MaxWaiters: 2}, func(t *testing.T, p *Pool[*link], s *peer) {
		held := mustAcquire(t, p, 1)[0]
		a, b := acquire(t.Context(), p), acquire(t.Context(), p)
		sleep(time.Second)
		_, err := p.Acquire(t.Context())
		var full *SaturatedError
		if !errors.As(err, &full) || *full != (SaturatedError{Open: 1, InUse: 1, Waiting: 2, OldestWait: time.Second}) {
			t.Errorf("%+v", err)
		}
		if got := err.Error(); got != "connection pool is saturated: 2 callers waiting, the oldest for 1s; 1 connections open, 1 in use, 0 dials in flight" {
			t.Error(got)
		}
		held.Release(nil)
		(<-a).lease.Release(nil)
		(<-b).lease.Release(nil)
		if st := p.Stats(); st.QueueFull != 1 {
			t.Errorf("rejected %d", st.QueueFull)
		}
	})
	full := &SaturatedError{LastDialError: fmt.Errorf("dial: %w", errRefused)}
	if !errors.Is(full, errRefused) || !strings.HasSuffix(full.Error(), "; last dial: connection refused") {
		t.Error("the last dial's error is hidden")
	}
}

func TestDialErrorFailsWaitersOnlyWithoutConnections(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 3}, func(t *testing.T, p *Pool[*link], s *peer) {
		s.set(func(s *peer) { s.dialErr = errRefused })
		a, b := acquire(t.Context(), p), acquire(t.Context(), p)
		for _, w := range []<-chan acquired{a, b} {
			if got := <-w; !errors.Is(got.err, errRefused) || got.err.Error() != "dial: connection refused" || got.took != 60*time.Millisecond {
				t.Errorf("%+v", got)
			}
		}
		s.set(func(s *peer) { s.dialErr = nil })
		held := mustAcquire(t, p, 1)[0]
		sleep(time.Second)
		held.Release(nil)
		held = mustAcquire(t, p, 1)[0]

		s.set(func(s *peer) { s.dialErr = errRefused })
		c := acquire(t.Context(), p)
		sleep(10 * time.Second)
		if p.Stats().DialFailures < 3 {
			t.Error("no dial was tried")
		}
		held.Release(nil) // the only connection that the waiter can get
		got := <-c
		if got.err != nil {
			t.Fatal(got.err)
		}
		d := acquire(t.Context(), p)
		got.lease.Release(errBroken) // now there is nothing
		if got := <-d; !errors.Is(got.err, errRefused) {
			t.Errorf("%+v", got)
		}
	})
}

func TestDialErrorIsForgottenWithTheNextSuccess(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 2}, func(t *testing.T, p *Pool[*link], s *peer) {
		held := mustAcquire(t, p, 1)[0]
		s.set(func(s *peer) { s.dialErr = errRefused })
		first, second := acquire(t.Context(), p), acquire(t.Context(), p)
		sleep(70 * time.Millisecond)
		for p.Stats().DialFailures == 0 {
			sleep(10 * time.Millisecond)
		}
		s.set(func(s *peer) { s.dialErr = nil })
		a := <-first
		p.Overloaded() // so that nothing is dialled before both are lost
		a.lease.Release(errBroken)
		held.Release(errBroken) // the second caller has seen a dial fail, and a later one not
		b := <-second
		if b.err != nil {
			t.Fatal(b.err)
		}
		b.lease.Release(nil)
	})
}

func TestRefillBacksOff(t *testing.T) {
	bubble(t, Options{MinConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		s.set(func(s *peer) { s.dialErr, s.dialTime = errRefused, 0 })
		if err := p.Warm(t.Context()); !errors.Is(err, errRefused) || err.Error() != "warm connection pool: dial: connection refused" {
			t.Errorf("Warm: %v", err)
		}
		sleep(2 * time.Minute)
		times := append([]time.Duration(nil), s.dialTimes...)
		want := refillDelay
		for i := 1; i < len(times); i++ {
			if gap := times[i] - times[i-1]; gap < want/2 || gap > want {
				t.Errorf("dial %d came %v after the one before, not within %v", i, gap, want)
			}
			want = min(2*want, refillDelayMax)
		}
		if len(times) < 15 {
			t.Errorf("%d dials", len(times))
		}
		// A caller does not wait for the refill, and a returned server is found soon.
		s.set(func(s *peer) { s.dialErr = nil })
		a := <-acquire(t.Context(), p)
		if a.err != nil || a.took > demandDelayMax {
			t.Errorf("%+v", a)
		}
		a.lease.Release(nil)
	})
}

func TestCallersOfADeadServerCauseNoDialStorm(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		s.set(func(s *peer) { s.dialErr, s.dialTime = errRefused, 0 })
		calls := 0
		for begin := time.Now(); time.Since(begin) < 10*time.Second; calls++ {
			if _, err := p.Acquire(t.Context()); !errors.Is(err, errRefused) {
				t.Fatal(err)
			}
		}
		if n := p.Stats().Dials; n > 60 || n < 20 {
			t.Errorf("%d dials in 10 s of %d calls", n, calls)
		}
	})
}

func TestConnectionsThatDieAtOnceAreNotDialledInALoop(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		s.set(func(s *peer) { s.deadOnDial = true })
		if _, err := p.Acquire(t.Context()); !errors.Is(err, errDiedUnused) {
			t.Error(err)
		}
		sleep(10 * time.Second)
		if n := p.Stats().Dials; n > 210 {
			t.Errorf("%d dials in 10 s", n)
		}
	})
}

func TestBrokenConnectionIsNeverReused(t *testing.T) {
	bubble(t, Options{MinConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		l := mustAcquire(t, p, 1)[0]
		l.Release(errBroken)
		l.Release(nil) // too late, and harmless
		m := mustAcquire(t, p, 1)[0]
		if m.Conn() == l.Conn() {
			t.Error("reused")
		}
		m.Release(nil)
		if st := p.Stats(); st.ClosedBy[ClosedBroken] != 1 || st.FirstUseFailures != 0 || st.Returned != 2 {
			t.Errorf("%+v", st)
		}
		sleep(time.Second)
		mustAcquire(t, p, 1)[0].Release(errBroken) // it was idle and called healthy
		sleep(10 * time.Second)
		mustAcquire(t, p, 1)[0].Release(context.Canceled) // not the connection's fault
		if st := p.Stats(); st.FirstUseFailures != 1 || st.ClosedBy[ClosedBroken] != 2 || st.ClosedBy[ClosedAbandoned] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// A server that answers every request with a refusal, behind which connections are
// discarded, is not one that cannot be reached.
func TestDiscardedConnectionsHaveNotDied(t *testing.T) {
	bubble(t, Options{MinConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		var last *link
		for range 5 {
			l := mustAcquire(t, p, 1)[0]
			if l.Conn() == last {
				t.Error("reused")
			}
			last = l.Conn()
			l.Discard()
			l.Release(errBroken) // too late, and harmless
		}
		begin := time.Now()
		mustAcquire(t, p, 1)[0].Release(nil)
		if took := time.Since(begin); took > s.dialTime {
			t.Errorf("the next dial took %v", took)
		}
		st := p.Stats()
		if st.ClosedBy[ClosedDiscarded] != 5 || st.ClosedBy[ClosedDied] != 0 || st.Stale[StaleDied] != 0 || st.Returned != 6 || st.FirstUseFailures != 0 || st.Resets != 0 {
			t.Errorf("%+v", st)
		}
		checkInvariants(t, st)
	})
}

func TestLeakedLeaseIsReclaimed(t *testing.T) {
	// Not in a bubble: the garbage collector is outside of all bubbles.
	s := newPeer()
	s.dialTime = 0
	closed := make(chan *link, 1)
	c := s.connector()
	c.Close = func(l *link) error { closed <- l; return s.close(l) }
	p, err := New(c, Options{MinConns: 1, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	func() {
		if _, err := p.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}()
	waiting := make(chan *Lease[*link])
	go func() {
		l, err := p.Acquire(t.Context())
		if err != nil {
			t.Error(err)
		}
		waiting <- l
	}()
	var l *Lease[*link]
	for l == nil {
		runtime.GC()
		select {
		case l = <-waiting:
		default:
			runtime.Gosched()
		}
	}
	<-closed
	if st := p.Stats(); st.Leaked != 1 || st.InUse != 1 || st.Acquired != 2 {
		t.Errorf("%+v", st)
	}
	l.Release(nil)
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	checkInvariants(t, p.Stats())
}

func TestWarmDialsTheFirstAlone(t *testing.T) {
	bubble(t, Options{MinConns: 4}, func(t *testing.T, p *Pool[*link], s *peer) {
		begin := time.Now()
		if err := p.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		// One, then two, then one.
		if took := time.Since(begin); took != 180*time.Millisecond || p.Stats().Open != 4 {
			t.Errorf("%d connections after %v", p.Stats().Open, took)
		}
		if got := fmt.Sprint(s.dialTimes); got != "[0s 60ms 60ms 120ms]" {
			t.Errorf("dials at %s", got)
		}
		if err := p.Warm(t.Context()); err != nil || time.Since(begin) != 180*time.Millisecond {
			t.Errorf("Warm again: %v", err)
		}
	})
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		s.set(func(s *peer) { s.hang = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Warm(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestNoDialBeforeFirstUse(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		sleep(time.Hour)
		if st := p.Stats(); st.Dials != 0 || st.Target != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestCloseWaitsForLeasesAndWakesWaiters(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		held := mustAcquire(t, p, 1)[0]
		a := acquire(t.Context(), p)
		closed := make(chan error, 1)
		begin := time.Now()
		go func() { closed <- p.Close(t.Context()) }()
		if got := <-a; got.err != ErrClosed || time.Since(begin) != 0 {
			t.Errorf("%+v", got)
		}
		sleep(time.Second)
		select {
		case <-closed:
			t.Error("Close did not wait")
		default:
		}
		held.Release(nil)
		if err := <-closed; err != nil || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

func TestCloseForceClosesLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPeer()
		p, err := New(s.connector(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		held := mustAcquire(t, p, 2)
		first := make(chan error, 1)
		go func() { first <- p.Close(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil { // its patience counts as well
			t.Error(err)
		}
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) || err.Error() != "close connection pool with 2 connections in use: context deadline exceeded" {
			t.Error(err)
		}
		if len(s.open) != 0 {
			t.Error("connections are open")
		}
		releaseAll(held)
		st := p.Stats()
		checkInvariants(t, st)
		if st.ForceClosed != 2 || st.Returned != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestCloseDuringDialAndPing(t *testing.T) {
	bubble(t, Options{MinConns: 2}, func(t *testing.T, p *Pool[*link], s *peer) {
		if err := p.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.set(func(s *peer) { s.hang = true })
		for p.Stats().Pinging == 0 {
			sleep(time.Second)
		}
		leases := mustAcquire(t, p, 1)
		a := acquire(t.Context(), p)
		if st := p.Stats(); st.Pinging != 1 || st.Dialing != 1 {
			t.Errorf("%+v", st)
		}
		releaseAll(leases)
		(<-a).lease.Release(nil)
		begin := time.Now()
		if err := p.Close(t.Context()); err != nil || time.Since(begin) != 0 {
			t.Errorf("Close after %v: %v", time.Since(begin), err)
		}
	})
}

func TestDialTimeoutIsNotTheCallers(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		s.set(func(s *peer) { s.hang = true })
		a := <-acquire(t.Context(), p)
		if a.took != dialTimeout || errors.Is(a.err, context.DeadlineExceeded) || !errors.Is(a.err, os.ErrDeadlineExceeded) {
			t.Errorf("%+v", a)
		}
	})
}

func TestConnectorAndOptionsAreChecked(t *testing.T) {
	s := &peer{}
	c := s.connector()
	c.Dead = nil
	if _, err := New(c, Options{}); err == nil || err.Error() != "pool connector lacks a function" {
		t.Error(err)
	}
	if _, err := New(s.connector(), Options{MinConns: 3, MaxConns: 2}); err == nil || err.Error() != "pool option MaxConns is 2, must be at least MinConns (3)" {
		t.Error(err)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	s := newPeer()
	s.dialTime = 0
	p, err := New(s.connector(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Warm(b.Context()); err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	b.Run("uncontended", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l, err := p.Acquire(ctx)
			if err != nil {
				b.Fatal(err)
			}
			l.Release(nil)
		}
	})
	b.Run("contended", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l, err := p.Acquire(ctx)
				if err != nil {
					b.Error(err)
					return
				}
				l.Release(nil)
			}
		})
	})
	if err := p.Close(context.Background()); err != nil {
		b.Error(err)
	}
}

func TestRetiredConnectionsAreNotUsedAgain(t *testing.T) {
	bubble(t, Options{MinConns: 3}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		held := mustAcquire(t, p, 1)[0]
		old := held.Conn()
		if n := p.Retire(func(*link) bool { return true }); n != 3 {
			t.Errorf("%d were retired", n)
		}
		if n := p.Retire(func(*link) bool { return true }); n != 0 {
			t.Errorf("%d were retired again", n)
		}
		l := mustAcquire(t, p, 1)[0]
		if l.Conn().id <= 3 {
			t.Errorf("connection %d is used", l.Conn().id)
		}
		l.Release(nil)
		sleep(time.Second)
		if st := p.Stats(); st.ClosedBy[ClosedRetired] != 2 || st.Open != 3 {
			t.Errorf("while one is in use: %+v", st)
		}
		held.Release(nil)
		sleep(time.Second)
		st := p.Stats()
		if st.ClosedBy[ClosedRetired] != 3 || st.Stale[StaleRetired] != 3 || st.Open != 3 || st.Resets != 0 || st.PingsSent != 0 {
			t.Errorf("%+v", st)
		}
		if s.get(func(s *peer) int { return len(s.open) }) != 3 || s.open[old] {
			t.Error("the last one is open")
		}
		if n := p.Retire(func(l *link) bool { return l.id%2 == 0 }); n == 0 || n == 3 {
			t.Errorf("%d were selected", n)
		}
	})
}
