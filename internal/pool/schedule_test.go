package pool

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/testkit"
)

var onlySeed = flag.Int64("pool.seed", -1, "run only the random schedule of this seed, to repeat a failure")

// TestRandomSchedules checks the pool's invariants over random schedules:
//
//	I1 open + dialing <= MaxConns
//	I2 waiters whose context is not done are served in FIFO order
//	I3 a waiter whose context is done never gets a connection
//	I4 no caller waits while a usable connection is idle
//	I5 pings never delay a caller: see TestPingsNeverRaiseAWait
//	I6 a connection that failed is never reused
//	I7 the equations of Stats hold, and the peer counted the same
//	I8 nothing runs after Close
//	I9 the pool and the peer agree on what is open and in use
func TestRandomSchedules(t *testing.T) {
	first, count := uint64(0), testkit.Effort(300, 2000, 20_000)
	if *onlySeed >= 0 {
		first, count = uint64(*onlySeed), 1
	}
	for i := range count {
		n := first + uint64(i)
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("repeat with -pool.seed=%d", n)
				}
			}()
			newSchedule(t, n).run()
		})
	}
}

// call is a call of Acquire in a schedule.
type call struct {
	ctx     context.Context
	cancel  context.CancelFunc
	doneAt  time.Time // when ctx was or will be done; zero if never
	done    chan struct{}
	lease   *Lease[*link]
	err     error
	lateFor time.Duration // how long ctx had been done when Acquire returned a lease
}

type schedule struct {
	t       *testing.T
	r       *rand.Rand
	peer    *peer
	pool    *Pool[*link]
	waiting []*call // in FIFO order
	leases  []*Lease[*link]
	failed  map[*link]bool
	closed  bool
}

func newSchedule(t *testing.T, n uint64) *schedule {
	s := &schedule{t: t, r: rand.New(rand.NewPCG(n, 7)), peer: newPeer(), failed: map[*link]bool{}}
	opts := Options{MinConns: 1 + s.r.IntN(3)}
	opts.MaxConns = opts.MinConns + s.r.IntN(6)
	opts.MaxWaiters = 1 + s.r.IntN(20)
	opts.MaxLifetime = time.Duration(1+s.r.IntN(300)) * time.Second
	opts.KeepAlive.Disabled = s.r.IntN(5) == 0
	opts.KeepAlive.Interval = time.Duration(5+s.r.IntN(30)) * time.Second
	opts.KeepAlive.IdleShutdown = time.Duration(1+s.r.IntN(600)) * time.Second
	random := rand.New(rand.NewPCG(n, 8))
	p, err := newPool(s.peer.connector(), opts, random.Float64)
	if err != nil {
		t.Fatal(err)
	}
	s.pool = p
	s.peer.onDial = func() { s.checkSize() }
	return s
}

func (s *schedule) run() {
	for range 20 + s.r.IntN(60) {
		s.step()
		synctest.Wait()
		s.collect()
		s.check()
	}
	s.end()
}

func (s *schedule) step() {
	r, p := s.r, s.pool
	switch k := r.IntN(100); {
	case k < 26:
		s.acquire()
	case k < 30:
		s.tryAcquire()
	case k < 46:
		if len(s.leases) > 0 {
			s.release(r.IntN(len(s.leases)), nil)
		}
	case k < 50:
		if len(s.leases) > 0 {
			i := r.IntN(len(s.leases))
			l := s.leases[i]
			s.leases = slices.Delete(s.leases, i, i+1)
			l.ReleaseUnused()
			l.Release(errBroken) // no effect
		}
	case k < 54:
		if len(s.leases) > 0 {
			i := r.IntN(len(s.leases))
			s.failed[s.leases[i].Conn()] = true
			if r.IntN(2) == 0 {
				s.leases[i].Discard()
			}
			s.release(i, errBroken) // no effect if it is discarded
		}
	case k < 58:
		if len(s.waiting) > 0 {
			c := s.waiting[r.IntN(len(s.waiting))]
			c.cancel()
			c.doneAt = time.Now()
		}
	case k < 62: // a connection dies, with or without ConnDied
		if l := s.anyOpen(); l != nil {
			s.peer.kill(l)
			s.failed[l] = true
			if r.IntN(2) == 0 {
				p.ConnDied(l)
			}
		}
	case k < 66:
		d := time.Duration(r.IntN(500)) * time.Millisecond
		s.peer.set(func(x *peer) { x.dialTime = d })
	case k < 69:
		var err error
		if r.IntN(2) == 0 {
			err = errRefused
		}
		s.peer.set(func(x *peer) { x.dialErr = err })
	case k < 72:
		var err error
		if r.IntN(2) == 0 {
			err = errNoAnswer
		}
		d := time.Duration(r.IntN(3000)) * time.Millisecond
		s.peer.set(func(x *peer) { x.pingErr, x.pingTime = err, d })
	case k < 74:
		hang := r.IntN(2) == 0
		s.peer.set(func(x *peer) { x.hang = hang })
	case k < 76:
		p.Overloaded()
	case k < 77:
		switch odd := r.IntN(2); r.IntN(3) {
		case 0:
			invalidateAll(p)
		case 1:
			p.Doubt(time.Duration(r.IntN(10)) * time.Second)
		default: // retired connections are never used again
			p.Retire(func(l *link) bool {
				s.failed[l] = s.failed[l] || l.id%2 == odd
				return l.id%2 == odd
			})
		}
	case k < 78: // a load that makes the pool grow
		for range p.opts.MaxConns * 2 {
			s.acquire()
		}
	case k < 79:
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		if err := p.Warm(ctx); err == nil && p.Stats().Open < 1 {
			s.t.Error("warm without a connection")
		}
	case k < 95:
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
	case k < 98:
		time.Sleep(time.Duration(r.IntN(40)) * time.Second)
	default:
		time.Sleep(time.Duration(r.IntN(700)) * time.Second)
	}
}

// anyOpen returns one of the open connections, the same in every run.
func (s *schedule) anyOpen() *link {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	var open []*link
	for l := range s.peer.open {
		open = append(open, l)
	}
	if len(open) == 0 {
		return nil
	}
	slices.SortFunc(open, func(a, b *link) int { return a.id - b.id })
	return open[s.r.IntN(len(open))]
}

func (s *schedule) acquire() {
	c := &call{done: make(chan struct{})}
	if s.r.IntN(3) > 0 {
		d := time.Duration(s.r.IntN(2000)) * time.Millisecond
		c.ctx, c.cancel = context.WithTimeout(s.t.Context(), d)
		c.doneAt = time.Now().Add(d)
	} else {
		c.ctx, c.cancel = context.WithCancel(s.t.Context())
	}
	s.waiting = append(s.waiting, c)
	go func() {
		defer close(c.done)
		l, err := s.pool.Acquire(c.ctx)
		if err == nil && !c.doneAt.IsZero() {
			c.lateFor = time.Since(c.doneAt)
		}
		c.lease, c.err = l, err
	}()
	synctest.Wait()
}

func (s *schedule) tryAcquire() {
	l := s.pool.TryAcquire()
	if l == nil {
		return
	}
	for _, c := range s.waiting {
		if c.ctx.Err() == nil {
			s.t.Error("I2: TryAcquire overtook a caller who waits")
		}
	}
	if s.failed[l.Conn()] {
		s.t.Errorf("I6: connection %d had failed and was reused", l.Conn().id)
	}
	s.leases = append(s.leases, l)
}

func (s *schedule) release(i int, err error) {
	l := s.leases[i]
	s.leases = append(s.leases[:i], s.leases[i+1:]...)
	l.Release(err)
	if s.r.IntN(4) == 0 {
		l.Release(err) // harmless
	}
}

// collect removes the calls that have ended from s.waiting.
func (s *schedule) collect() {
	var waiting []*call
	alive := false // an earlier caller still waits
	for _, c := range s.waiting {
		select {
		case <-c.done:
		default:
			waiting = append(waiting, c)
			alive = alive || c.ctx.Err() == nil
			continue
		}
		c.cancel()
		switch {
		case c.err == nil:
			if alive {
				s.t.Error("I2: a later caller got a connection before an earlier one")
			}
			if c.lateFor > 0 {
				s.t.Errorf("I3: got a connection %v after giving up", c.lateFor)
			}
			if l := c.lease.Conn(); s.failed[l] {
				s.t.Errorf("I6: connection %d had failed and was reused", l.id)
			}
			s.leases = append(s.leases, c.lease)
		case errors.Is(c.err, context.Canceled), errors.Is(c.err, context.DeadlineExceeded), errors.Is(c.err, errRefused), errors.Is(c.err, os.ErrDeadlineExceeded), errors.Is(c.err, errDiedUnused):
		case errors.As(c.err, new(*SaturatedError)):
		case errors.Is(c.err, ErrClosed) && s.closed:
		default:
			s.t.Errorf("unexpected error %v", c.err)
		}
	}
	s.waiting = waiting
}

func (s *schedule) checkSize() {
	if st := s.pool.Stats(); st.Open+st.Dialing > s.pool.opts.MaxConns {
		s.t.Errorf("I1: %d open and %d dialing are over %d", st.Open, st.Dialing, s.pool.opts.MaxConns)
	}
}

func (s *schedule) check() {
	p := s.pool
	s.checkSize()
	st := p.Stats()
	checkInvariants(s.t, st)
	if open := s.peer.get(func(x *peer) int { return len(x.open) }); open != st.Open {
		s.t.Errorf("I9: %d connections are open, the pool knows %d", open, st.Open)
	}
	if st.InUse != len(s.leases) {
		s.t.Errorf("I9: %d leases, the pool knows %d", len(s.leases), st.InUse)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiters.firstLive() != nil {
		now := p.clock()
		for _, c := range p.idle {
			if p.usable(c, now) {
				s.t.Errorf("I4: a caller waits while connection %d is idle and usable", c.c.id)
			}
		}
		if p.nextDeadline == never && p.load.inUse == 0 && p.pinging == 0 && p.dialing == 0 {
			s.t.Error("I4: a caller waits, and nothing is pending")
		}
	}
	if p.pinging > max(1, len(p.conns)/4, p.opts.MaxWaiters) {
		s.t.Errorf("%d connections are being pinged", p.pinging)
	}
}

// end closes the pool, sometimes with leases held, and checks the final state.
func (s *schedule) end() {
	t, p := s.t, s.pool
	held := len(s.leases)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(s.r.IntN(1000))*time.Millisecond)
	defer cancel()
	if s.r.IntN(2) == 0 {
		for len(s.leases) > 0 {
			s.release(0, nil)
			synctest.Wait()
			s.collect()
		}
		held = 0
	}
	s.closed = true
	err := p.Close(ctx)
	if (held > 0) != errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close with %d leases: %v", held, err)
	}
	synctest.Wait()
	s.collect()
	if len(s.waiting) > 0 {
		t.Errorf("%d callers wait after Close", len(s.waiting))
	}
	st := p.Stats()
	dials, failed, pings := s.peer.dials, s.peer.failed, s.peer.pings
	if int(st.Dials) != dials || int(st.DialFailures) != failed || int(st.PingsSent) != pings || s.peer.closedTwice != 0 {
		t.Errorf("I7: counted %d dials, %d failed, %d pings, %d closed twice; the peer saw %d, %d, %d",
			st.Dials, st.DialFailures, st.PingsSent, s.peer.closedTwice, dials, failed, pings)
	}
	for _, l := range s.leases {
		p.ConnDied(l.Conn())
		l.Release(nil)
	}
	p.Overloaded()
	if p.TryAcquire() != nil {
		t.Error("TryAcquire after Close gave a lease")
	}
	if l, err := p.Acquire(t.Context()); !errors.Is(err, ErrClosed) || l != nil {
		t.Errorf("Acquire after Close: %v", err)
	}
	if err := p.Warm(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Warm after Close: %v", err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
	time.Sleep(time.Hour)
	checkInvariants(t, p.Stats())
	if s.peer.dials != dials || s.peer.pings != pings || len(s.peer.open) != 0 {
		t.Errorf("I8: after Close %d dials, %d pings, %d connections open", s.peer.dials-dials, s.peer.pings-pings, len(s.peer.open))
	}
}
