package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// warm returns when the pool has all its first connections.
func warm(t *testing.T, p *Pool[*link]) {
	t.Helper()
	if err := p.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestOnlyConnectionsWithoutTrafficArePinged(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		for range 100 { // the most recently used connection always has traffic
			sleep(5 * time.Second)
			mustAcquire(t, p, 1)[0].Release(nil)
		}
		st := p.Stats()
		if want := uint64(500 / 30); st.PingsSent < want || st.PingsSent > want+3 || st.PingTimes.Count != st.PingsSent {
			t.Errorf("%d pings in 500 s for one connection without traffic", st.PingsSent)
		}
		if st.Dials != 2 || st.Closed != 0 {
			t.Errorf("%+v", st)
		}
	})
	bubble(t, Options{KeepAlive: KeepAlive{Disabled: true, IdleShutdown: time.Hour}}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		sleep(20 * time.Minute)
		if st := p.Stats(); st.PingsSent != 0 || st.Open != 2 {
			t.Errorf("%+v", st)
		}
		l := mustAcquire(t, p, 1)[0] // stale: it is validated all the same
		l.Release(nil)
		if st := p.Stats(); st.PingsSent != 1 || st.Stale[StaleIdle] != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestPingsGoOneAtATime(t *testing.T) {
	bubble(t, Options{MinConns: 3}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		s.set(func(s *peer) { s.pingTime = time.Second })
		sleep(5 * time.Minute)
		if n := s.get(func(s *peer) int { return s.maxPings }); n != 1 || s.pings < 27 {
			t.Errorf("%d pings, at most %d at a time", s.pings, n)
		}
	})
	bubble(t, Options{MinConns: 8, KeepAlive: KeepAlive{PingTimeout: 5 * time.Second}}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		s.set(func(s *peer) { s.pingTime = 4 * time.Second })
		sleep(5 * time.Minute)
		if n := s.get(func(s *peer) int { return s.maxPings }); n != 2 {
			t.Errorf("at most %d pings at a time", n)
		}
	})
}

func TestSilentlyDeadPeerIsDetectedWhileIdle(t *testing.T) {
	bubble(t, Options{MinConns: 2}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		for l := range s.open {
			s.set(func(s *peer) { l.dead, s.unnoticed = true, true })
			break
		}
		sleep(defaultInterval + defaultPingTimeout)
		st := p.Stats()
		if st.PingsFailed != 1 || st.ClosedBy[ClosedPingFailed] != 1 || st.Stale[StalePingFailed] != 1 || st.Refreshes != 1 || st.Open != 2 {
			t.Errorf("%+v", st)
		}
		mustAcquire(t, p, 1)[0].Release(nil)
	})
}

func TestPingTimesOut(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		s.set(func(s *peer) { s.hang = true })
		sleep(defaultInterval + defaultPingTimeout)
		if st := p.Stats(); st.PingTimeouts != 1 || st.PingsFailed != 1 || st.Open != 0 || st.Dialing != 1 {
			t.Errorf("%+v", st)
		}
		s.set(func(s *peer) { s.hang = false })
		sleep(dialTimeout + refillDelayMax)
		if st := p.Stats(); st.Open != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestDeathOfAnIdleConnectionIsRefreshedAtOnce(t *testing.T) {
	bubble(t, Options{MinConns: 2}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		sleep(5 * time.Second)
		var victim *link
		for l := range s.open {
			victim = l
		}
		s.kill(victim)
		p.ConnDied(victim)
		p.ConnDied(victim)
		p.ConnDied(&link{}) // unknown
		synctest.Wait()
		if st := p.Stats(); st.Open != 1 || st.Dialing != 1 || st.Stale[StaleDied] != 1 {
			t.Errorf("%+v", st)
		}
		sleep(time.Second)
		if st := p.Stats(); st.Open != 2 || st.Refreshes != 1 || st.ClosedBy[ClosedDied] != 1 || st.Resets != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestDeathUnderALease(t *testing.T) {
	bubble(t, Options{MinConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		l := mustAcquire(t, p, 1)[0]
		s.kill(l.Conn())
		p.ConnDied(l.Conn())
		synctest.Wait()
		l.Release(nil)
		m := mustAcquire(t, p, 1)[0]
		if m.Conn() == l.Conn() {
			t.Error("reused")
		}
		m.Release(nil)
	})
}

func TestStaleConnectionIsValidatedBeforeUse(t *testing.T) {
	bubble(t, Options{MinConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		sleep(time.Second)
		p.mu.Lock()
		p.clockSkew -= time.Hour // as if the machine had slept
		p.mu.Unlock()
		a := <-acquire(t.Context(), p)
		if a.took != s.pingTime { // and not a dial, which is slower
			t.Errorf("waited %v", a.took)
		}
		a.lease.Release(nil)
		if st := p.Stats(); st.Stale[StaleIdle] != 1 || st.PingsSent != 1 {
			t.Errorf("%+v", st)
		}
		sleep(time.Second)

		s.set(func(s *peer) { s.pingTime, s.dialTime = time.Hour, time.Second })
		invalidateAll(p)
		b := <-acquire(t.Context(), p) // a dial goes on beside the ping
		if b.err != nil || b.took != s.dialTime {
			t.Errorf("%+v", b)
		}
		b.lease.Release(nil)
	})
}

// invalidateAll makes all connections stale, as a network reset does.
func invalidateAll(p *Pool[*link]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset()
	p.reconcile(p.clock())
}

func TestStaleConnectionIsReplacedIfItDoesNotAnswer(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		s.set(func(s *peer) { s.pingErr, s.pingTime = errNoAnswer, time.Millisecond })
		invalidateAll(p)
		a := <-acquire(t.Context(), p)
		if a.err != nil || a.took != s.pingTime+s.dialTime {
			t.Errorf("%+v", a)
		}
		a.lease.Release(nil)
		if st := p.Stats(); st.Stale[StaleNetworkReset]+st.Stale[StalePingFailed] != 1 || st.ClosedBy[ClosedPingFailed] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestSlowPingOnTheOnlyConnectionIsCancelled(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		s.set(func(s *peer) { s.pingTime = time.Hour })
		for p.Stats().Pinging == 0 {
			sleep(time.Second)
		}
		a := <-acquire(t.Context(), p)
		if a.err != nil || a.took > 2*s.dialTime+1 {
			t.Errorf("%+v", a)
		}
		a.lease.Release(nil)
		if st := p.Stats(); st.PingsCancelled != 1 || st.ClosedBy[ClosedSlowPing] != 1 || st.PingsFailed != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Every wait with pings is at most as long as without them, or as a dial.
func TestPingsNeverRaiseAWait(t *testing.T) {
	for n := range uint64(testkit.Effort(30, 200, 2000)) {
		var waits [2][]time.Duration
		for i, disabled := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(n, 3))
				s := newPeer()
				s.pingTime = time.Duration(r.IntN(1500)) * time.Millisecond
				p, err := newPool(s.connector(), Options{MinConns: 2, MaxConns: 20, KeepAlive: KeepAlive{
					Disabled: disabled, Interval: 5 * time.Second, StaleAfter: time.Hour,
				}}, rand.New(rand.NewPCG(n, 4)).Float64)
				if err != nil {
					t.Fatal(err)
				}
				warm(t, p)
				took := make([]time.Duration, 60)
				done := make(chan struct{})
				for k := range took {
					time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
					hold := time.Duration(r.IntN(1000)) * time.Millisecond
					go func() {
						begin := time.Now()
						l, err := p.Acquire(t.Context())
						if err != nil {
							t.Error(err)
							return
						}
						took[k] = time.Since(begin)
						time.Sleep(hold)
						l.Release(nil)
						done <- struct{}{}
					}()
				}
				for range took {
					<-done
				}
				if pings := p.Stats().PingsSent; disabled == (pings > 0) {
					t.Errorf("%d pings", pings)
				}
				if err := p.Close(t.Context()); err != nil {
					t.Error(err)
				}
				waits[i] = took
			})
		}
		for k, without := range waits[0] {
			if with := waits[1][k]; with > max(without, 60*time.Millisecond) {
				t.Errorf("seed %d: call %d waited %v with pings, %v without", n, k, with, without)
			}
		}
	}
}

func TestRefreshIsMakeBeforeBreak(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 2, MaxLifetime: 2 * time.Minute}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		for range 20 * 60 * 10 { // somebody calls all the time, and never waits
			sleep(100 * time.Millisecond)
			if a := <-acquire(t.Context(), p); a.err != nil || a.took != 0 {
				t.Fatalf("after %v: %+v", time.Since(s.start), a)
			} else {
				a.lease.Release(nil)
			}
		}
		st := p.Stats()
		if st.Refreshes < 10 || st.Refreshes > 14 || st.ClosedBy[ClosedMaxLifetime] != st.Refreshes || st.Stale[StaleMaxLifetime] != st.Refreshes || st.Dials != st.Refreshes+1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestConnectionLivesOnWhileItsReplacementFails(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 2, MaxLifetime: 2 * time.Minute}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		first := mustAcquire(t, p, 1)[0]
		first.Release(nil)
		s.set(func(s *peer) { s.dialErr = errRefused })
		sleep(5 * time.Minute)
		l := mustAcquire(t, p, 1)[0]
		if l.Conn() != first.Conn() || p.Stats().DialFailures == 0 {
			t.Errorf("%+v", p.Stats())
		}
		l.Release(nil)
		s.set(func(s *peer) { s.dialErr = nil })
		sleep(2 * time.Minute)
		if st := p.Stats(); st.Refreshes == 0 || st.Open != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestLifetimeIsCheckedOnReturnAndAcquire(t *testing.T) {
	// At MaxConns there is no room for a replacement before the old one goes.
	bubble(t, Options{MinConns: 1, MaxConns: 1, MaxLifetime: 2 * time.Minute}, func(t *testing.T, p *Pool[*link], s *peer) {
		l := mustAcquire(t, p, 1)[0]
		sleep(3 * time.Minute)
		l.Release(nil)
		if st := p.Stats(); st.ClosedBy[ClosedMaxLifetime] != 1 || st.Dialing != 1 {
			t.Errorf("%+v", st)
		}
		m := mustAcquire(t, p, 1)[0]
		if m.Conn() == l.Conn() {
			t.Error("reused")
		}
		m.Release(nil)
		sleep(3 * time.Minute)
		if st := p.Stats(); st.ClosedBy[ClosedMaxLifetime] != 2 || st.Refreshes != 2 || st.Open != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestJitterBelowASecond(t *testing.T) {
	p := &Pool[*link]{}
	for _, x := range []float64{0, 0.5, 0.999} {
		p.rand = func() float64 { return x }
		for _, d := range []time.Duration{time.Second, 900 * time.Millisecond, 30 * time.Minute} {
			want := d - time.Duration(x*float64(d)/10)
			if got := p.jittered(d); got != want || x > 0 && got >= d || got <= d*9/10 {
				t.Errorf("%v with %v becomes %v", d, x, got)
			}
		}
	}
}

func TestTwoFailuresAreANetworkReset(t *testing.T) {
	bubble(t, Options{MinConns: 4}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		leases := mustAcquire(t, p, 2)
		s.set(func(s *peer) { s.dialErr, s.pingErr, s.dialTime = errRefused, errNoAnswer, 0 })
		from := s.get(func(s *peer) int { return len(s.dialTimes) })
		begin := time.Since(s.start)
		leases[0].Release(errBroken)
		synctest.Wait()
		if p.Stats().Resets != 0 {
			t.Error("one failure is a reset")
		}
		leases[1].Release(errBroken)
		sleep(25 * time.Second)
		st := p.Stats()
		if st.Resets != 1 || st.Open != 0 || st.PingsFailed != 2 {
			t.Errorf("%+v", st)
		}
		// One dial at a time: 1 s, 2 s, 4 s, ..., less up to half.
		var gaps []string
		last := begin
		for _, at := range s.dialTimes[from:] {
			gaps = append(gaps, (at - last).Round(100*time.Millisecond).String())
			last = at
		}
		if len(gaps) > 9 || s.maxDialing > 2 {
			t.Errorf("dials after %s, %d at a time", gaps, s.maxDialing)
		}
		s.set(func(s *peer) { s.dialErr, s.pingErr = nil, nil })
		if a := <-acquire(t.Context(), p); a.err != nil || a.took > demandDelayMax {
			t.Errorf("%+v", a)
		} else {
			a.lease.Release(nil)
		}
		sleep(time.Second)
		if st := p.Stats(); st.Open != 4 {
			t.Errorf("%+v", st)
		}
	})
}

func TestFailuresFarApartAreNoReset(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		for range 5 {
			mustAcquire(t, p, 1)[0].Release(errBroken)
			sleep(2 * time.Second)
		}
		for range 3 { // callers that cancelled
			mustAcquire(t, p, 1)[0].Release(context.Canceled)
		}
		if n := p.Stats().Resets; n != 0 {
			t.Errorf("%d resets", n)
		}
	})
}

func TestIdleShutdown(t *testing.T) {
	bubble(t, Options{MinConns: 3}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		sleep(11 * time.Minute)
		pings := p.Stats().PingsSent
		sleep(24 * time.Hour)
		if st := p.Stats(); !st.Asleep || st.Open > 1 || st.PingsSent != pings || st.ClosedBy[ClosedIdleShutdown] != 2 {
			t.Errorf("%+v", st)
		}
		a := <-acquire(t.Context(), p)
		if a.err != nil || a.took > s.dialTime {
			t.Errorf("%+v", a)
		}
		a.lease.Release(nil)
		sleep(time.Second)
		if st := p.Stats(); st.Asleep || st.Open != 3 {
			t.Errorf("%+v", st)
		}
		if got := fmt.Sprint(p.SizeEvents()[len(p.SizeEvents())-1].Reason); got != "below_min" && got != "demand" {
			t.Error(got)
		}
	})
}

func TestDoubtedConnectionsAreValidated(t *testing.T) {
	bubble(t, Options{MinConns: 3}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		sleep(time.Second)
		defer mustAcquire(t, p, 1)[0].Release(nil) // it is silent
		sleep(time.Second)
		mustAcquire(t, p, 1)[0].Release(nil)
		sleep(time.Second / 2)
		p.Doubt(time.Second)
		sleep(time.Second)
		if st := p.Stats(); st.PingsSent != 1 || st.Closed != 0 {
			t.Errorf("one of the two idle ones was alive since: %+v", st)
		}
	})
}
