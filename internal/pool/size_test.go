package pool

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const ms = time.Millisecond

// steady is the state of a pool of 4 connections with a long, steady history.
func steady(change func(*SizeState)) SizeState {
	s := SizeState{
		Min: 2, Max: 10, ScaleUpAt: 0.8, ScaleDownAt: 0.3, Open: 4, MaxDials: 4,
		ServiceTime: 20 * ms, DialTime: 60 * ms, SinceGrowth: time.Hour, SinceOverload: time.Hour, Window: SizeWindow,
	}
	change(&s)
	return s
}

func TestDecide(t *testing.T) {
	for _, test := range []struct {
		name  string
		state SizeState
		want  Decision
	}{
		{"nobody waits", steady(func(s *SizeState) {}), Decision{}},
		{"the queue is shorter than a dial", steady(func(s *SizeState) { s.Waiting = 12 }), Decision{Recheck: 60*ms + 1}},
		{"the queue outlasts a dial", steady(func(s *SizeState) { s.Waiting = 13 }), Decision{Reason: SizeDemand, Dial: 1, Recheck: 60*ms + 1}},
		{"it outlasts several", steady(func(s *SizeState) { s.Waiting = 100 }), Decision{Reason: SizeDemand, Dial: 4}},
		{"somebody waits for longer than a dial", steady(func(s *SizeState) { s.Waiting, s.OldestWait = 1, 61*ms }), Decision{Reason: SizeDemand, Dial: 1}},
		{"a dial for each is under way", steady(func(s *SizeState) { s.Waiting, s.Dialing, s.OldestWait = 2, 2, time.Second }), Decision{}},
		{"at Max", steady(func(s *SizeState) { s.Waiting, s.Open, s.Dialing = 100, 8, 2 }), Decision{}},
		{"up to Max", steady(func(s *SizeState) { s.Waiting, s.Open = 100, 9 }), Decision{Reason: SizeDemand, Dial: 1}},
		{"no dial is allowed", steady(func(s *SizeState) { s.Waiting, s.MaxDials = 100, 0 }), Decision{}},
		{"at the start", steady(func(s *SizeState) {
			s.Waiting, s.Open, s.DialTime, s.ServiceTime, s.MaxDials, s.Window = 5, 0, 0, 0, 2, 0
		}), Decision{Reason: SizeDemand, Dial: 2}},
		{"the service time is unknown", steady(func(s *SizeState) { s.Waiting, s.Open, s.ServiceTime = 1, 1, 0 }), Decision{Recheck: 60*ms + 1}},
		{"a connection is being pinged", steady(func(s *SizeState) { s.Waiting, s.Pinging = 1, 1 }), Decision{Reason: SizeDemand, Dial: 1}},
		{"an overload was recent", steady(func(s *SizeState) { s.Waiting, s.SinceOverload = 100, 4*time.Second }), Decision{Recheck: time.Second}},
		{"an overload was recent, below Min", steady(func(s *SizeState) { s.Waiting, s.Open, s.SinceOverload = 100, 1, 4*time.Second }), Decision{Reason: SizeDemand, Dial: 1, Recheck: time.Second}},

		{"utilisation 0.80", steady(func(s *SizeState) { s.Tick, s.Busy, s.BusyMax = true, 3.2, 3.2 }), Decision{Reason: SizeUtilisation, Dial: 1}},
		{"utilisation 0.79", steady(func(s *SizeState) { s.Tick, s.Busy, s.BusyMax = true, 3.16, 3.16 }), Decision{}},
		{"utilisation 1", steady(func(s *SizeState) { s.Tick, s.Busy, s.BusyMax = true, 4, 4 }), Decision{Reason: SizeUtilisation, Dial: 2}},
		{"utilisation 1 without a tick", steady(func(s *SizeState) { s.Busy, s.BusyMax = 4, 4 }), Decision{}},
		{"utilisation 1 at Max", steady(func(s *SizeState) { s.Tick, s.Open, s.Busy, s.BusyMax = true, 10, 10, 10 }), Decision{}},
		{"utilisation 1 after an overload", steady(func(s *SizeState) { s.Tick, s.Busy, s.BusyMax, s.SinceOverload = true, 4, 4, 0 }), Decision{}},
		{"utilisation 0.30", steady(func(s *SizeState) { s.Tick, s.BusyMax = true, 1.2 }), Decision{Reason: SizeLowUtilisation, Close: 1}},
		{"utilisation 0.31", steady(func(s *SizeState) { s.Tick, s.BusyMax = true, 1.24 }), Decision{}},
		{"soon after growth", steady(func(s *SizeState) { s.Tick, s.SinceGrowth = true, 1900*ms }), Decision{}},
		{"too little is known", steady(func(s *SizeState) { s.Tick, s.Window = true, 29 }), Decision{}},
		{"at Min", steady(func(s *SizeState) { s.Tick, s.Open = true, 2 }), Decision{}},
		{"never below the load", steady(func(s *SizeState) { s.Tick, s.Open, s.BusyMax, s.ScaleDownAt = true, 4, 2.9, 0.75 }), Decision{}},

		{"overload", steady(func(s *SizeState) { s.Overload, s.Open = true, 10 }), Decision{Reason: SizeOverload, Close: 3}},
		{"overload of few", steady(func(s *SizeState) { s.Overload, s.Open = true, 2 }), Decision{Reason: SizeOverload}},
		{"overload below Min", steady(func(s *SizeState) { s.Overload, s.Open = true, 1 }), Decision{Reason: SizeOverload}},
		{"nothing at all", SizeState{Tick: true}, Decision{}},
	} {
		if got := Decide(test.state); got != test.want {
			t.Errorf("%s: %+v, not %+v", test.name, got, test.want)
		}
	}
}

func TestLatencyAloneNeverShrinks(t *testing.T) {
	for service := ms; service < time.Hour; service *= 3 {
		for busy := 0.31; busy <= 1; busy += 0.1 {
			s := steady(func(s *SizeState) { s.Tick, s.ServiceTime, s.Busy, s.BusyMax = true, service, 4*busy, 4*busy })
			if d := Decide(s); d.Close > 0 {
				t.Errorf("service time %v, busy %v: %+v", service, busy, d)
			}
		}
	}
}

func TestPoolGrowsAndShrinksWithTheLoad(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		sleep(time.Minute)
		load := func(callers int, d time.Duration) {
			done := make(chan struct{})
			end := time.Now().Add(d)
			for range callers {
				go func() {
					for time.Now().Before(end) {
						l, err := p.Acquire(t.Context())
						if err != nil {
							t.Error(err)
							break
						}
						time.Sleep(20 * ms)
						l.Release(nil)
					}
					done <- struct{}{}
				}()
			}
			for range callers {
				<-done
			}
		}
		load(30, 5*time.Second)
		if st := p.Stats(); st.Open != 10 || st.Peak != 10 || st.GrownOnDemand == 0 || st.Utilisation < 0.9 {
			t.Errorf("%+v", st)
		}
		sleep(15 * time.Second)
		if st := p.Stats(); st.Open != 10 {
			t.Errorf("shrunk within 30 s: %+v", st)
		}
		sleep(time.Minute)
		st := p.Stats()
		if st.Open != 2 || st.Shrunk != 8 || st.ClosedBy[ClosedShrunk] != 8 || st.Target != 2 || st.BusyMax != 0 {
			t.Errorf("%+v", st)
		}
		if st.BusyTime <= 0 || st.ConnTime <= st.BusyTime {
			t.Errorf("busy %v of %v", st.BusyTime, st.ConnTime)
		}
		if n := s.get(func(s *peer) int { return s.dials }); n != 10 {
			t.Errorf("%d dials", n)
		}
		sleep(time.Hour) // a pool at rest does not tick
		events := p.SizeEvents()
		if first, last := events[0], events[len(events)-1]; first.Reason != SizeBelowMin || last.Reason != SizeIdleShutdown ||
			!strings.Contains(events[len(events)-2].String(), " low_utilisation 3 -> 2 (waiting 0 for 0s, service 20ms, dial 60ms, busy 0.00, at most 0.00 in 30 s)") {
			t.Errorf("%s", events)
		}
	})
}

func TestUtilisationAloneGrowsAhead(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		warm(t, p)
		leases := mustAcquire(t, p, 2)
		sleep(1100 * ms)
		if st := p.Stats(); st.Open != 3 || st.GrownOnUtilisation != 1 || st.GrownOnDemand != 0 {
			t.Errorf("%+v", st)
		}
		releaseAll(leases)
	})
}

func TestLongestIdleIsClosedFirst(t *testing.T) {
	bubble(t, Options{MinConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		leases := mustAcquire(t, p, 5)
		for _, l := range leases {
			l.Release(nil)
			sleep(10 * ms)
		}
		for st := p.Stats(); st.Open > 1; st = p.Stats() {
			sleep(time.Second)
		}
		l := mustAcquire(t, p, 1)[0]
		if l.Conn() != leases[4].Conn() {
			t.Errorf("connection %d is left", l.Conn().id)
		}
		l.Release(nil)
	})
}

func TestOverload(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, p *Pool[*link], s *peer) {
		leases := mustAcquire(t, p, 10)
		for range 10 { // several reports within a second are one overload
			p.Overloaded()
		}
		if st := p.Stats(); st.Target != 7 || st.Open != 10 || st.Overloads != 10 {
			t.Errorf("%+v", st)
		}
		for _, l := range leases[:5] {
			l.Release(nil)
		}
		synctest.Wait()
		if st := p.Stats(); st.Open != 7 || st.InUse != 5 || st.ClosedBy[ClosedOverload] != 3 {
			t.Errorf("%+v", st)
		}
		more := mustAcquire(t, p, 2)
		begin := time.Now()
		a := <-acquire(t.Context(), p) // no growth for 5 s
		if took := time.Since(begin); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("grew after %v", took)
		}
		a.lease.Release(nil)
		releaseAll(append(more, leases[5:]...))
		for range 20 {
			p.Overloaded()
			sleep(time.Second)
		}
		if st := p.Stats(); st.Open != 2 || st.Target != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestSizeEventsAreARing(t *testing.T) {
	bubble(t, Options{MinConns: 1, MaxConns: 1}, func(t *testing.T, p *Pool[*link], s *peer) {
		for range SizeEvents + 10 {
			mustAcquire(t, p, 1)[0].Release(errBroken)
			sleep(2 * time.Second)
		}
		events := p.SizeEvents()
		if len(events) != SizeEvents {
			t.Errorf("%d events", len(events))
		}
		for i := 1; i < len(events); i++ {
			if events[i].At.Before(events[i-1].At) {
				t.Error("not in order")
			}
		}
	})
}
